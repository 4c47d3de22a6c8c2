"""Operations that are easy to get wrong, one by one: clients that hang up, answers of 4xx that have changed something,
clocks that are set, collections that come or change while a backfill runs, and a target that is changed past the proxy.
Conditional writes, an id twice in a batch, partly refused batches and `wait=false` are in test_replication.py."""

from __future__ import annotations

import json
import math
import socket
import sys
import time
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from examples.engines import poll
from proxy.errors import GateClosed
from tests.support.both_stores import assert_equal, differences, in_target, milvus_of
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations

DIM = 4
POINTS = 40
DOT = models.VectorParams(size=DIM, distance=models.Distance.DOT)


def vector(seed: int) -> list[float]:
    return [1.5 + math.sin(seed * (i + 1.7)) for i in range(DIM)]


def point(number: int, **payload: Any) -> models.PointStruct:
    return models.PointStruct(id=number, vector=vector(number), payload={"n": number} | payload)


def filled(migration: Migration, rest: str = "docs", points: int = POINTS) -> str:
    direct, name = migration.direct(), migration.name(rest)
    direct.create_collection(name, vectors_config=DOT)
    direct.upsert(name, [point(number) for number in range(points)])
    return name


def in_step(migration: Migration) -> str:
    name = filled(migration)
    migration.backfill()
    migration.rest()
    return name


# --- a client that hangs up ----------------------------------------------------------------------------


def upsert_request(name: str, points: int) -> bytes:
    body = json.dumps({"points": [{"id": 1000 + i, "vector": vector(i)} for i in range(points)]}).encode()
    head = (
        f"PUT /collections/{name}/points?wait=true HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_an_upsert_whose_client_hangs_up_half_way_changes_nothing(migrations: Migrations, part: float) -> None:
    migration = migrations()
    name = in_step(migration)
    request = upsert_request(name, 200)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", migration.rest_port)) as connection:
            connection.sendall(request[: int(len(request) * part)])
    migration.client().upsert(name, [point(7, after=True)])
    assert_equal(migration, name, POINTS)
    migration.until(lambda route: route.keys.lag == 0, "nothing left open")


def test_an_upsert_whose_client_does_not_wait_for_the_answer_is_carried_out_or_not_but_on_both_sides(
    migrations: Migrations,
) -> None:
    """It is sent whole; the client is gone when the primary has it. What has begun is brought to its end."""
    migration = migrations()
    name = in_step(migration)
    address = ("127.0.0.1", migration.rest_port)
    with migration.hooks.stop_at("BEGIN durable") as stop, socket.create_connection(address) as connection:
        connection.sendall(upsert_request(name, 5))
        stop.reached()
        connection.close()
    assert_equal(migration, name)
    assert migration.direct().count(name).count in (POINTS, POINTS + 5)


# --- answers that say no, and have changed something -----------------------------------------------------


@pytest.mark.parametrize("grpc", [False, True])
def test_a_4xx_that_changed_the_points_before_the_missing_one(migrations: Migrations, grpc: bool) -> None:
    migration = migrations()
    name, client = in_step(migration), migration.client(grpc=grpc)
    with pytest.raises(Exception, match="No point with id"):
        client.set_payload(name, {"set": 1}, [1, 2, 999_999])
    with pytest.raises(Exception, match="No point with id"):
        client.update_vectors(name, [models.PointVectors(id=i, vector=vector(7)) for i in (3, 999_999)])
    with pytest.raises(Exception, match="No point with id"):
        client.batch_update_points(
            name,
            [
                models.UpsertOperation(upsert=models.PointsList(points=[point(50), point(50, turn="second")])),
                models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[999_999])),
                models.DeleteOperation(delete=models.PointIdsList(points=[4])),
            ],
        )
    changed = migration.direct().retrieve(name, [1, 50])
    assert {
        record.id: (record.payload or {}).get("set") or (record.payload or {}).get("turn") for record in changed
    } == {
        1: 1,
        50: "second",
    }
    assert_equal(migration, name)


# --- clocks ----------------------------------------------------------------------------------------------


