"""Several keys: requests and reconciliations of two keys, applied in part, refused in part, parked.

Modelled: two keys; two requests of one owner that name one or both of them, in any order; a primary that applies a
request in part and answers an error, or success that names the failed key; a reconciler that batches what is dirty,
with hints by key; a secondary that cannot hold one value (`BIG`), refuses a batch that has it, and may leave the
removal of a parked key's older version without an answer. Overlaps and faults of one key are in mirror.py.

Invariants: I1 (parked keys are absent on the secondary, and only those that it cannot hold are parked), I7 (lanes of
several keys never wait for each other; nothing is tried for ever).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put

BIG = 7  # a value that the secondary cannot hold
KEYS = (0, 1)
Pair = tuple[int, ...]  # by key; a value of 0: absent
Flags = tuple[bool, ...]
NONE: Flags = (False, False)


class Write(NamedTuple):
    states: tuple[tuple[int, int], ...]  # (key, value), in the order of the request
    at: str = "new"  # new, waiting (in the lanes of `lanes`), begun, applied, ended
    lanes: tuple[int, ...] = ()
    missed: tuple[int, ...] = ()  # keys that the primary did not apply
    named: bool = False  # its answer is success, and names them


class Copy(NamedTuple):
    at: str = "idle"  # idle, begun, read, put, removed
    keys: tuple[int, ...] = ()
    values: Pair = (0, 0)
    hinted: Flags = NONE
    parked: Flags = NONE


class State(NamedTuple):
    primary: Pair
    secondary: Pair
    writes: tuple[Write, ...]
    dirty: Flags = NONE
    hints: tuple[int | None, ...] = (None, None)
    parked: Flags = NONE
    copy: Copy = Copy()
    late: tuple[int, ...] = ()  # keys whose removal from the secondary may still land
    misses: int = 0
    losses: int = 0


class Batches(Model[State]):
    name = "batches"
    about = "two keys in one request and one reconciliation: applied in part, refused in part, parked"
    invariants = "I1 I7"
    rules: ClassVar = {
        "status-alone": "a status code alone does not say that a request of several keys changed nothing",
        "failed-key-hinted": "no hint for a key that the answer names as failed",
        "lanes-one-by-one": "a write takes the lanes of all its keys in one step",
        "batch-parked-whole": "a refused batch is tried key by key",
        "refused-retried": "what the secondary cannot hold is parked, not retried for ever",
        "parked-findable": "the older version of a parked key is removed from the secondary",
        "parked-for-ever": "a parked key leaves the parking when it is written again",
        "removal-unheld": "a removal of unclear outcome leaves the key dirty and held",
    }
    happens = labels(
        "takes lanes|BEGIN write|applied|applied in part, error|applied in part, named|END write"
        "|BEGIN reconcile|reads|puts|removes|removal unclear|END reconcile|lands|never lands"
    )

    def starts(self, full: bool) -> Iterable[State]:
        first = (((0, 1), (1, 2)), ((0, BIG), (1, 2)), ((0, BIG),), ((0, 0), (1, 2)))
        second = (((1, 3), (0, 4)), ((0, 5),), ((1, BIG), (0, 0)))
        faults = ((0, 0), (1, 0), (0, 1)) + (((1, 1), (0, 2)) if full else ())
        for misses, losses in faults:
            for one in first:
                for other in second:
                    yield State((8, 9), (8, 9), (Write(one), Write(other)), misses=misses, losses=losses)

    def steps(self, s: State) -> Iterator[Step[State]]:
        for i in range(len(s.writes)):
            yield from self._write(s, i)
        yield from self._reconcile(s)
        for key in s.late:
            rest = s._replace(late=tuple(other for other in s.late if other != key))
            yield "never lands", rest
            yield "lands", rest._replace(secondary=put(s.secondary, key, 0))

    # --- a write -------------------------------------------------------------------------

    def _write(self, s: State, i: int) -> Iterator[Step[State]]:
        write = s.writes[i]
        keys = tuple(key for key, _ in write.states)
        taken = {key for j, w in enumerate(s.writes) if j != i and w.at != "ended" for key in w.lanes}

        def become(now: Write) -> State:
            return s._replace(writes=put(s.writes, i, now))

        if write.at == "new" and self.keeps("lanes-one-by-one"):
            if not taken & set(keys):
                yield "takes lanes", become(write._replace(at="waiting", lanes=keys))
        elif write.at == "new":
            wanted = keys[len(write.lanes)]
            if wanted not in taken:
                lanes = (*write.lanes, wanted)
                yield "takes lanes", become(write._replace(at="waiting" if lanes == keys else "new", lanes=lanes))
        if write.at == "waiting":
            yield "BEGIN write", become(write._replace(at="begun"))
        if write.at == "begun":
            yield "applied", self._apply(become(write._replace(at="applied")), write.states)
            if s.misses:
                for missed in keys:
                    hit = tuple(state for state in write.states if state[0] != missed)
                    failed = write._replace(at="applied", missed=(missed,))
                    part = self._apply(become(failed)._replace(misses=s.misses - 1), hit)
                    yield "applied in part, error", part
                    if hit:
                        named = part._replace(writes=put(s.writes, i, failed._replace(named=True)))
                        yield "applied in part, named", named
        if write.at == "applied":
            yield "END write", self._end_write(become(write._replace(at="ended", lanes=())), write)

    @staticmethod
    def _apply(s: State, states: tuple[tuple[int, int], ...]) -> State:
        for key, value in states:
            s = s._replace(primary=put(s.primary, key, value))
        return s

    def _end_write(self, s: State, write: Write) -> State:
        refused = bool(write.missed) and not write.named
        if refused and (len(write.states) == 1 or not self.keeps("status-alone")):
            return s  # untouched
        for key, value in write.states:
            certain = not refused and (key not in write.missed or not self.keeps("failed-key-hinted"))
            s = s._replace(dirty=put(s.dirty, key, True), hints=put(s.hints, key, value if certain else None))
        return s

    # --- a reconciliation ----------------------------------------------------------------

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        if copy.at == "idle":
            yield from self._begin(s)
        if copy.at == "begun":
            values = tuple(copy.values[key] if copy.hinted[key] else s.primary[key] for key in KEYS)
            yield "reads", s._replace(copy=copy._replace(at="read", values=values))
        if copy.at == "read":
            yield "puts", self._put(s)
        if copy.at == "put":
            removed = tuple(
                k for k in copy.keys if not copy.values[k] or (copy.parked[k] and self.keeps("parked-findable"))
            )
            gone = s
            for key in removed:
                gone = gone._replace(secondary=put(gone.secondary, key, 0))
            yield "removes", gone._replace(copy=copy._replace(at="removed"))
            if removed and s.losses:
                yield "removal unclear", self._unclear(s, removed)
        if copy.at == "removed":
            yield "END reconcile", self._end(s, copy.keys, copy.parked)

    def _begin(self, s: State) -> Iterator[Step[State]]:
        ready = [k for k in KEYS if s.dirty[k] and (k not in s.late or not self.keeps("removal-unheld"))]
        if not self.keeps("parked-for-ever"):
            ready = [k for k in ready if not s.parked[k]]
        for keys in {tuple(ready), *((k,) for k in ready)} - {()}:
            hints = tuple(s.hints[k] if k in keys else None for k in KEYS)
            dirty, left = s.dirty, s.hints
            for key in keys:
                dirty, left = put(dirty, key, False), put(left, key, None)
            hinted = tuple(hint is not None for hint in hints)
            begun = Copy("begun", keys, tuple(hint or 0 for hint in hints), hinted)
            yield "BEGIN reconcile", s._replace(dirty=dirty, hints=left, copy=begun)

    def _put(self, s: State) -> State:
        copy = s.copy
        big = [key for key in copy.keys if copy.values[key] == BIG]
        parked, secondary = NONE, s.secondary
        for key in copy.keys:
            if key in big or (big and not self.keeps("batch-parked-whole")):
                parked = put(parked, key, True)
            elif copy.values[key]:
                secondary = put(secondary, key, copy.values[key])
        return s._replace(secondary=secondary, copy=copy._replace(at="put", parked=parked))

    def _unclear(self, s: State, removed: tuple[int, ...]) -> State:
        if not self.keeps("removal-unheld"):
            return self._end(s, s.copy.keys, s.copy.parked)._replace(late=removed, losses=s.losses - 1)
        clean = tuple(key for key in s.copy.keys if key not in removed)
        ended = self._end(s, clean, s.copy.parked)
        dirty, hints = ended.dirty, ended.hints
        for key in removed:
            dirty, hints = put(dirty, key, True), put(hints, key, None)
        return ended._replace(dirty=dirty, hints=hints, late=removed, losses=s.losses - 1)

    def _end(self, s: State, keys: tuple[int, ...], parked: Flags) -> State:
        if not self.keeps("refused-retried"):
            again = tuple(s.dirty[key] or parked[key] for key in KEYS)
            return s._replace(copy=Copy(), dirty=again)
        now = s.parked
        for key in keys:
            now = put(now, key, parked[key])
        return s._replace(copy=Copy(), parked=now)

    # --- what must be so -----------------------------------------------------------------

    def rests(self, s: State) -> bool:
        waiting = (
            s.dirty if self.keeps("parked-for-ever") else [d and not p for d, p in zip(s.dirty, s.parked, strict=True)]
        )
        return not (any(waiting) or s.late) and s.copy.at == "idle" and all(w.at == "ended" for w in s.writes)

    def wrong(self, s: State) -> str:
        if not self.rests(s):
            return ""
        for key in KEYS:
            if s.parked[key] and s.secondary[key]:
                return "a parked key can still be found on the secondary"
            if s.parked[key] != (s.primary[key] == BIG):
                return "a key is parked that the secondary could hold, or is not parked though it cannot"
            if not s.parked[key] and s.primary[key] != s.secondary[key]:
                return "at rest and clean, but the stores differ"
        return ""
