"""Moving the primary: the target answers for writes, the source follows; and back, orderly or in an emergency."""

from __future__ import annotations

import builtins
import errno
import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models

from examples.engines import poll
from proxy.control import Plan, Recovery
from proxy.errors import ConfigError, GateClosed
from tests.support.both_stores import assert_equal, in_source, in_target, milvus_of
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
DIM = 4
POINTS = 60
NO_SHADOW = {"min_shadow_reads": 0}


def vector(seed: int) -> list[float]:
    return [1.5 + math.sin(seed * (i + 1.7)) for i in range(DIM)]


def point(number: int, **payload: Any) -> models.PointStruct:
    return models.PointStruct(id=number, vector=vector(number), payload={"n": number} | payload)


def matching(n: int) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=n))])


def shifted(migration: Migration) -> str:
    """A collection whose reads are all on the target, and which is verified: the route is in phase shift."""
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    direct.upsert(name, [point(number) for number in range(POINTS)])
    migration.backfill()
    migration.rest()
    migration.verify()
    migration.weight(100)
    return name


def closed(plan: Plan) -> set[str]:
    assert plan.onward is not None
    return {gate.name for gate in plan.onward.closed}


def every_write(client: QdrantClient, name: str, first: int) -> None:
    """One of each kind; afterwards `first` to `first + 5` are as `expected` says."""
    client.upsert(name, [point(first + i, turn="upserted") for i in range(6)])
    client.set_payload(name, {"set": True}, [first])
    client.overwrite_payload(name, {"only": first}, [first + 1])
    client.delete_payload(name, ["turn"], [first + 2])
    client.clear_payload(name, [first + 3])
    client.update_vectors(name, [models.PointVectors(id=first + 4, vector=vector(999))])
    client.delete(name, [first + 5])
    client.set_payload(name, {"chosen": first}, matching(first))
    client.batch_update_points(
        name,
        [
            models.UpsertOperation(upsert=models.PointsList(points=[point(first + 6)])),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"batch": 1}, points=[first + 6])),
        ],
    )


def check(client: QdrantClient, name: str, first: int) -> None:
    found = {record.id: record.payload for record in client.retrieve(name, range(first, first + 7))}
    assert found == {
        first: {"n": first, "turn": "upserted", "set": True, "chosen": first},
        first + 1: {"only": first},
        first + 2: {"n": first + 2},
        first + 3: {},
        first + 4: {"n": first + 4, "turn": "upserted"},
        first + 6: {"n": first + 6, "batch": 1},
    }


@pytest.mark.parametrize("grpc", [False, True])
def test_the_target_answers_for_writes_and_the_source_follows_and_back_again(
    migrations: Migrations, grpc: bool
) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name, client = shifted(migration), migration.client(grpc=grpc)
    moved = migration.control.cutover(ROUTE, who="test")
    assert (moved.phase, moved.primary) == ("cutover", "target")
    assert moved.held_seconds < 2
    every_write(client, name, 1000)
    check(client, name, 1000)
    assert_equal(migration, name)
    check(migration.direct(), name, 1000)  # under both-required each was on the source when it was answered
    hits = client.query_points(name, query=vector(1003), limit=3, with_payload=True).points
    assert hits[0].id == 1003
    back = migration.control.rollback(ROUTE, who="test")
    assert (back.phase, back.primary) == ("shift", "source")
    every_write(client, name, 2000)
    check(client, name, 2000)
    assert_equal(migration, name)
    assert migration.verify()["different"] == 0
    assert [entry.what for entry in migration.control.audit(ROUTE)] == [
        "rollback: cutover -> shift",
        "cutover: shift -> cutover",
    ]


