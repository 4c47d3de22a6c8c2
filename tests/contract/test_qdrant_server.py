"""How the store of a Qdrant server reads its answers: refusals, time-outs, half-done work, what it asks for.

A scripted gRPC server answers in the vendor's own messages and texts; what a real engine does with the same calls is in
the contract suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import numpy as np
import pytest
import pytest_asyncio
from qdrant_client import grpc as theirs

from proxy.dialects.qdrant.grpc_upserts import unread_upsert
from proxy.errors import (
    CollectionExists,
    CollectionNotFound,
    InvalidRequest,
    Refused,
    Throttled,
    Unavailable,
    Unclear,
    Untranslatable,
)
from proxy.model import (
    Batch,
    CollectionSpec,
    Delete,
    DropCollection,
    HasId,
    Ids,
    Metric,
    Page,
    Point,
    Search,
    SetPayload,
    Upsert,
    VectorSpec,
    Where,
    Written,
)
from proxy.stores import WriteReport
from proxy.stores.qdrant import QdrantStore

VECTOR = np.array([1, 0, 0, 0], "<f4").tobytes()
NO_COLLECTION = "Not found: Collection `docs` doesn't exist!"
DIMENSION = "Wrong input: Vector dimension error: expected dim: 4, got 3"
COMPLETED = theirs.PointsOperationResponse(
    result=theirs.UpdateResult(operation_id=5, status=theirs.UpdateStatus.Completed)
)


@dataclass
class Refusal:
    code: grpc.StatusCode
    text: str
    trailers: tuple[tuple[str, str], ...] = ()


Answer = Any  # a message, or a Refusal
Script = Callable[[str, bytes], Answer | Awaitable[Answer]]


@dataclass
class Server:
    """`answers`: method -> an answer, or a function of the request's bytes."""

    port: int = 0
    answers: dict[str, Any] = field(default_factory=dict)
    seen: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    async def serve(self, method: str, body: bytes, context: Any) -> bytes:
        self.seen.append((method, body, dict(context.invocation_metadata())))
        answer = self.answers[method]
        if callable(answer):
            answer = answer(body)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Refusal):
            await context.abort(answer.code, answer.text, answer.trailers)
        return bytes(answer.SerializeToString())

    def requests(self, method: str, kind: Any) -> list[Any]:
        return [kind.FromString(body) for name, body, _ in self.seen if name == method]


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    script = Server()

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]  # the package is not typed
        def service(self, details: Any) -> Any:
            method = details.method.removeprefix("/qdrant.")

            async def answer(body: bytes, context: Any) -> bytes:
                return await script.serve(method, body, context)

            return grpc.unary_unary_rpc_method_handler(answer)

    running = grpc.aio.server(handlers=(AnyMethod(),))
    script.port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    yield script
    await running.stop(None)


@pytest_asyncio.fixture
async def store(server: Server) -> AsyncIterator[QdrantStore]:
    opened = QdrantStore(grpc_address=f"127.0.0.1:{server.port}", api_key="secret", timeout_seconds=5)
    yield opened
    await opened.close()


def described(**vectors: Any) -> Any:
    """A GetCollectionInfoResponse with these vectors."""
    config = theirs.VectorsConfig(params_map=theirs.VectorParamsMap(map=vectors))
    params = theirs.CollectionParams(vectors_config=config)
    return theirs.GetCollectionInfoResponse(result=theirs.CollectionInfo(config=theirs.CollectionConfig(params=params)))


# --- whether a call has been carried out --------------------------------------------------


async def test_nobody_listens(server: Server) -> None:
    store = QdrantStore(grpc_address="127.0.0.1:1", timeout_seconds=5)
    with pytest.raises(Unavailable):
        await store.probe()
    with pytest.raises(Unavailable):
        await store.upsert("docs", [Point(1, {"": VECTOR})])
    await store.close()


async def test_no_answer_in_time(server: Server) -> None:
    release = asyncio.Event()

    async def late(body: bytes) -> Any:
        await release.wait()
        return COMPLETED

    server.answers["Points/Upsert"] = late
    store = QdrantStore(grpc_address=f"127.0.0.1:{server.port}", timeout_seconds=0.2)
    with pytest.raises(Unclear):
        await store.upsert("docs", [Point(1, {"": VECTOR})])
    release.set()
    await store.close()


