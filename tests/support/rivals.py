"""Clients that write the same few keys at once, and remember what each request was told and when, so that what is left
can be explained (orders.py)."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from qdrant_client import QdrantClient, models

from examples.engines import poll
from tests.faults.told import Kind, Said, kind_of, said
from tests.support.both_stores import Points, in_source
from tests.support.migration import PATIENCE_SECONDS, Migration, ProxyProcess
from tests.support.orders import Request, any_state, left_by, told, unchanged
from tests.support.possible import Change, State, Stored, edit, put, remove, stored

KEYS = range(5)
OTHERS = range(100, 130)  # nobody writes these
IMPATIENT = {f"grpc.{which}_reconnect_backoff_ms": 100 for which in ("initial", "min", "max")}
ALL = {"upsert": 3, "several": 1, "set": 3, "delete": 1, "read": 1}
_OWN_KEYS = 1000  # distance between the new keys of two clients
_PAUSE_SECONDS = 0.05  # of a client that was refused
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
    kinds: Mapping[str, int] = field(default_factory=lambda: ALL)  # of requests, and how often of the sum
    history: dict[int, list[Request]] = field(default_factory=lambda: defaultdict(list))
    told: list[tuple[Kind, str]] = field(default_factory=list)  # what was no success
    written: int = 0
    ends_with: ProxyProcess | None = None

    def __post_init__(self) -> None:
        self._chance = random.Random(self.number)
        self._own = itertools.count((self.number + 1) * _OWN_KEYS)
        self._waiting: deque[tuple[int, int]] = deque()  # keys of its own, and how often they are written yet

    def work(self, ended: Event) -> None:
        while not ended.is_set():
            if self._once():
                continue
            if self.ends_with is not None and not self.ends_with.is_running():
                ended.set()
            ended.wait(_PAUSE_SECONDS)

    def _once(self) -> bool:
        token, chance = next(_tokens), self._chance
        key = chance.choice(KEYS)
        match chance.choices(list(self.kinds), list(self.kinds.values()))[0]:
            case "upsert":
                return self._upsert([key], token)
            case "several":
                return self._upsert(chance.sample(KEYS, 3), token)
            case "fresh":  # a key of its own
                key = next(self._own)
                self._waiting.append((key, 2))
                return self._upsert([key], token)
            case "set":
                return self._set(key, token)
            case "delete":
                return self._delete(key)
            case "again":
                return self._again(token)
        return self._read(key)

    def _again(self, token: int) -> bool:
        """A key of its own, which it writes three times in all; each waits for its turn."""
        if not self._waiting:
            return True
        key, more = self._waiting.popleft()
        if more > 1:
            self._waiting.append((key, more - 1))
        match self._chance.choice(("upsert", "set", "delete")):
            case "upsert":
                return self._upsert([key], token)
            case "set":
                return self._set(key, token)
        return self._delete(key)

    def _set(self, key: int, token: int) -> bool:
        """A part of this client's, so that it shows if another one's is lost."""
        part = {f"by{self.number}": token}
        call = lambda: self.api.set_payload(self.name, part, [key])  # noqa: E731
        return self._attempt(f"set {part}", [key], call, edit([key], lambda payload: payload | part), is_there)

    def _delete(self, key: int) -> bool:
        return self._attempt("delete", [key], lambda: self.api.delete(self.name, [key]), remove([key]))

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

    def told(self, text: str) -> None:
        """Return when each was told so."""
        for client in self.clients:
            assert poll(lambda: any(text in told for _, told in client.told), PATIENCE_SECONDS), client.told[-2:]  # noqa: B023

    def ended_by(self, process: ProxyProcess) -> None:
        """It dies, and the first who notices ends it for all: what was open is not written over by much."""
        for client in self.clients:
            client.ends_with = process
        ended = self.ended.wait(PATIENCE_SECONDS)
        assert ended, [client.told[-2:] for client in self.clients]
        for client in self.clients:
            client.ends_with = None


def filled(migration: Migration) -> str:
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    keys = (*KEYS, *OTHERS)
    direct.upsert(name, [models.PointStruct(id=key, vector=vector(key), payload={"token": 0}) for key in keys])
    migration.backfill()
    migration.rest()
    return name


def found_in(migration: Migration, name: str) -> dict[int, State]:
    return states(in_source(migration.direct(), name))


def states(points: Points) -> dict[int, State]:
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
