"""A Qdrant server as a store, over gRPC.

What goes over the wire is made and read in `proxy.dialects.qdrant`; how a connection fails is decided in
`GrpcForwarder`. This file holds the order of calls and what an answer means:

- **Writes** wait until they are applied, with strong ordering. "Not yet" as an answer (a server under a time-out of its
  own) is Unclear, never success.
- **Reads** ask for a consistency level, which matters where a collection is replicated: by default a majority, which
  fails while a replica is missing rather than answer from one that may lag.
- **A batch that is refused** is tried point by point: the server says no to all for the sake of one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from proxy.dialects.qdrant import refusals
from proxy.dialects.qdrant.collections import indexes_of_spec, spec_of_info
from proxy.dialects.qdrant.configs import fill_config
from proxy.dialects.qdrant.filters_proto import proto_of_filter
from proxy.dialects.qdrant.grpc_replies import hits_of_proto, point_of_proto
from proxy.dialects.qdrant.grpc_writes import (
    CallOf,
    barrier_call,
    definition_call,
    delete_call,
    point_bytes,
    representable,
    sent_again,
    upsert_call,
    write_call,
)
from proxy.dialects.qdrant.ids import id_of_proto, proto_of_id
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest_upserts import in_json, is_spliceable
from proxy.dialects.qdrant.scores import vendor_threshold
from proxy.dialects.qdrant.selections import fill_selection
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import fill_dense
from proxy.errors import (
    CollectionNotFound,
    InvalidRequest,
    Untranslatable,
)
from proxy.model import (
    EVERYTHING,
    Batch,
    CollectionSpec,
    CreateCollection,
    Definition,
    Described,
    DropCollection,
    Filter,
    Hits,
    Metric,
    Page,
    Point,
    PointId,
    Search,
    Selection,
    Upsert,
    Write,
    Written,
)
from proxy.stores import Capabilities, WriteReport
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.qdrant_answers import applied, parsed, problem_of
from proxy.stores.qdrant_json import QdrantJson
from proxy.wire import Headers, Request, Response

CAPABILITIES = Capabilities(
    vendor="qdrant",
    metrics=frozenset(Metric),
    vector_kinds=frozenset({"dense", "sparse", "multi"}),
    vectors_optional=True,
    normalizes_cosine=True,
    native=True,
)
_METRICS_KEPT_SECONDS = 10.0
_TURN_SECONDS = 0.001  # of the loop, before others have theirs
_SEARCH_HINTS = frozenset({"hnsw_ef", "quantization", "acorn"})
_CONSISTENCY = {"all": 0, "majority": 1, "quorum": 2}
T = TypeVar("T")


class QdrantStore:
    """Implements Store and PrimaryStore against one Qdrant server or cluster.

    grpc_address: "host:port". api_key: sent with every call. tls, rest_tls: what gRPC and REST are encrypted with.
    timeout_seconds: longest wait for one answer. read_consistency: "all", "majority", "quorum", a number of
    replicas, or None to leave it to the server (one replica). rest_url: where payload numbers are read that gRPC
    rounds (without it they stay rounded), and where points go that came as JSON.
    """

    def __init__(
        self,
        *,
        grpc_address: str,
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        rest_tls: ssl.SSLContext | None = None,
        timeout_seconds: float = 30.0,
        rest_url: str | None = None,
        read_consistency: str | int | None = "majority",
    ) -> None:
        self._address = grpc_address
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._headers: Headers = () if api_key is None else (("api-key", api_key),)
        self._consistency = _consistency_of(read_consistency)
        self._line: GrpcForwarder | None = None
        self._rest = QdrantJson(rest_url, self._headers, timeout_seconds, rest_tls) if rest_url is not None else None
        self._metrics: dict[str, tuple[float, dict[str, Metric]]] = {}

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close()
        if self._line is not None:
            await self._line.close()
            self._line = None

    # --- the server and its collections ---------------------------------------------------

    async def probe(self) -> str:
        request = proto.HealthCheckRequest()
        return await self._ask(
            "/qdrant.Qdrant/HealthCheck", request, proto.HealthCheckReply, lambda reply: str(reply.version)
        )

    async def collections(self) -> tuple[str, ...]:
        return await self._ask(
            "/qdrant.Collections/List",
            proto.ListCollectionsRequest(),
            proto.ListCollectionsResponse,
            lambda reply: tuple(one.name for one in reply.collections),
        )

    async def aliases(self) -> Mapping[str, str]:
        return await self._ask(
            "/qdrant.Collections/ListAliases",
            proto.ListAliasesRequest(),
            proto.ListAliasesResponse,
            lambda reply: {one.alias_name: one.collection_name for one in reply.aliases},
        )

    async def describe(self, collection: str) -> Described | None:
        """Raises Untranslatable if the server describes something that is not known here."""
        try:
            spec = await self._spec(collection)
            self._keep_metrics(collection, spec)
            return Described(collection, spec, await self.count(collection))
        except CollectionNotFound:
            return None

    async def _spec(self, collection: str) -> CollectionSpec:
        request = proto.GetCollectionInfoRequest(collection_name=collection)
        return await self._ask(
            "/qdrant.Collections/Get",
            request,
            proto.GetCollectionInfoResponse,
            lambda reply: spec_of_info(reply.result),
        )

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        await self.define(CreateCollection(collection, spec))
        for index in indexes_of_spec(collection, spec):
            await self.define(index)

    async def drop(self, collection: str) -> None:
        await self.define(DropCollection(collection))

    async def define(self, definition: Definition) -> bool:
        """Raises CollectionExists, CollectionNotFound, Refused or Untranslatable."""
        path, message = definition_call(definition)
        points = path.startswith("/qdrant.Points/")
        reply_type = proto.PointsOperationResponse if points else proto.CollectionOperationResponse
        response = await self._call(path, message)
        self._metrics.clear()
        if response.status != 0:
            raise problem_of(response, write=None)
        reply = parsed(reply_type, response)
        return applied(reply.result) if points else bool(reply.result)

    # --- writes ---------------------------------------------------------------------------

    async def upsert(self, collection: str, points: Sequence[Point]) -> WriteReport:
        as_json = [point for point in points if is_spliceable(point)] if self._rest is not None else []
        if self._rest is not None and as_json and await self._rest.upsert(collection, in_json(collection, as_json)):
            points = [point for point in points if not is_spliceable(point)]
        return await self._by_grpc(collection, points)

    async def upsert_native(self, collection: str, upsert: Upsert) -> WriteReport:
        points = upsert.points
        if not is_spliceable(points[0]):
            response = await self._send(*sent_again(collection, upsert.native))
            return WriteReport(await self._refused(collection, {point.id: point.native for point in points}, response))
        if self._rest is not None and await self._rest.upsert(collection, upsert):
            return WriteReport()
        return await self._by_grpc(collection, points)

    async def _by_grpc(self, collection: str, points: Sequence[Point]) -> WriteReport:
        messages = {point.id: point.native for point in points if point.native}
        refused: dict[PointId, str] = {}
        points = [point for point in points if not point.native] if len(messages) < len(points) else ()
        turn = asyncio.get_running_loop().time
        began = turn()
        for point in points:
            if turn() - began > _TURN_SECONDS:  # numbers may have to be read
                await asyncio.sleep(0)
                began = turn()
            try:
                messages[point.id] = point_bytes(point)
            except Untranslatable as problem:
                refused[point.id] = problem.reason
        if messages:
            refused |= await self._upsert(collection, messages)
        return WriteReport(refused)

    async def _upsert(self, collection: str, messages: Mapping[PointId, bytes]) -> dict[PointId, str]:
        """What the server refuses for good, by id."""
        response = await self._send(*upsert_call(collection, list(messages.values())))
        return await self._refused(collection, messages, response)

    async def _refused(
        self, collection: str, messages: Mapping[PointId, bytes], response: Response
    ) -> dict[PointId, str]:
        """As of `_upsert`, by the answer to all of them. A refusal for the collection's limits is raised: it may
        pass."""
        if response.status == 0:
            applied(parsed(proto.PointsOperationResponse, response).result)
            return {}
        if response.status != refusals.INVALID_ARGUMENT or response.message.startswith("Bad request: "):
            raise problem_of(response, write=None)
        if len(messages) == 1:
            return dict.fromkeys(messages, response.message)
        refused: dict[PointId, str] = {}
        for point_id, message in messages.items():
            refused |= await self._upsert(collection, {point_id: message})
        return refused

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        known = [point_id for point_id in ids if representable(point_id)]
        if known:
            await self._write(delete_call(collection, known), write=None)

    async def apply(self, write: Write) -> Written:
        if isinstance(write, Batch) and not write.writes:
            return Written(())
        return await self._write(write_call(write), write)

    async def settle(self, collection: str) -> None:
        await self._write(barrier_call(collection), write=None)

    async def _write(self, call: CallOf, write: Write | None) -> Written:
        path, message = call
        response = await self._call(path, message)
        if response.status != 0:
            raise problem_of(response, write)
        if isinstance(write, Batch):
            results = list(parsed(proto.UpdateBatchResponse, response).result)
        else:
            results = [parsed(proto.PointsOperationResponse, response).result]
        for result in results:
            applied(result)
        return Written(tuple(result.operation_id for result in results))

    # --- reads ----------------------------------------------------------------------------

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        known = [point_id for point_id in ids if representable(point_id)]
        if not known:
            return {}
        request = proto.GetPoints(collection_name=collection, ids=list(map(proto_of_id, known)))
        fill_selection(request, selection)
        points = await self._read("/qdrant.Points/Get", request, proto.GetResponse, _points)
        if self._rest is not None:
            points = await self._rest.exact(collection, points, selection)
        return {point.id: point for point in points}

    async def scan(
        self,
        collection: str,
        start: PointId | None,
        limit: int,
        filter: Filter | None = None,
        selection: Selection = EVERYTHING,
    ) -> Page:
        if start is not None and not representable(start):
            return Page((), None)  # text sorts after every id that there can be
        request = proto.ScrollPoints(collection_name=collection, limit=limit)
        if start is not None:
            request.offset.CopyFrom(proto_of_id(start))
        if filter is not None:
            request.filter.CopyFrom(proto_of_filter(filter))
        fill_selection(request, selection)
        page = await self._read("/qdrant.Points/Scroll", request, proto.ScrollResponse, _page)
        if self._rest is not None:
            page = Page(await self._rest.exact(collection, page.points, selection), page.next)
        return page

    async def count(self, collection: str, filter: Filter | None = None) -> int:
        request = proto.CountPoints(collection_name=collection, exact=True)
        if filter is not None:
            request.filter.CopyFrom(proto_of_filter(filter))
        return await self._read(
            "/qdrant.Points/Count", request, proto.CountResponse, lambda reply: int(reply.result.count)
        )

    async def search(self, search: Search) -> Hits:
        metric = await self._metric(search.collection, search.using)
        request = proto.QueryPoints(collection_name=search.collection, limit=search.limit, offset=search.offset)
        fill_dense(request.query.nearest.dense, search.vector)
        if search.using:
            request.using = search.using
        if search.filter is not None:
            request.filter.CopyFrom(proto_of_filter(search.filter))
        if search.score_threshold is not None:
            request.score_threshold = vendor_threshold(metric, search.score_threshold)
        request.params.CopyFrom(_search_params(search))
        fill_selection(request, search.selection)
        return await self._read(
            "/qdrant.Points/Query", request, proto.QueryResponse, lambda reply: hits_of_proto(reply.result, metric)
        )

    async def _metric(self, collection: str, using: str) -> Metric:
        """The metric of a vector, remembered for a few seconds. Raises InvalidRequest if there is no such vector."""
        now = asyncio.get_running_loop().time()
        kept = self._metrics.get(collection)
        if kept is None or kept[0] < now - _METRICS_KEPT_SECONDS or using not in kept[1]:
            kept = self._keep_metrics(collection, await self._spec(collection))
        if using not in kept[1]:
            raise InvalidRequest(f"Wrong input: Not existing vector name error: {using}")
        return kept[1][using]

    def metric_of(self, collection: str, using: str) -> Metric | None:
        """The metric of a vector, without asking anybody; None if it is not known."""
        kept = self._metrics.get(collection)
        return None if kept is None else kept[1].get(using)

    def _keep_metrics(self, collection: str, spec: CollectionSpec) -> tuple[float, dict[str, Metric]]:
        now = asyncio.get_running_loop().time()
        kept = now, {name: vector.metric for name, vector in spec.vectors.items()}
        self._metrics[collection] = kept
        return kept

    # --- the wire -------------------------------------------------------------------------

    async def _read(self, path: str, request: Any, reply: Any, read: Callable[[Any], T]) -> T:
        if self._consistency is not None:
            request.read_consistency.CopyFrom(self._consistency)
        return await self._ask(path, request, reply, read)

    async def _ask(self, path: str, request: Any, reply: Any, read: Callable[[Any], T]) -> T:
        """A call that changes nothing. Raises CollectionNotFound, InvalidRequest, Refused, Throttled, Unavailable,
        Unclear, or Untranslatable for an answer that says something not known here."""
        response = await self._call(path, request)
        if response.status in (refusals.INVALID_ARGUMENT, refusals.OUT_OF_RANGE):
            raise InvalidRequest(response.message)
        if response.status != 0:
            raise problem_of(response, write=None)
        try:
            return read(parsed(reply, response))
        except Undecodable as problem:
            raise Untranslatable(f"answer to {path}: {problem.reason}") from None

    async def _call(self, path: str, message: Any) -> Response:
        return await self._send(path, message.SerializeToString())

    async def _send(self, path: str, message: bytes) -> Response:
        """The server's answer, whatever it says. Raises Unavailable or Unclear."""
        if self._line is None:
            self._line = GrpcForwarder(self._address, tls=self._tls, timeout_seconds=self._timeout_seconds)
        return await self._line.forward(Request("grpc", "", path, self._headers, message))


def _consistency_of(level: str | int | None) -> Any:
    """A ReadConsistency message. Raises ValueError for a level that there is not."""
    if level is None:
        return None
    if isinstance(level, int) and level > 0:
        return proto.ReadConsistency(factor=level)
    if level in _CONSISTENCY:
        return proto.ReadConsistency(type=_CONSISTENCY[level])
    raise ValueError(f"read_consistency is {level!r}, expected all, majority, quorum, a number from 1 on, or nothing")


def _search_params(search: Search) -> Any:
    """The hints that this vendor knows; those of others mean nothing here."""
    params = proto.SearchParams(exact=search.exact)
    try:
        fill_config(params, {key: hint for key, hint in search.params.items() if key in _SEARCH_HINTS})
    except Undecodable:
        return proto.SearchParams(exact=search.exact)
    return params


def _points(reply: Any) -> tuple[Point, ...]:
    return tuple(map(point_of_proto, reply.result))


def _page(reply: Any) -> Page:
    following = id_of_proto(reply.next_page_offset) if reply.HasField("next_page_offset") else None
    return Page(_points(reply), following)
