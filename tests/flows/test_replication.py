"""Every kind of write, through the proxy: the source has it as if the client had written directly, and once the proxy
has come to rest the target holds the same, point by point, as both vendors' clients see it."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from grpc import RpcError
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from examples.engines import poll
from proxy.stores.forward_http import HttpForwarder
from proxy.wire import Request, Response
from tests.support.both_stores import assert_equal, differences, in_source, milvus_of
from tests.support.migration import PATIENCE_SECONDS, Migration, Migrations

DIM = 4
ONE_VECTOR = pytest.mark.skipif("FLOW_TARGET" in os.environ, reason="Milvus 2.3 has one vector a collection")


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


def match(key: str, value: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])


@dataclass(frozen=True)
class Place:
    """Twelve points that one test has for itself, in a collection that all share. Their `group` is `group`."""

    client: QdrantClient
    name: str
    base: int

    @property
    def ids(self) -> list[Any]:
        return list(range(self.base, self.base + 12))

    @property
    def group(self) -> models.Filter:
        return match("group", self.base)

    def point(self, number: int, **payload: Any) -> models.PointStruct:
        return models.PointStruct(
            id=self.base + number,
            vector=vector(self.base + number),
            payload={"group": self.base, "n": number, "a": {"b": number, "c": "x"}} | payload,
        )

    def fill(self) -> None:
        self.client.upsert(self.name, [self.point(number) for number in range(12)], wait=True)


Operation = Callable[[Place], Any]


def _conditional(update_filter: models.Filter | None, mode: models.UpdateMode | None) -> Operation:
    def upsert(at: Place) -> None:
        points = [at.point(number, new=True) for number in range(8, 16)]
        at.client.upsert(at.name, points, update_filter=update_filter, update_mode=mode)

    return upsert


def _same_id_twice(at: Place) -> None:
    first, second = at.point(3, turn="first"), at.point(3, turn="second")
    at.client.upsert(at.name, [first, at.point(4, turn="only"), second])


def _batch(at: Place) -> None:
    new = models.PointsList(points=[at.point(20), at.point(21)])
    at.client.batch_update_points(
        at.name,
        [
            models.UpsertOperation(upsert=new),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"set": 1}, points=at.ids[:3])),
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["n"], points=[at.ids[1]])),
            models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[at.ids[4]])),
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload={"over": [1, None]}, points=[at.ids[5]])
            ),
            models.DeleteOperation(delete=models.FilterSelector(filter=match("set", 1))),
            models.UpdateVectorsOperation(
                update_vectors=models.UpdateVectors(
                    points=[models.PointVectors(id=at.ids[6], vector=[1.0, 2.0, 3.0, 4.0])]
                )
            ),
        ],
    )


def _update_vectors(at: Place) -> None:
    at.client.update_vectors(at.name, [models.PointVectors(id=i, vector=[4.0, 3.0, 2.0, 1.0]) for i in at.ids[2:5]])


OPERATIONS: dict[str, Operation] = {
    "points are added": lambda at: at.client.upsert(at.name, [at.point(12), at.point(13)]),
    "points are replaced": lambda at: at.client.upsert(
        at.name, [at.point(1, new=1), at.point(2, new=[1.0, "x", None])]
    ),
    "columns are upserted": lambda at: at.client.upsert(
        at.name, models.Batch(ids=at.ids[:2], vectors=[vector(1), vector(2)], payloads=[{"x": 1.0}, {}])
    ),
    "points lose their payload by being replaced": lambda at: at.client.upsert(
        at.name, [models.PointStruct(id=at.ids[0], vector=vector(1))]
    ),
    "payload is set by ids": lambda at: at.client.set_payload(at.name, {"new": 1, "n": "text"}, at.ids[:5]),
    "payload is set by filter": lambda at: at.client.set_payload(at.name, {"new": 1}, at.group),
    "payload is set below a key": lambda at: at.client.set_payload(at.name, {"b": "deep"}, at.ids[:5], key="a"),
    "payload is overwritten by ids": lambda at: at.client.overwrite_payload(at.name, {"only": True}, at.ids[:5]),
    "payload is overwritten by filter": lambda at: at.client.overwrite_payload(
        at.name, {"only": {"deep": [1, 2]}}, models.Filter(must=[at.group, match("n", 3)])
    ),
    "payload keys are deleted by ids": lambda at: at.client.delete_payload(at.name, ["n", "a.b"], at.ids[:5]),
    "payload keys are deleted by filter": lambda at: at.client.delete_payload(at.name, ["n"], at.group),
    "payload is cleared by ids": lambda at: at.client.clear_payload(at.name, at.ids[:5]),
    "payload is cleared by filter": lambda at: at.client.clear_payload(at.name, at.group),
    "vectors are updated": _update_vectors,
    "points are deleted by ids": lambda at: at.client.delete(at.name, [*at.ids[:5], 987654321]),
    "points are deleted by filter": lambda at: at.client.delete(at.name, at.group),
    "a batch of everything": _batch,
    "an id stands twice in one request": _same_id_twice,
    "only matching points are updated": _conditional(match("n", 9), None),
    "only new points are inserted": _conditional(None, models.UpdateMode.INSERT_ONLY),
    "only existing points are updated": _conditional(None, models.UpdateMode.UPDATE_ONLY),
}


@pytest.fixture(scope="module")
def migration(shared_migrations: Migrations) -> Migration:
    """Mirrored; its collection is made through the proxy."""
    migration = shared_migrations()
    migration.mirror()
    migration.client().create_collection(
        migration.name("shared"), vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT)
    )
    return migration


@pytest.fixture(scope="module", params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, migration: Migration) -> QdrantClient:
    return migration.client(grpc=request.param == "grpc")


_bases = iter(range(1000, 1_000_000, 1000))


@pytest.fixture
def place(migration: Migration, client: QdrantClient) -> Place:
    place = Place(client, migration.name("shared"), next(_bases))
    place.fill()
    return place


def _written_directly(migration: Migration, operation: Operation, place: Place) -> dict[str, Any]:
    """What the operation leaves where no proxy stands between: the points by their number."""
    direct, name = migration.direct(), migration.name(f"plain_{next(_bases)}")
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    alone = Place(direct, name, place.base)
    alone.fill()
    operation(alone)
    left = in_source(direct, name)
    direct.delete_collection(name)
    return left


@pytest.mark.parametrize("operation", [pytest.param(op, id=title) for title, op in OPERATIONS.items()])
def test_the_target_follows_when(migration: Migration, place: Place, operation: Operation) -> None:
    operation(place)
    written = in_source(migration.direct(), place.name)
    mine = {i: point for i, point in written.items() if place.base <= int(i) < place.base + 1000}
    assert mine == _written_directly(migration, operation, place)
    assert_equal(migration, place.name)


@pytest.mark.parametrize("operation", [pytest.param(op, id=title) for title, op in OPERATIONS.items()])
def test_the_target_follows_a_write_that_nobody_waits_for(
    migration: Migration, client: QdrantClient, operation: Operation
) -> None:
    class Hasty:
        """The client, whose writes say wait=false."""

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: getattr(client, name)(*args, **kwargs | {"wait": False})

    place = Place(Hasty(), migration.name("shared"), next(_bases))  # type: ignore[arg-type]
    place.fill()
    operation(place)
    assert_equal(migration, place.name)


def test_what_the_source_took_of_a_refused_batch_reaches_the_target(migration: Migration, place: Place) -> None:
    wrong = models.PointStruct(id=place.ids[1], vector=[1.0, 2.0], payload={"new": True})
    with pytest.raises(Exception, match="dimension error"):
        place.client.upsert(place.name, [place.point(0, new=True), wrong, place.point(2, new=True)])
    assert_equal(migration, place.name)


def test_an_unwaited_write_that_fails_later_leaves_both_stores_equal(migration: Migration, place: Place) -> None:
    wrong = models.PointStruct(id=place.ids[1], vector=[1.0, 2.0])
    place.client.upsert(place.name, [place.point(0, new=True), wrong], wait=False)
    assert_equal(migration, place.name)


@ONE_VECTOR
def test_vectors_of_a_collection_with_names_are_updated_one_by_one(migration: Migration, client: QdrantClient) -> None:
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    name = migration.name(f"named_{next(_bases)}")
    client.create_collection(name, vectors_config={"text": params, "image": params})
    both = [models.PointStruct(id=i, vector={"text": vector(i), "image": vector(i + 1)}) for i in range(10)]
    client.upsert(name, both)
    client.update_vectors(name, [models.PointVectors(id=3, vector={"image": [9.0, 9.0, 1.0, 1.0]})])
    assert_equal(migration, name, 10)


@ONE_VECTOR
def test_a_point_that_loses_a_vector_leaves_the_target_until_it_has_it_again(
    migration: Migration, client: QdrantClient
) -> None:
    """Milvus has no rows without a vector: the point is parked, not approximated."""
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    name = migration.name(f"lacking_{next(_bases)}")
    client.create_collection(name, vectors_config={"text": params, "image": params})
    client.upsert(
        name, [models.PointStruct(id=i, vector={"text": vector(i), "image": vector(i + 1)}) for i in range(4)]
    )
    client.delete_vectors(name, ["image"], [2])
    assert migration.rest().keys.parked == 1
    assert differences(migration, name) == ["2 is missing on the target"]
    client.update_vectors(name, [models.PointVectors(id=2, vector={"image": vector(9)})])
    assert migration.rest().keys.parked == 0
    assert_equal(migration, name, 4)


# --- while a backfill runs -------------------------------------------------------------------------


def _filled(migration: Migration, points: int) -> str:
    direct, name = migration.direct(), migration.name("old")
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    loaded = [models.PointStruct(id=i, vector=vector(i), payload={"n": i, "group": i % 5}) for i in range(points)]
    direct.upsert(name, loaded)
    return name


def test_partial_updates_before_the_backfill_has_come_to_the_point(migrations: Migrations) -> None:
    """The first page is read and not written yet when points of it, and points after it, change."""
    migration = migrations(backfill={"page_points": 20})
    name, client = _filled(migration, 100), migration.client()
    with migration.hooks.stop_at("page read") as stop:
        job = migration.control.start_job("backfill", "docs")
        stop.reached()
        client.set_payload(name, {"late": 1}, [3, 4, 70])
        client.delete(name, [5, 71])
        client.upsert(name, [models.PointStruct(id=i, vector=vector(i + 1), payload={"new": i}) for i in (6, 72, 200)])
        client.delete_payload(name, ["n"], [7, 73])
        client.delete(name, match("group", 4))
        migration.until(lambda route: route.keys.lag == 0, "all of it copied, before the page is")
    migration.finished(job)
    assert_equal(migration, name, 100 - 20 - 2 + 1)


def test_a_point_deleted_between_read_and_write_of_its_page_does_not_come_back(migrations: Migrations) -> None:
    migration = migrations(backfill={"page_points": 20})
    name, client = _filled(migration, 60), migration.client()
    with migration.hooks.stop_at("page read") as stop:
        job = migration.control.start_job("backfill", "docs")
        stop.reached()
        client.delete(name, [1, 2, 30])
        client.upsert(name, [models.PointStruct(id=2, vector=vector(5), payload={"again": True})])
        migration.until(lambda route: route.keys.lag == 0, "deleted on the target too")
    migration.finished(job)
    assert_equal(migration, name, 58)


def test_a_target_that_loses_the_collection_during_its_backfill_gets_all_of_it(migrations: Migrations) -> None:
    migration = migrations(backfill={"page_points": 20})
    name = _filled(migration, 100)
    with migration.hooks.stop_at("page written", lets_pass=2) as stop:
        job = migration.control.start_job("backfill", "docs")
        stop.reached()
        with milvus_of(migration) as milvus:
            milvus.drop_collection(name)
    migration.finished(job)
    assert_equal(migration, name, 100)
    assert migration.status().readable


@pytest.mark.parametrize("policy", ["primary", "both"])
def test_writers_that_race_for_the_same_keys_while_a_backfill_runs(migrations: Migrations, policy: str) -> None:
    migration = migrations(
        backfill={"page_points": 8, "requests_per_second": 40}, writes={"policy": policy, "secondary_wait_ms": 10_000}
    )
    name = _filled(migration, 200)
    ended = threading.Event()
    job = migration.control.start_job("backfill", "docs")

    def write(seed: int) -> int:
        chance = random.Random(seed)
        client, written = migration.client(grpc=seed % 2 == 0), 0
        while not ended.is_set() and written < 150:
            with suppress(UnexpectedResponse, RpcError):  # changes of a point that is deleted are refused
                _random_write(client, name, chance)
            written += 1
        return written

    with ThreadPoolExecutor(6) as pool:
        writers = [pool.submit(write, seed) for seed in range(6)]
        migration.finished(job)
        ended.set()
        assert all(writer.result() > 0 for writer in writers)
    assert_equal(migration, name)
    verified = migration.verify()
    assert (verified["different"], verified["unchecked"]) == (0, 0)


def _random_write(client: QdrantClient, name: str, chance: random.Random) -> None:
    ids: list[Any] = chance.sample(range(40), 3)
    match chance.randrange(8):
        case 0 | 1 | 2:
            payload = {"n": chance.randrange(100), "group": chance.randrange(20)}
            client.upsert(
                name, [models.PointStruct(id=i, vector=vector(chance.randrange(99)), payload=payload) for i in ids]
            )
        case 3:
            client.set_payload(name, {"set": chance.randrange(100)}, ids)
        case 4:
            client.delete(name, ids[:1])
        case 5:
            client.delete(name, match("group", chance.randrange(20)))
        case 6:
            client.set_payload(name, {"by filter": chance.randrange(100)}, match("group", chance.randrange(20)))
        case 7:
            client.upsert(name, [models.PointStruct(id=ids[0], vector=vector(1), payload={"hasty": 1})], wait=False)


# --- what a write waits for ------------------------------------------------------------------------


@pytest.fixture(params=["stopped", "killed"])
def dead_target(
    request: pytest.FixtureRequest, migrations: Migrations
) -> Iterator[Callable[..., tuple[Migration, str]]]:
    """A migration at rest, whose target then stops answering without closing its connections, or is gone."""
    target = migrations.own_target()

    def made(policy: str) -> tuple[Migration, str]:
        migration = migrations(target=target, writes={"policy": policy, "secondary_wait_ms": 300})
        name = _filled(migration, 20)
        migration.backfill()
        migration.rest()
        target.pause() if request.param == "stopped" else target.kill()
        return migration, name

    yield made
    target.resume()


def _revive(migration: Migration) -> None:
    migration.target.resume()
    migration.target.start()


@pytest.mark.parametrize("policy", ["primary", "both"])
def test_a_dead_target_fails_no_write(dead_target: Callable[..., tuple[Migration, str]], policy: str) -> None:
    migration, name = dead_target(policy)
    for client in (migration.client(), migration.client(grpc=True)):
        client.upsert(name, [models.PointStruct(id=i, vector=vector(i), payload={"new": i}) for i in range(15, 25)])
        client.set_payload(name, {"set": 1}, [1, 2, 15, 16])  # parts of points that were just written whole
        client.delete(name, [3, 17])
        client.upsert(name, [models.PointStruct(id=3, vector=vector(30), payload={"again": True})])
        client.delete(name, match("group", 4))
    assert migration.status().keys.lag > 0
    _revive(migration)
    assert_equal(migration, name)


def test_both_required_says_that_only_the_source_has_it(
    dead_target: Callable[..., tuple[Migration, str]],
) -> None:
    migration, name = dead_target("both-required")
    for number, client in enumerate((migration.client(), migration.client(grpc=True))):
        with pytest.raises(Exception, match="applied on the primary"):
            client.upsert(name, [models.PointStruct(id=100 + number, vector=vector(1))])
    assert len(migration.direct().retrieve(name, [100, 101])) == 2
    _revive(migration)
    assert_equal(migration, name, 22)
    migration.client().upsert(name, [models.PointStruct(id=102, vector=vector(1))])
    assert differences(migration, name) == []


def test_both_required_says_so_of_a_request_of_unknown_kind(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer server's endpoint, of which the source says that it worked."""
    forward = HttpForwarder.forward

    async def newer(forwarder: HttpForwarder, request: Request) -> Response:
        return Response(200, (), b"{}") if request.path == "/some/new/endpoint" else await forward(forwarder, request)

    monkeypatch.setattr(HttpForwarder, "forward", newer)
    migration = migrations(writes={"policy": "both-required", "secondary_wait_ms": 20_000})
    name = _filled(migration, 20)
    migration.backfill()
    answer = httpx.put(f"{migration.url}/some/new/endpoint", json={})
    assert answer.is_server_error
    assert "applied on the primary" in answer.text
    migration.rest()  # a sweep brings over what it may have changed
    assert differences(migration, name) == []


