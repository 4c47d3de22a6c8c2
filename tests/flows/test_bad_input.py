"""What no server takes: through the proxy a client gets the source's own error, status and text, whoever would have
answered; and both stores stay as they were. What is meant for no store (NaN, infinity) is refused by the proxy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
from qdrant_client import grpc as messages
from qdrant_client import models

from examples.engines import poll
from tests.support.both_stores import assert_equal
from tests.support.migration import PATIENCE_SECONDS, Migration, Migrations

DIM = 4
POINTS = 20
LIMIT_BYTES = 200_000
NAN, INFINITY = float("nan"), float("inf")


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


@pytest.fixture(scope="module", params=[0, 100], ids=["weight 0", "weight 100"])
def migration(request: pytest.FixtureRequest, shared_migrations: Migrations) -> Migration:
    def change(config: dict[str, Any]) -> None:
        for listener in config["listeners"]:
            listener["max_body_bytes"] = LIMIT_BYTES

    migration = shared_migrations(change=change)
    direct, name = migration.direct(), migration.name("c")
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    direct.upsert(name, [models.PointStruct(id=i, vector=vector(i), payload={"n": i}) for i in range(POINTS)])
    migration.backfill()
    migration.rest()
    migration.weight(request.param)
    return migration


@pytest.fixture(autouse=True)
def _stores_stay_as_they_were(migration: Migration, request: pytest.FixtureRequest) -> Iterator[None]:
    """And nothing of it is held or swept, but for the tests that say so by their names."""
    before = {job.id for job in migration.control.jobs()}
    yield
    swept = request.function.__name__.endswith("swept")
    assert swept or migration.status().keys.held == 0
    assert_equal(migration, migration.name("c"), POINTS)
    assert swept or {job.id for job in migration.control.jobs()} == before


# --- REST ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bad:
    """A request below the collection; `body` is JSON unless it is text."""

    path: str
    body: Any
    method: str = "POST"
    collection: str = "c"


BAD_REQUESTS = {
    "a body that is not JSON": Bad("/points/query", '{"query": [1, 2'),
    "a write that is not JSON": Bad("/points", '{"points": [', "PUT"),
    "an empty body": Bad("/points/query", ""),
    "a body of another shape": Bad("/points/count", [1, 2]),
    "a write of another shape": Bad("/points", {"points": "all"}, "PUT"),
    "a search of the wrong dimension": Bad("/points/query", {"query": [1.0, 2.0], "limit": 3}),
    "a point of the wrong dimension": Bad("/points?wait=true", {"points": [{"id": 500, "vector": [1.0]}]}, "PUT"),
    "vectors of the wrong dimension": Bad("/points/vectors?wait=true", {"points": [{"id": 1, "vector": [1.0]}]}, "PUT"),
    "a vector name that is not there": Bad("/points/query", {"query": vector(1), "using": "other", "limit": 3}),
    "a point with a vector name that is not there": Bad(
        "/points?wait=true", {"points": [{"id": 500, "vector": {"other": vector(1)}}]}, "PUT"
    ),
    "a search in an unknown collection": Bad("/points/query", {"query": vector(1), "limit": 3}, collection="nowhere"),
    "a count in an unknown collection": Bad("/points/count", {}, collection="nowhere"),
    "a fetch in an unknown collection": Bad("/points", {"ids": [1]}, collection="nowhere"),
    "a scroll in an unknown collection": Bad("/points/scroll", {}, collection="nowhere"),
    "an upsert into an unknown collection": Bad(
        "/points?wait=true", {"points": [{"id": 1, "vector": vector(1)}]}, "PUT", "nowhere"
    ),
    "a delete in an unknown collection": Bad("/points/delete?wait=true", {"points": [1]}, collection="nowhere"),
    "a delete by filter in an unknown collection": Bad(
        "/points/delete?wait=true", {"filter": {"must": [{"key": "n", "match": {"value": 1}}]}}, collection="nowhere"
    ),
    "a negative id": Bad("/points?wait=true", {"points": [{"id": -1, "vector": vector(1)}]}, "PUT"),
    "an id that is a fraction": Bad("/points?wait=true", {"points": [{"id": 1.5, "vector": vector(1)}]}, "PUT"),
    "an id that is text": Bad("/points?wait=true", {"points": [{"id": "seven", "vector": vector(1)}]}, "PUT"),
    "a fetch of an id that is text": Bad("/points", {"ids": ["seven"]}),
    "a fetch of one id that is text": Bad("/points/seven", "", "GET"),
    "a fetch of one point that is not there": Bad("/points/123456", "", "GET"),
    "a delete of an id that is text": Bad("/points/delete?wait=true", {"points": ["seven"]}),
    "a limit of nothing": Bad("/points/query", {"query": vector(1), "limit": 0}),
    "no points at all": Bad("/points?wait=true", {"points": []}, "PUT"),
    "a payload for a point that is not there": Bad(
        "/points/payload?wait=true", {"payload": {"x": 1}, "points": [123456]}
    ),
}


def _ask(base: str, migration: Migration, bad: Bad) -> tuple[int, Any]:
    body = bad.body if isinstance(bad.body, str) else json.dumps(bad.body)
    with httpx.Client(base_url=base) as http:
        answer = http.request(
            bad.method,
            f"/collections/{migration.name(bad.collection)}{bad.path}",
            content=body,
            headers={"content-type": "application/json"},
        )
    told = answer.json()
    told.pop("time", None)
    return answer.status_code, told


@pytest.mark.parametrize("bad", [pytest.param(bad, id=title) for title, bad in BAD_REQUESTS.items()])
def test_rest_answers_as_the_source_does_to(migration: Migration, bad: Bad) -> None:
    expected = _ask(migration.source.url, migration, bad)
    assert _ask(migration.url, migration, bad) == expected
    assert expected[0] >= 400


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e39"])
@pytest.mark.parametrize("what", ["upsert", "update", "search", "batch"])
def test_rest_refuses_numbers_that_are_none(migration: Migration, what: str, number: str) -> None:
    values = f"[1.0, {number}, 0.0, 0.0]"
    path, method, body = {
        "upsert": ("/points?wait=true", "PUT", f'{{"points": [{{"id": 1, "vector": {values}}}]}}'),
        "update": ("/points/vectors?wait=true", "PUT", f'{{"points": [{{"id": 1, "vector": {values}}}]}}'),
        "search": ("/points/query", "POST", f'{{"query": {values}, "limit": 3}}'),
        "batch": (
            "/points/batch?wait=true",
            "POST",
            f'{{"operations": [{{"upsert": {{"points": [{{"id": 1, "vector": {values}}}]}}}}]}}',
        ),
    }[what]
    status, told = _ask(migration.url, migration, Bad(path, body, method))
    assert status == 400
    assert told["status"]["error"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_rest_refuses_a_body_over_the_limit_and_keeps_the_connection_usable(migration: Migration, method: str) -> None:
    large = {"points": [{"id": 900, "vector": vector(1), "payload": {"text": "x" * LIMIT_BYTES}}]}
    path = f"/collections/{migration.name('c')}/points"
    with httpx.Client(base_url=migration.url) as http:
        answer = http.request(method, path, json=large)
        assert answer.status_code == 400
        assert f"({LIMIT_BYTES} bytes)" in answer.json()["status"]["error"]
        assert http.post(f"{path}/count", json={}).json()["result"]["count"] == POINTS


# --- gRPC ------------------------------------------------------------------------------------------


def _call(port: int, method: str, body: bytes) -> tuple[Any, str]:
    """Status and details of the answer to these bytes."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/qdrant.Points/{method}")(body, timeout=20)
    return raised.value.code(), raised.value.details()


