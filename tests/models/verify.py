"""Verify and repair: a difference that is only on its way is never reported, and a real one never missed.

Modelled: one key that differs from the start (somebody wrote past the proxy) or does not; a live write, its
reconciliation, an answer of the secondary lost with the request landing late; a verify that reads the primary, then the
secondary, looks again at what differed, and with `--repair` marks what differs still. Every read is a step of its own.

Not modelled: the folding into buckets, tolerances, pages: they decide only which keys become candidates.

Invariants: I1 (a repaired key is equal at rest), I8 (no real difference is missed, and none made up), I7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put


class Look(NamedTuple):
    at: str = "idle"  # idle, first (reading the secondary), candidate, again, last (reading the secondary), done
    primary: int = 0
    secondary: int = 0
    restless: bool = False  # the key was open, dirty or held when this look began, or was touched since
    verdict: str = ""  # equal, different


class State(NamedTuple):
    primary: int
    secondary: int
    writes: tuple[str, ...] = ("new", "new")  # begun, applied, ended; write i leaves the value 1 + i
    copy: tuple[str, int] = ("idle", 0)
    dirty: bool = False
    late: tuple[int, ...] = ()
    look: Look = Look()
    losses: int = 0
    drifted: bool = False  # somebody wrote past the proxy


class Verify(Model[State]):
    name = "verify"
    about = "verify and repair beside live writes, late requests and a store that was changed past the proxy"
    invariants = "I1 I7 I8"
    rules: ClassVar = {
        "reported-at-first-sight": "a differing key is looked at again before it is reported",
        "open-reported": "a key that is open when it is looked at is not reported",
        "dirty-reported": "a key that is dirty when it is looked at is not reported",
        "touched-reported": "a key that was touched while it was looked at is not reported",
        "repaired-directly": "repair marks keys dirty, it does not copy by itself",
        "repair-forgotten": "a difference that is found is repaired",
    }
    happens = labels(
        "BEGIN write|applied|END write|BEGIN reconcile|reads|copies|copy unclear|END reconcile|lands|never lands"
        "|verify reads|verify compares|looks again|again reads|again compares|repairs"
    )

    def starts(self, full: bool) -> Iterable[State]:
        for drift in (False, True):
            for losses in (0, 1, 2) if full else (0, 1):
                for writes in (("ended", "ended"), ("new", "ended"), ("new", "new")):
                    yield State(9, 8 if drift else 9, writes, losses=losses, drifted=drift)

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i, at in enumerate(s.writes):
            if at == "new" and all(w == "ended" for w in s.writes[:i]):
                yield "BEGIN write", self._touch(s._replace(writes=put(s.writes, i, "begun")))
            if at == "begun":
                yield "applied", s._replace(writes=put(s.writes, i, "applied"), primary=1 + i)
            if at == "applied":
                yield "END write", self._touch(s._replace(writes=put(s.writes, i, "ended"), dirty=True))
        yield from self._reconcile(s)
        yield from self._verify(s)
        for late in s.late:
            rest = s._replace(late=())
            yield "never lands", rest
            yield "lands", rest._replace(secondary=late)

    def _touch(self, s: State) -> State:
        """A record names the key."""
        if s.look.at in ("again", "last") and self.keeps("touched-reported"):
            return s._replace(look=s.look._replace(restless=True))
        return s

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        at, value = s.copy
        if at == "idle" and s.dirty and not s.late:
            yield "BEGIN reconcile", self._touch(s._replace(copy=("begun", 0), dirty=False))
        if at == "begun":
            yield "reads", s._replace(copy=("read", s.primary))
        if at == "read":
            yield "copies", s._replace(copy=("written", 0), secondary=value)
            if s.losses:
                lost = s._replace(copy=("idle", 0), losses=s.losses - 1, late=(value,), dirty=True)
                yield "copy unclear", self._touch(lost)
        if at == "written":
            yield "END reconcile", self._touch(s._replace(copy=("idle", 0)))

    def _restless(self, s: State) -> bool:
        under_way = s.copy[0] != "idle" or any(w in ("begun", "applied") for w in s.writes)
        if under_way and self.keeps("open-reported"):
            return True
        return s.dirty and self.keeps("dirty-reported")

    def _verify(self, s: State) -> Iterator[Step[State]]:
        look = s.look
        if look.at == "idle":
            yield "verify reads", s._replace(look=Look("first", s.primary))
        if look.at == "first":
            differs = look.primary != s.secondary
            found = "candidate" if self.keeps("reported-at-first-sight") else "found"
            after = Look(found if differs else "done", look.primary, s.secondary, False, "" if differs else "equal")
            yield "verify compares", s._replace(look=after)
        if look.at == "candidate":
            yield "looks again", s._replace(look=Look("again", restless=self._restless(s)))
        if look.at == "again":
            yield "again reads", s._replace(look=look._replace(at="last", primary=s.primary))
        if look.at == "last":
            if look.primary == s.secondary:
                after = Look("done", verdict="equal")
            elif look.restless:
                after = Look("candidate")
            else:
                after = Look("found", look.primary, s.secondary)
            yield "again compares", s._replace(look=after)
        if look.at == "found":
            yield "repairs", self._repair(s._replace(look=Look("done", verdict="different")), look.primary)

    def _repair(self, s: State, seen: int) -> State:
        if not self.keeps("repaired-directly"):
            return s._replace(secondary=seen)
        return s._replace(dirty=s.dirty or self.keeps("repair-forgotten"))

    def rests(self, s: State) -> bool:
        quiet = s.copy[0] == "idle" and all(w == "ended" for w in s.writes)
        return quiet and s.look.at == "done" and not (s.dirty or s.late)

    def wrong(self, s: State) -> str:
        if s.look.verdict == "different" and not s.drifted:
            return "a difference was reported that was only on its way"
        if self.rests(s) and s.primary != s.secondary:
            return "verified, at rest and clean, but the stores differ"
        return ""