def test_definitions_and_aliases_after_cutover(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    fresh, alias = migration.name("fresh"), migration.name("alias")
    client.create_collection(fresh, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    client.upsert(fresh, [point(number) for number in range(5)])
    assert_equal(migration, fresh, 5)
    create = models.CreateAlias(collection_name=fresh, alias_name=alias)
    client.update_collection_aliases([models.CreateAliasOperation(create_alias=create)])
    client.upsert(alias, [point(7)])
    assert client.count(alias).count == 6
    assert_equal(migration, fresh, 6)
    assert poll(lambda: alias in {one.alias_name for one in migration.direct().get_aliases().aliases}, PATIENCE_SECONDS)
    client.delete_collection(fresh)
    migration.rest()
    assert not migration.direct().collection_exists(fresh)
    assert client.collection_exists(name)
    with pytest.raises(Exception, match="exist!"):
        client.upsert(fresh, [point(1)])
    with pytest.raises(Exception, match="dimension"):
        client.upsert(name, [models.PointStruct(id=1, vector=[1.0])])
    assert_equal(migration, name, POINTS)


def test_what_the_target_cannot_do_is_answered_by_the_source_while_it_is_in_step(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    client.upsert(name, [point(1, text="hello world")])
    odd = models.Filter(must=[models.FieldCondition(key="text", match=models.MatchText(text="hello"))])
    with migration.reads() as reads:
        assert client.count(name, count_filter=odd).count == 1
        assert client.count(name).count == POINTS
    assert sum(number for (_, store), number in reads.items() if store == "secondary") == 1
    with pytest.raises(Exception, match="cannot"):
        client.delete(name, odd)
    assert_equal(migration, name, POINTS)


@contextmanager
def writers(client: Callable[[], QdrantClient], name: str, count: int = 4) -> Iterator[dict[int, int]]:
    """Each writes turns to a key of its own until the block ends; what is acknowledged of each. Errors are raised."""
    ended, acknowledged = threading.Event(), dict.fromkeys(range(5000, 5000 + count), 0)

    def write(key: int) -> None:
        own, turn = client(), 0
        while not ended.is_set():
            turn += 1
            if turn % 2:
                own.upsert(name, [point(key, turn=turn)])
            else:
                own.set_payload(name, {"turn": turn}, [key])
            acknowledged[key] = turn

    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(write, key) for key in acknowledged]
        try:
            assert poll(lambda: all(turn > 3 for turn in acknowledged.values()), PATIENCE_SECONDS)
            yield acknowledged
        finally:
            ended.set()
        for each in running:
            each.result()


def test_to_and_fro_under_load_no_write_fails_and_none_is_lost(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name = shifted(migration)
    with writers(migration.client, name) as acknowledged:
        for _ in range(3):
            before = dict(acknowledged)
            assert migration.control.cutover(ROUTE).held_seconds < 2
            assert poll(lambda: all(acknowledged[key] > before[key] + 2 for key in before), PATIENCE_SECONDS)  # noqa: B023
            assert migration.control.rollback(ROUTE).held_seconds < 2
    assert_equal(migration, name)
    for key, turn in acknowledged.items():
        assert migration.direct().retrieve(name, [key])[0].payload == {"n": key, "turn": turn}


@contextmanager
def while_the_primary_moves(migration: Migration, asks: Callable[[], Any]) -> Iterator[Future[Any]]:
    """What becomes of `asks`, which begins after PREPARE; the target is the primary when the block begins."""
    with migration.hooks.stop_at("PREPARE durable") as stop, ThreadPoolExecutor(2) as pool:
        moving = pool.submit(migration.control.cutover, ROUTE)
        stop.reached()
        asked = pool.submit(asks)
        assert not poll(asked.done, 0.3)  # it waits
        stop.release()
        moving.result()
        yield asked


def test_an_alias_change_that_waits_while_the_primary_moves_is_made_there(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name, client, alias = shifted(migration), migration.client(), migration.name("alias")
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))
    with while_the_primary_moves(migration, lambda: client.update_collection_aliases([create])) as asked:
        assert asked.result()
    client.upsert(alias, [point(1000)])
    assert_equal(migration, name, POINTS + 1)
    assert poll(lambda: alias in {one.alias_name for one in migration.direct().get_aliases().aliases}, PATIENCE_SECONDS)


def test_a_request_of_unknown_kind_that_waits_while_the_primary_moves_is_told_that_the_target_cannot(
    migrations: Migrations,
) -> None:
    """And not to try again, which would help nobody."""
    migration = migrations(cutover=NO_SHADOW)
    shifted(migration)
    with (
        httpx.Client(base_url=migration.url) as http,
        while_the_primary_moves(migration, lambda: http.put("/some/new/endpoint", json={})) as asked,
    ):
        answer = asked.result()
    assert answer.status_code == 501
    assert "the target, which is the primary by now, does not know it" in answer.text
    migration.rest()
    assert migration.status().readable


def test_closed_gates_are_named_with_their_values_and_some_may_be_forced(migrations: Migrations) -> None:
    migration = migrations()
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    direct.upsert(name, [point(number) for number in range(10)])
    plan = migration.control.plan(ROUTE)
    assert (plan.phase, plan.primary) == ("direct", "source")
    assert plan.onward is not None
    assert plan.onward.command == "mirror"
    with pytest.raises(GateClosed, match="next step is mirror"):
        migration.control.cutover(ROUTE)
    migration.backfill()
    migration.rest()
    migration.weight(50)
    plan = migration.control.plan(ROUTE)
    assert closed(plan) == {"verify", "shadow", "reads"}
    with pytest.raises(GateClosed, match=r"verify: never run.*shadow: 0 compared.*reads: 50 % from the target"):
        migration.control.cutover(ROUTE)
    assert migration.status().primary == "source"
    migration.control.cutover(ROUTE, who="me", force="we are in a hurry")
    [entry] = migration.control.audit(ROUTE)
    assert (entry.who, entry.why) == ("me", "we are in a hurry (forced: verify, shadow, reads)")
    migration.client().upsert(name, [point(11)])
    assert_equal(migration, name, 11)


def test_a_parked_point_shuts_cutover_and_cannot_be_forced(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name = shifted(migration)
    migration.client().upsert(name, [point(7, text="x" * 70_000)])
    migration.until(lambda route: route.keys.parked == 1, "parked")
    with pytest.raises(GateClosed, match="parked: 1 points"):
        migration.control.cutover(ROUTE, force="whatever")
    assert migration.status().primary == "source"


def test_complete_ends_it_and_there_is_no_way_back(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    migration.control.complete(ROUTE)
    client.upsert(name, [point(500)])
    assert client.count(name).count == POINTS + 1
    migration.rest()
    for kind in ("backfill", "sweep", "verify"):
        with pytest.raises(GateClosed, match="complete: the source is let go"):
            migration.control.start_job(kind, ROUTE, restart=True)
    assert migration.direct().count(name).count == POINTS
    with pytest.raises(GateClosed, match="no way back"):
        migration.control.rollback(ROUTE)


@pytest.mark.parametrize("hook", ["PREPARE durable", "all acknowledged", "COMMIT durable"])
def test_killed_in_the_middle_of_a_flip_there_is_exactly_one_primary_and_nothing_is_lost(
    migrations: Migrations, hook: str
) -> None:
    migration = migrations(as_process=True, cutover=NO_SHADOW)
    name, proxy = shifted(migration), migration.process
    proxy.stop()
    proxy.dies_at = hook
    proxy.start()
    client = migration.client()
    client.upsert(name, [point(77, turn="before")])
    migration.weight(50)  # a gate to force
    with pytest.raises(Exception):  # noqa: B017  the proxy dies
        migration.control.cutover(ROUTE, who="me", force="tonight")
    assert proxy.died()
    proxy.dies_at = ""
    proxy.start()
    status = migration.status()
    assert status.primary == ("target" if hook == "COMMIT durable" else "source")
    assert poll(lambda: _takes(client, name), PATIENCE_SECONDS)
    assert_equal(migration, name)
    assert migration.direct().retrieve(name, [77])[0].payload == {"n": 77, "turn": "before"}
    assert status.phase == ("cutover" if hook == "COMMIT durable" else "shift")
    [entry] = migration.control.audit(ROUTE)
    assert (entry.who, entry.what, entry.why) == ("me", "cutover: shift -> cutover", "tonight (forced: reads)")


def test_a_cutover_that_fails_is_in_the_audit_log_with_its_reason(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW | {"hold_ms": 100})
    name = shifted(migration)
    with migration.hooks.stop_at("primary answered") as stop, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(migration.client().upsert, name, [point(1)])
        stop.reached()
        with pytest.raises(GateClosed, match="the primary was not moved"):
            migration.control.cutover(ROUTE, who="me")
        stop.release()
        writing.result()
    failed, begun = migration.control.audit(ROUTE)
    assert (begun.who, begun.what) == ("me", "cutover: shift -> cutover")
    assert failed.what.startswith("cutover: shift -> cutover, which did not come about: the primary was not moved")


def _takes(client: QdrantClient, name: str) -> bool:
    try:
        client.upsert(name, [point(78)])
    except Exception:  # noqa: BLE001  of the client: refused, try again
        return False
    return True


def lose_disk(migration: Migration) -> None:
    """The target comes back empty."""
    migration.target.kill()
    shutil.rmtree(migration.target.directory / "data")
    migration.target.start()


def test_a_broken_target_is_left_at_once_and_nothing_acknowledged_is_lost_under_both_required(
    migrations: Migrations,
) -> None:
    migration = migrations(target=migrations.own_target(), cutover=NO_SHADOW | {"policy": "both-required"})
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    for number in range(200, 220):
        client.upsert(name, [point(number)])
    migration.target.kill()
    with pytest.raises(Exception):  # noqa: B017  whatever the client makes of it
        client.upsert(name, [point(300)])
    with pytest.raises(GateClosed, match="--force REASON"):
        migration.control.rollback(ROUTE, now=True)
    moved = migration.control.rollback(ROUTE, now=True, force="the target's disk is gone")
    assert (moved.phase, moved.primary) == ("shift", "source")
    assert not moved.aliases_behind
    assert set(in_source(migration.direct(), name)) >= {str(number) for number in range(200, 220)}
    client.upsert(name, [point(301)])
    assert {record.id for record in client.retrieve(name, [219, 301])} == {219, 301}
    lose_disk(migration)
    migration.control.recover(ROUTE, discard=True, force="its disk is gone")
    assert_equal(migration, name)


def test_alias_changes_that_the_source_may_lack_after_an_emergency_are_told(migrations: Migrations) -> None:
    migration = migrations(source=migrations.own_source(), target=migrations.own_target(), cutover=NO_SHADOW)
    name, client, alias = shifted(migration), migration.client(), migration.name("alias")
    migration.control.cutover(ROUTE)
    migration.source.kill()
    create = models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))
    assert client.update_collection_aliases([create])
    migration.target.kill()
    migration.source.start()
    moved = migration.control.rollback(ROUTE, now=True, force="the target's disk is gone")
    assert moved.aliases_behind
    assert migration.control.audit(ROUTE)[0].what.endswith("may lack aliases that were changed on the target")


def test_what_only_the_old_primary_has_is_listed_and_copied_once_it_is_back(migrations: Migrations) -> None:
    """Under policy `primary`; the source is cut off before the target is left."""
    source = migrations.own_source()
    migration = migrations(source=source, target=migrations.own_target(), cutover=NO_SHADOW | {"policy": "primary"})
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    client.upsert(name, [point(200, turn="both")])
    migration.rest()
    source.kill()
    client.upsert(name, [point(201, turn="target only"), point(200, turn="target newer")])
    client.delete(name, [3])
    migration.target.kill()
    source.start()
    moved = migration.control.rollback(ROUTE, now=True, force="broken")
    listed = [json.loads(line) for line in Path(moved.file).read_text().splitlines()]
    assert {line["id"] for line in listed} == {200, 201, 3}
    assert moved.behind == 3
    client.upsert(name, [point(200, turn="source newest")])  # leaves the list
    assert client.retrieve(name, [201]) == []
    migration.target.start()
    migration.until(lambda route: route.behind == 2, "two keys behind")
    migration.until(lambda _: all(store.up for store in migration.control.status().stores), "both stores")
    found: list[Recovery] = []
    assert poll(lambda: found.append(migration.control.recover(ROUTE)) or not found[-1].left, PATIENCE_SECONDS)  # type: ignore[func-returns-value]
    assert (found[-1].copied, found[-1].absent, found[-1].conflicts) == (1, (f"{name}/3",), ())
    assert_equal(migration, name)
    payload = {record.id: (record.payload or {}).get("turn") for record in client.retrieve(name, [3, 200, 201])}
    assert payload == {3: None, 200: "source newest", 201: "target only"}


def test_a_list_that_cannot_be_written_hides_no_move(migrations: Migrations, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the primary has moved and how many keys may be behind; the list can be had later."""
    source = migrations.own_source()
    migration = migrations(source=source, target=migrations.own_target(), cutover=NO_SHADOW | {"policy": "primary"})
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    source.kill()
    client.upsert(name, [point(201)])
    migration.target.kill()
    source.start()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full_disk)
        moved = migration.control.rollback(ROUTE, now=True, force="broken")
    assert (moved.phase, moved.primary, moved.behind, moved.file) == ("shift", "source", 1, "")
    assert Path(migration.control.list_behind(ROUTE).file).read_text().count("\n") == 1


def full_disk(path: Path, *options: Any, **more: Any) -> Any:
    if path.suffix == ".jsonl":
        raise OSError(errno.ENOSPC, "No space left on device", str(path))
    return builtins.open(path, *options, **more)


def test_what_the_old_primary_lost_is_given_up(migrations: Migrations) -> None:
    source = migrations.own_source()
    migration = migrations(source=source, target=migrations.own_target(), cutover=NO_SHADOW | {"policy": "primary"})
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    source.kill()
    client.upsert(name, [point(201)])
    migration.target.kill()
    source.start()
    migration.control.rollback(ROUTE, now=True, force="broken")
    lose_disk(migration)
    assert migration.control.recover(ROUTE, discard=True, force="its disk is gone").discarded == 1
    assert_equal(migration, name, POINTS)


def test_a_collection_that_is_dropped_after_an_emergency_keeps_no_gate_closed(migrations: Migrations) -> None:
    """It was to be verified, and there is nothing of it any more on either side."""
    migration = migrations(cutover=NO_SHADOW)
    name, client = shifted(migration), migration.client()
    other = migration.name("other")
    client.create_collection(other, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    migration.rest()
    migration.control.cutover(ROUTE, force="no verify of the new one")
    migration.control.rollback(ROUTE, now=True, force="to see what is left to do")
    client.delete_collection(other)
    migration.rest()
    assert "collections" in closed(migration.control.plan(ROUTE))
    assert migration.verify()["equal"] == POINTS
    assert closed(migration.control.plan(ROUTE)) == set()
    assert migration.control.cutover(ROUTE).primary == "target"
    assert_equal(migration, name, POINTS)


def test_everything_is_swept_after_somebody_changed_a_store_by_hand(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name = shifted(migration)
    with milvus_of(migration) as milvus:
        milvus.delete(name, ids=[1, 2, 3])
    migration.control.invalidate(ROUTE, force="restored from a backup")
    assert_equal(migration, name, POINTS)


def test_drift_is_seen_and_shuts_cutover_until_it_is_repaired(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name = shifted(migration)
    with milvus_of(migration) as milvus:
        milvus.delete(name, ids=[1])
    migration.until(lambda route: "points" in route.drift, "drift")
    assert "drift" in closed(migration.control.plan(ROUTE))
    migration.verify(repair=True)
    assert "drift" not in closed(migration.control.plan(ROUTE))
    migration.direct().delete(name, [2])
    migration.until(lambda route: "without a write through the proxy" in route.drift, "a writer past the proxy")


def test_a_collection_that_somebody_dropped_on_the_target_shuts_cutover_and_is_filled_again(
    migrations: Migrations,
) -> None:
    """Nobody reads or writes it, so that only whoever looks can know."""
    migration = migrations(cutover=NO_SHADOW)
    name = shifted(migration)
    with milvus_of(migration) as milvus:
        milvus.drop_collection(name)
        plan = migration.control.plan(ROUTE)
        assert "collections" in closed(plan)
        migration.until(lambda route: "dropped the collection on the target" in route.drift, "drift")
        migration.until(lambda route: route.readable, "readable")
        assert len(in_target(milvus, name)) == POINTS
    assert "drift" in closed(migration.control.plan(ROUTE))
    migration.verify()
    assert closed(migration.control.plan(ROUTE)) == set()


def test_a_route_goes_back_to_the_beginning_step_by_step(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW)
    name, client = shifted(migration), migration.client()
    migration.control.cutover(ROUTE)
    assert [migration.control.rollback(ROUTE).phase for _ in range(3)] == ["shift", "shadow", "direct"]
    client.upsert(name, [point(900)])
    with milvus_of(migration) as milvus:
        assert "900" not in in_target(milvus, name)
    migration.backfill()  # the target's points are this route's own
    assert_equal(migration, name, POINTS + 1)


# --- whose keys ------------------------------------------------------------------------------------

ASK: dict[str, Any] = {"mode": "ask-primary"}
KEYS: dict[str, Any] = {"mode": "keys", "keys": ["application"]}


def edit_auth(migration: Migration, auth: dict[str, Any]) -> None:
    migration.config["auth"] = auth
    migration.save()
    migration.control.reload()


def refusal(call: Callable[[], Any]) -> tuple[str, str]:
    """(status, text) of a refused call, over either transport."""
    with pytest.raises(Exception) as raised:
        call()
    error: Any = raised.value
    if hasattr(error, "details"):
        return str(error.code()), str(error.details())
    return str(error.status_code), error.content.decode()


def test_the_gate_of_access_looks_at_the_mode_of_the_moment(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW, change=lambda config: config.update(auth=ASK))
    shifted(migration)
    assert closed(migration.control.plan(ROUTE)) == {"access"}
    edit_auth(migration, KEYS)
    assert closed(migration.control.plan(ROUTE)) == set()
    edit_auth(migration, ASK)
    with pytest.raises(GateClosed, match=r"access: auth\.mode is ask-primary"):
        migration.control.cutover(ROUTE, force="insisting")


def test_after_cutover_an_edit_does_not_set_ask_primary(migrations: Migrations) -> None:
    migration = migrations(cutover=NO_SHADOW, change=lambda config: config.update(auth=KEYS))
    name = shifted(migration)
    migration.control.cutover(ROUTE)
    with pytest.raises(ConfigError, match=r"line \d+: auth\.mode: ask-primary has nobody to ask: .* of docs; use keys"):
        edit_auth(migration, ASK)
    assert migration.client(api_key="application").count(name).count == POINTS
    assert refusal(lambda: migration.client().count(name))[0] == "401"


@pytest.mark.parametrize("phase", ["cutover", "complete"])
@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_started_with_ask_primary_the_target_answers_nobody(migrations: Migrations, grpc: bool, phase: str) -> None:
    migration = migrations(cutover=NO_SHADOW, change=lambda config: config.update(auth=KEYS))
    name = shifted(migration)
    migration.control.cutover(ROUTE)
    if phase == "complete":
        migration.control.complete(ROUTE)
    migration.proxy.stop()
    migration.config["auth"] = ASK
    migration.save()
    migration.proxy.start()
    migration.rest()
    client, fresh = migration.client(grpc=grpc), migration.name("fresh")
    size = models.VectorParams(size=DIM, distance=models.Distance.DOT)
    alias = models.CreateAlias(collection_name=name, alias_name=migration.name("alias"))
    asked: list[Callable[[], Any]] = [
        lambda: client.count(name),
        lambda: client.query_points(name, query=vector(1)),
        lambda: client.retrieve(name, [1]),
        lambda: client.upsert(name, [point(500)]),
        lambda: client.set_payload(name, {"a": 1}, [1]),
        lambda: client.delete(name, matching(3)),
        lambda: client.create_collection(fresh, vectors_config=size),
        lambda: client.delete_collection(name),
        lambda: client.update_collection_aliases([models.CreateAliasOperation(create_alias=alias)]),
    ]
    if phase == "complete":  # before, the source answers these, and judges the key itself
        asked += [lambda: client.get_collection(name), lambda: client.get_collections()]
    for call in asked:
        status, text = refusal(call)
        assert status in ("401", "StatusCode.UNAUTHENTICATED")
        assert "set auth.mode to keys" in text
    edit_auth(migration, KEYS)
    with_key = migration.client(grpc=grpc, api_key="application")
    assert with_key.count(name).count == POINTS
    with_key.upsert(name, [point(501)])
    assert migration.rest().keys.lag == 0
    with milvus_of(migration) as milvus:
        assert len(in_target(milvus, name)) == POINTS + 1
