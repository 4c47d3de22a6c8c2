"""A key that is written without a pause still reaches the secondary, and its writers hardly wait for that.

Modelled: one key, a writer that never needs to stop, a second one that writes now and then in another lane (an interval
that the lanes of this process do not know), a reconciler that after `PATIENCE` rounds in vain makes the key exclusive,
and a secondary that hangs. A round is in vain if the key is dirty again at its END. Time is one step: "exclusive_ms are
over" may happen at any moment while the key is exclusive.

Invariants: I7 (never more than `PATIENCE` rounds in vain while the secondary answers; no write waits longer than
`exclusive_ms`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put

PATIENCE = 2


class State(NamedTuple):
    primary: int = 0
    secondary: int = 0
    writers: tuple[str, str] = ("idle", "idle")  # idle, waiting (the key is exclusive), begun, applied
    dirty: bool = False
    copy: tuple[str, int] = ("idle", 0)  # idle, begun, read, written
    exclusive: str = ""  # "asked": no new BEGIN; "held": nothing of the key is open
    rounds: int = 0  # in vain, one after the other
    hangs: bool = False
    overdue: bool = False  # exclusive_ms are over, and the key still is


class Restless(Model[State]):
    name = "restless"
    about = "a key that is never at rest is copied exclusively, for a short time"
    invariants = "I7"
    rules: ClassVar = {
        "never-exclusive": "a key that never comes to rest is made exclusive",
        "exclusive-before-ends": "it is copied once earlier intervals of the key have ended",
        "begin-passes-exclusive": "later BEGINs wait for an exclusive one",
        "not-given-up": "exclusivity is given up after exclusive_ms",
    }
    happens = labels(
        "BEGIN write|waits|applied|END write|BEGIN reconcile|asks for the key|has the key|reads|copies|END reconcile"
        "|secondary hangs|secondary answers|exclusive_ms are over"
    )

    def starts(self, full: bool) -> Iterable[State]:
        yield State()

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writers)):
            yield from self._write(s, i)
        yield from self._reconcile(s)
        yield ("secondary answers", s._replace(hangs=False)) if s.hangs else ("secondary hangs", s._replace(hangs=True))
        if s.exclusive:
            if self.keeps("not-given-up"):
                yield "exclusive_ms are over", s._replace(exclusive="")
            else:
                yield "exclusive_ms are over", s._replace(overdue="waiting" in s.writers)

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        at = s.writers[i]

        def become(now: str) -> State:
            return s._replace(writers=put(s.writers, i, now))  # type: ignore[arg-type]

        if at in ("idle", "waiting"):
            if not s.exclusive or not self.keeps("begin-passes-exclusive"):
                yield f"writer {i}: BEGIN write", become("begun")
            elif at == "idle":
                yield f"writer {i}: waits", become("waiting")
        if at == "begun":
            yield f"writer {i}: applied", become("applied")._replace(primary=1 - s.primary)
        if at == "applied":
            yield f"writer {i}: END write", become("idle")._replace(dirty=True)

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        at, value = s.copy
        weary = s.rounds >= PATIENCE and self.keeps("never-exclusive")
        if at == "idle" and s.dirty:
            quiet = not any(w in ("begun", "applied") for w in s.writers)
            if not weary or s.exclusive == "held":
                yield "BEGIN reconcile", s._replace(copy=("begun", 0), dirty=False)
            elif not s.exclusive and not s.hangs:
                yield "asks for the key", s._replace(exclusive="asked")
            elif s.exclusive == "asked" and (quiet or not self.keeps("exclusive-before-ends")):
                yield "has the key", s._replace(exclusive="held")
        if at == "begun":
            yield "reads", s._replace(copy=("read", s.primary))
        if at == "read" and not s.hangs:
            yield "copies", s._replace(copy=("written", 0), secondary=value)
        if at == "written":
            # One that was made exclusive and did not end in time counts for nothing, neither way.
            timely = s.rounds < PATIENCE or bool(s.exclusive) or not self.keeps("never-exclusive")
            rounds = 0 if not s.dirty else s.rounds + timely
            yield "END reconcile", s._replace(copy=("idle", 0), exclusive="", rounds=rounds)

    def rests(self, s: State) -> bool:
        return not s.dirty and s.copy[0] == "idle" and not s.exclusive and s.writers == ("idle", "idle")

    def wrong(self, s: State) -> str:
        if s.rounds > PATIENCE:
            return "the key is dirty again, round after round, though the secondary answers"
        if s.overdue:
            return "a write waits for a copy that does not end"
        return "at rest and clean, but the stores differ" if self.rests(s) and s.primary != s.secondary else ""
