"""Collapse and sweep: past a cap the marks of a collection are dropped, and it is swept instead.

Modelled: one key, two writes of it one after the other, a reconciler with hints, a collapse at any moment (the cap is
other keys' affair), and the sweeps that follow: a page, and then the ids that only the secondary has. Answers are lost
at either store, the request landing later or never.

"Holds are kept" has to mean the marks of held keys as well: the sweep's page may have read the key before the late
request lands, and when the hold runs out nothing else is left to say that the key is dirty.

Not modelled: kills (mirror.py), a collapse that dies between its two halves: it is one record.

Invariants: I1, I2, I3, I7.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put
from tests.models.points import OLD, Op, Value, after, determines


class Write(NamedTuple):
    op: Op
    at: str = "new"  # new, begun, applied, ended
    mixed: bool = False


class Copy(NamedTuple):
    at: str = "idle"  # idle, begun, read, written
    value: Value = None


class Sweep(NamedTuple):
    at: str = "idle"  # idle, begun, read, copied, paged (what only the secondary has is still to be marked)
    value: Value = None
    marked: bool = False
    again: bool = False  # a reason for a sweep came up after it began


class State(NamedTuple):
    primary: Value
    secondary: Value
    writes: tuple[Write, ...]
    copy: Copy = Copy()
    sweep: Sweep = Sweep()
    dirty: bool = False
    hint: tuple[Value] | None = None
    unswept: bool = False
    late: tuple[tuple[Op | None, Value], ...] = ()  # (a client's write, -) or (None, what was copied)
    collapses: int = 2
    losses: int = 0


class Sweeps(Model[State]):
    name = "sweeps"
    about = "the collapse of the dirty marks into a sweep, at any moment; held keys meanwhile"
    invariants = "I1 I2 I3 I7"
    rules: ClassVar = {
        "collapse-without-sweep": "whoever drops marks asks for a sweep in the same record",
        "held-marks-dropped": "a collapse keeps the marks of held keys",
        "later-reason-cleared": "a sweep does not clear a reason that came up after it began",
        "extras-kept": "a sweep marks every id that only the secondary has",
        "sweep-marks-nothing": "what reconciles a key of the page meanwhile is marked provisionally",
        "unclear-page-clean": "a sweep's page of unclear outcome leaves its keys dirty and held",
    }
    happens = labels(
        "BEGIN write|applied|answer lost|END write|BEGIN reconcile|reads|copies|copy unclear|END reconcile|collapse"
        "|BEGIN sweep|reads page|copies page|page unclear|END page|marks extras|lands|never lands"
    )

    def starts(self, full: bool) -> Iterable[State]:
        kinds = ("upsert", "delete", "patch") if full else ("upsert", "delete")
        for losses in (0, 1, 2) if full else (0, 1):
            for pair in itertools.product(kinds, repeat=2):
                writes = tuple(Write((kind, n + 1)) for n, kind in enumerate(pair))
                yield State(OLD, OLD, writes, collapses=3 if full else 2, losses=losses)

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writes)):
            yield from self._write(s, i)
        yield from self._reconcile(s)
        yield from self._sweep(s)
        if s.collapses and s.dirty:
            yield "collapse", self._collapse(s)
        for i, (op, value) in enumerate(s.late):
            rest = s._replace(late=s.late[:i] + s.late[i + 1 :])
            yield "never lands", rest
            if op is not None:
                yield "lands", rest._replace(primary=after(op, s.primary))
            else:
                yield "lands", rest._replace(secondary=value)

    def _collapse(self, s: State) -> State:
        kept = bool(s.late) and self.keeps("held-marks-dropped")
        s = s._replace(collapses=s.collapses - 1, dirty=kept, hint=s.hint if kept else None)
        if not self.keeps("collapse-without-sweep"):
            return s
        return s._replace(unswept=True, sweep=s.sweep._replace(again=s.sweep.at != "idle"))

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write = s.writes[i]
        if write.at == "new" and all(w.at == "ended" for w in s.writes[:i]):
            yield "BEGIN write", s._replace(writes=put(s.writes, i, write._replace(at="begun", mixed=bool(s.late))))
        if write.at == "begun":
            applied = put(s.writes, i, write._replace(at="applied"))
            yield "applied", s._replace(primary=after(write.op, s.primary), writes=applied)
            if s.losses:
                ended = put(s.writes, i, write._replace(at="ended"))
                late = (*s.late, (write.op, None))
                yield "answer lost", s._replace(writes=ended, losses=s.losses - 1, late=late, dirty=True, hint=None)
        if write.at == "applied":
            hint = (after(write.op, None),) if determines(write.op) and not write.mixed else None
            ended = put(s.writes, i, write._replace(at="ended"))
            yield "END write", s._replace(writes=ended, dirty=True, hint=hint)

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        if copy.at == "idle" and s.dirty and not s.late:
            begun = Copy("begun") if s.hint is None else Copy("read", s.hint[0])
            marked = s.sweep.at in ("begun", "read", "copied") and self.keeps("sweep-marks-nothing")
            sweep = s.sweep._replace(marked=s.sweep.marked or marked)
            yield "BEGIN reconcile", s._replace(copy=begun, dirty=False, hint=None, sweep=sweep)
        if copy.at == "begun":
            yield "reads", s._replace(copy=Copy("read", s.primary))
        if copy.at == "read":
            yield "copies", s._replace(secondary=copy.value, copy=Copy("written"))
            if s.losses:
                late = (*s.late, (None, copy.value))
                lost = s._replace(losses=s.losses - 1, late=late, copy=Copy())
                yield "copy unclear", lost._replace(dirty=True, hint=None)
        if copy.at == "written":
            yield "END reconcile", s._replace(copy=Copy())

    def _sweep(self, s: State) -> Iterator[Step[State]]:
        sweep = s.sweep
        if sweep.at == "idle" and s.unswept:
            marked = s.copy.at != "idle" and self.keeps("sweep-marks-nothing")
            yield "BEGIN sweep", s._replace(sweep=Sweep("begun", None, marked))
        if sweep.at == "begun":
            yield "reads page", s._replace(sweep=sweep._replace(at="read", value=s.primary))
        if sweep.at == "read":
            copied = s._replace(sweep=sweep._replace(at="copied"))
            yield "copies page", copied if sweep.value is None else copied._replace(secondary=sweep.value)
            if s.losses and sweep.value is not None:
                late = (*s.late, (None, sweep.value))
                lost = s._replace(losses=s.losses - 1, late=late, sweep=sweep._replace(at="paged"))
                dirty = self.keeps("unclear-page-clean")
                yield "page unclear", lost._replace(dirty=s.dirty or dirty, hint=None if dirty else s.hint)
        if sweep.at == "copied":
            again = sweep.marked and sweep.value is not None
            ended = s._replace(sweep=sweep._replace(at="paged"), dirty=s.dirty or again)
            yield "END page", ended._replace(hint=None if again else s.hint)
        if sweep.at == "paged":
            extra = s.secondary is not None and s.primary is None and self.keeps("extras-kept")
            unswept = sweep.again and self.keeps("later-reason-cleared")
            swept = s._replace(sweep=Sweep(), unswept=unswept, dirty=s.dirty or extra)
            yield "marks extras", swept._replace(hint=None if extra else s.hint)

    def rests(self, s: State) -> bool:
        return not (s.dirty or s.unswept or s.late) and (
            s.copy.at == s.sweep.at == "idle" and all(w.at == "ended" for w in s.writes)
        )

    def wrong(self, s: State) -> str:
        return "at rest and clean, but the stores differ" if self.rests(s) and s.primary != s.secondary else ""
