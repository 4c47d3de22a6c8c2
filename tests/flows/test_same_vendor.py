"""From one Qdrant to another: what clients send goes to both as it came, unread where that is possible."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from proxy.dialects.qdrant import grpc_writes
from proxy.model import Point, Upsert
from proxy.stores import WriteReport
from proxy.stores.qdrant import QdrantStore
from proxy.stores.qdrant_json import QdrantJson
from tests.support.migration import ROUTE, Migration, Migrations, ProxyThread
from tests.support.qdrant_engines import QdrantEmulator
from tests.support.sockets import unused_port

DIM = 512  # so that a few points are a large body
POINTS = 40
PAYLOADS: list[dict[str, Any]] = [
    {},
    {"text": 'ü "vector":[1] \\', "n": -1, "x": 0.1, "none": None, "yes": True},
    {"nested": {"list": [1, "two", {"three": 3.5}], "empty": []}, "vector": "a word"},
    {"vector": [0.5, 1.5]},
]


class Ways:
    """How many points went to the target, by how they were written."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.points: Counter[str] = Counter()
        self.batches = 0  # put together of points
        as_json, exact = QdrantJson.upsert, grpc_writes.exact_point
        native, put_together = QdrantStore.upsert_native, QdrantStore.upsert

        async def upsert(store: QdrantJson, collection: str, upsert: Upsert) -> bool:
            taken = await as_json(store, collection, upsert)
            self.points["json" if taken else "refused as json"] += len(upsert.points)
            return taken

        async def upsert_native(store: QdrantStore, collection: str, upsert: Upsert) -> WriteReport:
            self.points["as they came"] += len(upsert.points)
            return await native(store, collection, upsert)

        async def of_points(store: QdrantStore, collection: str, points: Sequence[Point]) -> WriteReport:
            self.batches += 1
            return await put_together(store, collection, points)

        def made_anew(point: Point) -> Any:
            self.points["made anew"] += 1
            return exact(point)

        monkeypatch.setattr(QdrantJson, "upsert", upsert)
        monkeypatch.setattr(QdrantStore, "upsert_native", upsert_native)
        monkeypatch.setattr(QdrantStore, "upsert", of_points)
        monkeypatch.setattr(grpc_writes, "exact_point", made_anew)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return Ways(monkeypatch)


def between(migrations: Migrations) -> tuple[Migration, QdrantClient]:
    """Mirroring, and a client at the target itself."""
    target = migrations.own_source()

    def to_qdrant(config: dict[str, Any]) -> None:
        config["stores"]["new"] = {
            "kind": "qdrant",
            "url": target.url,
            "grpc_url": f"http://{target.grpc_address}",
            "longest_request_seconds": 1,
        }

    migration = migrations(change=to_qdrant)
    return migration, migration.client_at(target.rest_port, target.grpc_port)


def mirrored(migration: Migration) -> str:
    """A collection that both have, whose vectors are kept as they are."""
    migration.mirror()
    name = migration.name("c")
    size = models.VectorParams(size=DIM, distance=models.Distance.DOT)
    migration.client().create_collection(name, vectors_config=size)
    migration.rest()
    return name


def points(payload: dict[str, Any], first: int = 0, *, names: Sequence[str] = ()) -> list[models.PointStruct]:
    numbers = np.random.default_rng(first).normal(size=(POINTS, DIM)) * np.geomspace(1e-6, 10, DIM)
    vectors = numbers.tolist()
    return [
        models.PointStruct(id=first + i, vector=dict.fromkeys(names, row) if names else row, payload=payload)
        for i, row in enumerate(vectors)
    ]


def everything(client: QdrantClient, name: str) -> dict[Any, models.Record]:
    found, _ = client.scroll(name, limit=10 * POINTS, with_vectors=True, with_payload=True)
    return {record.id: record for record in found}


def settled(migration: Migration, target: QdrantClient, name: str) -> None:
    """Both hold the same numbers, bit for bit, and no point was read back for it."""
    migration.rest()
    there = everything(target, name)
    assert there == everything(migration.direct(), name)
    assert len(there) >= POINTS
    assert migration.counts("hints")[("missing",)] == 0, migration.counts("hints")


@pytest.mark.parametrize("grpc", [False, True])
@pytest.mark.parametrize("distance", [models.Distance.COSINE, models.Distance.DOT])
def test_points_go_on_as_they_came(migrations: Migrations, ways: Ways, distance: models.Distance, grpc: bool) -> None:
    migration, target = between(migrations)
    migration.mirror()
    name, client = migration.name("c"), migration.client(grpc=grpc)
    client.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=distance))
    migration.rest()
    for number, payload in enumerate(PAYLOADS):
        client.upsert(name, points(payload, number * POINTS))
    settled(migration, target, name)
    read = 2 * POINTS  # whose payloads have something called "vector"
    assert migration.counts("hints")[("used",)] == 4 * POINTS
    came = 4 * POINTS if grpc else 2 * POINTS
    assert ways.points == Counter({"as they came": came} | ({} if grpc else {"json": came, "made anew": read}))
    assert migration.verify()["different"] == 0


@pytest.mark.parametrize("grpc", [False, True])
def test_what_has_piled_up_is_copied_write_by_write_if_they_are_large(
    migrations: Migrations, ways: Ways, grpc: bool
) -> None:
    """A batch ends where a write does. And what is small is put together."""
    migration, target = between(migrations)
    name, client = mirrored(migration), migration.client(grpc=grpc)
    with migration.hooks.stop_at("reconciliation begun") as stop:
        client.upsert(name, points({}))
        stop.reached()
        large = [points({}, number * POINTS)[: POINTS - number % 3] for number in range(1, 15)]
        for batch in large:
            client.upsert(name, batch)
        for number in range(100):
            client.upsert(name, points({}, 10_000 + number)[:1])
    settled(migration, target, name)
    assert ways.points["as they came"] == POINTS + sum(map(len, large))
    assert ways.batches <= 3