@pytest.mark.parametrize("status", [theirs.UpdateStatus.Acknowledged, theirs.UpdateStatus.WaitTimeout, 0])
async def test_not_applied_yet_is_no_success(server: Server, store: QdrantStore, status: Any) -> None:
    result = theirs.UpdateResult(status=status)
    server.answers["Points/Upsert"] = theirs.PointsOperationResponse(result=result)
    server.answers["Points/UpdateBatch"] = theirs.UpdateBatchResponse(result=[COMPLETED.result, result])
    with pytest.raises(Unclear):
        await store.upsert("docs", [Point(1, {"": VECTOR})])
    with pytest.raises(Unclear):
        await store.apply(Batch("docs", (Delete("docs", Ids((1,))), Delete("docs", Ids((2,))))))


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(grpc.StatusCode.UNAVAILABLE, "Shard temporarily unavailable: recovering"),
        Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "Timeout: Operation 'update' timed out"),
        Refusal(grpc.StatusCode.INTERNAL, "Service internal error: 1 of 2 replicas timed out"),
    ],
)
async def test_what_may_still_be_carried_out(server: Server, store: QdrantStore, refusal: Refusal) -> None:
    server.answers["Points/Upsert"] = server.answers["Points/Delete"] = refusal
    with pytest.raises(Unclear):
        await store.upsert("docs", [Point(1, {"": VECTOR})])
    with pytest.raises(Unclear):
        await store.delete("docs", [1])
    with pytest.raises(Unclear):
        await store.apply(Delete("docs", Ids((1,))))


async def test_an_answer_of_something_else(server: Server, store: QdrantStore) -> None:
    server.answers["Qdrant/HealthCheck"] = theirs.HealthCheckReply(version="1.19.0")
    assert await store.probe() == "1.19.0"
    server.answers["Points/Count"] = theirs.PayloadIncludeSelector(fields=["x"])  # field 1 is text here
    with pytest.raises(Unclear, match="CountResponse"):
        await store.count("docs")


# --- refusals -----------------------------------------------------------------------------


async def test_a_missing_collection(server: Server, store: QdrantStore) -> None:
    missing = Refusal(grpc.StatusCode.NOT_FOUND, NO_COLLECTION)
    for method in ("Points/Upsert", "Points/Delete", "Points/Get", "Points/Count", "Points/DeletePayload"):
        server.answers[method] = missing
    server.answers["Collections/Get"] = missing
    for call in (
        store.upsert("docs", [Point(1, {"": VECTOR})]),
        store.delete("docs", [1]),
        store.fetch("docs", [1]),
        store.count("docs"),
        store.settle("docs"),
        store.apply(Delete("docs", Ids((1, 2)))),
        store.search(Search("docs", VECTOR, 1)),
    ):
        with pytest.raises(CollectionNotFound) as caught:
            await call
        assert caught.value.collection == "docs"
    assert await store.describe("docs") is None


async def test_a_collection_that_is_there_already(server: Server, store: QdrantStore) -> None:
    text = "Wrong input: Collection `docs` already exists!"
    server.answers["Collections/Create"] = Refusal(grpc.StatusCode.ALREADY_EXISTS, text)
    with pytest.raises(CollectionExists):
        await store.create("docs", CollectionSpec({"": VectorSpec(4, Metric.COSINE)}))
    server.answers["Collections/Delete"] = theirs.CollectionOperationResponse(result=False)
    assert await store.define(DropCollection("docs")) is False
    await store.drop("docs")


async def test_being_asked_for_less(server: Server, store: QdrantStore) -> None:
    refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "Rate limiting exceeded: writes", (("retry-after", "7"),))
    server.answers["Points/Upsert"] = server.answers["Points/Count"] = refusal
    with pytest.raises(Throttled) as caught:
        await store.upsert("docs", [Point(1, {"": VECTOR}), Point(2, {"": VECTOR})])
    assert caught.value.retry_after_seconds == 7
    with pytest.raises(Throttled):
        await store.count("docs")


async def test_one_bad_point_does_not_take_the_batch_with_it(server: Server, store: QdrantStore) -> None:
    stored = []

    def upsert(body: bytes) -> Any:
        ids = [point.id.num for point in theirs.UpsertPoints.FromString(body).points]
        if 2 in ids:
            return Refusal(grpc.StatusCode.INVALID_ARGUMENT, DIMENSION)
        stored.extend(ids)
        return COMPLETED

    server.answers["Points/Upsert"] = upsert
    points = [Point(number, {"": VECTOR}) for number in (1, 2, 3)] + [
        Point("text", {"": VECTOR}),
        Point(5, {}, {"a": 2**70}),
    ]
    report = await store.upsert("docs", points)
    assert report.refused.keys() == {2, "text", 5}
    assert report.refused[2] == DIMENSION
    assert stored == [1, 3]


