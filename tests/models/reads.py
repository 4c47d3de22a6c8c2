"""Reading the primary is only worth what the store promises: writes accepted but not yet applied, and replicas.

Modelled: one key on a primary with two replicas, each of which applies the accepted operations in order, in its own
time; two writes, one after the other, that wait until the first replica has applied them (`wait=true`) or are only
acknowledged (`wait=false`; one of those may be dropped when its turn comes); a reconciler that uses a hint, or makes
earlier writes visible (the barrier) and reads both replicas.

Not modelled: what else may go wrong with a write or a reconciliation, which is in mirror.py; stores without a barrier,
which settle by two equal reads.

Invariants: I1, I7.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put

DROPPED = 0  # the value of an operation that is acknowledged and then found invalid


class Write(NamedTuple):
    value: int
    waits: bool
    at: str = "new"  # new, begun, queued, accepted, ended
    place: int = 0  # how long the log is with it


class Copy(NamedTuple):
    at: str = "idle"  # idle, begun, settling, settled, first (replica read), read, written
    barrier: int = 0
    value: int = 0


class State(NamedTuple):
    log: tuple[int, ...] = (9,)  # the operations that the primary accepted; each sets the key
    applied: tuple[int, int] = (1, 1)  # how many of them each replica has applied
    secondary: int = 9
    writes: tuple[Write, ...] = ()
    dirty: bool = False
    hint: int | None = None
    acknowledged: int = 0  # place of the last write that was only acknowledged, as the journal knows it
    settled: int = 0  # writes up to here are known to be visible
    copy: Copy = Copy()


def held_by(s: State, replica: int) -> int:
    """The value on a replica."""
    return next((value for value in reversed(s.log[: s.applied[replica]]) if value != DROPPED), 0)


class Reads(Model[State]):
    name = "reads"
    about = "acknowledged writes that are applied later, or dropped; replicas that disagree"
    invariants = "I1 I7"
    rules: ClassVar = {
        "read-without-barrier": "before the primary is read, acknowledged writes are made visible",
        "barrier-covers-later": "a barrier covers only what was acknowledged before it began",
        "hint-of-acknowledged": "no hint for a write that was only acknowledged",
        "one-replica-read": "replicas that disagree are no answer",
    }
    happens = labels(
        "BEGIN write|queued|acknowledged|accepted|END write|applies|BEGIN reconcile|barrier begins|barrier passed"
        "|nothing to settle|reads a replica|reads the other|replicas disagree|copies|END reconcile"
    )

    def starts(self, full: bool) -> Iterable[State]:
        count = 3 if full else 2
        for waits in itertools.product((True, False), repeat=count):
            for dropped in (False, True):
                if dropped and waits[-1]:
                    continue
                values = [*range(1, count), DROPPED if dropped else count]
                writes = tuple(Write(value, wait) for value, wait in zip(values, waits, strict=True))
                yield State(writes=writes)

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writes)):
            yield from self._write(s, i)
        for replica, applied in enumerate(s.applied):
            if applied < len(s.log):
                now = (applied + 1, s.applied[1]) if replica == 0 else (s.applied[0], applied + 1)
                yield f"replica {replica}: applies", s._replace(applied=now)
        yield from self._reconcile(s)

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write = s.writes[i]

        def become(**now: object) -> State:
            return s._replace(writes=put(s.writes, i, write._replace(**now)))  # type: ignore[arg-type]

        if write.at == "new" and all(w.at == "ended" for w in s.writes[:i]):
            yield "BEGIN write", become(at="begun")
        if write.at == "begun":
            at = "queued" if write.waits else "accepted"
            queued = become(at=at, place=len(s.log) + 1)._replace(log=(*s.log, write.value))
            yield "queued" if write.waits else "acknowledged", queued
        if write.at == "queued" and s.applied[0] >= write.place:
            yield "accepted", become(at="accepted")
        if write.at == "accepted":
            ended = become(at="ended")._replace(dirty=True)
            if write.waits:
                yield "END write", ended._replace(hint=write.value)
            else:
                hint = None if self.keeps("hint-of-acknowledged") else write.value
                yield "END write", ended._replace(hint=hint, acknowledged=write.place)

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        if copy.at == "idle" and s.dirty:
            begun = Copy("begun") if s.hint is None else Copy("read", 0, s.hint)
            yield "BEGIN reconcile", s._replace(copy=begun, dirty=False, hint=None)
        if copy.at == "begun":
            if s.acknowledged > s.settled and self.keeps("read-without-barrier"):
                yield "barrier begins", s._replace(copy=Copy("settling", s.acknowledged))
            else:
                yield "nothing to settle", s._replace(copy=Copy("settled"))
        if copy.at == "settling" and s.applied[0] >= copy.barrier:
            passed = copy.barrier if self.keeps("barrier-covers-later") else s.acknowledged
            yield "barrier passed", s._replace(copy=Copy("settled"), settled=passed)
        if copy.at == "settled":
            if self.keeps("one-replica-read"):
                yield "reads a replica", s._replace(copy=Copy("first", 0, held_by(s, 1)))
            else:
                yield "reads a replica", s._replace(copy=Copy("read", 0, held_by(s, 1)))
        if copy.at == "first":
            if held_by(s, 0) == copy.value:
                yield "reads the other", s._replace(copy=Copy("read", 0, copy.value))
            else:
                yield "replicas disagree", s._replace(copy=Copy(), dirty=True, hint=None)
        if copy.at == "read":
            yield "copies", s._replace(secondary=copy.value, copy=Copy("written"))
        if copy.at == "written":
            yield "END reconcile", s._replace(copy=Copy())

    def rests(self, s: State) -> bool:
        everywhere = all(applied == len(s.log) for applied in s.applied)
        return everywhere and not s.dirty and s.copy.at == "idle" and all(w.at == "ended" for w in s.writes)

    def wrong(self, s: State) -> str:
        return "at rest and clean, but the stores differ" if self.rests(s) and s.secondary != held_by(s, 0) else ""
