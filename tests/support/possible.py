"""What a collection may hold, given what clients were told: for every key the set of states that are possible.

A write that was acknowledged has happened. One that was refused may have happened in part (the keys of a batch are
independent of each other, so per key: up to any of its parts). One without an answer may happen at any moment until
everything has come to rest. Nothing else may happen: what is found outside of the set was lost, or brought back.

A change is a function of one key and its state; semantics as in Qdrant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Stored:
    vector: tuple[float, ...]
    payload: str  # JSON, keys sorted

    @property
    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


State = Stored | None
Change = Callable[[int, State], State]
Test = Callable[[dict[str, Any]], bool]


def stored(vector: Sequence[float], payload: dict[str, Any]) -> Stored:
    return Stored(tuple(vector), json.dumps(payload, sort_keys=True))


@dataclass(slots=True)
class Possible:
    """One collection. `known` is False from a definition without an answer until everything has come to rest: then
    anything is possible."""

    keys: Sequence[int]
    known: bool = True
    exists: bool = False
    states: dict[int, frozenset[State]] = field(default_factory=dict)
    _pending: list[Change] = field(default_factory=list)

    def made(self) -> None:
        self.exists, self.states = True, {key: frozenset({None}) for key in self.keys}

    def dropped(self) -> None:
        self.exists, self.states = False, {}

    def happened(self, changes: Iterable[Change]) -> None:
        for change in changes:
            for key, states in self.states.items():
                self.states[key] = frozenset(change(key, state) for state in states)
            self._let_pending_land()

    def may_have_happened(self, changes: Iterable[Change]) -> None:
        """Up to any part, and by now."""
        after = dict(self.states)
        for change in changes:
            for key, states in after.items():
                after[key] = frozenset(change(key, state) for state in states)
                self.states[key] |= after[key]
        self._let_pending_land()

    def may_happen(self, changes: Sequence[Change]) -> None:
        """Any part of it, now or later."""
        self.may_have_happened(changes)
        self._pending += changes
        self._let_pending_land()

    def rests(self, found: dict[int, Stored] | None) -> None:
        """Nothing is under way any more, and this is what is there (None: no collection)."""
        self._pending.clear()
        self.known = True
        if found is None:
            self.dropped()
        else:
            self.exists, self.states = True, {key: frozenset({found.get(key)}) for key in self.keys}

    def _let_pending_land(self) -> None:
        for key, states in self.states.items():
            reached, fresh = set(states), set(states)
            while fresh:
                fresh = {change(key, state) for change in self._pending for state in fresh} - reached
                reached |= fresh
            self.states[key] = frozenset(reached)


# --- changes ---------------------------------------------------------------------------------------


def put(points: dict[int, Stored]) -> Change:
    return lambda key, state: points.get(key, state)


def put_if(points: dict[int, Stored], test: Test, mode: str) -> Change:
    """An upsert under a condition, which new points pass."""

    def change(key: int, state: State) -> State:
        if key not in points:
            return state
        if state is None:
            return None if mode == "update_only" else points[key]
        return points[key] if mode != "insert_only" and test(state.fields) else state

    return change


def remove(ids: Iterable[int] | Test) -> Change:
    return lambda key, state: None if _is_chosen(ids, key, state) else state


def edit(ids: Iterable[int] | Test, how: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    """Change the payload of the points that there are."""

    def change(key: int, state: State) -> State:
        if state is None or not _is_chosen(ids, key, state):
            return state
        return stored(state.vector, how(state.fields))

    return change


def turn(vectors: dict[int, Sequence[float]]) -> Change:
    """Replace the vectors of the points that there are."""
    return lambda key, state: stored(vectors[key], state.fields) if state is not None and key in vectors else state


def _is_chosen(ids: Iterable[int] | Test, key: int, state: State) -> bool:
    if callable(ids):
        return state is not None and ids(state.fields)
    return key in ids
