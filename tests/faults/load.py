"""An application under load: writers with the official client, over REST and gRPC, who remember every answer.

Each key has one writer, whose writes carry a turn. What a writer does with its keys:

- *whole*: points that were there before, written whole or deleted, again and again, whatever the last answer was (so a
  request that lands late can meet a newer one);
- *partial*: set_payload, overwrite_payload, a batch, a whole point, by turns. After an unclear answer the writer leaves
  the point alone and takes another: what it may hold stays one of two things;
- *group*: points (`Size.group`) written in one request, then changed and deleted by filter; left alone in the same way;
- *fresh*: new points each turn, never written again (some without waiting, some deleted once by id). What was told
  about such a write can be held against the store for ever.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from qdrant_client import QdrantClient, models

from examples.engines import poll
from tests.faults.checker import Attempt, Payload, State
from tests.faults.told import Kind, Said, kind_of, said
from tests.support.migration import PATIENCE_SECONDS, Migration
from tests.support.owners import Another, in_turn

DIM = 4
OLD_POINTS = 240
_WRITERS = 3
_THINKING_SECONDS = 0.01  # of a writer between two turns, so that the target can follow
_PAUSE_SECONDS = 0.05  # of a writer that was refused
_IMPATIENT = {f"grpc.{which}_reconnect_backoff_ms": 100 for which in ("initial", "min", "max")}
_OWN_KEYS = 1_000_000  # distance between the new keys of two writers


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


def point(key: int, payload: Payload) -> models.PointStruct:
    return models.PointStruct(id=key, vector=vector(key + len(payload)), payload=dict(payload))


def old_points() -> dict[int, Payload]:
    """What is in the source before the proxy is."""
    return {key: {"turn": 0, "old": True} for key in range(OLD_POINTS)}


def fill(client: QdrantClient, collection: str) -> None:
    client.create_collection(collection, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    client.upsert(collection, [point(key, payload) for key, payload in old_points().items()], wait=True)


def _group(name: str) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key="group", match=models.MatchValue(value=name))])


@dataclass(frozen=True)
class Size:
    """How large what is written is. `payload`: of points that are written whole, besides. `group`: points of one.
    `fresh`: new points of a turn."""

    payload: Payload = field(default_factory=dict)
    group: int = 3
    fresh: int = 8


_SMALL = Size()


@dataclass(slots=True)
class Group:
    """Points that are written together; `step` is what comes next."""

    name: str
    keys: tuple[int, ...]
    step: int = 0


@dataclass
class Writer:
    """One thread with one client and keys of its own."""

    number: int
    client: QdrantClient
    collection: str
    filters: bool = True  # whether groups are changed by filter, or by their ids
    fresh: bool = True  # whether new points are written every turn
    size: Size = _SMALL
    history: dict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    told: list[tuple[Kind, str]] = field(default_factory=list)  # what was no success, and its text
    acknowledged: int = 0
    attempts: int = 0
    turn: int = 0
    _states: dict[int, State] = field(default_factory=dict)
    _fresh: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = self.number * OLD_POINTS // _WRITERS
        self._keys = iter(range((self.number + 1) * _OWN_KEYS, (self.number + 2) * _OWN_KEYS))
        self._whole = list(range(first, first + 4))
        self._partial = list(range(first + 40, first + 43))
        self._states |= {key: old_points()[key] for key in (*self._whole, *self._partial)}
        self._group = self._new_group()

    def once(self) -> bool:
        """The writes of one turn. Whether all of them were acknowledged."""
        self.turn += 1
        fresh = (self._write_fresh, self._delete_fresh) if self.fresh else ()
        steps = (self._write_whole, self._write_partial, self._write_group, *fresh)
        return [step() for step in steps].count(False) == 0

    # --- kinds of keys -----------------------------------------------------------------------------

    def _write_whole(self) -> bool:
        key = self._whole[self.turn % len(self._whole)]
        if self.turn // len(self._whole) % 3 == 2:
            call, leaves = lambda: self.client.delete(self.collection, [key]), None
            return self._attempt({key: leaves}, call) is Said.THERE
        return self._upsert({key: {"turn": self.turn, "kind": "whole"}}) is Said.THERE

    def _write_fresh(self) -> bool:
        keys = [next(self._keys) for _ in range(self.size.fresh)]
        answer = self._upsert({key: {"turn": self.turn, "kind": "fresh"} for key in keys}, wait=self.turn % 4 != 0)
        if answer is Said.THERE:
            self._fresh.append(keys[0])
        return answer is Said.THERE

    def _delete_fresh(self) -> bool:
        if len(self._fresh) < 2:
            return True
        key = self._fresh.pop(0)
        return self._attempt({key: None}, lambda: self.client.delete(self.collection, [key])) is Said.THERE

    def _write_partial(self) -> bool:
        slot = self.turn % len(self._partial)
        key, turn = self._partial[slot], self.turn
        state = dict(self._states.get(key) or {})
        match turn // len(self._partial) % 4:
            case _ if not state:
                answer = self._upsert({key: {"turn": turn, "kind": "partial"}})
            case 0:
                part = {"turn": turn, "set": turn}
                call: Callable[[], Any] = lambda: self.client.set_payload(self.collection, part, [key])  # noqa: E731
                answer = self._attempt({key: state | part}, call)
            case 1:
                whole = {"turn": turn, "over": [turn, None]}
                call = lambda: self.client.overwrite_payload(self.collection, whole, [key])  # noqa: E731
                answer = self._attempt({key: whole}, call)
            case 2:
                answer = self._attempt(*self._batch(key, turn))
            case _:
                answer = self._upsert({key: {"turn": turn, "kind": "partial"}})
        if answer is Said.MAYBE:
            self._partial[slot] = next(self._keys)
        return answer is Said.THERE

    def _batch(self, key: int, turn: int) -> tuple[Mapping[int, State], Callable[[], Any]]:
        whole = {"turn": turn, "kind": "batch"}
        operations: list[Any] = [
            models.UpsertOperation(upsert=models.PointsList(points=[point(key, whole)])),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"also": turn}, points=[key])),
        ]
        return {key: {**whole, "also": turn}}, lambda: self.client.batch_update_points(self.collection, operations)

    def _write_group(self) -> bool:
        group, turn = self._group, self.turn
        chosen: Any = _group(group.name) if self.filters else list(group.keys)
        match group.step % 3:
            case 0:
                answer = self._upsert({key: {"turn": turn, "group": group.name} for key in group.keys})
            case 1:
                set_to = {key: {"turn": turn, "group": group.name, **self.size.payload} for key in group.keys}
                answer = self._attempt(set_to, lambda: self.client.set_payload(self.collection, {"turn": turn}, chosen))
            case _:
                gone: dict[int, State] = dict.fromkeys(group.keys)
                answer = self._attempt(gone, lambda: self.client.delete(self.collection, chosen))
        if answer is Said.THERE:
            group.step += 1
        elif answer is Said.MAYBE:
            self._group = self._new_group()
        return answer is Said.THERE

    def _new_group(self) -> Group:
        keys = tuple(next(self._keys) for _ in range(self.size.group))
        return Group(f"{self.number}-{keys[0]}", keys)

    # --- one write -----------------------------------------------------------------------------------

    def _upsert(self, states: Mapping[int, Payload], wait: bool = True) -> Said:
        states = {key: {**payload, **self.size.payload} for key, payload in states.items()}
        points = [point(key, payload) for key, payload in states.items()]
        return self._attempt(states, lambda: self.client.upsert(self.collection, points, wait=wait))

    def _attempt(self, leaves: Mapping[int, State], call: Callable[[], Any]) -> Said:
        kind, began = Kind.DONE, time.time()
        try:
            call()
        except Exception as error:  # noqa: BLE001  sorted by kind, and judged at the end
            kind = kind_of(error)
            self.told.append((kind, f"{type(error).__name__}: {error}"))
        ended = time.time()
        self.attempts += 1
        answer = said(kind)
        for key, state in leaves.items():
            self.history[key].append(Attempt(state, kind, began, ended))
            if answer is Said.THERE:
                self._states[key] = state
        self.acknowledged += answer is Said.THERE
        return answer


class Load:
    """All writers at work, until `end`."""

    def __init__(
        self, clients: Sequence[QdrantClient], collection: str, filters: bool, fresh: bool, size: Size
    ) -> None:
        self.writers = [
            Writer(number, client, collection, filters, fresh, size) for number, client in enumerate(clients)
        ]
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(len(self.writers))
        self._running = [self._pool.submit(self._write, writer) for writer in self.writers]

    @property
    def acknowledged(self) -> int:
        return sum(writer.acknowledged for writer in self.writers)

    @property
    def attempts(self) -> int:
        return sum(writer.attempts for writer in self.writers)

    @property
    def history(self) -> dict[int, list[Attempt]]:
        return {key: attempts for writer in self.writers for key, attempts in writer.history.items()}

    @property
    def told(self) -> list[tuple[Kind, str]]:
        return [told for writer in self.writers for told in writer.told]

    def wait_for(self, writes: int) -> None:
        """Return when every writer has had so many more of its writes acknowledged."""
        goals = [(writer, writer.acknowledged + writes) for writer in self.writers]
        assert poll(lambda: all(w.acknowledged >= goal for w, goal in goals), PATIENCE_SECONDS), self.told[-3:]

    def end(self) -> None:
        self._ended.set()
        for running in self._running:
            running.result(PATIENCE_SECONDS)
        self._pool.shutdown()

    def _write(self, writer: Writer) -> None:
        while not self._ended.is_set():
            self._ended.wait(_THINKING_SECONDS if writer.once() else _PAUSE_SECONDS)


@contextmanager
def load(
    migration: Migration,
    collection: str,
    filters: bool,
    fresh: bool = True,
    others: Sequence[Another] = (),
    size: Size = _SMALL,
) -> Iterator[Load]:
    """The last writer speaks gRPC. With several proxies each write of a writer goes through the next one."""
    proxies: list[Migration | Another] = [migration, *others]
    by_rest = [in_turn([proxy.client() for proxy in proxies]) for _ in range(_WRITERS - 1)]
    by_grpc = in_turn([proxy.client(grpc=True, grpc_options=dict(_IMPATIENT)) for proxy in proxies])
    running = Load([*by_rest, by_grpc], collection, filters, fresh, size)
    try:
        yield running
    finally:
        running.end()
