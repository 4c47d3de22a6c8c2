"""What is left in the stores, held against what the application was told. Pure.

For each key there is what was attempted, in order, by one writer, and what was said of each attempt. Then a key may
hold, at rest:

- what the last acknowledged attempt left;
- what an attempt left whose outcome is unknown: a later one, or (where the writer went on with the key) an earlier one,
  which may land late.

Anything else is *lost* (an acknowledged write is not there), *resurrected* (a deleted key is), or a *lie* (a write is
there that the client was told is not).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.told import Kind, Said, said

Payload = Mapping[str, object]
State = Payload | None  # None: there is no such point


@dataclass(frozen=True, slots=True)
class Attempt:
    """One write of one key: what it would leave, what the client was told, and when (seconds since 1970)."""

    leaves: State
    kind: Kind
    began: float = 0.0
    ended: float = 0.0


@dataclass(slots=True)
class Findings:
    """One line a key; `keys` are those that have one."""

    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)
    keys: set[int] = field(default_factory=set)

    def extend(self, other: Findings) -> None:
        self.lost += other.lost
        self.resurrected += other.resurrected
        self.lies += other.lies
        self.keys |= other.keys


def possible(before: State, attempts: Sequence[Attempt]) -> list[State]:
    """What the key may hold. `before`: what it held before the first attempt."""
    certain = before
    maybe: list[State] = []
    for attempt in attempts:
        match said(attempt.kind):
            case Said.THERE:
                certain = attempt.leaves
            case Said.MAYBE:
                maybe.append(attempt.leaves)
            case Said.NOT_THERE:
                pass
    return [certain, *maybe]


def check(
    where: str, before: Mapping[int, Payload], history: Mapping[int, Sequence[Attempt]], found: Mapping[int, Payload]
) -> Findings:
    """`before`: the points that were there first. `found`: those that are there now, in the store called `where`."""
    findings = Findings()
    for key in before.keys() | history.keys():
        attempts = history.get(key, ())
        allowed = possible(before.get(key), attempts)
        there = found.get(key)
        if there in allowed:
            continue
        findings.keys.add(key)
        line = f"{where} {key}: {there}, may be {_told(allowed)}; attempts {_told(attempts[-4:])}"
        refused = [attempt.leaves for attempt in attempts if said(attempt.kind) is Said.NOT_THERE]
        if there in refused and there is not None:
            findings.lies.append(line)
        elif there is not None and all(state is None for state in allowed):
            findings.resurrected.append(line)
        else:
            findings.lost.append(line)
    strange = found.keys() - before.keys() - history.keys()
    findings.keys |= strange
    findings.lies += [f"{where} {key}: nobody wrote it" for key in strange]
    return findings


def _told(states: Iterable[object]) -> str:
    return " | ".join(str(state) for state in states)