def test_what_has_piled_up_otherwise_fills_its_batches(migrations: Migrations) -> None:
    """Of 256 keys."""
    migration, target = between(migrations)
    name, client = mirrored(migration), migration.client()
    before = migration.counts("reconcile_batches")
    with migration.hooks.stop_at("reconciliation begun") as stop:
        client.upsert(name, points({}))
        stop.reached()
        for number in range(1, 5):
            client.delete(name, list(range(number * 1000, number * 1000 + 130)))
    settled(migration, target, name)
    assert migration.counts("reconcile_batches") - before == {("clean",): 4}


@pytest.mark.parametrize(("number", "times"), [(200, 2), (300, 1)])
def test_a_request_is_kept_beside_its_points_if_a_batch_may_take_it_all(
    migrations: Migrations, number: int, times: int
) -> None:
    migration, _ = between(migrations)
    name, client = mirrored(migration), migration.client(grpc=True)
    assert isinstance(migration.proxy, ProxyThread)
    with migration.hooks.stop_at("reconciliation begun") as stop:
        client.upsert(name, [points({}, 1000 * i)[0] for i in range(number)])
        stop.reached()
        kept_bytes = migration.proxy.run(lambda app: app.routes[ROUTE].replicator.hint_bytes())
    assert times - 0.2 < kept_bytes / (number * DIM * 4) < times + 0.4


def test_what_is_not_plain_is_read(migrations: Migrations, ways: Ways) -> None:
    migration, target = between(migrations)
    migration.mirror()
    name = migration.name("c")
    size = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    migration.client().create_collection(name, vectors_config={"a": size, "b": size})
    migration.rest()
    for number, grpc in enumerate((False, True)):
        migration.client(grpc=grpc).upsert(name, points({"n": 1}, number * POINTS, names=("a", "b")))
    settled(migration, target, name)
    assert ways.points == Counter({"made anew": POINTS})


def test_the_last_of_many_writes_is_what_both_have(migrations: Migrations, ways: Ways) -> None:
    """Over both protocols, in batches that overlap, with deletes between."""
    migration, target = between(migrations)
    migration.mirror()
    name = migration.name("c")
    clients = [migration.client(grpc=False), migration.client(grpc=True)]
    clients[0].create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    migration.rest()
    chance = random.Random(7)
    for number in range(40):
        batch = points({"turn": number}, chance.randrange(2 * POINTS))
        chance.choice(clients).upsert(name, chance.sample(batch, POINTS // 2), wait=chance.random() < 0.5)
        if number % 5 == 4:
            chance.choice(clients).delete(name, [chance.randrange(3 * POINTS) for _ in range(3)])
    migration.rest()
    assert everything(target, name) == everything(migration.direct(), name)
    assert ways.points["json"] > POINTS


def test_a_target_that_has_lost_its_collection_gets_it_back(migrations: Migrations, ways: Ways) -> None:
    """JSON is refused, and gRPC tells why."""
    migration, target = between(migrations)
    name, client = migration.name("c"), migration.client()
    size = models.VectorParams(size=DIM, distance=models.Distance.DOT)
    migration.mirror()
    client.create_collection(name, vectors_config=size)
    client.upsert(name, points({}))
    migration.rest()
    before = Counter(ways.points)
    target.delete_collection(name)
    client.upsert(name, points({"again": True}))
    migration.rest()
    assert ways.points["refused as json"] - before["refused as json"] == POINTS  # once
    assert everything(target, name) == everything(migration.direct(), name)


def test_a_target_whose_rest_does_not_answer_is_written_to_by_grpc(migrations: Migrations, ways: Ways) -> None:
    target = migrations.own_source()

    def without_rest(config: dict[str, Any]) -> None:
        config["stores"]["new"] = {
            "kind": "qdrant",
            "url": f"http://127.0.0.1:{unused_port()}",
            "grpc_url": f"http://{target.grpc_address}",
            "longest_request_seconds": 1,
        }

    migration = migrations(change=without_rest)
    migration.mirror()
    name, client = migration.name("c"), migration.client()
    client.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    migration.rest()
    for number in range(3):
        client.upsert(name, points({"n": number}, number * POINTS))
    settled(migration, migration.client_at(target.rest_port, target.grpc_port), name)
    assert ways.points["json"] == 0
    assert ways.points["made anew"] == 3 * POINTS


def test_bad_vectors_get_the_sources_own_error_and_change_nothing(
    migrations: Migrations, qdrant_emulator: QdrantEmulator
) -> None:
    migration, target = between(migrations)
    migration.mirror()
    name, client = migration.name("c"), migration.client()
    client.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    client.upsert(name, points({}))
    migration.rest()
    before = everything(target, name)
    plain = ", ".join(["0.25"] * (DIM - 1))
    for wrong in ("1 2", "true", "null", "0.5, 0.5", '"a"', "[1]", "{}", "1" + "0" * 39, ""):
        body = f'{{"points": [{{"id": 1, "vector": [{plain}, {wrong}], "payload": {{"wrong": "{"x" * 5000}"}}}}]}}'
        answers = [
            httpx.put(
                f"{url}/collections/{name}/points?wait=true",
                content=body,
                headers={"content-type": "application/json"},
            )
            for url in (qdrant_emulator.url, migration.url)
        ]
        assert answers[1].status_code == answers[0].status_code, (wrong, answers[1].text)
        assert answers[1].status_code >= 400, wrong
    migration.rest()
    assert everything(target, name) == before == everything(migration.direct(), name)