def _point(point_id: messages.PointId, values: list[float]) -> messages.PointStruct:
    return messages.PointStruct(id=point_id, vectors=messages.Vectors(vector=messages.Vector(data=values)))


def _bad_messages(name: str, nowhere: str) -> dict[str, tuple[str, bytes]]:
    one, text = messages.PointId(num=1), messages.PointId(uuid="seven")

    def upsert(collection: str, point_id: messages.PointId, values: list[float]) -> bytes:
        message = messages.UpsertPoints(collection_name=collection, wait=True, points=[_point(point_id, values)])
        return bytes(message.SerializeToString())

    def query(collection: str, values: list[float]) -> bytes:
        nearest = messages.VectorInput(dense=messages.DenseVector(data=values))
        message = messages.QueryPoints(collection_name=collection, query=messages.Query(nearest=nearest), limit=3)
        return bytes(message.SerializeToString())

    return {
        "bytes that are no message": ("Query", b"\xff\xff\xff\xff"),
        "a write that is no message": ("Upsert", b"\x0a\xff\xff\xff\xff\xff"),
        "a search of the wrong dimension": ("Query", query(name, [1.0])),
        "a search in an unknown collection": ("Query", query(nowhere, vector(1))),
        "a count in an unknown collection": (
            "Count",
            messages.CountPoints(collection_name=nowhere).SerializeToString(),
        ),
        "a point of the wrong dimension": ("Upsert", upsert(name, one, [1.0, 2.0])),
        "an upsert into an unknown collection": ("Upsert", upsert(nowhere, one, vector(1))),
        "an id that is no UUID": ("Upsert", upsert(name, text, vector(1))),
        "no id": ("Upsert", upsert(name, messages.PointId(), vector(1))),
        "a fetch of an id that is no UUID": (
            "Get",
            messages.GetPoints(collection_name=name, ids=[text]).SerializeToString(),
        ),
    }


