"""Explores a model: every state that it can reach, breadth first, so that the trace to a wrong state is a shortest one.

A model is a small machine: states are named tuples, steps say what may happen next, and every step that any process,
network or disk could take at a moment is offered, in every order. Two things make a model fail:

- a state that the model calls wrong (usually: everything has come to rest, and the stores differ);
- a state from which it can never come to rest (a deadlock, or work that never ends).

And three make the check itself fail, since it would then say nothing: the space is larger than the cap, nothing ever
comes to rest, or a step that the model speaks of never happens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

S = TypeVar("S", bound=tuple[Any, ...])
T = TypeVar("T")
CAP = 3_000_000  # states from one start

Step = tuple[str, S]  # what happens ("who: what", or "what"), and the state after it


class ModelError(Exception):
    """The check says nothing: it was not finished, or it was empty."""


class Model(ABC, Generic[S]):
    """A model of one part of the protocol. `without` names a rule that is left out (a mutation)."""

    name: ClassVar[str]
    about: ClassVar[str]
    invariants: ClassVar[str]  # of docs/models.md
    rules: ClassVar[Mapping[str, str]]  # mutation -> the rule that it leaves out
    happens: ClassVar[frozenset[str]]  # every "what" of its steps

    def __init__(self, without: str = "") -> None:
        if without and without not in self.rules:
            raise ValueError(f"{self.name} has no rule {without!r}")
        self.without = without

    def keeps(self, rule: str) -> bool:
        return rule != self.without

    @abstractmethod
    def starts(self, full: bool) -> Iterable[S]:
        """The worlds to explore, the smallest first; more of them with `full`."""

    @abstractmethod
    def steps(self, state: S) -> Iterator[Step[S]]:
        """Whatever may happen next."""

    @abstractmethod
    def rests(self, state: S) -> bool:
        """Nothing is under way and nothing is known to be outstanding."""

    @abstractmethod
    def wrong(self, state: S) -> str:
        """What is wrong with this state; "" if nothing is."""


class Moment(NamedTuple):
    """One line of a trace."""

    label: str
    state: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Wrong:
    reason: str
    trace: tuple[Moment, ...]

    @property
    def length(self) -> int:
        return len(self.trace) - 1

    def __str__(self) -> str:
        lines = [f"start: {_fields(self.trace[0].state)}"]
        for before, after in zip(self.trace, self.trace[1:], strict=False):
            lines.append(f"{after.label:<34} {_changes(before.state, after.state)}")
        return "\n".join([*lines, f"WRONG: {self.reason}"])


@dataclass(frozen=True, slots=True)
class Result:
    states: int
    rests: int
    happened: frozenset[str]
    wrong: Wrong | None


def check(
    model: Model[S],
    full: bool = False,
    cap: int = CAP,
    progress: Callable[[int], None] = lambda _: None,
) -> Result:
    """Explore every start until something is wrong. Raises ModelError if the answer would say nothing."""
    states = rests = 0
    happened: set[str] = set()
    for start in model.starts(full):
        found = _explore(model, start, cap, lambda now, before=states: progress(before + now))  # type: ignore[misc]
        states, rests, happened = states + found.states, rests + found.rests, happened | found.happened
        if found.wrong is not None:
            return Result(states, rests, frozenset(happened), found.wrong)
    if not model.without:
        if not rests:
            raise ModelError(f"{model.name}: nothing ever comes to rest")
        if happened != model.happens:
            raise ModelError(f"{model.name}: never or unexpectedly happened: {sorted(happened ^ model.happens)}")
    return Result(states, rests, frozenset(happened), None)


def _explore(model: Model[S], start: S, cap: int, progress: Callable[[int], None]) -> Result:
    numbers: dict[S, int] = {start: 0}
    states = [start]
    arrivals: list[tuple[int, str]] = [(0, "start")]  # from which state, by what
    happened: set[str] = set()
    sources, targets = array("i"), array("i")
    resting: list[int] = []

    def result(wrong: Wrong | None) -> Result:
        what = frozenset(label.rpartition(": ")[2] for label in happened)
        return Result(len(states), len(resting), what, wrong)

    for number, state in enumerate(states):  # which grows while it is walked
        if reason := model.wrong(state):
            return result(Wrong(reason, _trace(states, arrivals, number)))
        if model.rests(state):
            resting.append(number)
        for label, following in model.steps(state):
            happened.add(label)
            known = numbers.get(following)
            if known is None:
                known = numbers[following] = len(states)
                states.append(following)
                arrivals.append((number, label))
            sources.append(number)
            targets.append(known)
        if len(states) > cap:
            raise ModelError(f"{model.name}: more than {cap} states, the check was not finished")
        if not number % 20_000:
            progress(len(states))
    stuck = _first_stuck(len(states), resting, sources, targets)
    if stuck is None:
        return result(None)
    return result(Wrong("from here it can never come to rest", _trace(states, arrivals, stuck)))


def _first_stuck(count: int, resting: list[int], sources: array[int], targets: array[int]) -> int | None:
    """The first state from which no resting state can be reached."""
    comes_to_rest = np.zeros(count, dtype=np.bool_)
    comes_to_rest[resting] = True
    before, after = np.frombuffer(sources, dtype=np.int32), np.frombuffer(targets, dtype=np.int32)
    known = -1
    while known != (now := int(comes_to_rest.sum())):
        known = now
        comes_to_rest[before[comes_to_rest[after]]] = True
    return None if known == count else int(np.argmin(comes_to_rest))


def _trace(states: list[S], arrivals: list[tuple[int, str]], number: int) -> tuple[Moment, ...]:
    moments = []
    while True:
        source, label = arrivals[number]
        moments.append(Moment(label, states[number]))
        if number == 0:
            return tuple(reversed(moments))
        number = source


def _fields(state: tuple[Any, ...]) -> str:
    names: tuple[str, ...] = getattr(state, "_fields", ())
    return ", ".join(f"{name}={_plain(value)}" for name, value in zip(names, state, strict=True))


def _changes(before: tuple[Any, ...], after: tuple[Any, ...]) -> str:
    names: tuple[str, ...] = getattr(after, "_fields", ())
    changed = (f"{name}={_plain(now)}" for name, was, now in zip(names, before, after, strict=True) if now != was)
    return ", ".join(changed)


def _plain(value: object) -> str:
    """Named tuples inside a state without their field names: a trace has to fit a line."""
    if isinstance(value, tuple):
        return "(" + " ".join(_plain(part) for part in value) + ")"
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"


def labels(text: str) -> frozenset[str]:
    """The steps of a model, written as "one|another"."""
    return frozenset(text.split("|"))


def put(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    """`items` with another one at `at`."""
    return (*items[:at], item, *items[at + 1 :])
