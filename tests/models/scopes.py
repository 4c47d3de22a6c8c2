"""Writes by filter: the primary decides what matches, the secondary follows key by key.

Modelled: one key that matches the filter (first field 0) or does not; a filtered delete, a live write of another owner
that may make the key match or stop matching, or create it; a reconciler with hints; a page of the backfill. The ids
that match are named in the journal under a wildcard, before the original request is sent. Its answer may be lost, the
request landing later or never on whatever matches *then*; the owner of the scope may be killed at any point; the live
write's answer may be lost as well.

Not modelled: several pages of ids (naming is one step), the sweep where a filter cannot be evaluated.

Invariants: I1, I2 (an update that took the point out of the filter's reach is not undone), I3, I7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple

from tests.models.explore import Model, Step, labels
from tests.models.points import Op, Value, after, determines

MATCHING: Value = (0, 0)


def matches(value: Value) -> bool:
    return value is not None and value[0] == 0


class Write(NamedTuple):
    op: Op
    at: str = "new"  # new, begun, applied, ended
    mixed: bool = False


class Scope(NamedTuple):
    at: str = "new"  # new, begun, named, applied, ended
    named: bool = False
    touched: bool = False  # another interval of the key overlapped it


class Copy(NamedTuple):
    at: str = "idle"  # idle, begun, read, written
    value: Value = None
    page: bool = False  # it is the page of a backfill
    marked: bool = False  # page: provisionally


class State(NamedTuple):
    primary: Value
    secondary: Value
    write: Write
    scope: Scope = Scope()
    copy: Copy = Copy()
    page: Copy = Copy("done", None, True)
    dirty: bool = False
    hint: tuple[Value] | None = None
    late_scope: bool = False  # the filtered delete may still land; all of the collection is held
    late_write: bool = False  # the live write may still land; the key is held
    losses: int = 0
    kills: int = 0
    undone: bool = False  # a point was deleted that did not match the filter at that moment


class Scopes(Model[State]):
    name = "scopes"
    about = "a filtered delete among live writes, reconciliations and a page; lost answers and kills"
    invariants = "I1 I2 I3 I7"
    rules: ClassVar = {
        "sent-by-ids": "the primary gets the original operation, so that it decides what matches",
        "named-keys-forgotten": "after a filtered write the keys that it named are dirty",
        "overlaps-forgotten": "after a filtered write every key that another interval overlapped is dirty",
        "named-after-sending": "the ids that match are named before the request is sent",
        "scope-not-held": "after an unknown outcome the whole scope is held",
        "dead-scope-forgotten": "a filtered write whose owner died is closed as unknown",
        "hint-beside-scope": "no hint for a write that overlapped a filtered write, or began under its hold",
    }
    happens = labels(
        "BEGIN write|applied|answer lost|END write|BEGIN scope|names keys|filter applied|filter's answer lost|END scope"
        "|killed|lands|never lands|BEGIN reconcile|reads|copies|END reconcile|BEGIN page|reads page|copies page"
        "|END page"
    )

    def starts(self, full: bool) -> Iterable[State]:
        ops: tuple[Op, ...] = (("patch", 1), ("upsert", 0), ("upsert", 1), ("delete", 0), ("patch", 0))
        points: tuple[Value, ...] = (MATCHING, (1, 1), None)
        faults = ((0, 0), (1, 0), (0, 1)) + (((2, 0), (1, 1)) if full else ())
        for losses, kills in faults:
            for op in ops:
                for point in points:
                    write = Write(op)
                    yield State(point, point, write, losses=losses, kills=kills)
                    if full or op == ("upsert", 0):
                        yield State(point, None, write, page=Copy("waiting", None, True), losses=losses, kills=kills)

    # --- steps ---------------------------------------------------------------------------

    def steps(self, s: State) -> Iterator[Step[State]]:
        yield from self._write(s)
        yield from self._scope(s)
        yield from self._reconcile(s)
        yield from self._page(s)
        if s.late_scope:
            yield "never lands", s._replace(late_scope=False)
            yield "lands", self._filter(s)._replace(late_scope=False)
        if s.late_write:
            yield "never lands", s._replace(late_write=False)
            yield "lands", s._replace(late_write=False, primary=after(s.write.op, s.primary))

    def _open_scope(self, s: State) -> bool:
        return s.scope.at in ("begun", "named", "applied")

    def _touch(self, s: State) -> State:
        return s._replace(scope=s.scope._replace(touched=True)) if self._open_scope(s) else s

    def _write(self, s: State) -> Iterator[Step[State]]:
        write = s.write
        if write.at == "new":
            beside = (self._open_scope(s) or s.late_scope) and self.keeps("hint-beside-scope")
            yield "BEGIN write", self._touch(s._replace(write=write._replace(at="begun", mixed=beside)))
        if write.at == "begun":
            applied = s._replace(write=write._replace(at="applied"), primary=after(write.op, s.primary))
            yield "applied", applied
            if s.losses:
                lost = s._replace(write=write._replace(at="ended"), losses=s.losses - 1, late_write=True)
                yield "answer lost", lost._replace(dirty=True, hint=None)
        if write.at == "applied":
            hint = (after(write.op, None),) if determines(write.op) and not write.mixed else None
            yield "END write", s._replace(write=write._replace(at="ended"), dirty=True, hint=hint)

    # --- the filtered delete ---------------------------------------------------------------

    def _scope(self, s: State) -> Iterator[Step[State]]:
        scope = s.scope
        if scope.at == "new":
            overlaps = s.write.at in ("begun", "applied") or s.copy.at != "idle"
            mixed = s.write.mixed or self.keeps("hint-beside-scope")
            began = s._replace(scope=Scope("begun", False, overlaps), write=s.write._replace(mixed=mixed))
            yield "BEGIN scope", began
        if scope.at == "begun":
            named = matches(s.primary) if self.keeps("named-after-sending") else False
            yield "names keys", s._replace(scope=scope._replace(at="named", named=named))
        if scope.at == "named":
            applied = self._filter(s)
            if not self.keeps("named-after-sending"):
                applied = applied._replace(scope=scope._replace(named=matches(applied.primary)))
            yield "filter applied", applied._replace(scope=applied.scope._replace(at="applied"))
            if s.losses:
                lost = s._replace(losses=s.losses - 1, late_scope=True)
                yield "filter's answer lost", self._end_scope(lost)
        if scope.at == "applied":
            yield "END scope", self._end_scope(s)
        if self._open_scope(s) and s.kills:
            gone = s._replace(kills=0, late_scope=scope.at == "named")
            if self.keeps("dead-scope-forgotten"):
                yield "killed", self._end_scope(gone)
            else:
                yield "killed", gone._replace(scope=scope._replace(at="ended"))

    def _filter(self, s: State) -> State:
        """The request reaches the primary."""
        hit = matches(s.primary) if self.keeps("sent-by-ids") else s.scope.named
        if not hit:
            return s
        return s._replace(primary=None, undone=s.undone or (s.primary is not None and not matches(s.primary)))

    def _end_scope(self, s: State) -> State:
        named = s.scope.named and self.keeps("named-keys-forgotten")
        touched = s.scope.touched and self.keeps("overlaps-forgotten")
        s = s._replace(scope=Scope("ended", s.scope.named))
        return s._replace(dirty=True, hint=None) if named or touched else s

    # --- reconciliation and page -------------------------------------------------------------

    def _reconcile(self, s: State) -> Iterator[Step[State]]:
        copy = s.copy
        held = s.late_write or (s.late_scope and self.keeps("scope-not-held"))
        if copy.at == "idle" and s.dirty and not held:
            begun = Copy("begun") if s.hint is None else Copy("read", s.hint[0])
            marked = s.page._replace(marked=s.page.at in ("begun", "read", "written"))
            yield "BEGIN reconcile", self._touch(s._replace(copy=begun, dirty=False, hint=None, page=marked))
        if copy.at == "begun":
            yield "reads", s._replace(copy=Copy("read", s.primary))
        if copy.at == "read":
            yield "copies", s._replace(secondary=copy.value, copy=Copy("written"))
        if copy.at == "written":
            yield "END reconcile", s._replace(copy=Copy())

    def _page(self, s: State) -> Iterator[Step[State]]:
        page = s.page
        if page.at == "waiting":
            yield "BEGIN page", s._replace(page=page._replace(at="begun", marked=s.copy.at != "idle"))
        if page.at == "begun":
            yield "reads page", s._replace(page=page._replace(at="read", value=s.primary))
        if page.at == "read":
            copied = s._replace(page=page._replace(at="written"))
            yield "copies page", copied if page.value is None else copied._replace(secondary=page.value)
        if page.at == "written":
            again = page.marked and page.value is not None
            ended = s._replace(page=Copy("done", None, True), dirty=s.dirty or again, hint=None if again else s.hint)
            yield "END page", self._touch(ended) if page.value is not None else ended

    # --- what must be so -----------------------------------------------------------------

    def rests(self, s: State) -> bool:
        return not (s.dirty or s.late_scope or s.late_write) and (
            s.write.at == s.scope.at == "ended" and s.copy.at == "idle" and s.page.at == "done"
        )

    def wrong(self, s: State) -> str:
        if s.undone:
            return "a point was deleted that did not match the filter"
        if self.rests(s) and s.primary != s.secondary:
            return "at rest and clean, but the stores differ"
        return ""