def test_under_both_a_write_is_on_the_target_when_it_is_answered(migrations: Migrations) -> None:
    migration = migrations(writes={"policy": "both", "secondary_wait_ms": 20_000})
    name = _filled(migration, 20)
    migration.backfill()
    migration.rest()
    client = migration.client()
    for number in range(5):
        client.upsert(name, [models.PointStruct(id=number, vector=vector(number + 1), payload={"round": number})])
        assert differences(migration, name) == []
        client.set_payload(name, {"set": number}, match("group", 3))
        assert differences(migration, name) == []
        client.delete(name, [10 + number])
        assert differences(migration, name) == []
    assert migration.counts("secondary_waits") == {("confirmed",): 15}


def test_a_copy_that_began_before_a_write_does_not_confirm_it(migrations: Migrations) -> None:
    migration = migrations(writes={"policy": "both", "secondary_wait_ms": 20_000})
    name = _filled(migration, 20)
    migration.backfill()
    migration.rest()
    client, direct = migration.client(), migration.direct()

    def write(turn: int) -> None:
        client.upsert(name, [models.PointStruct(id=1, vector=vector(turn), payload={"turn": turn})])

    with ThreadPoolExecutor(2) as pool, migration.hooks.stop_at("reconciliation written") as first_copy:
        first = pool.submit(write, 1)
        first_copy.reached()
        second = pool.submit(write, 2)
        assert poll(lambda: direct.retrieve(name, [1])[0].payload == {"turn": 2}, PATIENCE_SECONDS)
        with migration.hooks.stop_at("reconciliation begun") as second_copy:
            first_copy.release()
            second_copy.reached()
            first.result(PATIENCE_SECONDS)
            assert not wait([second], timeout=0.5).done
        second.result(PATIENCE_SECONDS)
    assert differences(migration, name) == []
