"""The flip: one record in the journal moves the primary, whatever each proxy has read of it so far.

Modelled: two proxies with one write each, of which one may register at any time (in the full run a third, which only
has to acknowledge); a coordinator that dies; a proxy whose lease ends while it is paused anywhere, which then goes on,
registers again, or is proven gone with its request still under way; ABORT appended by anyone, before or after COMMIT.
Between the moment at which a write passes the door (the proxy's view of the phase) and its BEGIN, and between BEGIN and
sending, anything may happen.

The two stores are "old" and "new". What a write left on the old one before COMMIT is carried over by reconciliation,
which is one step here; mirror.py has it in detail. Not modelled here: `rollback --now`, which is in rollback.py.

Invariants: I5 (a write reaches a store only while the journal calls it primary), I6 (what was acknowledged is on the
primary afterwards), I7 (a flip ends, one way or the other).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put

PREPARE, COMMIT, ABORT = "PREPARE", "COMMIT", "ABORT"


class Proxy(NamedTuple):
    status: str = "up"  # up, expired (it does not know), absent (not registered yet), gone
    read: int = 0  # records of the journal that it has read
    acknowledged: bool = False  # PREPARE, in the journal


class Write(NamedTuple):
    """Of the proxy with the same number."""

    at: str = "new"  # new, passed (the door), begun, ready (to send), applied, late, ended
    to: str = "old"
    on: frozenset[str] = frozenset()  # the stores that have it
    succeeded: bool = False  # the client was told so
    dirty: bool = False
    suspect: bool = False


class State(NamedTuple):
    journal: tuple[str, ...]  # PREPARE, COMMIT, ABORT, and the proxy's number for BEGIN
    proxies: tuple[Proxy, ...]
    writes: tuple[Write, ...]
    coordinator: str = "idle"  # idle, prepared, checked (the gates are open), done
    astray: bool = False  # a write reached a store that was not primary
    pauser: int = 0  # the proxy that may be paused past its lease; -1: none (any more)


class Flip(Model[State]):
    name = "flip"
    about = "cutover: PREPARE, acknowledgements, COMMIT or ABORT, with proxies that pause, register and die"
    invariants = "I5 I6 I7"
    rules: ClassVar = {
        "last-decision-wins": "the first of COMMIT and ABORT in journal order counts",
        "released-at-the-bound": "a proxy that holds leaves the hold only on reading COMMIT or ABORT",
        "registers-free": "who registers after PREPARE starts held",
        "acknowledged-unheld": "COMMIT waits for the acknowledgement of every live proxy",
        "acknowledged-before-begin": "a proxy acknowledges once every write that passed its door has its BEGIN",
        "open-ignored": "COMMIT waits until nothing is open",
        "dirty-ignored": "COMMIT waits until nothing is dirty",
        "suspect-ignored": "COMMIT waits until nothing is suspect",
        "held-ignored": "COMMIT waits until nothing is held",
        "lease-unchecked": "the lease is checked after BEGIN, before anything is sent",
        "nobody-aborts": "past the bound anyone may append ABORT",
    }
    happens = labels(
        "PREPARE|gates open|COMMIT|ABORT|coordinator dies|reads|acknowledges|registers|registers again|passes the door"
        "|answers 503|BEGIN|reads back its BEGIN|applied|END|mirrored|paused past its lease|proven gone|lands"
        "|never lands"
    )

    def starts(self, full: bool) -> Iterable[State]:
        """Proxies that are up from the start are alike, so it is enough that the first may be paused."""
        absent, two = Proxy("absent"), (Write(), Write())
        yield State((), (Proxy(), absent), two)
        yield State((), (Proxy(), Proxy()), two)
        if full:
            yield State((), (Proxy(), absent), two, pauser=1)
            idle = (Write(), Write("ended"), Write())  # three proxies that all write are tens of millions of states
            yield State((), (Proxy(), Proxy(), absent), idle)

    # --- what the journal says -----------------------------------------------------------

    def _phase(self, records: tuple[str, ...]) -> str:
        """ "old", "held" or "new", for whoever has read these records."""
        decisions = [record for record in records if record in (COMMIT, ABORT)]
        if not decisions:
            return "held" if PREPARE in records else "old"
        decision = decisions[0] if self.keeps("last-decision-wins") else decisions[-1]
        return "new" if decision == COMMIT else "old"

    @staticmethod
    def _primary(s: State) -> str:
        """The truth: the first decision."""
        return "new" if next((r for r in s.journal if r in (COMMIT, ABORT)), ABORT) == COMMIT else "old"

    # --- steps ---------------------------------------------------------------------------

    def steps(self, s: State) -> Iterator[Step[State]]:
        yield from self._coordinate(s)
        for i in range(len(s.proxies)):
            yield from self._live(s, i)
            yield from self._write(s, i)

    def _coordinate(self, s: State) -> Iterator[Step[State]]:
        if s.coordinator == "idle":
            yield "PREPARE", s._replace(coordinator="prepared", journal=(*s.journal, PREPARE))
        if s.coordinator == "prepared" and self._gates_open(s):
            yield "gates open", s._replace(coordinator="checked")
        if s.coordinator == "checked":
            yield "COMMIT", s._replace(coordinator="done", journal=(*s.journal, COMMIT))
        if s.coordinator in ("prepared", "checked"):
            yield "coordinator dies", s._replace(coordinator="done")
        if PREPARE in s.journal and ABORT not in s.journal and self.keeps("nobody-aborts"):
            yield "ABORT", s._replace(journal=(*s.journal, ABORT))

    def _gates_open(self, s: State) -> bool:
        if self.keeps("acknowledged-unheld") and not all(p.acknowledged for p in s.proxies if p.status == "up"):
            return False
        for proxy, write in zip(s.proxies, s.writes, strict=True):
            under_way = write.at in ("begun", "ready", "applied") and not write.suspect
            if (
                (under_way and proxy.status == "up" and self.keeps("open-ignored"))
                or (write.dirty and self.keeps("dirty-ignored"))
                or (write.suspect and self.keeps("suspect-ignored"))
                or (write.at == "late" and self.keeps("held-ignored"))
            ):
                return False
        return True

    def _live(self, s: State, i: int) -> Iterator[Step[State]]:
        proxy, write, who = s.proxies[i], s.writes[i], f"proxy {i}: "

        def become(label: str, now: Proxy, then: Write = write) -> Step[State]:
            return who + label, s._replace(proxies=put(s.proxies, i, now), writes=put(s.writes, i, then))

        end = len(s.journal)
        undecided = self._phase(s.journal) == "held"
        registered = Proxy("up", end if self.keeps("registers-free") or not undecided else 0, undecided)
        if proxy.status == "absent":
            yield become("registers", registered)
        if proxy.status in ("up", "expired") and proxy.read < end:
            yield become("reads", proxy._replace(read=proxy.read + 1))
        if proxy.status == "up":
            settled = write.at != "passed" or not self.keeps("acknowledged-before-begin")
            if self._phase(s.journal[: proxy.read]) == "held" and not proxy.acknowledged and settled:
                yield become("acknowledges", proxy._replace(acknowledged=True))
            if s.pauser == i and write.at != "ended":
                open_ = write.at in ("begun", "ready", "applied")
                paused = become("paused past its lease", proxy._replace(status="expired"))[1]
                closed = write._replace(suspect=open_, dirty=write.dirty or open_)
                yield who + "paused past its lease", paused._replace(pauser=-1, writes=put(s.writes, i, closed))
        if proxy.status == "expired":
            if write.at in ("new", "ended"):
                yield become("registers again", registered, write._replace(suspect=False))
            sent = write.at == "ready"
            gone = write._replace(at="late" if sent else "ended", suspect=False)
            yield become(
                "proven gone", proxy._replace(status="gone"), gone._replace(dirty=write.suspect or write.dirty)
            )

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        proxy, write, who = s.proxies[i], s.writes[i], f"proxy {i}: "

        def become(label: str, now: Write) -> Step[State]:
            return who + label, s._replace(writes=put(s.writes, i, now))

        if write.at == "late":
            yield become("never lands", write._replace(at="ended"))
            yield who + "lands", self._apply(s, i, "ended")
        # A suspect key is reconciled at once, and again when its owner is gone; a held one is not.
        held = write.at == "late" and self.keeps("held-ignored")
        if write.dirty and not held and (write.suspect or write.at in ("ended", "late")):
            yield become("mirrored", self._mirror(s, write))
        if proxy.status not in ("up", "expired"):
            return
        phase = self._phase(s.journal[: proxy.read])
        if write.at == "new":
            if phase != "held":
                yield become("passes the door", write._replace(at="passed", to=phase))
            else:
                yield become("answers 503", write._replace(at="ended"))
                if not self.keeps("released-at-the-bound"):
                    yield become("passes the door", write._replace(at="passed", to="old"))
        if write.at == "passed":
            begun = become("BEGIN", write._replace(at="begun"))[1]
            yield who + "BEGIN", begun._replace(journal=(*s.journal, str(i)))
        if write.at == "begun" and proxy.read > s.journal.index(str(i)):
            yield become("reads back its BEGIN", self._look(s, i, write))
        if write.at == "ready":
            yield who + "applied", self._apply(s, i, "applied")
        if write.at == "applied":  # whose lease is lost answers with an error, and its END makes the key dirty again
            ended = write._replace(at="ended", dirty=True, succeeded=proxy.status == "up")
            yield become("END", ended)

    def _look(self, s: State, i: int, write: Write) -> Write:
        """The own BEGIN is read back: is this proxy still an owner, and is there a COMMIT before it?"""
        if s.proxies[i].status != "up" and self.keeps("lease-unchecked"):
            return write._replace(at="ended")
        before = self._phase(s.journal[: s.journal.index(str(i))])
        return write._replace(at="ready", to="new" if before == "new" else write.to)

    def _apply(self, s: State, i: int, at: str) -> State:
        write = s.writes[i]
        applied = write._replace(at=at, on=write.on | {write.to})
        return s._replace(writes=put(s.writes, i, applied), astray=s.astray or write.to != self._primary(s))

    def _mirror(self, s: State, write: Write) -> Write:
        """The secondary gets what the primary has of it."""
        primary = self._primary(s)
        return write._replace(dirty=False, on=frozenset({"old", "new"}) if primary in write.on else frozenset())

    def rests(self, s: State) -> bool:
        decided = PREPARE not in s.journal or self._phase(s.journal) != "held"
        return (
            decided
            and s.coordinator in ("idle", "done")
            and (
                all(w.at == "ended" and not w.dirty and not w.suspect for w in s.writes)
                and all(p.status in ("up", "gone", "absent") for p in s.proxies)
            )
        )

    def wrong(self, s: State) -> str:
        if s.astray:
            return "a write reached a store that was not the primary"
        if self.rests(s) and any(w.succeeded and self._primary(s) not in w.on for w in s.writes):
            return "an acknowledged write is not on the primary"
        return ""
