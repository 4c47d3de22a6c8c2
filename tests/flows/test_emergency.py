"""The target dies as the primary with writes in flight and is left at once; clients go on, it comes back with its data,
and what only it had is copied, with clients still at work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from qdrant_client import models

from examples.engines import poll
from proxy.control import Recovery
from tests.faults.told import Kind
from tests.support.both_stores import assert_equal, in_target, milvus_of
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations
from tests.support.orders import Request, any_state, left_by, told
from tests.support.possible import State, stored
from tests.support.rivals import KEYS, Client, filled, found_in, racing, states, vector

CLIENTS = 4
FOLLOWED = 7  # a key that no client writes
WRITES = {
    "upsert": 3,
    "several": 1,
    "set": 2,
    "delete": 1,
    "fresh": 3,
    "again": 3,
}
UNKNOWN = "before the emergency"  # in a payload: whatever was there
# What clients are told of a primary that is gone, and of a key that something may still reach.
RIGHT = {Kind.UNAVAILABLE, Kind.UNCLEAR, Kind.LANDING}


def recovered(migration: Migration) -> list[Recovery]:
    """Until nothing is left that could not be copied now."""
    found: list[Recovery] = []

    def again() -> bool:
        found.append(migration.control.recover(ROUTE))
        return not found[-1].left

    assert poll(again, PATIENCE_SECONDS), found[-1]
    return found


def wait_until_followed(migration: Migration, name: str) -> None:
    """What is written now is on the target. Nothing is copied over what only that has."""
    migration.client().upsert(name, [models.PointStruct(id=FOLLOWED, vector=vector(0))])
    with milvus_of(migration) as milvus:
        assert poll(lambda: str(FOLLOWED) in in_target(milvus, name), PATIENCE_SECONDS), migration.status()


def keys_of(listed: Iterable[str]) -> set[int]:
    """Of "collection/id"."""
    return {int(each.rpartition("/")[2]) for each in listed}


@pytest.mark.parametrize("policy", ["primary", "both", "both-required"])
def test_what_was_acknowledged_is_there_or_listed_and_comes_back(migrations: Migrations, policy: str) -> None:
    source, target = migrations.own_source(), migrations.own_target()
    migration = migrations(
        source=source,
        target=target,
        as_process=True,
        writes={"secondary_wait_ms": 100},
        cutover={"min_shadow_reads": 0, "policy": policy},
    )
    name = filled(migration)
    migration.weight(100)
    migration.control.cutover(ROUTE, force="the test")
    before = found_in(migration, name)
    clients = [Client(number, migration.client(grpc=number == 0), name, WRITES) for number in range(CLIENTS)]
    with racing(clients) as race:
        race.written(5)
        source.pause()  # so that it is behind
        if policy == "both-required":
            race.told("applied on the primary")
        else:
            race.written(8)
        target.kill()
        source.resume()
        called = time.monotonic()
        moved = migration.control.rollback(ROUTE, now=True, force="killed")
        left = time.monotonic()
        there, looked = found_in(migration, name), time.monotonic()
        race.written(5)
        target.start()
        migration.until(lambda _: all(store.up for store in migration.control.status().stores), "both stores")
        wait_until_followed(migration, name)
        outcomes = recovered(migration)
        race.written(2)
    outcomes += recovered(migration)
    conflicts = keys_of(outcomes[-1].conflicts)
    absent = {key for outcome in outcomes for key in keys_of(outcome.absent)}
    with milvus_of(migration) as milvus:
        kept = states(in_target(milvus, name))
    if conflicts:
        migration.control.recover(ROUTE, discard=True, force="the source counts")
    assert_equal(migration, name)
    found = found_in(migration, name)
    history: dict[int, list[Request]] = {}
    for client in clients:
        for key, requests in client.history.items():
            history.setdefault(key, []).extend(requests)

    lines = [json.loads(line)["id"] for line in Path(moved.file).read_text().splitlines()]
    listed = set(lines)
    assert None not in listed
    assert moved.behind == len(lines) == len(listed)
    for key, requests in history.items():
        match [request for request in requests if request.began < looked]:
            case [one] if key not in KEYS and one.certain and one.ended < called:
                assert key in there or (key in listed and policy != "both-required"), f"{key}: neither there nor listed"
    assert listed or policy == "both-required", "the source was not behind"
    for key, requests in history.items():
        of_key = [in_time(request, called, left) for request in requests]
        if key in conflicts | absent:
            since = [replace(request, certain=request.began > left) for request in of_key if request.ended > left]
            assert_explained(key, since, found.get(key))
            until_then = [replace(one, certain=one.ended < called) for one in of_key if one.began < left]
            assert key in absent or kept.get(key) in left_by(key, before.get(key), until_then), (
                f"{key} was written over"
            )
        else:
            possible = left_by(key, before.get(key), of_key)
            assert found.get(key) in possible, (
                f"{key} is {found.get(key)}, may be {possible}; listed: {key in listed}; left at {left:.4f}:\n"
                f"{told(of_key, 40)}"
            )
    errors = [text for client in clients for kind, text in client.told if kind not in RIGHT]
    assert [text for text in errors if policy != "both-required" or "applied on the" not in text] == []


def in_time(request: Request, called: float, left: float) -> Request:
    """What was under way when the target was left has taken effect by then or never: it went with the target. What was
    told of the state of a listed key since is told of the source's."""
    if request.began < left and not request.certain:
        return replace(request, ended=left)
    return request if request.ended < called else replace(request, met=any_state)


def assert_explained(key: int, requests: Sequence[Request], found: State) -> None:
    """The key is as `requests` leave it, whatever it was before."""
    possible = left_by(key, None, requests) | left_by(key, stored((), {UNKNOWN: True}), requests)
    parts = [state.fields.items() for state in possible if state is not None and UNKNOWN in state.fields]
    had = {UNKNOWN: True} | found.fields if found is not None else {}
    assert found in possible or any(part <= had.items() for part in parts), f"{key} is {found}, may be {possible}"
