"""What the official client sends is understood, and what we answer it understands: over REST and over gRPC alike.

Each case is one call of the client: the operation that it must become, what is answered, and what the client makes of
the answer with its own models and messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from proxy.errors import CollectionNotFound, PointNotFound, Throttled
from proxy.model import (
    EVERYTHING,
    Aliases,
    And,
    Batch,
    ClearPayload,
    CollectionNames,
    CollectionSpec,
    Count,
    Counted,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    Defined,
    Delete,
    DeletePayload,
    DeleteVectors,
    Describe,
    Described,
    DropAlias,
    DropCollection,
    DropPayloadIndex,
    Existence,
    Exists,
    Fetch,
    HasId,
    Hit,
    Hits,
    HitsBatch,
    Ids,
    ListAliases,
    ListCollections,
    Match,
    Metric,
    MultiVector,
    Not,
    Operation,
    OverwritePayload,
    Page,
    Point,
    Points,
    Range,
    Result,
    Scroll,
    Search,
    SearchBatch,
    Selection,
    SetPayload,
    SparseVector,
    UpdateAliases,
    UpdateCollection,
    UpdateVectors,
    Upsert,
    VectorSpec,
    Where,
    Written,
)
from tests.support.qdrant_recorder import Recorder, grpc_client, rest_client

UUID_ID = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
Opener = Callable[[Recorder], AbstractContextManager[QdrantClient]]


def floats(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def cosine(collection: str, using: str) -> Metric | None:
    return {"": Metric.COSINE, "far": Metric.EUCLID}.get(using)


@dataclass
class Line:
    client: QdrantClient
    recorder: Recorder

    def say(self, ask: Callable[[QdrantClient], Any], answer: Result) -> tuple[Operation, Any]:
        """What one call of the client became, and what it returned."""
        self.recorder.answer = answer
        self.recorder.calls.clear()
        returned = ask(self.client)
        [operation] = self.recorder.operations
        return operation, returned


@pytest.fixture(scope="module", params=[rest_client, grpc_client], ids=["rest", "grpc"])
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    recorder = Recorder(Written())
    with request.param(recorder, cosine) as client:
        yield Line(client, recorder)


# --- writes ------------------------------------------------------------------------------

FILTER = models.Filter(must=[models.FieldCondition(key="a", match=models.MatchValue(value=1))])
MATCH = Match("a", 1)

WRITES: dict[str, tuple[Callable[[QdrantClient], Any], Operation]] = {
    "upsert": (
        lambda c: c.upsert(
            "docs",
            [
                models.PointStruct(id=1, vector=[0.5, 2], payload={"n": 1, "x": 1.0, "deep": {"l": [None, True, "s"]}}),
                models.PointStruct(
                    id=str(UUID_ID), vector={"a": [1.0], "s": models.SparseVector(indices=[7], values=[2.0])}
                ),
                models.PointStruct(id=2**63 + 1, vector={"m": [[1.0, 2.0], [3.0, 4.0]]}),
            ],
        ),
        Upsert(
            "docs",
            (
                Point(1, {"": floats(0.5, 2)}, {"n": 1, "x": 1.0, "deep": {"l": [None, True, "s"]}}),
                Point(UUID_ID, {"a": floats(1), "s": SparseVector((7,), floats(2))}),
                Point(2**63 + 1, {"m": MultiVector((floats(1, 2), floats(3, 4)))}),
            ),
        ),
    ),
    "upsert, conditional": (
        lambda c: c.upsert(
            "docs",
            [models.PointStruct(id=1, vector=[1.0])],
            update_filter=FILTER,
            update_mode=models.UpdateMode.INSERT_ONLY,
        ),
        Upsert("docs", (Point(1, {"": floats(1)}),), MATCH, "insert_only"),
    ),
    "delete by ids": (
        lambda c: c.delete("docs", [1, str(UUID_ID)]),
        Delete("docs", Ids((1, UUID_ID))),
    ),
    "delete by filter": (
        lambda c: c.delete("docs", models.FilterSelector(filter=FILTER)),
        Delete("docs", Where(MATCH)),
    ),
    "set payload": (
        lambda c: c.set_payload("docs", {"b": [1, 2.5]}, [3], key="nest"),
        SetPayload("docs", {"b": [1, 2.5]}, Ids((3,)), "nest"),
    ),
    "set payload by filter": (
        lambda c: c.set_payload("docs", {"b": "x"}, FILTER),
        SetPayload("docs", {"b": "x"}, Where(MATCH)),
    ),
    "overwrite payload": (
        lambda c: c.overwrite_payload("docs", {"b": None}, [3]),
        OverwritePayload("docs", {"b": None}, Ids((3,))),
    ),
    "delete payload": (
        lambda c: c.delete_payload("docs", ["a", "b.c"], [3]),
        DeletePayload("docs", ("a", "b.c"), Ids((3,))),
    ),
    "clear payload": (lambda c: c.clear_payload("docs", [3]), ClearPayload("docs", Ids((3,)))),
    "update vectors": (
        lambda c: c.update_vectors("docs", [models.PointVectors(id=3, vector={"a": [1.0, 2.0]})]),
        UpdateVectors("docs", (Point(3, {"a": floats(1, 2)}),)),
    ),
    "delete vectors": (
        lambda c: c.delete_vectors("docs", ["a"], [3]),
        DeleteVectors("docs", ("a",), Ids((3,))),
    ),
}


@pytest.mark.parametrize("name", list(WRITES))
def test_writes(line: Line, name: str) -> None:
    ask, expected = WRITES[name]
    operation, returned = line.say(ask, Written((7,)))
    assert operation == expected
    assert returned == models.UpdateResult(operation_id=7, status=models.UpdateStatus.COMPLETED)


def test_a_write_that_is_not_applied_yet(line: Line) -> None:
    _, returned = line.say(lambda c: c.delete("docs", [1], wait=False), Written((8,), acknowledged=True))
    assert returned == models.UpdateResult(operation_id=8, status=models.UpdateStatus.ACKNOWLEDGED)


def test_upsert_as_columns(line: Line) -> None:
    """REST sends columns as they are, gRPC as points; both mean the same."""
    batch = models.Batch(ids=[1, 2], vectors={"a": [[1.0], [2.0]], "b": [[3.0], [4.0]]}, payloads=[{"x": 1}, {}])
    operation, _ = line.say(lambda c: c.upsert("docs", batch), Written())
    first = Point(1, {"a": floats(1), "b": floats(3)}, {"x": 1})
    assert operation == Upsert("docs", (first, Point(2, {"a": floats(2), "b": floats(4)})))


def test_a_batch_of_writes(line: Line) -> None:
    operations: list[Any] = [
        models.UpsertOperation(upsert=models.PointsList(points=[models.PointStruct(id=1, vector=[1.0])])),
        models.DeleteOperation(delete=models.PointIdsList(points=[2])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"a": 1}, points=[3])),
        models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload={"a": 2}, filter=FILTER)),
        models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["a"], points=[3])),
        models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[4])),
        models.UpdateVectorsOperation(
            update_vectors=models.UpdateVectors(points=[models.PointVectors(id=5, vector=[2.0])])
        ),
        models.DeleteVectorsOperation(delete_vectors=models.DeleteVectors(points=[6], vector=["a"])),
    ]
    operation, returned = line.say(lambda c: c.batch_update_points("docs", operations), Written(tuple(range(8))))
    assert operation == Batch(
        "docs",
        (
            Upsert("docs", (Point(1, {"": floats(1)}),)),
            Delete("docs", Ids((2,))),
            SetPayload("docs", {"a": 1}, Ids((3,))),
            OverwritePayload("docs", {"a": 2}, Where(MATCH)),
            DeletePayload("docs", ("a",), Ids((3,))),
            ClearPayload("docs", Ids((4,))),
            UpdateVectors("docs", (Point(5, {"": floats(2)}),)),
            DeleteVectors("docs", ("a",), Ids((6,))),
        ),
    )
    assert [one.operation_id for one in returned] == list(range(8))


# --- reads -------------------------------------------------------------------------------

HITS = Hits(
    Metric.COSINE,
    (Hit(Point(1, {"": floats(0.5, 2)}, {"a": 1, "b": 1.0}), 0.75), Hit(Point(UUID_ID, {}, {}), 0.5)),
)


def test_query(line: Line) -> None:
    operation, returned = line.say(
        lambda c: c.query_points(
            "docs",
            [1.0, 2.0],
            query_filter=models.Filter(
                must=[models.FieldCondition(key="n", range=models.Range(gte=1, lt=2.5))],
                must_not=[models.HasIdCondition(has_id=[5, str(UUID_ID)])],
            ),
            limit=3,
            offset=4,
            with_payload=["a", "b"],
            with_vectors=True,
            score_threshold=0.25,
            search_params=models.SearchParams(hnsw_ef=64, exact=True),
        ),
        HITS,
    )
    assert operation == Search(
        "docs",
        floats(1, 2),
        3,
        "",
        4,
        And((Range("n", gte=1.0, lt=2.5), Not(HasId((5, UUID_ID))))),
        float(np.nextafter(np.float32(0.25), np.float32(1))),
        Selection(payload=True, payload_include=("a", "b"), vectors=True),
        exact=True,
        params={"hnsw_ef": 64},
    )
    first, second = returned.points
    assert (first.id, first.score, first.payload, first.vector) == (1, 0.75, {"a": 1, "b": 1.0}, [0.5, 2.0])
    assert (type(first.payload["a"]), type(first.payload["b"])) == (int, float)
    assert (second.id, second.score) == (str(UUID_ID), 0.5)
    assert not second.payload
    assert not second.vector


def test_query_of_distances(line: Line) -> None:
    """A client sees positive distances, and bounds them from above."""
    hits = Hits(Metric.EUCLID, (Hit(Point(1), -2.5), Hit(Point(2), 0.0)))
    operation, returned = line.say(
        lambda c: c.query_points("docs", [1.0], using="far", score_threshold=4.0, with_payload=False), hits
    )
    assert isinstance(operation, Search)
    assert operation.using == "far"
    assert operation.score_threshold == float(np.nextafter(np.float32(-4), np.float32(0)))
    assert [point.score for point in returned.points] == [2.5, 0.0]


def test_query_batch(line: Line) -> None:
    requests = [
        models.QueryRequest(query=[1.0], limit=1, with_payload=True),
        models.QueryRequest(query=models.NearestQuery(nearest=[2.0]), using="far"),
    ]
    answer = HitsBatch((HITS, Hits(Metric.EUCLID, ())))
    operation, returned = line.say(lambda c: c.query_batch_points("docs", requests), answer)
    assert operation == SearchBatch(
        "docs",
        (
            Search("docs", floats(1), 1, selection=Selection(payload=True)),
            Search("docs", floats(2), 10, "far", selection=Selection(payload=False)),
        ),
    )
    assert [[point.id for point in one.points] for one in returned] == [[1, str(UUID_ID)], []]


def test_retrieve(line: Line) -> None:
    answer = Points((Point(1, {"a": floats(1), "s": SparseVector((3,), floats(0.5))}, {"x": None}),))
    operation, returned = line.say(lambda c: c.retrieve("docs", [1, str(UUID_ID)], with_vectors=["a", "s"]), answer)
    assert operation == Fetch("docs", (1, UUID_ID), Selection(payload=True, vectors=True, vector_names=("a", "s")))
    [record] = returned
    assert record.payload == {"x": None}
    assert record.vector == {"a": [1.0], "s": models.SparseVector(indices=[3], values=[0.5])}


def test_retrieve_nothing_of_a_point_but_its_id(line: Line) -> None:
    operation, [record] = line.say(
        lambda c: c.retrieve("docs", [1], with_payload=False), Points((Point(1, {"": floats(1)}, {"x": 1}),))
    )
    assert operation == Fetch("docs", (1,), Selection(payload=False))
    assert not record.payload
    assert record.vector is None


def test_scroll(line: Line) -> None:
    operation, (records, following) = line.say(
        lambda c: c.scroll("docs", FILTER, 2, offset=3, with_payload=models.PayloadSelectorExclude(exclude=["z"])),
        Page((Point(3, payload={"a": 1}),), UUID_ID),
    )
    assert operation == Scroll("docs", 2, 3, MATCH, Selection(payload=True, payload_exclude=("z",)))
    assert [(record.id, record.payload) for record in records] == [(3, {"a": 1})]
    assert following == str(UUID_ID)


def test_scroll_to_the_end(line: Line) -> None:
    operation, (records, following) = line.say(lambda c: c.scroll("docs", limit=10), Page((), None))
    assert operation == Scroll("docs", 10)
    assert (records, following) == ([], None)


def test_count(line: Line) -> None:
    operation, returned = line.say(lambda c: c.count("docs", FILTER, exact=False), Counted(42))
    assert operation == Count("docs", MATCH, exact=False)
    assert returned.count == 42


# --- collections -------------------------------------------------------------------------


def test_create_and_describe(line: Line) -> None:
    """What a client defines, it is shown again, its parameters and ours alike."""
    config = models.HnswConfigDiff(m=24)
    operation, returned = line.say(
        lambda c: c.create_collection(
            "docs",
            vectors_config={
                "a": models.VectorParams(size=4, distance=models.Distance.COSINE, hnsw_config=config),
                "m": models.VectorParams(
                    size=2,
                    distance=models.Distance.DOT,
                    multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
                    datatype=models.Datatype.FLOAT16,
                ),
            },
            sparse_vectors_config={"s": models.SparseVectorParams(modifier=models.Modifier.IDF)},
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=500, max_optimization_threads=2),
            quantization_config=models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.5)
            ),
            shard_number=2,
            metadata={"made": "here", "n": 1},
        ),
        Defined(True),
    )
    assert returned is True
    assert isinstance(operation, CreateCollection)
    assert operation.spec.vectors == {
        "a": VectorSpec(4, Metric.COSINE),
        "m": VectorSpec(2, Metric.DOT, "multi", "float16"),
        "s": VectorSpec(0, Metric.DOT, "sparse"),
    }
    indexes = {"n": {"type": "integer", "lookup": True, "range": False}, "tag": {"type": "keyword"}}
    native = {**operation.spec.native, "payload_indexes": indexes}
    spec = CollectionSpec(operation.spec.vectors, {"tag": "keyword", "n": "integer"}, native)
    asked, info = line.say(lambda c: c.get_collection("docs"), Described("docs", spec, 17))
    assert asked == Describe("docs")
    assert (info.points_count, info.status, info.optimizer_status) == (17, "green", models.OptimizersStatusOneOf.OK)
    assert info.config.params.vectors["a"].hnsw_config.m == 24
    assert info.config.params.vectors["m"].datatype == models.Datatype.FLOAT16
    assert info.config.params.sparse_vectors["s"].modifier == models.Modifier.IDF
    assert info.config.params.shard_number == 2
    assert info.config.optimizer_config.indexing_threshold == 500
    assert info.config.optimizer_config.max_optimization_threads == 2
    assert info.config.hnsw_config.m == 16
    assert info.config.quantization_config.scalar.quantile == 0.5
    assert info.config.metadata == {"made": "here", "n": 1}
    assert info.payload_schema["tag"].data_type == models.PayloadSchemaType.KEYWORD
    assert info.payload_schema["tag"].params is None
    shown = info.payload_schema["n"].params
    assert (shown.type, shown.lookup, shown.range) == ("integer", True, False)


def test_create_with_one_unnamed_vector(line: Line) -> None:
    operation, _ = line.say(
        lambda c: c.create_collection("docs", models.VectorParams(size=3, distance=models.Distance.MANHATTAN)),
        Defined(True),
    )
    assert isinstance(operation, CreateCollection)
    assert operation.spec.vectors == {"": VectorSpec(3, Metric.MANHATTAN)}
    _, info = line.say(lambda c: c.get_collection("docs"), Described("docs", operation.spec, 0))
    assert (info.config.params.vectors.size, info.config.params.vectors.distance) == (3, "Manhattan")


DEFINITIONS: dict[str, tuple[Callable[[QdrantClient], Any], Operation]] = {
    "update": (
        lambda c: c.update_collection("docs", hnsw_config=models.HnswConfigDiff(m=8)),
        UpdateCollection("docs", {"hnsw_config": {"m": 8}}),
    ),
    "drop": (lambda c: c.delete_collection("docs"), DropCollection("docs")),
    "aliases": (
        lambda c: c.update_collection_aliases(
            [
                models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="docs", alias_name="live")),
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name="old")),
            ]
        ),
        UpdateAliases((CreateAlias("live", "docs"), DropAlias("old"))),
    ),
}


@pytest.mark.parametrize("name", list(DEFINITIONS))
@pytest.mark.parametrize("changed", [True, False])
def test_definitions(line: Line, name: str, changed: bool) -> None:
    ask, expected = DEFINITIONS[name]
    operation, returned = line.say(ask, Defined(changed))
    assert operation == expected
    assert returned is changed


def test_payload_indexes(line: Line) -> None:
    operation, returned = line.say(
        lambda c: c.create_payload_index("docs", "tag", models.PayloadSchemaType.KEYWORD), Defined()
    )
    assert operation == CreatePayloadIndex("docs", "tag", "keyword", {"field_schema": "keyword"})
    assert returned.status == models.UpdateStatus.COMPLETED
    schema = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False)
    operation, _ = line.say(lambda c: c.create_payload_index("docs", "n", schema), Defined())
    shown = {"type": "integer", "lookup": True, "range": False}
    assert operation == CreatePayloadIndex("docs", "n", "integer", {"field_schema": shown})
    operation, _ = line.say(lambda c: c.delete_payload_index("docs", "n"), Defined())
    assert operation == DropPayloadIndex("docs", "n")


def test_lists_of_collections_and_aliases(line: Line) -> None:
    operation, returned = line.say(lambda c: c.get_collections(), CollectionNames(("a", "b")))
    assert operation == ListCollections()
    assert [one.name for one in returned.collections] == ["a", "b"]
    operation, returned = line.say(lambda c: c.collection_exists("a"), Existence(True))
    assert (operation, returned) == (Exists("a"), True)
    aliases = Aliases((CreateAlias("live", "docs"),))
    shown = [models.AliasDescription(alias_name="live", collection_name="docs")]
    operation, returned = line.say(lambda c: c.get_aliases(), aliases)
    assert (operation, returned.aliases) == (ListAliases(), shown)
    operation, returned = line.say(lambda c: c.get_collection_aliases("docs"), aliases)
    assert (operation, returned.aliases) == (ListAliases("docs"), shown)


# --- errors ------------------------------------------------------------------------------


def test_a_missing_collection(line: Line) -> None:
    line.recorder.answer = CollectionNotFound("docs")
    with pytest.raises(Exception, match="Not found: Collection `docs` doesn"):
        line.client.count("docs")


def test_a_request_to_come_back_later(line: Line) -> None:
    """The client reads how long to wait, and its bulk helpers do."""
    line.recorder.answer = Throttled("too many writes", 2.5)
    with pytest.raises(ResourceExhaustedResponse) as caught:
        line.client.delete("docs", [1])
    assert caught.value.retry_after_s == 3


def test_one_point_by_its_path() -> None:
    """A REST endpoint that this client has no method for, but others use."""
    recorder = Recorder(Points((Point(UUID_ID, {"": floats(1)}, {"a": 1}),)))
    with rest_client(recorder) as client:
        http = client.http.points_api
        reply = http.get_point(collection_name="docs", id=str(UUID_ID))
        assert reply.result is not None
        assert reply.result.payload == {"a": 1}
        assert reply.result.vector == [1.0]
        assert recorder.operations == [Fetch("docs", (UUID_ID,), EVERYTHING)]
        recorder.answer = Points(())
        with pytest.raises(Exception, match="Not found: Point with id 5 does not exists!"):
            http.get_point(collection_name="docs", id=5)
        recorder.answer = PointNotFound("nothing")
        with pytest.raises(Exception, match="Not found: nothing"):
            http.get_point(collection_name="docs", id=5)
