"""Several clients write the same few keys at once, each through several proxies on one journal, and one of these is
killed amid that. At rest both stores hold the same, and every key is as one order of all requests leaves it in which
each took effect between its call and its answer (tests/support/orders.py)."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest
from qdrant_client import QdrantClient, models

from examples.engines import poll
from tests.faults.expectations import Side, allowed, wrong
from tests.faults.told import Kind, Said, kind_of, said
from tests.support.both_stores import assert_equal, in_source
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations, ProxyProcess
from tests.support.orders import Request, any_state, left_by, told, unchanged
from tests.support.owners import Another, another, in_turn
from tests.support.possible import Change, State, Stored, edit, put, remove, stored

KEYS = range(5)
OTHERS = range(100, 130)
CLIENTS = 4
BURSTS = 14
KILL, DEATHS = 3, (6, 9, 12)  # in which of them a proxy is killed, or kills itself
PAUSE_SECONDS = 0.05  # of a client that was refused
IMPATIENT = {f"grpc.{which}_reconnect_backoff_ms": 100 for which in ("initial", "min", "max")}
_tokens = itertools.count(1)


def vector(token: int) -> list[float]:
    """Tells whose point it is: small whole numbers are the same in every store."""
    return [float(token), 1.0, 0.0, -2.0]


def is_there(state: State) -> bool:
    return state is not None


def is_missing(state: State) -> bool:
    return state is None


@dataclass
class Client:
    """One thread, one request at a time."""

    number: int
    api: QdrantClient
    name: str
    history: dict[int, list[Request]] = field(default_factory=lambda: defaultdict(list))
    told: list[tuple[Kind, str]] = field(default_factory=list)  # what was no success
    written: int = 0
    ends_it: bool = False  # when its connection breaks

    def __post_init__(self) -> None:
        self._chance = random.Random(self.number)

    def work(self, ended: Event) -> None:
        while not ended.is_set():
            if self._once():
                continue
            if self.ends_it and self.told[-1][0] is Kind.BROKEN:
                ended.set()
            ended.wait(PAUSE_SECONDS)

    def _once(self) -> bool:
        token, chance = next(_tokens), self._chance
        key = chance.choice(KEYS)
        match chance.choices(("upsert", "several", "set", "delete", "read"), (3, 1, 3, 1, 1))[0]:
            case "upsert":
                return self._upsert([key], token)
            case "several":
                return self._upsert(chance.sample(KEYS, 3), token)
            case "set":
                # a part of its own, so that it shows if anybody else's is lost
                part = {f"by{self.number}": token}
                call = lambda: self.api.set_payload(self.name, part, [key])  # noqa: E731
                return self._attempt(f"set {part}", [key], call, edit([key], lambda payload: payload | part), is_there)
            case "delete":
                return self._attempt("delete", [key], lambda: self.api.delete(self.name, [key]), remove([key]))
        return self._read(key)

    def _upsert(self, keys: Sequence[int], token: int) -> bool:
        payload = {"token": token}
        points = [models.PointStruct(id=key, vector=vector(token), payload=payload) for key in keys]
        change = put(dict.fromkeys(keys, stored(vector(token), payload)))
        return self._attempt(f"upsert {token}", keys, lambda: self.api.upsert(self.name, points), change)

    def _attempt(
        self,
        text: str,
        keys: Sequence[int],
        call: Callable[[], Any],
        change: Change,
        met: Callable[[State], bool] = any_state,
    ) -> bool:
        """`met`: what a success says of the state before."""
        began, kind = time.monotonic(), Kind.DONE
        try:
            call()
        except Exception as error:  # noqa: BLE001  sorted by kind, and judged at the end
            if "No point with id" in str(error):
                text, change, met = f"{text}: no such point", unchanged, is_missing
            else:
                kind = kind_of(error)
                self.told.append((kind, f"{type(error).__name__}: {error}"))
        match said(kind):
            case Said.THERE:
                ended = time.monotonic()
                for key in keys:
                    self.history[key].append(Request(text, began, ended, change, met))
                self.written += 1
            case Said.MAYBE:
                for key in keys:
                    self.history[key].append(Request(text, began, math.inf, change, certain=False))
        return kind is Kind.DONE

    def _read(self, key: int) -> bool:
        began = time.monotonic()
        try:
            records = self.api.retrieve(self.name, [key], with_payload=True, with_vectors=True)
        except Exception as error:  # noqa: BLE001  nothing was learned
            self.told.append((kind_of(error), f"{type(error).__name__}: {error}"))
            return False
        found: State = None
        for record in records:
            where: Any = record.vector
            found = stored(where, record.payload or {})
        self.history[key].append(Request(f"read {found}", began, time.monotonic(), met=lambda state: state == found))
        return True


@contextmanager
def racing(clients: Sequence[Client]) -> Iterator[Race]:
    """They work until the block ends."""
    race = Race(clients)
    with ThreadPoolExecutor(len(clients)) as pool:
        running = [pool.submit(client.work, race.ended) for client in clients]
        try:
            yield race
        finally:
            race.ended.set()
        for each in running:
            each.result()


@dataclass
class Race:
    clients: Sequence[Client]
    ended: Event = field(default_factory=Event)

    def written(self, more: int) -> None:
        """Return when each has written so many more times."""
        goals = [(client, client.written + more) for client in self.clients]
        assert poll(lambda: all(client.written >= goal for client, goal in goals), PATIENCE_SECONDS), [
            client.told[-2:] for client in self.clients
        ]

    def ended_by(self, process: ProxyProcess) -> None:
        """It dies, and the first who is told so ends it for all: what was open is not written over by much."""
        for client in self.clients:
            client.ends_it = True
        assert self.ended.wait(PATIENCE_SECONDS)
        assert process.died()
        for client in self.clients:
            client.ends_it = False


def found_in(migration: Migration, name: str) -> dict[int, State]:
    points = in_source(migration.direct(), name)
    return {int(key): Stored(tuple(vectors[""]), payload) for key, (payload, vectors) in points.items()}


def check(clients: Sequence[Client], before: dict[int, State], found: dict[int, State]) -> None:
    """Every key is in a state that the requests may have left it in; their histories begin anew."""
    for key in KEYS:
        history = [request for client in clients for request in client.history[key]]
        possible = left_by(key, before.get(key), history)
        assert possible, f"no order explains what was told of {key}, which was {before.get(key)}:\n{told(history, 400)}"
        assert found.get(key) in possible, f"{key} is {found.get(key)}, may be {possible}; the last:\n{told(history)}"
    for client in clients:
        client.history.clear()


@pytest.mark.parametrize(("primary", "writes"), [("source", 8), ("target", 4)])
def test_every_key_is_as_one_order_of_all_requests_leaves_it(
    migrations: Migrations, primary: Side, writes: int
) -> None:
    """In bursts, since it is the last requests of a key that show. Amid one the proxy that leads is killed, and others
    are written to afterwards. Amid some, one dies over a write that the primary has, and all end with it, so that
    nothing newer repairs what was open."""
    migration = migrations(as_process=True, cutover={"min_shadow_reads": 0, "policy": "primary"})
    name = filled(migration)
    if primary == "target":
        migration.weight(100)
        migration.control.cutover(ROUTE, force="the test")
    with ExitStack() as running:
        others = [another(migration, running) for _ in range(2)]
        running.callback(migration.clients.close)  # before the proxies stop, which wait for idle clients
        clients = [Client(number, through([migration, *others], number), name) for number in range(CLIENTS)]
        before = found_in(migration, name)
        for burst in range(BURSTS):
            dying = others[burst % 2].process if burst in DEATHS else None
            if dying is not None:
                dying.kill()
                dying.dies_at, dying.after = "primary answered", burst
                dying.start()
            with racing(clients) as race:
                if dying is not None:
                    race.ended_by(dying)
                else:
                    race.written(writes)
                if burst == KILL:
                    migration.process.kill()  # the one that leads
                    race.written(writes)
            if dying is not None:
                dying.dies_at = ""
                dying.start()
            migration.process.start()
            assert_equal(migration, name)
            found = found_in(migration, name)
            check(clients, before, found)
            assert {key: found.get(key) for key in OTHERS} == {key: before.get(key) for key in OTHERS}
            before = found
        errors = [error for client in clients for error in client.told]
        assert wrong(errors, allowed("owners one of 3 killed", mirrored=True, primary=primary)) == []


def filled(migration: Migration) -> str:
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    keys = (*KEYS, *OTHERS)
    direct.upsert(name, [models.PointStruct(id=key, vector=vector(key), payload={"token": 0}) for key in keys])
    migration.backfill()
    migration.rest()
    return name


def through(proxies: Sequence[Migration | Another], number: int) -> QdrantClient:
    """All of them in turn, each client from another one on; the first speaks gRPC."""
    first = number % len(proxies)
    turns = (*proxies[first:], *proxies[:first])
    return in_turn([proxy.client(grpc=number == 0, grpc_options=dict(IMPATIENT)) for proxy in turns])