class WallClock:
    """What the program's modules take for `time`; `shift` sets the time of day (of gRPC's own, which relies on it, it
    does not)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shift = 0.0
        for name, module in list(sys.modules.items()):
            if name.startswith("proxy.") and getattr(module, "time", None) is time:
                monkeypatch.setattr(module, "time", self)

    def time(self) -> float:
        return time.time() + self.shift

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> WallClock:
    return WallClock(monkeypatch)


def test_nothing_depends_on_the_time_of_day(migrations: Migrations, wall_clock: WallClock) -> None:
    """The wall clock is set to and fro by days, under holds, a backfill, a verify and a move of the primary."""
    migration = migrations(cutover={"min_shadow_reads": 0})
    name, client = filled(migration), migration.client()
    for shift in (-86_400.0 * 400, 86_400.0 * 400, 0.0):
        wall_clock.shift = shift
        migration.backfill()
        client.upsert(name, [point(7, shift=shift)])
        client.upsert(name, [point(8, shift=shift)], wait=False)
        assert_equal(migration, name, POINTS)
        assert migration.verify()["different"] == 0
    migration.weight(100)
    wall_clock.shift = -86_400.0
    moved = migration.control.cutover(ROUTE, force="the verify is of another day")
    assert moved.held_seconds < 2
    client.upsert(name, [point(9, after=True)])
    assert_equal(migration, name, POINTS)


def test_a_clock_that_was_set_back_does_not_make_an_older_verify_the_latest(
    migrations: Migrations, wall_clock: WallClock
) -> None:
    migration = migrations(cutover={"min_shadow_reads": 0})
    name = in_step(migration)
    assert migration.verify()["different"] == 0
    migration.weight(100)
    with milvus_of(migration) as milvus:
        milvus.delete(name, ids=[1])
    wall_clock.shift = -60.0
    assert migration.verify()["different"] == 1
    with pytest.raises(GateClosed, match="verify: 1 different"):
        migration.control.cutover(ROUTE, force="whatever")


# --- while a backfill runs ---------------------------------------------------------------------------------


def test_a_collection_that_is_made_in_the_middle_of_a_backfill_is_on_both_sides(migrations: Migrations) -> None:
    migration = migrations(backfill={"page_points": 10})
    name, client, fresh = filled(migration), migration.client(), migration.name("fresh")
    with migration.hooks.stop_at("page read") as stop:
        job = migration.control.start_job("backfill", ROUTE)
        stop.reached()
        client.create_collection(fresh, vectors_config=DOT)
        client.upsert(fresh, [point(number) for number in range(5)])
        client.delete(fresh, [3])
    migration.finished(job)
    for each, points in ((name, POINTS), (fresh, 4)):
        assert_equal(migration, each, points)
    migration.until(lambda route: route.readable, "readable")


def test_a_re_index_that_is_switched_on_by_an_alias_while_its_backfill_runs(migrations: Migrations) -> None:
    """Blue is in use by its alias; green is made, filled and takes over, and blue goes, while pages are under way."""
    migration = migrations(backfill={"page_points": 8})
    blue, green, alias = filled(migration, "blue"), migration.name("green"), migration.name("live")
    client = migration.client()

    def point_at(name: str) -> models.CreateAliasOperation:
        return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))

    leave = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    client.update_collection_aliases([point_at(blue)])
    with migration.hooks.stop_at("page read", lets_pass=1) as stop:
        job = migration.control.start_job("backfill", ROUTE)
        stop.reached()
        client.upsert(alias, [point(1, colour="blue")])
        client.create_collection(green, vectors_config=DOT)
        client.upsert(green, [point(number, colour="green") for number in range(POINTS)])
        client.update_collection_aliases([leave, point_at(green)])
        client.upsert(alias, [point(2, colour="late")])
        client.set_payload(alias, {"seen": True}, models.Filter(must=[models.HasIdCondition(has_id=[3, 4])]))
        client.delete_collection(blue)
    migration.finished(job)
    assert_equal(migration, green, POINTS)
    assert_equal(migration, blue)
    assert not migration.direct().collection_exists(blue)
    migration.weight(100)
    found = {record.id: record.payload for record in client.retrieve(alias, [1, 2, 3])}
    assert found == {
        1: {"n": 1, "colour": "green"},
        2: {"n": 2, "colour": "late"},
        3: {"n": 3, "colour": "green", "seen": True},
    }


# --- a target that is changed past the proxy -----------------------------------------------------------------


def recreate(migration: Migration, name: str, dimension: int) -> None:
    with milvus_of(migration) as milvus:
        milvus.drop_collection(name)
        milvus.create_collection(name, dimension=dimension, metric_type="IP", id_type="int")


def answers_as_the_source(migration: Migration, name: str, client: QdrantClient) -> bool:
    """What the proxy answers to reads is never from a target that has lost or changed the collection."""
    direct = migration.direct()
    return bool(
        client.count(name).count == direct.count(name).count
        and client.retrieve(name, [1]) == direct.retrieve(name, [1])
        and [hit.id for hit in client.query_points(name, query=vector(3), limit=3).points]
        == [hit.id for hit in direct.query_points(name, query=vector(3), limit=3).points]
    )


def test_a_collection_of_the_target_that_is_made_anew_in_another_dimension_is_filled_again(
    migrations: Migrations,
) -> None:
    migration = migrations()
    name, client = in_step(migration), migration.client()
    recreate(migration, name, 2)
    client.upsert(name, [point(1, after=True)])
    assert_equal(migration, name, POINTS)


def test_reads_leave_a_target_whose_collection_was_made_anew_in_another_dimension(migrations: Migrations) -> None:
    """Nobody writes; the proxy compares what both sides hold every few seconds."""
    migration = migrations()
    name, client = in_step(migration), migration.client()
    migration.weight(100)
    recreate(migration, name, 2)
    assert poll(lambda: answers_as_the_source(migration, name, client), PATIENCE_SECONDS)
    migration.rest()
    assert_equal(migration, name, POINTS)


def test_a_collection_of_the_target_that_is_dropped_by_hand_is_noticed_by_the_next_read_or_write(
    migrations: Migrations,
) -> None:
    migration = migrations()
    name, client = in_step(migration), migration.client()
    migration.weight(100)
    with milvus_of(migration) as milvus:
        milvus.drop_collection(name)
    assert answers_as_the_source(migration, name, client)
    client.upsert(name, [point(1, after=True)])
    assert_equal(migration, name, POINTS)
    migration.until(lambda route: route.readable, "readable")
    assert answers_as_the_source(migration, name, client)


def test_points_that_are_removed_from_the_target_by_hand_are_found_by_verify(migrations: Migrations) -> None:
    migration = migrations()
    name = in_step(migration)
    with milvus_of(migration) as milvus:
        milvus.delete(name, ids=[3, 4])
        assert "3" not in in_target(milvus, name)
    assert len(differences(migration, name)) == 2
    assert migration.verify()["different"] == 2
    assert migration.job("verify", restart=True, repair=True).status == "done"
    assert_equal(migration, name, POINTS)
