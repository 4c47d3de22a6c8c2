"""Qdrant over REST: the client side of the vendor's HTTP interface, as a `Dialect`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import orjson

from proxy.dialects import Apart, Call, Glance, Judgement, Likeness
from proxy.dialects.qdrant import access
from proxy.dialects.qdrant.ids import json_of_id
from proxy.dialects.qdrant.judge import judge_http_error, judge_success
from proxy.dialects.qdrant.likeness import likeness_of_json, rest_alone, rest_outline
from proxy.dialects.qdrant.metrics import MetricOf, score_of_collection
from proxy.dialects.qdrant.numbers import refuse_what_is_no_number
from proxy.dialects.qdrant.refusals import refusal_of
from proxy.dialects.qdrant.rest_replies import JSON, json_of_result, result_of_json, success
from proxy.dialects.qdrant.rest_routes import FromBody, Route, glance_of, route_of
from proxy.dialects.qdrant.rest_upserts import unread_upsert
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import CrossfadeError, InvalidRequest, PointNotFound
from proxy.model import (
    Fetch,
    Metric,
    OpaqueWrite,
    Operation,
    Points,
    PrimaryOnlyRead,
    Result,
    collection_of,
)
from proxy.wire import Headers, Request, Response


class QdrantRest:
    """metric_of: tells the metric of a collection's vector, None if it is not known. A score threshold means something
    only with it; without it, a search with a threshold can be answered by the primary alone."""

    vendor = "qdrant"

    def __init__(self, metric_of: MetricOf | None = None) -> None:
        self._metric_of: MetricOf = metric_of or (lambda collection, using: None)

    def wants_body(self, request: Request) -> bool:
        """Reads that only the source can answer are read whole, too: so they can be sent again, and have a limit."""
        asks = route_of(request.method, request.path).asks
        return isinstance(asks, FromBody) or (isinstance(asks, PrimaryOnlyRead) and request.method == "POST")

    def glance(self, request: Request) -> Glance | None:
        """As of Dialect: the path tells."""
        if request.query and _asks_consistency(request.query):
            return None
        return glance_of(request.method, request.path)

    def decode(self, request: Request) -> Call:
        route = route_of(request.method, request.path)
        if route.is_read and _asks_consistency(request.query):
            return Call(request, PrimaryOnlyRead(route.collection, "consistency"), route.form)
        return Call(request, self._operation(route, request), route.form)

    def decode_large(self, request: Request) -> Call | Apart:
        """As of Dialect: upserts. Of other writes there are many small parts, which take as long to send back."""
        route = route_of(request.method, request.path)
        if not isinstance(route.asks, FromBody) or route.asks.unread is not unread_upsert:
            return self.decode(request)
        try:
            unread = route.asks.unread(route.collection or "", request.bytes)
        except Undecodable:
            return self.decode(request)
        if unread is not None:
            return Call(request, unread, route.form)
        return Apart(_asked, (request.method, request.path), route.form)

    def _operation(self, route: Route, request: Request) -> Operation:
        if not isinstance(route.asks, FromBody):
            return route.asks
        collection = route.collection or ""
        score_of = score_of_collection(self._metric_of, collection)
        try:
            unread = route.asks.unread(collection, request.bytes)
            return unread or route.asks.read(collection, orjson.loads(request.bytes), score_of)
        except Undecodable as problem:
            return route.asks.otherwise(problem.reason)
        except (ValueError, TypeError, RecursionError):
            refuse_what_is_no_number(request.bytes)
            return route.asks.otherwise("undecodable")

    def encode(self, call: Call, result: Result, seconds: float) -> Response:
        """PointNotFound's answer if one point was asked for and is not there."""
        match call.operation, call.form:
            case Fetch(ids=(point_id,)), "point" if result == Points(()):
                missing = PointNotFound(f"Point with id {json_of_id(point_id)} does not exists!")
                return self.refuse(call.request, missing)
        return success(json_of_result(call.operation, call.form, result), seconds)

    def read_reply(self, call: Call, response: Response, *, metric: Metric | None = None) -> Result:
        """`metric`: of the vectors searched, where the caller knows it; else what `metric_of` says, else cosine."""
        body = response.body if isinstance(response.body, bytes) else b""
        read = call.operation
        if response.status != 200:
            raise InvalidRequest(error_text(body))
        collection = collection_of(read) or ""

        def metric_of(using: str) -> Metric:
            return metric or self._metric_of(collection, using) or Metric.COSINE

        try:
            return result_of_json(read, call.form, body, metric_of)  # type: ignore[arg-type]  # asserted there
        except Undecodable as problem:
            raise InvalidRequest(problem.reason) from None

    def alone(self, request: Request, glance: Glance, collection: str) -> Request | None:
        return rest_alone(request, collection)

    def outline(self, request: Request, body: bytes) -> bytes | None:
        return rest_outline(body)

    def likeness(self, path: str, one: bytes, other: bytes) -> Likeness:
        return likeness_of_json(one, other)

    def client_key(self, request: Request) -> str | None:
        return access.client_key(request)

    def access_probe(self, request: Request, collection: str) -> Request:
        return access.rest_probe(request, collection)

    def grants_access(self, request: Request, response: Response) -> bool:
        return access.grants(request, response)

    def judge(self, call: Call, response: Response) -> Judgement:
        body = response.body if isinstance(response.body, bytes) else b""
        if not 200 <= response.status < 300:
            unknown = isinstance(call.operation, OpaqueWrite) and call.operation.reason == "unknown endpoint"
            in_parts = unknown or call.request.path.rstrip("/").endswith("/points/batch")
            return judge_http_error(call.operation, response.status, error_text(body), in_parts=in_parts)
        return judge_success(_statuses(response.status, body))

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        refusal = refusal_of(error)
        headers: Headers = JSON
        body = orjson.dumps({"status": {"error": refusal.text}, "time": 0.0})
        if refusal.plain:
            headers, body = (("content-type", "text/plain; charset=utf-8"),), refusal.text.encode()
        if refusal.retry_after_seconds is not None:
            headers = (*headers, ("retry-after", str(math.ceil(refusal.retry_after_seconds))))
        return Response(refusal.http_status, headers, body)


def error_text(body: bytes) -> str:
    """The server's error text: from its envelope, or the body itself (authentication errors are plain text)."""
    try:
        return str(orjson.loads(body)["status"]["error"])
    except (ValueError, KeyError, TypeError):
        return body[:1000].decode("utf-8", "replace")


def _statuses(http_status: int, body: bytes) -> list[str]:
    """The status of each part of an accepted write. Definitions answer true or false: they are complete."""
    try:
        result = orjson.loads(body)["result"]
    except (ValueError, KeyError, TypeError):
        return ["acknowledged"]
    if http_status == 202:
        return ["acknowledged"]
    parts = result if isinstance(result, list) else [result]
    return [str(part.get("status")) if isinstance(part, dict) else "completed" for part in parts]


def _asked(bodies: Sequence[bytes], method: str, path: str) -> Operation:
    """What a write asks."""
    return QdrantRest().decode(Request("http", method, path, body=bodies[0])).operation


def _asks_consistency(query: str) -> bool:
    return any(part.startswith("consistency=") and part != "consistency=" for part in query.split("&"))
