"""Definitions: a collection is dropped and made anew, with another definition, while it is written and copied.

Modelled: one key of one collection. A client drops the collection and creates it again (each call waits for the primary
only); another client writes the key at any time; a reconciler with hints, and the sweep that follows when it is not
known any more what the secondary holds. The drop's answer may be lost on the primary, or its follower's on the
secondary, and land later or never; the owner of a definition may be killed. A definition is a number: 1 is the old one.

Two rules are easily missed. A definition of unclear outcome on the *secondary* is held like any request: else a late
drop takes what the sweep has copied. And a sweep makes the secondary match the primary in every case, also where the
primary has no such collection (it is dropped) or one of another definition (it is made anew).

Not modelled: aliases, indexes, several keys.

Invariants: I1, I3 (nothing of the old generation comes back), I7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels, put


class Store(NamedTuple):
    definition: int = 1  # 0: there is no such collection
    value: int = 0  # of the key; 0: absent


class Definition(NamedTuple):
    kind: str  # drop, create
    at: str = "new"  # new, begun, answered (the primary has it), ended
    touched: bool = False


class Write(NamedTuple):
    at: str = "new"  # new, begun, applied, ended
    mixed: bool = False
    refused: bool = False


class Copy(NamedTuple):
    at: str = "idle"  # idle, begun, read, ended
    value: int = 0


class Sweep(NamedTuple):
    at: str = "idle"  # idle, begun, described, matched, read, copied
    definition: int = 0
    value: int = 0
    marked: bool = False  # provisionally: a reconciliation of the key overlapped it
    stale: bool = False  # a definition, or another reason for a sweep, came in between


class State(NamedTuple):
    primary: Store
    secondary: Store
    definitions: tuple[Definition, ...]
    write: Write = Write()
    copy: Copy = Copy()
    sweep: Sweep = Sweep()
    dirty: bool = False
    hint: int = 0
    unswept: bool = False
    late: tuple[tuple[str, str, bool], ...] = ()  # store, kind, whether a hold covers it
    losses_primary: int = 0
    losses_secondary: int = 0
    kills: int = 0


NEW_VALUE = 5


class Definitions(Model[State]):
    name = "definitions"
    about = "drop and recreate among writes, reconciliations and sweeps; late drops on either store"
    invariants = "I1 I3 I7"
    rules: ClassVar = {
        "copied-meanwhile": "reconciliation waits while a definition is under way",
        "overlap-forgotten": "what overlaps a definition is dirty in the new generation",
        "old-hint-kept": "hints of the old generation are void",
        "old-page-kept": "a page that a definition overlapped counts for nothing",
        "follows-out-of-order": "definitions follow on the secondary one at a time, in journal order",
        "unknown-unswept": "a definition of unknown outcome, or that the secondary did not follow, needs a sweep",
        "unknown-unheld": "a definition without an answer holds the collection",
        "secondary-unheld": "a definition of unclear outcome on the secondary holds the collection, too",
        "absent-not-dropped": "a sweep drops from the secondary a collection that the primary does not have",
        "existing-taken-for-equal": "a sweep makes the secondary's definition match, it is not enough that it exists",
    }
    happens = labels(
        "BEGIN write|applied|refused|END write|BEGIN definition|answered|answer lost|followed|follower's answer lost"
        "|not followed|killed|lands|never lands|BEGIN reconcile|reads|copies|END reconcile|no such collection"
        "|BEGIN sweep|describes|matches|reads page|copies page|END sweep"
    )

    def starts(self, full: bool) -> Iterable[State]:
        both = (Definition("drop"), Definition("create"))
        faults = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)) + (((1, 1, 0), (0, 1, 1), (0, 2, 0)) if full else ())
        for fault in faults:
            for definitions in ((both[0],), both):
                for present in (0, 1):
                    there = Store(1, present)
                    yield State(there, there, definitions, Write(), Copy(), Sweep(), False, 0, False, (), *fault)

    # --- steps ---------------------------------------------------------------------------

    def steps(self, s: State) -> Iterator[Step[State]]:
        yield from self._write(s)
        for i in range(len(s.definitions)):
            yield from self._define(s, i)
        yield from self._reconcile(s)
        yield from self._sweep(s)
        for i, (store, kind, _) in enumerate(s.late):
            rest = s._replace(late=s.late[:i] + s.late[i + 1 :])
            yield "never lands", rest
            yield "lands", self._carry_out(rest, store, kind)

    def _defining(self, s: State) -> bool:
        return any(d.at in ("begun", "answered") for d in s.definitions)

    def _held(self, s: State) -> bool:
        return any(held for _, _, held in s.late)

    def _touch(self, s: State) -> State:
        """An interval of the key tells the open definitions."""
        return s._replace(
            definitions=tuple(d._replace(touched=True) if d.at in ("begun", "answered") else d for d in s.definitions)
        )

    @staticmethod
    def _carry_out(s: State, store: str, kind: str) -> State:
        there = s.primary if store == "primary" else s.secondary
        if kind == "drop":
            there = Store(0)
        elif there.definition == 0:
            there = Store(2)
        return s._replace(primary=there) if store == "primary" else s._replace(secondary=there)

    def _need_sweep(self, s: State) -> State:
        if not self.keeps("unknown-unswept"):
            return s
        return s._replace(unswept=True, sweep=s.sweep._replace(stale=s.sweep.at != "idle"))

    # --- a write -------------------------------------------------------------------------

    def _write(self, s: State) -> Iterator[Step[State]]:
        write = s.write
        if write.at == "new":
            mixed = self._defining(s) or self._held(s)
            yield "BEGIN write", self._touch(s._replace(write=Write("begun", mixed)))
        if write.at == "begun":
            if s.primary.definition:
                applied = s._replace(write=write._replace(at="applied"))
                yield "applied", applied._replace(primary=s.primary._replace(value=NEW_VALUE))
            else:
                yield "refused", s._replace(write=write._replace(at="ended", refused=True))
        if write.at == "applied":
            hint = 0 if write.mixed and self.keeps("old-hint-kept") else NEW_VALUE
            yield "END write", s._replace(write=write._replace(at="ended"), dirty=True, hint=hint)

    # --- a definition --------------------------------------------------------------------

    def _define(self, s: State, i: int) -> Iterator[Step[State]]:
        definition = s.definitions[i]

        def become(at: str, state: State = s) -> State:
            return state._replace(definitions=put(state.definitions, i, definition._replace(at=at)))

        if definition.at == "new" and all(d.at in ("answered", "ended") for d in s.definitions[:i]):
            under_way = s.write.at in ("begun", "applied") or s.copy.at != "idle"
            begun = become("begun")
            begun = begun._replace(definitions=put(s.definitions, i, Definition(definition.kind, "begun", under_way)))
            stale = s.sweep.at != "idle" and self.keeps("old-page-kept")
            yield (
                "BEGIN definition",
                begun._replace(
                    write=s.write._replace(mixed=True), sweep=s.sweep._replace(stale=s.sweep.stale or stale)
                ),
            )
        if definition.at == "begun":
            yield "answered", self._carry_out(become("answered"), "primary", definition.kind)
            if s.losses_primary:
                late = (*s.late, ("primary", definition.kind, self.keeps("unknown-unheld")))
                lost = become("ended")._replace(losses_primary=s.losses_primary - 1, late=late)
                yield "answer lost", self._need_sweep(self._end(lost, definition))
        if definition.at == "answered":
            yield from self._follow(s, i)
        if definition.at in ("begun", "answered") and s.kills:
            store = "primary" if definition.at == "begun" else "secondary"
            held = self.keeps("unknown-unheld" if store == "primary" else "secondary-unheld")
            dead = become("ended")._replace(kills=0, late=(*s.late, (store, definition.kind, held)))
            yield "killed", self._need_sweep(self._end(dead, definition))

    def _follow(self, s: State, i: int) -> Iterator[Step[State]]:
        definition = s.definitions[i]
        if any(d.at == "answered" for d in s.definitions[:i]) and self.keeps("follows-out-of-order"):
            return
        ended = s._replace(definitions=put(s.definitions, i, definition._replace(at="ended")))
        if definition.kind == "create" and s.secondary.definition:
            if self.keeps("follows-out-of-order"):
                yield "not followed", self._need_sweep(self._end(ended, definition))
            else:
                yield "not followed", self._end(ended, definition)
            return
        yield "followed", self._end(self._carry_out(ended, "secondary", definition.kind), definition)
        if s.losses_secondary:
            late = (*s.late, ("secondary", definition.kind, self.keeps("secondary-unheld")))
            lost = ended._replace(losses_secondary=s.losses_secondary - 1, late=late)
            yield "follower's answer lost", self._need_sweep(self._end(lost, definition))

    def _end(self, s: State, definition: Definition) -> State:
        touched = definition.touched and self.keeps("overlap-forgotten")
        return s._replace(dirty=s.dirty or touched, hint=0 if self.keeps("old-hint-kept") else s.hint)

    # --- reconciliation and sweep ----------------------------------------------------------

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        blocked = self._defining(s) and self.keeps("copied-meanwhile")
        if copy.at == "idle" and s.dirty and not blocked and not self._held(s):
            begun = Copy("read", s.hint) if s.hint else Copy("begun")
            sweep = s.sweep._replace(marked=s.sweep.at != "idle")
            begun_state = s._replace(copy=begun, dirty=False, hint=0, sweep=sweep)
            # Left out, the rule's other half goes with it: nothing tells the definition of the reconciliation.
            yield "BEGIN reconcile", self._touch(begun_state) if self.keeps("copied-meanwhile") else begun_state
        if copy.at == "begun":
            yield "reads", s._replace(copy=Copy("read", s.primary.value))
        if copy.at == "read":
            if s.secondary.definition or not copy.value:
                yield "copies", self._put(s, copy.value)._replace(copy=Copy("ended"))
            else:
                yield "no such collection", self._need_sweep(s._replace(copy=Copy(), dirty=True, hint=0))
        if copy.at == "ended":
            yield "END reconcile", s._replace(copy=Copy())

    @staticmethod
    def _put(s: State, value: int) -> State:
        return s._replace(secondary=s.secondary._replace(value=value)) if s.secondary.definition else s

    def _sweep(self, s: State) -> Iterator[Step[State]]:
        sweep = s.sweep
        if sweep.at == "idle" and s.unswept and not self._held(s):
            stale = self._defining(s) and self.keeps("old-page-kept")
            yield "BEGIN sweep", s._replace(sweep=Sweep("begun", 0, 0, s.copy.at != "idle", stale))
        if sweep.at == "begun":
            yield "describes", s._replace(sweep=sweep._replace(at="described", definition=s.primary.definition))
        if sweep.at == "described":
            yield "matches", self._match(s)
        if sweep.at == "matched":
            yield "reads page", s._replace(sweep=sweep._replace(at="read", value=s.primary.value))
        if sweep.at == "read":
            copied = s._replace(sweep=sweep._replace(at="copied"))
            yield "copies page", self._put(copied, sweep.value) if sweep.value else copied
        if sweep.at == "copied":  # and what only the secondary has is marked
            again = bool(sweep.value) and (sweep.marked or sweep.stale)
            extra = bool(s.secondary.value) and not s.primary.value
            ended = s._replace(sweep=Sweep(), unswept=sweep.stale, dirty=s.dirty or again or extra)
            yield "END sweep", ended._replace(hint=0 if again or extra else s.hint)

    def _match(self, s: State) -> State:
        """The secondary gets the primary's definition."""
        there, wanted = s.secondary, s.sweep.definition
        matched = s._replace(sweep=s.sweep._replace(at="matched"))
        if there.definition == wanted:
            return matched
        if not wanted:
            return matched._replace(secondary=Store(0)) if self.keeps("absent-not-dropped") else matched
        if there.definition and not self.keeps("existing-taken-for-equal"):
            return matched
        return matched._replace(secondary=Store(wanted))

    # --- what must be so -----------------------------------------------------------------

    def rests(self, s: State) -> bool:
        return not (s.dirty or s.unswept or s.late) and (
            s.write.at == "ended"
            and s.copy.at == "idle"
            and s.sweep.at == "idle"
            and all(d.at == "ended" for d in s.definitions)
        )

    def wrong(self, s: State) -> str:
        return "at rest and clean, but the stores differ" if self.rests(s) and s.primary != s.secondary else ""
