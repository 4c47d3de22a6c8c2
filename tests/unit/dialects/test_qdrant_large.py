"""Large requests: those that have to be read whole say how to do it elsewhere, and it comes to the same."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from proxy.dialects import Apart, Call, Dialect
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import InvalidRequest
from proxy.model import Operation, look_into
from proxy.wire import Request

VECTOR = [0.5] * 400
PATH = "/collections/c/points"
POINT = {"id": 1, "vector": VECTOR}
SPARSE = {"indices": [1, 3], "values": [0.5, 1.5]}


def over_rest(body: Any, method: str = "PUT", path: str = PATH) -> Request:
    return Request("http", method, path, body=json.dumps(body).encode())


def over_grpc(**vectors: Any) -> Request:
    point = proto.PointStruct(id={"num": 1}, vectors=vectors, payload={"a": {"integer_value": 3}})
    message = proto.UpsertPoints(collection_name="c", points=[point, point])
    return Request("grpc", "", "/qdrant.Points/Upsert", body=message.SerializeToString())


NOT_PLAIN: list[tuple[Dialect, Request]] = [
    (QdrantRest(), over_rest({"points": [{"id": 1, "vector": {"a": VECTOR, "b": SPARSE}, "payload": {"n": [1]}}] * 9})),
    (QdrantRest(), over_rest({"points": [{"id": 1, "vector": [VECTOR, VECTOR]}] * 9})),
    (QdrantRest(), over_rest({"batch": {"ids": [1, 2], "vectors": [VECTOR, VECTOR]}})),
    (QdrantRest(), over_rest({"points": [{"id": 1, "vector": {"text": "x" * 5000, "model": "m"}}]})),
    (QdrantRest(), Request("http", "PUT", PATH, body=b"[" * 5000)),
    (QdrantGrpc(), over_grpc(vectors={"vectors": {"a": {"dense": {"data": VECTOR}}}})),
    (QdrantGrpc(), over_grpc(vector={"sparse": {"values": [0.5], "indices": [7]}})),
    (QdrantGrpc(), Request("grpc", "", "/qdrant.Points/Upsert", body=b"\xff" * 5000)),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "request_"), NOT_PLAIN)
def test_what_has_to_be_read_whole_is_read_elsewhere_to_the_same(dialect: Dialect, request_: Request) -> None:
    found = dialect.decode_large(request_)
    assert isinstance(found, Apart)
    there: Operation = pickle.loads(pickle.dumps(found.work([request_.bytes], *found.given)))
    whole = dialect.decode(request_)
    assert there == whole.operation
    assert found.form == whole.form


@pytest.mark.parametrize(
    ("dialect", "request_"),
    [
        (QdrantRest(), over_rest({"points": [{"id": 1, "vector": VECTOR}] * 9})),
        (QdrantRest(), over_rest({"query": VECTOR * 9}, "POST", PATH + "/query")),
        (QdrantRest(), over_rest({"searches": [{"vector": VECTOR, "limit": 1}] * 9}, "POST", PATH + "/search/batch")),
        (QdrantRest(), over_rest({}, "GET", "/collections")),
        (QdrantRest(), over_rest({"operations": [{"upsert": {"points": [POINT]}}]}, "POST", PATH + "/batch")),
        (QdrantRest(), over_rest({"points": list(range(2000))}, "POST", PATH + "/delete")),
        (QdrantGrpc(), over_grpc(vector={"dense": {"data": VECTOR}})),
        (QdrantGrpc(), Request("grpc", "", "/qdrant.Points/Count", body=b"")),
    ],
)
def test_what_is_plain_or_a_read_is_decoded_here(dialect: Dialect, request_: Request) -> None:
    found = dialect.decode_large(request_)
    assert isinstance(found, Call)
    look_into(found.operation)
    whole = dialect.decode(request_)
    look_into(whole.operation)
    assert found == whole


def test_what_must_not_reach_a_store_is_refused_by_either() -> None:
    dialect, request = QdrantRest(), Request("http", "PUT", PATH, body=b'{"points":[{"id":1,"vector":{"a":[NaN]}}]}')
    found = dialect.decode_large(request)
    assert isinstance(found, Apart)
    with pytest.raises(InvalidRequest):
        found.work([request.bytes], *found.given)
    with pytest.raises(InvalidRequest):
        dialect.decode(request)