def ids_in(body: bytes) -> list[int]:
    return [point.id.num for point in theirs.UpsertPoints.FromString(body).points]


async def test_a_request_goes_on_as_it_came(server: Server, store: QdrantStore) -> None:
    theirs_sent = theirs.UpsertPoints(collection_name="theirs")
    for number in (1, 2):
        theirs_sent.points.add(id={"num": number}).vectors.vector.dense.data.extend((0.5, 1.5))
    upsert = unread_upsert(theirs_sent.SerializeToString())
    assert upsert is not None
    server.answers["Points/Upsert"] = COMPLETED
    assert await store.upsert_native("docs", upsert) == WriteReport()
    [(_, body, _)] = server.seen
    sent = theirs.UpsertPoints.FromString(body)
    assert (sent.collection_name, sent.wait, sent.points) == ("docs", True, theirs_sent.points)
    refusal = Refusal(grpc.StatusCode.INVALID_ARGUMENT, DIMENSION)
    server.answers["Points/Upsert"] = lambda body: refusal if 2 in ids_in(body) else COMPLETED
    assert (await store.upsert_native("docs", upsert)).refused == {2: DIMENSION}
    assert [ids_in(body) for _, body, _ in server.seen[1:]] == [[1, 2], [1], [2]]
    server.answers["Points/Upsert"] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "Bad request: Forbidden: too much")
    with pytest.raises(Refused):
        await store.upsert_native("docs", upsert)
    server.answers["Points/Upsert"] = theirs.PointsOperationResponse(
        result=theirs.UpdateResult(operation_id=5, status=theirs.UpdateStatus.Acknowledged)
    )
    with pytest.raises(Unclear):
        await store.upsert_native("docs", upsert)


async def test_limits_of_the_collection_are_no_fault_of_a_point(server: Server, store: QdrantStore) -> None:
    text = "Bad request: Forbidden: max vector storage size limit of 10MB reached"
    server.answers["Points/Upsert"] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)
    with pytest.raises(Refused):
        await store.upsert("docs", [Point(1, {"": VECTOR}), Point(2, {"": VECTOR})])
    assert len(server.seen) == 1


async def test_a_refused_write_of_several_points_may_have_left_a_part(server: Server, store: QdrantStore) -> None:
    for method in ("Points/Upsert", "Points/SetPayload"):
        server.answers[method] = Refusal(grpc.StatusCode.INVALID_ARGUMENT, DIMENSION)
    with pytest.raises(Refused):
        await store.apply(Upsert("docs", (Point(1, {"": VECTOR}),)))
    with pytest.raises(Unclear, match="a part may have been applied"):
        await store.apply(Upsert("docs", (Point(1, {"": VECTOR}), Point(2, {"": VECTOR}))))
    with pytest.raises(Unclear):
        await store.apply(SetPayload("docs", {"a": 1}, Where(HasId((1,)))))


async def test_a_wrong_key_is_no_trouble_of_the_network(server: Server, store: QdrantStore) -> None:
    server.answers["Collections/List"] = Refusal(grpc.StatusCode.UNAUTHENTICATED, "Invalid API key or JWT")
    with pytest.raises(Refused, match="Invalid API key"):
        await store.collections()


# --- what is asked ------------------------------------------------------------------------


async def test_the_key_goes_with_every_call(server: Server, store: QdrantStore) -> None:
    server.answers["Collections/ListAliases"] = theirs.ListAliasesResponse(
        aliases=[theirs.AliasDescription(alias_name="live", collection_name="docs")]
    )
    assert await store.aliases() == {"live": "docs"}
    [(_, _, metadata)] = server.seen
    assert metadata["api-key"] == "secret"


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("all", theirs.ReadConsistency(type=theirs.ReadConsistencyType.All)),
        ("majority", theirs.ReadConsistency(type=theirs.ReadConsistencyType.Majority)),
        ("quorum", theirs.ReadConsistency(type=theirs.ReadConsistencyType.Quorum)),
        (2, theirs.ReadConsistency(factor=2)),
        (None, None),
    ],
)
async def test_reads_ask_for_a_consistency(server: Server, level: str | int | None, expected: Any) -> None:
    server.answers["Points/Get"] = theirs.GetResponse()
    server.answers["Points/Scroll"] = theirs.ScrollResponse()
    server.answers["Points/Count"] = theirs.CountResponse()
    store = QdrantStore(grpc_address=f"127.0.0.1:{server.port}", read_consistency=level)
    assert await store.fetch("docs", [1]) == {}
    assert await store.scan("docs", None, 10) == Page((), None)
    assert await store.count("docs") == 0
    kinds = {"Points/Get": theirs.GetPoints, "Points/Scroll": theirs.ScrollPoints, "Points/Count": theirs.CountPoints}
    for method, kind in kinds.items():
        [request] = server.requests(method, kind)
        assert request.HasField("read_consistency") == (expected is not None)
        if expected is not None:
            assert request.read_consistency == expected
    await store.close()