@pytest.mark.parametrize("title", _bad_messages("", ""))
def test_grpc_answers_as_the_source_does_to(migration: Migration, title: str) -> None:
    method, body = _bad_messages(migration.name("c"), migration.name("nowhere"))[title]
    expected = _call(migration.source.grpc_port, method, body)
    assert _call(migration.grpc_port, method, body) == expected


@pytest.mark.parametrize("number", [NAN, INFINITY, -INFINITY])
def test_grpc_refuses_numbers_that_are_none(migration: Migration, number: float) -> None:
    name, values = migration.name("c"), [1.0, number, 0.0, 0.0]
    upsert = messages.UpsertPoints(collection_name=name, wait=True, points=[_point(messages.PointId(num=1), values)])
    nearest = messages.VectorInput(dense=messages.DenseVector(data=values))
    query = messages.QueryPoints(collection_name=name, query=messages.Query(nearest=nearest), limit=3)
    for method, message in (("Upsert", upsert), ("Query", query)):
        status, details = _call(migration.grpc_port, method, message.SerializeToString())
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        assert details


def test_grpc_refuses_a_message_over_the_limit(migration: Migration) -> None:
    large = _point(messages.PointId(num=900), vector(1))
    large.payload["text"].string_value = "x" * LIMIT_BYTES
    message = messages.UpsertPoints(collection_name=migration.name("c"), wait=True, points=[large])
    status, details = _call(migration.grpc_port, "Upsert", message.SerializeToString())
    assert status is grpc.StatusCode.OUT_OF_RANGE
    assert str(LIMIT_BYTES) in details


# --- what nobody here has heard of -----------------------------------------------------------------


def test_an_unknown_endpoint_is_passed_on_and_its_collection_swept(migration: Migration) -> None:
    """The source refuses it too, but nobody here can tell whether it did something before."""
    bad = Bad("/points/teleport", {"where": "to"})
    assert _ask(migration.url, migration, bad) == _ask(migration.source.url, migration, bad)
    assert migration.client().count(migration.name("c")).count == POINTS
    migration.rest()
    assert any(job.kind == "sweep" and job.status == "done" for job in migration.control.jobs())


def test_an_unknown_endpoint_that_reads_is_passed_on_and_changes_nothing(migration: Migration) -> None:
    bad = Bad("/horoscope", "", "GET")
    sweeps = len(migration.control.jobs())
    assert _ask(migration.url, migration, bad) == _ask(migration.source.url, migration, bad)
    assert migration.status().needs_sweep == ()
    assert len(migration.control.jobs()) == sweeps


def test_an_unknown_grpc_method_is_passed_on_and_everything_swept(migration: Migration) -> None:
    """It names no collection, so any may have changed."""
    sweeps = len(migration.control.jobs())
    asked = [_call(port, "Teleport", b"") for port in (migration.grpc_port, migration.source.grpc_port)]
    assert asked[0] == asked[1]
    assert poll(lambda: len(migration.control.jobs()) > sweeps, PATIENCE_SECONDS)
    migration.rest()
    assert migration.control.jobs()[0].status == "done"
