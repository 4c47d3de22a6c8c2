"""Qdrant over gRPC: the client side of the vendor's services, as a `Dialect`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from proxy.dialects import Apart, Call, Glance, Judgement, Likeness
from proxy.dialects.qdrant import access
from proxy.dialects.qdrant.grpc_replies import result_bytes, result_of_proto
from proxy.dialects.qdrant.grpc_routes import METHODS, glance_of, is_harmless, is_stream, operation_of
from proxy.dialects.qdrant.judge import judge_grpc_error, judge_success
from proxy.dialects.qdrant.likeness import grpc_alone, grpc_outline, likeness_of_proto
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.metrics import MetricOf, score_of_collection
from proxy.dialects.qdrant.refusals import refusal_of
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import CrossfadeError, InvalidRequest
from proxy.model import Metric, Operation, Result, collection_of
from proxy.wire import Request, Response

_BATCH = "/qdrant.Points/UpdateBatch"
_STATUS_NAMES = {1: "acknowledged", 2: "completed", 3: "clock_rejected", 4: "wait_timeout"}


class QdrantGrpc:
    """metric_of: tells the metric of a collection's vector, None if it is not known. A score threshold means something
    only with it; without it, a search with a threshold can be answered by the primary alone."""

    vendor = "qdrant"

    def __init__(self, metric_of: MetricOf | None = None) -> None:
        self._metric_of: MetricOf = metric_of or (lambda collection, using: None)

    def wants_body(self, request: Request) -> bool:
        return not is_harmless(request.path)

    @staticmethod
    def streams(path: str) -> bool:
        """Whether the method may have several messages: they are passed on as they come."""
        return is_stream(path)

    def glance(self, request: Request) -> Glance | None:
        """As of Dialect. The message is parsed, which costs less than to look for its collection by hand."""
        return glance_of(request.path, request.bytes)

    def decode(self, request: Request) -> Call:
        body = request.bytes if self.wants_body(request) else b""
        operation = operation_of(request.path, body, lambda name: score_of_collection(self._metric_of, name))
        return Call(request, operation)

    def decode_large(self, request: Request) -> Call | Apart:
        """As of Dialect: upserts."""
        method = METHODS.get(request.path)
        if method is None or method.unread is None:
            return self.decode(request)
        try:
            unread = method.unread(request.bytes)
        except (Undecodable, DecodeError):
            return self.decode(request)
        return Call(request, unread) if unread is not None else Apart(_asked, (request.path,))

    def encode(self, call: Call, result: Result, seconds: float) -> Response:
        reply = METHODS[call.request.path].reply
        return Response(0, body=result_bytes(reply, call.operation, result, seconds))

    def read_reply(self, call: Call, response: Response, *, metric: Metric | None = None) -> Result:
        """`metric`: of the vectors searched, where the caller knows it; else what `metric_of` says, else cosine."""
        if response.status != 0:
            raise InvalidRequest(response.message)
        body = response.body if isinstance(response.body, bytes) else b""
        collection = collection_of(call.operation) or ""

        def metric_of(using: str) -> Metric:
            return metric or self._metric_of(collection, using) or Metric.COSINE

        try:
            reply = METHODS[call.request.path].reply
            return result_of_proto(reply, call.operation, body, metric_of)  # type: ignore[arg-type]  # asserted there
        except Undecodable as problem:
            raise InvalidRequest(problem.reason) from None

    def alone(self, request: Request, glance: Glance, collection: str) -> Request | None:
        return grpc_alone(request, collection, glance.collection)

    def outline(self, request: Request, body: bytes) -> bytes | None:
        return grpc_outline(request.path, body)

    def likeness(self, path: str, one: bytes, other: bytes) -> Likeness:
        return likeness_of_proto(path, one, other)

    def client_key(self, request: Request) -> str | None:
        return access.client_key(request)

    def access_probe(self, request: Request, collection: str) -> Request:
        return access.grpc_probe(request, collection)

    def grants_access(self, request: Request, response: Response) -> bool:
        return access.grants(request, response)

    def judge(self, call: Call, response: Response) -> Judgement:
        if response.status != 0:
            in_parts = call.request.path == _BATCH or call.request.path not in METHODS
            return judge_grpc_error(call.operation, response.status, response.message, in_parts=in_parts)
        body = response.body if isinstance(response.body, bytes) else b""
        return judge_success(_statuses(call.request.path, body))

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        refusal = refusal_of(error)
        trailers: tuple[tuple[str, str], ...] = ()
        if refusal.retry_after_seconds is not None:
            trailers = (("retry-after", str(math.ceil(refusal.retry_after_seconds))),)
        return Response(refusal.grpc_code, message=refusal.text, trailers=trailers)


def _statuses(path: str, body: bytes) -> list[str]:
    """The status of each part of an accepted write. Definitions answer true or false: they are complete."""
    method = METHODS.get(path)
    if method is None or method.reply == "CollectionOperationResponse":
        return ["completed"]
    try:
        message = getattr(proto, method.reply).FromString(body)
    except DecodeError:
        return ["acknowledged"]
    parts = message.result if method.reply == "UpdateBatchResponse" else [message.result]
    return [_STATUS_NAMES.get(part.status, "unknown") for part in parts]


def _asked(bodies: Sequence[bytes], path: str) -> Operation:
    """What an upsert asks."""
    return QdrantGrpc().decode(Request("grpc", "", path, body=bodies[0])).operation