@pytest.mark.parametrize("level", ["some", 0, -1])
def test_a_consistency_that_there_is_not(level: str | int) -> None:
    with pytest.raises(ValueError, match="read_consistency"):
        QdrantStore(grpc_address="127.0.0.1:1", read_consistency=level)


async def test_ids_that_cannot_be_there_are_not_asked_for(server: Server, store: QdrantStore) -> None:
    assert await store.fetch("docs", ["text", -1]) == {}
    await store.delete("docs", ["text"])
    assert await store.scan("docs", "text", 10) == Page((), None)
    assert await store.apply(Batch("docs", ())) == Written(())
    assert server.seen == []


async def test_a_search_asks_for_the_metric_once(server: Server, store: QdrantStore) -> None:
    """A threshold is turned into the vendor's direction, hints of other vendors are left out."""
    server.answers["Collections/Get"] = described(far=theirs.VectorParams(size=4, distance=theirs.Distance.Euclid))
    scored = theirs.ScoredPoint(id=theirs.PointId(num=3), score=2.5)
    server.answers["Points/Query"] = theirs.QueryResponse(result=[scored])
    search = Search("docs", VECTOR, 7, "far", 2, score_threshold=-4.0, exact=True, params={"hnsw_ef": 9, "nprobe": 3})
    for _ in range(2):
        hits = await store.search(search)
        assert hits.metric is Metric.EUCLID
        assert [(hit.point.id, hit.score) for hit in hits.hits] == [(3, -2.5)]
    assert [method for method, _, _ in server.seen].count("Collections/Get") == 1
    request = server.requests("Points/Query", theirs.QueryPoints)[0]
    assert (request.limit, request.offset, request.using) == (7, 2, "far")
    assert list(request.query.nearest.dense.data) == [1, 0, 0, 0]
    assert request.params == theirs.SearchParams(hnsw_ef=9, exact=True)
    assert request.score_threshold == np.nextafter(np.float32(4), np.float32(5))  # below this is at most 4
    with pytest.raises(InvalidRequest, match="Not existing vector name error: near"):
        await store.search(Search("docs", VECTOR, 1, "near"))


async def test_a_description_of_a_newer_server(server: Server, store: QdrantStore) -> None:
    """More settings are left out; a distance that is not known here is no setting."""
    server.answers["Points/Count"] = theirs.CountResponse(result=theirs.CountResult(count=9))
    newer = theirs.VectorParams(size=4, distance=theirs.Distance.Dot)
    newer.MergeFromString(b"\xf8\x06\x01")  # field 111
    server.answers["Collections/Get"] = described(a=newer)
    found = await store.describe("docs")
    assert found is not None
    assert (found.points, found.spec.vectors) == (9, {"a": VectorSpec(4, Metric.DOT)})
    newer.MergeFromString(b"\x10\x6f")  # distance 111
    server.answers["Collections/Get"] = described(a=newer)
    with pytest.raises(Untranslatable, match="unknown enum value"):
        await store.describe("docs")


async def test_what_is_stored_is_read_as_it_is(server: Server, store: QdrantStore) -> None:
    """An engine may hold what no client may send any more: it is for the reader to park it."""
    vector = theirs.VectorOutput(dense=theirs.DenseVector(data=[float("nan")]))
    point = theirs.RetrievedPoint(id=theirs.PointId(num=1), vectors=theirs.VectorsOutput(vector=vector))
    server.answers["Points/Get"] = theirs.GetResponse(result=[point])
    [found] = (await store.fetch("docs", [1])).values()
    buffer = found.vectors[""]
    assert isinstance(buffer, bytes)
    assert np.isnan(np.frombuffer(buffer, "<f4")).all()
