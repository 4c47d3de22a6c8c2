"""Writes that the journal does not know: before journalling began, and while the journal was lost.

Modelled: two proxies with one write each; the phase leaves `direct`, and each proxy learns of it in its own time; the
journal fails and works again, and the operator chose to go on without it meanwhile; a proxy is killed at any moment;
the first backfill, and the sweeps that follow, while a reconciler copies what is dirty. A request that was sent may
land at any later moment, or never.

Two rules are easily missed. A proxy that dies while it goes on without the journal takes its knowledge with it: where
`continue` is configured, an owner that was killed leaves "needs sweep", whatever the journal says. And a sweep after a
gap waits, like the first backfill, until nothing that was sent without the journal can land.

Not modelled: what is on the target before the first backfill (the gate `--adopt`).

Invariants: I1, I2, I8 (what went past the journal is known to have), I7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put


class Write(NamedTuple):
    """Of the proxy with the same number; it leaves the value 1 + that number."""

    at: str = "new"  # new, begun, sent (and may still land), applied, ended
    journal: str = ""  # known to it, or sent in phase "direct", or in a "gap"


class Sweep(NamedTuple):
    at: str = "idle"  # idle, begun, read, copied
    value: int = 0
    marked: bool = False
    again: bool = False


class State(NamedTuple):
    primary: int = 9
    secondary: int = 0
    writes: tuple[Write, ...] = (Write(), Write())
    mirroring: bool = False  # the phase in the journal
    informed: tuple[bool, ...] = (False, False)
    journal: str = "works"  # works, lost
    owed: tuple[bool, ...] = (False, False)  # a proxy has yet to journal that it went on without the journal
    dirty: bool = False
    copy: tuple[str, int] = ("idle", 0)
    unswept: bool = True
    sweep: Sweep = Sweep()
    outages: int = 0
    kills: int = 0


class Phases(Model[State]):
    name = "phases"
    about = "writes that are not in the journal: before it began, and while it was lost"
    invariants = "I1 I2 I7 I8"
    rules: ClassVar = {
        "start-unheld": "the backfill begins after the longest request time since the last un-journalled write",
        "some-still-direct": "before the first page all proxies journal",
        "gap-unmarked": "who goes on without the journal marks the collection for a sweep",
        "gap-marked-once": "every write that goes past the journal is followed by such a mark, not only the first",
        "gap-unheld": "a sweep after a gap waits until nothing that was sent meanwhile can land",
        "killed-in-a-gap": "where going on is configured, an owner that was killed leaves the need for a sweep",
    }
    happens = labels(
        "leaves direct|learns the phase|BEGIN write|sends direct|sends without the journal|sends|lands|never lands"
        "|END write|answered|journal lost|journal works|marks the gap|killed|BEGIN reconcile|reads|copies|END reconcile"
        "|BEGIN sweep|reads page|copies page|END sweep"
    )

    def starts(self, full: bool) -> Iterable[State]:
        yield State()
        swept = State(9, 9, mirroring=True, informed=(True, True), unswept=False)
        for outages, kills in ((1, 0), (2, 0), (1, 1)) + (((2, 1),) if full else ()):
            yield swept._replace(outages=outages, kills=kills)
        yield State(outages=1, kills=int(full))

    def steps(self, s: State) -> Iterator[Step[State]]:
        if not s.mirroring and s.journal == "works":
            yield "leaves direct", s._replace(mirroring=True)
        for i, informed in enumerate(s.informed):
            if s.mirroring and not informed:
                yield f"proxy {i}: learns the phase", s._replace(informed=put(s.informed, i, True))
            yield from self._write(s, i)
            if s.kills and (s.owed[i] or s.writes[i].at in ("begun", "sent", "applied")):
                yield f"proxy {i}: killed", self._kill(s, i)
            if s.owed[i] and s.journal == "works":
                marked = self._need_sweep(s._replace(owed=put(s.owed, i, False)))
                yield f"proxy {i}: marks the gap", marked
        if s.journal == "works" and s.outages:
            yield "journal lost", s._replace(journal="lost", outages=s.outages - 1)
        if s.journal == "lost":
            yield "journal works", s._replace(journal="works")
        yield from self._reconcile(s)
        yield from self._sweep(s)

    @staticmethod
    def _need_sweep(s: State) -> State:
        return s._replace(unswept=True, sweep=s.sweep._replace(again=s.sweep.at != "idle"))

    # --- a write -------------------------------------------------------------------------

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write, who = s.writes[i], f"proxy {i}: "

        def become(at: str, journal: str = write.journal) -> State:
            return s._replace(writes=put(s.writes, i, Write(at, journal)))

        if write.at == "new":
            if not s.informed[i]:
                yield who + "sends direct", become("sent", "direct")
            elif s.journal == "works":
                yield who + "BEGIN write", become("begun", "known")
            else:
                owes = self.keeps("gap-unmarked") and (self.keeps("gap-marked-once") or not (any(s.owed) or s.unswept))
                yield who + "sends without the journal", become("sent", "gap")._replace(owed=put(s.owed, i, owes))
        if write.at == "begun":
            yield who + "sends", become("sent")
        if write.at == "sent":
            yield "lands", become("applied")._replace(primary=1 + i)
            ended = become("ended")
            yield "never lands", self._end(ended) if write.journal == "known" else ended
        if write.at == "applied":
            if write.journal != "known":
                yield who + "answered", become("ended")
            elif s.journal == "works":
                yield who + "END write", self._end(become("ended"))

    @staticmethod
    def _end(s: State) -> State:
        return s._replace(dirty=True)

    def _kill(self, s: State, i: int) -> State:
        """What it had sent may still land: those requests stay. Its interval is closed when that can no longer be."""
        write = s.writes[i]
        s = s._replace(kills=s.kills - 1, owed=put(s.owed, i, False))
        if write.at in ("begun", "applied"):
            s = s._replace(
                writes=put(s.writes, i, write._replace(at="ended")), dirty=s.dirty or write.journal == "known"
            )
        return self._need_sweep(s) if self.keeps("killed-in-a-gap") else s

    # --- reconciliation and sweep ----------------------------------------------------------

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        at, value = s.copy
        if at == "idle" and s.dirty and s.journal == "works" and not any(w.at == "sent" for w in s.writes):
            marked = s.sweep._replace(marked=s.sweep.at != "idle")
            yield "BEGIN reconcile", s._replace(copy=("begun", 0), dirty=False, sweep=marked)
        if at == "begun":
            yield "reads", s._replace(copy=("read", s.primary))
        if at == "read":
            yield "copies", s._replace(secondary=value, copy=("written", 0))
        if at == "written" and s.journal == "works":
            yield "END reconcile", s._replace(copy=("idle", 0))

    def _may_sweep(self, s: State) -> bool:
        if not all(s.informed) and self.keeps("some-still-direct"):
            return False
        landing = {w.journal for w in s.writes if w.at == "sent"}
        if "direct" in landing and self.keeps("start-unheld"):
            return False
        return not ("gap" in landing and self.keeps("gap-unheld"))

    def _sweep(self, s: State) -> Iterator[Step[State]]:
        sweep = s.sweep
        if sweep.at == "idle" and s.unswept and s.mirroring and s.journal == "works" and self._may_sweep(s):
            yield "BEGIN sweep", s._replace(sweep=Sweep("begun", 0, s.copy[0] != "idle"))
        if sweep.at == "begun":
            yield "reads page", s._replace(sweep=sweep._replace(at="read", value=s.primary))
        if sweep.at == "read":
            yield "copies page", s._replace(secondary=sweep.value, sweep=sweep._replace(at="copied"))
        if sweep.at == "copied" and s.journal == "works":
            yield "END sweep", s._replace(sweep=Sweep(), unswept=sweep.again, dirty=s.dirty or sweep.marked)

    # --- what must be so -----------------------------------------------------------------

    def rests(self, s: State) -> bool:
        return (
            s.mirroring
            and s.journal == "works"
            and not (s.dirty or s.unswept or any(s.owed))
            and (s.copy[0] == "idle" and s.sweep.at == "idle" and all(w.at == "ended" for w in s.writes))
        )

    def wrong(self, s: State) -> str:
        return "at rest and clean, but the stores differ" if self.rests(s) and s.primary != s.secondary else ""
