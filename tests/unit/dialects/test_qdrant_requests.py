"""What cannot be decoded is never guessed: reads go to the primary with a reason, writes are opaque, keyed if possible.

Both transports; the bytes are made by the official client's own models and messages, or by hand where no client would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest
from qdrant_client import grpc
from qdrant_client.grpc import collections_service_pb2, points_service_pb2, qdrant_pb2, snapshots_service_pb2

from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import InvalidRequest
from proxy.model import (
    Administration,
    Batch,
    Delete,
    Describe,
    Fetch,
    Ids,
    Metric,
    OpaqueWrite,
    Operation,
    OverwritePayload,
    PrimaryOnlyRead,
    RenameAlias,
    Search,
    Selection,
    UpdateAliases,
    Upsert,
)
from proxy.wire import Request

REST, GRPC = QdrantRest(), QdrantGrpc()
UUID_TEXT = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
A = {"key": "a", "match": {"value": 1}}


def rest(method: str, path: str, body: object = None, query: str = "", dialect: QdrantRest = REST) -> Operation:
    """A body that is bytes goes as it is."""
    sent = body if isinstance(body, bytes) else orjson.dumps(body)
    return dialect.decode(Request("http", method, path, (), sent, query)).operation


def called(method: str, message: Any, dialect: QdrantGrpc = GRPC) -> Operation:
    body = message if isinstance(message, bytes) else message.SerializeToString()
    return dialect.decode(Request("grpc", "", f"/qdrant.{method}", (), body)).operation


# --- reads that only the primary can answer ----------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "query without a vector"),
        ({"query": 5}, "query by id"),
        ({"query": UUID_TEXT}, "query by id"),
        ({"query": {"nearest": 5}}, "query by id"),
        ({"query": {"nearest": [1.0], "mmr": {"diversity": 0.5}}}, "mmr"),
        ({"query": [[1.0], [2.0]]}, "multi-vector query"),
        ({"query": {"indices": [1], "values": [1.0]}, "using": "s"}, "sparse query"),
        ({"query": {"nearest": {"indices": [1], "values": [1.0]}}}, "sparse query"),
        ({"query": {"text": "t", "model": "m"}}, "inference object"),
        ({"query": {"recommend": {"positive": [1]}}}, "recommend"),
        ({"query": {"discover": {"target": 1, "context": []}}}, "discover"),
        ({"query": {"context": []}}, "context"),
        ({"query": {"order_by": "x"}}, "order_by"),
        ({"query": {"fusion": "rrf"}, "prefetch": [{"query": [1.0]}]}, "prefetch"),
        ({"query": {"fusion": "rrf"}}, "fusion"),
        ({"query": {"rrf": {"k": 2}}}, "rrf"),
        ({"query": {"sample": "random"}}, "sample"),
        ({"query": {"formula": 1.0}}, "formula"),
        ({"query": {"relevance_feedback": {}}}, "relevance_feedback"),
        ({"query": [1.0], "lookup_from": {"collection": "x"}}, "lookup_from"),
        ({"query": [1.0], "shard_key": "k"}, "shard_key"),
        ({"query": [1.0], "params": {"indexed_only": True}}, "indexed_only"),
        ({"query": [1.0], "params": {"unheard": 1}}, "unknown field"),
        ({"query": [1.0], "unheard": 1}, "unknown field"),
        ({"query": [1.0], "score_threshold": 0.5}, "score threshold of an unknown metric"),
        ({"query": [1.0], "filter": {"must": [{"slice": {"total": 2, "index": 0}}]}}, "slice condition"),
        ({"query": [1.0], "limit": 0}, "undecodable"),
        ({"query": [1.0], "limit": "9"}, "undecodable"),
        ({"query": [1.0], "with_payload": "all"}, "undecodable"),
        ([], "undecodable"),
        (b"", "undecodable"),
        (b'{"query": [1.0', "undecodable"),
        (b'{"filter":' + b'{"must":' * 2000, "undecodable"),
    ],
)
def test_rest_queries_for_the_primary(body: object, reason: str) -> None:
    assert rest("POST", "/collections/docs/points/query", body) == PrimaryOnlyRead("docs", reason)


NEAREST = grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=[1.0])))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (grpc.QueryPoints(), "query without a vector"),
        (grpc.QueryPoints(query=grpc.Query(nearest=grpc.VectorInput(id=grpc.PointId(num=5)))), "query by id"),
        (
            grpc.QueryPoints(
                query=grpc.Query(nearest=grpc.VectorInput(sparse=grpc.SparseVector(indices=[1], values=[1])))
            ),
            "sparse query",
        ),
        (
            grpc.QueryPoints(query=grpc.Query(nearest=grpc.VectorInput(multi_dense=grpc.MultiDenseVector()))),
            "multi-vector query",
        ),
        (grpc.QueryPoints(query=grpc.Query(nearest=grpc.VectorInput(document=grpc.Document()))), "inference object"),
        (grpc.QueryPoints(query=grpc.Query(recommend=grpc.RecommendInput())), "recommend"),
        (grpc.QueryPoints(query=grpc.Query(discover=grpc.DiscoverInput())), "discover"),
        (grpc.QueryPoints(query=grpc.Query(context=grpc.ContextInput())), "context"),
        (grpc.QueryPoints(query=grpc.Query(order_by=grpc.OrderBy(key="x"))), "order_by"),
        (grpc.QueryPoints(query=grpc.Query(fusion=grpc.Fusion.RRF)), "fusion"),
        (grpc.QueryPoints(query=grpc.Query(sample=grpc.Sample.Random)), "sample"),
        (grpc.QueryPoints(query=grpc.Query(formula=grpc.Formula())), "formula"),
        (grpc.QueryPoints(query=grpc.Query(nearest_with_mmr=grpc.NearestInputWithMmr())), "mmr"),
        (grpc.QueryPoints(query=grpc.Query(rrf=grpc.Rrf())), "rrf"),
        (grpc.QueryPoints(query=NEAREST, prefetch=[grpc.PrefetchQuery()]), "prefetch"),
        (grpc.QueryPoints(query=NEAREST, lookup_from=grpc.LookupLocation()), "lookup_from"),
        (grpc.QueryPoints(query=NEAREST, shard_key_selector=grpc.ShardKeySelector()), "shard_key"),
        (grpc.QueryPoints(query=NEAREST, read_consistency=grpc.ReadConsistency(factor=2)), "consistency"),
        (grpc.QueryPoints(query=NEAREST, params=grpc.SearchParams(indexed_only=True)), "indexed_only"),
        (grpc.QueryPoints(query=NEAREST, score_threshold=0.5), "score threshold of an unknown metric"),
        (grpc.QueryPoints(query=NEAREST, limit=0), "undecodable"),
        (grpc.QueryPoints(query=NEAREST, with_payload=grpc.WithPayloadSelector()), "undecodable"),
    ],
)
def test_grpc_queries_for_the_primary(message: grpc.QueryPoints, reason: str) -> None:
    message.collection_name = "docs"
    assert called("Points/Query", message) == PrimaryOnlyRead("docs", reason)


def test_a_newer_grpc_field_is_not_ignored() -> None:
    body = grpc.CountPoints(collection_name="docs").SerializeToString() + b"\xf8\x06\x01"  # field 111
    assert called("Points/Count", body) == PrimaryOnlyRead("docs", "unknown field")
    body = grpc.DeletePoints(collection_name="docs").SerializeToString() + b"\xf8\x06\x01"
    assert called("Points/Delete", body) == OpaqueWrite("docs", None, "unknown field")


def test_bytes_that_are_no_message() -> None:
    assert called("Points/Count", b"\xff\xff") == PrimaryOnlyRead(None, "undecodable")
    assert called("Points/Upsert", b"\xff\xff") == OpaqueWrite(None, None, "undecodable")
    assert called("Points/NeverHeard", b"\xff\xff") == OpaqueWrite(None, None, "unknown endpoint", guessed=True)


def test_other_reads_for_the_primary() -> None:
    assert rest("POST", "/collections/docs/points/scroll", {"order_by": "n"}) == PrimaryOnlyRead("docs", "order_by")
    assert rest("POST", "/collections/docs/points", {"ids": [-1]}) == PrimaryOnlyRead("docs", "malformed id")
    assert rest("GET", "/collections/docs/points/nine") == PrimaryOnlyRead("docs", "malformed id")
    assert rest("GET", f"/collections/docs/points/{'9' * 5000}") == PrimaryOnlyRead("docs", "malformed id")
    count = rest("POST", "/collections/docs/points/count", {}, "timeout=3&consistency=majority")
    assert count == PrimaryOnlyRead("docs", "consistency")
    scroll = grpc.ScrollPoints(collection_name="docs", order_by=grpc.OrderBy(key="n"))
    assert called("Points/Scroll", scroll) == PrimaryOnlyRead("docs", "order_by")
    batch = {"searches": [{"query": [1.0]}, {"query": 7}]}
    assert rest("POST", "/collections/docs/points/query/batch", batch) == PrimaryOnlyRead("docs", "query by id")


# --- the older search --------------------------------------------------------------------


def test_the_older_search() -> None:
    vector = np.array([1, 2], "<f4").tobytes()
    body = {"vector": [1, 2], "top": 3, "with_vectors": ["a"]}
    expected = Search("docs", vector, 3, selection=Selection(payload=False, vectors=True, vector_names=("a",)))
    assert rest("POST", "/collections/docs/points/search", body) == expected
    message = grpc.SearchPoints(
        collection_name="docs",
        vector=[1, 2],
        limit=3,
        with_vectors=grpc.WithVectorsSelector(include=grpc.VectorsSelector(names=["a"])),
    )
    assert called("Points/Search", message) == expected
    named = {"vector": {"name": "x", "vector": [1, 2]}, "limit": 4, "offset": 2}
    expected = Search("docs", vector, 4, "x", 2, selection=Selection(payload=False))
    assert rest("POST", "/collections/docs/points/search", named) == expected
    message = grpc.SearchPoints(collection_name="docs", vector=[1, 2], limit=4, offset=2, vector_name="x")
    assert called("Points/Search", message) == expected


def test_the_older_search_by_a_sparse_vector_is_for_the_primary() -> None:
    body = {"vector": {"name": "s", "vector": {"indices": [1], "values": [1.0]}}, "limit": 1}
    assert rest("POST", "/collections/docs/points/search", body) == PrimaryOnlyRead("docs", "sparse query")
    message = grpc.SearchPoints(
        collection_name="docs", vector=[1], limit=1, sparse_indices=grpc.SparseIndices(data=[1])
    )
    assert called("Points/Search", message) == PrimaryOnlyRead("docs", "sparse query")


# --- writes whose effect cannot be told --------------------------------------------------


@pytest.mark.parametrize(
    ("body", "ids", "reason"),
    [
        ({"points": [{"id": 1, "vector": {"text": "t", "model": "m"}}]}, (1,), "inference object"),
        ({"points": [{"id": 1, "vector": [1.0]}, {"id": 2, "vector": {"a": {"text": "t", "model": "m"}}}]}, (1, 2),
         "inference object"),
        ({"points": [{"id": 1, "vector": [1.0], "unheard": 1}]}, (1,), "unknown field"),
        ({"points": [{"id": 1}]}, (1,), "malformed vector"),
        ({"points": [{"id": 1, "vector": [1.0], "payload": []}]}, (1,), "undecodable"),
        ({"points": [{"id": 1, "vector": [1.0]}], "update_filter": {"must": [{"what": 1}]}}, (1,), "unknown condition"),
        ({"points": [{"id": 1, "vector": [1.0]}], "update_mode": "merge"}, None, "unknown field"),
        ({"points": [{"id": 1, "vector": [1.0]}], "unheard": True}, None, "unknown field"),
        ({"points": [{"id": "one", "vector": [1.0]}]}, None, "malformed id"),
        ({"points": [3]}, None, "malformed id"),
        ({"batch": {"ids": [1, 2], "vectors": [[1.0]]}}, (1, 2), "undecodable"),
        ({"batch": {"ids": [1], "vectors": {"a": [[1.0]], "b": []}}}, (1,), "undecodable"),
        ({"batch": {"ids": [1], "vectors": [{"text": "t", "model": "m"}]}}, (1,), "inference object"),
        ({"batch": {"ids": [1], "vectors": [[1.0]], "payloads": []}}, (1,), "undecodable"),
        ({}, None, "undecodable"),
        (b"{", None, "undecodable"),
        (b'{"points": [{"id": 1, "vector": [1.0], "payload": {"a": "NaN", }}]}', None, "undecodable"),
        ({"points": [{"id": 1, "vector": [1.0]}], "update_mode": ["upsert"]}, None, "unknown field"),
    ],
)  # fmt: skip
def test_rest_upserts_that_are_opaque(body: object, ids: tuple[int, ...] | None, reason: str) -> None:
    assert rest("PUT", "/collections/docs/points", body) == OpaqueWrite("docs", ids, reason)


def point(point_id: int, **fields: Any) -> grpc.PointStruct:
    return grpc.PointStruct(id=grpc.PointId(num=point_id), **fields)


@pytest.mark.parametrize(
    ("message", "ids", "reason"),
    [
        (
            grpc.UpsertPoints(points=[point(1, vectors=grpc.Vectors(vector=grpc.Vector(document=grpc.Document())))]),
            (1,),
            "inference object",
        ),
        (
            grpc.UpsertPoints(points=[point(1)], update_filter=grpc.Filter(must=[grpc.Condition()])),
            (1,),
            "unknown condition",
        ),
        (grpc.UpsertPoints(points=[grpc.PointStruct()]), None, "malformed id"),
        (grpc.UpsertPoints(points=[grpc.PointStruct(id=grpc.PointId(uuid="one"))]), None, "malformed id"),
    ],
)
def test_grpc_upserts_that_are_opaque(message: grpc.UpsertPoints, ids: tuple[int, ...] | None, reason: str) -> None:
    message.collection_name = "docs"
    assert called("Points/Upsert", message) == OpaqueWrite("docs", ids, reason)


@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        ("POST", "points/delete", {"points": [1], "filter": {"must": [A]}}, "both points and a filter"),
        ("POST", "points/delete", {"filter": {"must": [{"what": 1}]}}, "unknown condition"),
        ("POST", "points/delete", {}, "undecodable"),
        ("POST", "points/payload", {"points": [1]}, "undecodable"),
        ("POST", "points/payload", {"payload": {}, "points": [1], "key": 3}, "undecodable"),
        ("POST", "points/payload/delete", {"keys": "a", "points": [1]}, "undecodable"),
        ("POST", "points/batch", {"operations": 3}, "undecodable"),
        ("PUT", "", {"vectors": {"size": 4, "distance": "Hamming"}}, "undecodable"),
        ("PUT", "", {"vectors": {}, "init_from": {"collection": "old"}}, "collection made from another"),
        ("PUT", "index", {"field_name": "a", "field_schema": "colour"}, "undecodable"),
        ("PUT", "index", {"field_name": "a", "field_schema": ["keyword"]}, "undecodable"),
        ("PATCH", "", [], "undecodable"),
    ],
)
def test_other_rest_writes_that_are_opaque(method: str, path: str, body: object, reason: str) -> None:
    assert rest(method, f"/collections/docs/{path}", body) == OpaqueWrite("docs", None, reason)


def test_a_part_of_a_batch_may_be_opaque() -> None:
    operations = [{"delete": {"points": [1]}}, {"unheard": {}}, {"delete": {"points": [1]}, "upsert": {}}, 5]
    opaque = [OpaqueWrite("docs", None, reason) for reason in ("unknown field", "undecodable", "undecodable")]
    decoded = rest("POST", "/collections/docs/points/batch", {"operations": operations})
    assert decoded == Batch("docs", (Delete("docs", Ids((1,))), *opaque))
    message = grpc.UpdateBatchPoints(collection_name="docs", operations=[grpc.PointsUpdateOperation()])
    assert called("Points/UpdateBatch", message) == Batch("docs", (OpaqueWrite("docs", None, "undecodable"),))


def test_the_deprecated_parts_of_a_batch() -> None:
    ids = grpc.PointsSelector(points=grpc.PointsIdsList(ids=[grpc.PointId(num=1)]))
    message = grpc.UpdateBatchPoints(
        collection_name="docs", operations=[grpc.PointsUpdateOperation(delete_deprecated=ids)]
    )
    assert called("Points/UpdateBatch", message) == Batch("docs", (Delete("docs", Ids((1,))),))


def test_overwriting_ignores_a_key_as_the_server_does() -> None:
    body = {"payload": {"a": 1}, "points": [1], "key": "nest"}
    assert rest("PUT", "/collections/docs/points/payload", body) == OverwritePayload("docs", {"a": 1}, Ids((1,)))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_reaches_no_store(number: float) -> None:
    for vector in (
        grpc.Vector(data=[1.0, number]),
        grpc.Vector(dense=grpc.DenseVector(data=[number])),
        grpc.Vector(sparse=grpc.SparseVector(indices=[1], values=[number])),
        grpc.Vector(multi_dense=grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=[number])])),
    ):
        vectors = grpc.Vectors(vectors=grpc.NamedVectors(vectors={"a": vector}))
        upsert = grpc.UpsertPoints(collection_name="docs", points=[point(1, vectors=vectors)])
        update = grpc.UpdatePointVectors(
            collection_name="docs", points=[grpc.PointVectors(id=grpc.PointId(num=1), vectors=vectors)]
        )
        with pytest.raises(InvalidRequest, match=r"Wrong input: .*finite"):
            called("Points/Upsert", upsert)
        with pytest.raises(InvalidRequest):
            called("Points/UpdateVectors", update)
    query = grpc.QueryPoints(query=grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=[number]))))
    with pytest.raises(InvalidRequest):
        called("Points/Query", query)
    with pytest.raises(InvalidRequest):
        called("Points/Search", grpc.SearchPoints(vector=[number], limit=1))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1.5E+400", "1" + 400 * "0" + ".0"])
@pytest.mark.parametrize(
    "body", ['{"points": [{"id": 1, "vector": [%s]}]}', '{"points": [{"id": 1, "payload": {"a": %s}}]}']
)
def test_nor_what_no_json_knows(body: str, number: str) -> None:
    with pytest.raises(InvalidRequest, match="only finite numbers"):
        rest("PUT", "/collections/docs/points", (body % number).encode())


def test_nor_a_payload_that_is_not_finite() -> None:
    message = grpc.UpsertPoints(points=[point(1, payload={"x": grpc.Value(double_value=float("nan"))})])
    with pytest.raises(InvalidRequest, match="only finite numbers"):
        called("Points/Upsert", message)


def test_nor_what_becomes_infinite_in_32_bits() -> None:
    with pytest.raises(InvalidRequest):
        rest("PUT", "/collections/docs/points", {"points": [{"id": 1, "vector": [1e39]}]})
    with pytest.raises(InvalidRequest):
        rest(
            "POST",
            "/collections/docs/points/batch",
            {"operations": [{"upsert": {"points": [{"id": 1, "vector": [1e39]}]}}]},
        )
    with pytest.raises(InvalidRequest):
        rest("POST", "/collections/docs/points/query", {"query": [1e39]})


# --- endpoints ---------------------------------------------------------------------------


def test_paths_are_read_as_the_server_reads_them() -> None:
    assert rest("GET", "/collections/a%20b%2Fc/") == Describe("a b/c")
    assert rest("GET", "//collections//docs") == Describe("docs")
    assert rest("GET", f"/collections/docs/points/{UUID_TEXT}") == rest("HEAD", f"/collections/docs/points/{UUID_TEXT}")
    assert isinstance(rest("GET", "/collections/docs/points/7"), Fetch)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", Administration("version")),
        ("OPTIONS", "/collections/docs/points", Administration("preflight")),
        ("GET", "/healthz", Administration("healthz")),
        ("GET", "/metrics", Administration("metrics")),
        ("GET", "/telemetry", Administration("telemetry")),
        ("DELETE", "/issues", Administration("issues")),
        ("POST", "/cluster/recover", Administration("cluster")),
        ("POST", "/snapshots", Administration("snapshots")),
        ("POST", "/collections/docs/snapshots", Administration("snapshot")),
        ("DELETE", "/collections/docs/snapshots/s1", Administration("snapshot")),
        ("GET", "/collections/docs/shards/3/snapshots/s1", Administration("snapshot")),
        ("POST", "/collections/docs/shards/3/snapshots", Administration("snapshot")),
        ("PUT", "/collections/docs/snapshots/recover", OpaqueWrite("docs", None, "unknown endpoint")),
        ("POST", "/collections/docs/snapshots/upload", OpaqueWrite("docs", None, "unknown endpoint")),
        ("PUT", "/collections/docs/shards/3/snapshots/recover", OpaqueWrite("docs", None, "unknown endpoint")),
        ("POST", "/collections/docs/shards/3/snapshots/upload", OpaqueWrite("docs", None, "unknown endpoint")),
        ("POST", "/collections/docs/shards/delete", OpaqueWrite("docs", None, "unknown endpoint")),
        ("PUT", "/collections/docs/vectors/extra", OpaqueWrite("docs", None, "unknown endpoint")),
        ("POST", "/collections/docs/truncate_unapplied_wal", OpaqueWrite("docs", None, "unknown endpoint")),
        ("POST", "/new/thing", OpaqueWrite(None, None, "unknown endpoint")),
        ("GET", "/new/thing", PrimaryOnlyRead(None, "unknown endpoint")),
        ("GET", "/collections/docs/new", PrimaryOnlyRead("docs", "unknown endpoint")),
        ("POST", "/collections/docs/facet", PrimaryOnlyRead("docs", "facet")),
        ("POST", "/collections/docs/points/recommend/batch", PrimaryOnlyRead("docs", "recommend")),
        ("POST", "/collections/docs/points/query/groups", PrimaryOnlyRead("docs", "query groups")),
        ("POST", "/collections/docs/points/search/matrix/pairs", PrimaryOnlyRead("docs", "search matrix")),
        ("GET", "/collections/docs/cluster", Administration("cluster")),
    ],
)
def test_endpoints_whose_head_says_all(method: str, path: str, expected: Operation) -> None:
    sent_again = method == "POST" and isinstance(expected, PrimaryOnlyRead)
    assert REST.wants_body(Request("http", method, path)) is sent_again
    assert REST.decode(Request("http", method, path, body=Unread())).operation == expected


class Unread:
    """A body that must stay a stream."""

    def __aiter__(self) -> Unread:
        return self

    async def __anext__(self) -> bytes:
        raise AssertionError("the body was read")


def test_moving_shards_changes_no_points_but_dropping_one_does() -> None:
    path = "/collections/docs/cluster"
    assert rest("POST", path, {"move_shard": {}}) == Administration("cluster")
    for change in ("drop_sharding_key", "replicate_points", "unheard"):
        assert rest("POST", path, {change: {}}) == OpaqueWrite("docs", None, "cluster change")


def test_renaming_an_alias() -> None:
    body = {"actions": [{"rename_alias": {"old_alias_name": "a", "new_alias_name": "b"}}]}
    assert rest("POST", "/collections/aliases", body) == UpdateAliases((RenameAlias("a", "b"),))
    renamed = grpc.AliasOperations(rename_alias=grpc.RenameAlias(old_alias_name="a", new_alias_name="b"))
    assert called("Collections/UpdateAliases", grpc.ChangeAliases(actions=[renamed])) == UpdateAliases(
        (RenameAlias("a", "b"),)
    )


OPAQUE_METHODS = {
    "/qdrant.Points/CreateVectorName",
    "/qdrant.Points/DeleteVectorName",
    "/qdrant.Collections/DeleteShardKey",
    "/qdrant.Collections/UpdateCollectionClusterSetup",
}


def test_every_method_of_the_services_is_known_or_opaque_on_purpose() -> None:
    seen = set()
    for file in (points_service_pb2, collections_service_pb2, snapshots_service_pb2, qdrant_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                operation = GRPC.decode(Request("grpc", "", path)).operation
                if isinstance(operation, OpaqueWrite) and operation.reason == "unknown endpoint":
                    seen.add(path)
    assert seen == OPAQUE_METHODS


def test_an_unknown_method_names_its_collection() -> None:
    message = grpc.CreateVectorNameRequest(collection_name="docs", vector_name="x")
    assert called("Points/CreateVectorName", message) == OpaqueWrite("docs", None, "unknown endpoint", guessed=True)
    assert called("Points/Facet", grpc.FacetCounts(collection_name="docs")) == PrimaryOnlyRead("docs", "facet")


def test_the_metric_turns_a_threshold() -> None:
    """Strictly above a similarity, strictly below a distance."""
    dialect = QdrantRest(lambda collection, using: {"c": Metric.COSINE, "e": Metric.EUCLID}[using])

    def threshold(using: str, number: float) -> float | None:
        body = {"query": [1.0], "using": using, "score_threshold": number}
        operation = rest("POST", "/collections/docs/points/query", body, dialect=dialect)
        assert isinstance(operation, Search)
        return operation.score_threshold

    assert threshold("c", 0.5) == float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert threshold("e", 0.5) == float(np.nextafter(np.float32(-0.5), np.float32(0)))


def test_queries_that_differ_in_their_vectors_alone_are_each_their_own() -> None:
    """What they have in common is remembered, but neither the vector nor what the collection is made of."""
    metrics = {"c": Metric.COSINE}
    dialect = QdrantGrpc(lambda collection, using: metrics[collection])

    def asked(number: float, limit: int = 3) -> Search:
        nearest = grpc.VectorInput(dense=grpc.DenseVector(data=[number, 2.0]))
        query = grpc.QueryPoints(
            collection_name="c",
            query=grpc.Query(nearest=nearest),
            limit=limit,
            offset=5,
            using="v",
            score_threshold=0.5,
        )
        operation = called("Points/Query", query, dialect)
        assert isinstance(operation, Search)
        return operation

    first = asked(1.0)
    assert (first.collection, first.limit, first.offset, first.using) == ("c", 3, 5, "v")
    assert first.vector == np.array([1.0, 2.0], "<f4").tobytes()
    assert asked(7.0).vector == np.array([7.0, 2.0], "<f4").tobytes()
    assert asked(1.0) == first
    assert asked(1.0, limit=4).limit == 4
    metrics["c"] = Metric.EUCLID  # made anew
    assert asked(1.0).score_threshold == -float(np.nextafter(np.float32(0.5), np.float32(0)))


def test_points_in_columns() -> None:
    """The column form of REST; the client's gRPC sends points instead."""
    batch = {"ids": [1, UUID_TEXT], "vectors": [[1.0], [2.0]], "payloads": [None, {"a": 1}]}
    decoded = rest("PUT", "/collections/docs/points", {"batch": batch})
    listed = [{"id": 1, "vector": [1.0]}, {"id": UUID_TEXT, "vectors": [2.0], "payload": {"a": 1}}]
    assert isinstance(decoded, Upsert)
    assert decoded == rest("PUT", "/collections/docs/points", {"points": listed})
