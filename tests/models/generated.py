"""Ids made by the server: a write whose keys nobody knows before the primary's answer names them.

Modelled: an insert that makes one key; its answer may be lost, the request landing later or never, and its owner may be
killed; a second client that finds the point once it is there and overwrites or deletes it; a reconciler with hints; the
sweep that follows an insert that ended without naming its keys; a verify that compares at any moment.

Not modelled: several inserts, a proxy that chooses the id itself (then it is a write like any other).

Invariants: I1, I3, I7, I8 (verify makes no difference up).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels


class Sweep(NamedTuple):
    at: str = "idle"  # idle, begun, read, copied
    value: int = 0
    marked: bool = False


class State(NamedTuple):
    overwrites: bool  # the second client overwrites the point; else it deletes it
    primary: int = 0  # 0: absent; 1: as inserted; 2: overwritten
    secondary: int = 0
    insert: str = "new"  # begun, applied, late (it may still land), ended
    write: str = "new"  # begun, applied, ended
    copy: tuple[str, int] = ("idle", 0)
    dirty: bool = False
    hint: int | None = None
    unswept: bool = False
    sweep: Sweep = Sweep()
    reported: bool = False
    losses: int = 0
    kills: int = 0


class Generated(Model[State]):
    name = "generated"
    about = "inserts whose ids the server makes, named by its answer or never"
    invariants = "I1 I3 I7 I8"
    rules: ClassVar = {
        "named-key-forgotten": "the keys that the answer names are dirty",
        "unnamed-unswept": "an insert that ends without naming its keys leaves the need for a sweep",
        "unnamed-unheld": "that sweep waits until the insert can no longer land",
        "reported-beside-unnamed": "verify reports nothing while unknown keys are open, or a sweep is due",
    }
    happens = labels(
        "BEGIN insert|inserted|answer lost|END insert|killed|lands|never lands|BEGIN write|applied|END write"
        "|BEGIN reconcile|reads|copies|END reconcile|BEGIN sweep|reads page|copies page|END sweep"
    )

    def starts(self, full: bool) -> Iterable[State]:
        for losses, kills in ((0, 0), (1, 0), (0, 1)):
            for overwrites in (True, False):
                yield State(overwrites, losses=losses, kills=kills)

    def steps(self, s: State) -> Iterator[Step[State]]:
        yield from self._insert(s)
        yield from self._write(s)
        yield from self._reconcile(s)
        yield from self._sweep(s)
        if s.primary != s.secondary and self._looks_settled(s):
            yield "verify reports", s._replace(reported=True)

    def _looks_settled(self, s: State) -> bool:
        """What verify may take for a real difference."""
        unknown = s.insert in ("begun", "applied", "late") or s.unswept
        if unknown and self.keeps("reported-beside-unnamed"):
            return False
        return not s.dirty and s.copy[0] == "idle" and s.write not in ("begun", "applied") and not s.sweep.marked

    def _insert(self, s: State) -> Iterator[Step[State]]:
        if s.insert == "new":
            yield "BEGIN insert", s._replace(insert="begun")
        if s.insert == "begun":
            yield "inserted", s._replace(insert="applied", primary=1)
            if s.losses:
                yield "answer lost", self._unnamed(s._replace(insert="late", losses=0))
        if s.insert == "applied":
            yield (
                "END insert",
                s._replace(insert="ended", dirty=s.dirty or self.keeps("named-key-forgotten"), hint=None),
            )
        if s.insert in ("begun", "applied") and s.kills:
            yield "killed", self._unnamed(s._replace(insert="late" if s.insert == "begun" else "ended", kills=0))
        if s.insert == "late":
            yield "lands", s._replace(insert="ended", primary=1)
            yield "never lands", s._replace(insert="ended")

    def _unnamed(self, s: State) -> State:
        return s._replace(unswept=self.keeps("unnamed-unswept"))

    def _write(self, s: State) -> Iterator[Step[State]]:
        if s.write == "new" and s.primary:
            yield "BEGIN write", s._replace(write="begun")
        if s.write == "begun":
            yield "applied", s._replace(write="applied", primary=2 if s.overwrites else 0)
        if s.write == "applied":
            hint = None if s.insert in ("begun", "applied", "late") else 2 * s.overwrites
            yield "END write", s._replace(write="ended", dirty=True, hint=hint)

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        at, value = s.copy
        if at == "idle" and s.dirty:
            begun = ("begun", 0) if s.hint is None else ("read", s.hint)
            marked = s.sweep._replace(marked=s.sweep.at != "idle")
            yield "BEGIN reconcile", s._replace(copy=begun, dirty=False, hint=None, sweep=marked)
        if at == "begun":
            yield "reads", s._replace(copy=("read", s.primary))
        if at == "read":
            yield "copies", s._replace(copy=("written", 0), secondary=value)
        if at == "written":
            yield "END reconcile", s._replace(copy=("idle", 0))

    def _sweep(self, s: State) -> Iterator[Step[State]]:
        sweep = s.sweep
        if sweep.at == "idle" and s.unswept and (s.insert != "late" or not self.keeps("unnamed-unheld")):
            yield "BEGIN sweep", s._replace(sweep=Sweep("begun", 0, s.copy[0] != "idle"))
        if sweep.at == "begun":
            yield "reads page", s._replace(sweep=sweep._replace(at="read", value=s.primary))
        if sweep.at == "read":
            copied = s._replace(sweep=sweep._replace(at="copied"))
            yield "copies page", copied._replace(secondary=sweep.value) if sweep.value else copied
        if sweep.at == "copied":
            again = (bool(sweep.value) and sweep.marked) or (bool(s.secondary) and not s.primary)
            swept = s._replace(sweep=Sweep(), unswept=False, dirty=s.dirty or again)
            yield "END sweep", swept._replace(hint=None if again else s.hint)

    def rests(self, s: State) -> bool:
        settled = s.insert == "ended" and s.copy[0] == "idle" and s.sweep.at == "idle"
        return settled and s.write in ("new", "ended") and not (s.dirty or s.unswept)

    def wrong(self, s: State) -> str:
        if s.reported:
            return "verify reports a difference that is only on its way"
        return "at rest and clean, but the stores differ" if self.rests(s) and s.primary != s.secondary else ""
