"""Writes of one key by several clients at once: which states they may leave, and whether what was read meanwhile fits.

Each request takes effect at one moment between its call and its answer (linearizability; the search is that of Wing and
Gong, "Testing and verifying concurrent objects", 1993, with the configurations already seen kept). So a write that was
answered before another one was called comes before it; of two that overlap either may be the last. One of unknown
outcome may take effect at any moment from its call on, or never.

A request may tell something of the state that it met: what was read, that there was no such point, that there was one.
Pure; for histories of some hundred requests, of which few are under way at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.support.possible import Change, State


def unchanged(_: int, state: State) -> State:
    return state


def any_state(_: State) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Request:
    """One request that names the key. `text` is for people. `certain`: it has taken effect; else it may have, by
    `ended`. `met`: whether it can have met a state."""

    text: str
    began: float
    ended: float = math.inf
    change: Change = unchanged
    met: Callable[[State], bool] = any_state
    certain: bool = True


def left_by(key: int, before: State, requests: Sequence[Request]) -> frozenset[State]:
    """The states that `key` may be in after all of `requests`. Empty if their answers contradict each other."""
    ordered = sorted(requests, key=lambda request: request.began)
    certain = sum(1 << number for number, request in enumerate(ordered) if request.certain)
    reached = [(0, before)]  # which have taken effect, as bits; and the state after them
    seen = set(reached)
    left: set[State] = set()
    while reached:
        done, state = reached.pop()
        if done & certain == certain:
            left.add(state)
        for number in _next(ordered, done):
            request = ordered[number]
            if not request.met(state):
                continue
            configuration = (done | 1 << number, request.change(key, state))
            if configuration not in seen:
                seen.add(configuration)
                reached.append(configuration)
    return frozenset(left)


def _next(ordered: Sequence[Request], done: int) -> list[int]:
    """Which may take effect next: those that were called before any that is missing had been answered, and that were
    not answered before one that is done was called."""
    latest = ordered[done.bit_length() - 1].began if done else -math.inf
    first_answer = math.inf
    found: list[int] = []
    first = (~done & (done + 1)).bit_length() - 1  # all before it have taken effect
    for number in range(first, len(ordered)):
        request = ordered[number]
        if request.began > first_answer:
            break
        if done >> number & 1:
            continue
        if request.certain:
            first_answer = min(first_answer, request.ended)
        if request.ended >= latest:
            found.append(number)
    return [number for number in found if ordered[number].began <= first_answer]


def told(requests: Sequence[Request], count: int = 12) -> str:
    """The latest, a line each, for people."""
    latest = sorted(requests, key=lambda request: request.began)[-count:]
    return "\n".join(f"  {r.began:.4f} to {r.ended:.4f} {'' if r.certain else '(unknown) '}{r.text}" for r in latest)
