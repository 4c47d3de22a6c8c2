"""Which key is what: the pure fold of the journal's records for one collection. No clock, no I/O.

This file is the protocol of docs/replication.md, rule by rule:

- a write changes the primary and leaves its keys **dirty**; nothing else makes the stores differ;
- a reconciliation takes the marks off when it *begins*; two that overlap on a key leave it dirty again;
- a **page** (backfill) is a reconciliation whose keys are known at its end: it takes no mark off, and what
  reconciled one of its keys meanwhile is marked *provisionally* until then;
- a **scope** (write by filter, definition) may touch any key: at its end the keys it named and the keys that any
  other interval overlapped are dirty;
- a **hold** is a request that may still land: no reconciliation of its keys (None: of any key) until it is released;
- the secondary's collection is written to only once it is **claimed** (made, found empty, or adopted); one that it
  cannot have is parked as a whole: its keys are no lag, and it is swept once it is claimed after all;
- what ended without a clear answer, or whose owner is gone, is dirty and held;
- after an **emergency** (the other store was made primary at once) whatever was not clean may be **behind** there: it
  is listed, and nothing is copied over what the old primary holds of it until it is recovered or written anew.

A key is *clean* when both stores are known to hold the same. Only keys that are not clean take memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.dialects import Outcome
from proxy.model import PointId, Side
from proxy.replication import records as r
from proxy.replication.bulk import assign, has_none_of, pop_each, remove

NEVER_SWEPT = "not backfilled yet"
INTERRUPTED = "what the first backfill had copied was lost meanwhile"  # so it is swept, like any that was in step once


@dataclass(slots=True, eq=False)
class Interval:
    """An open interval. Which sets are used depends on its kind (see the file's head)."""

    position: int
    record: r.BeginWrite | r.BeginReconcile | r.BeginPage | r.BeginScope
    ids: tuple[PointId, ...] = ()
    mixed: set[PointId] = field(default_factory=set)  # overlapped its like: writes: no hint, reconciliations: dirty
    skipped: set[PointId] = field(default_factory=set)  # reconciliation: not to be touched (held)
    touched: set[PointId] = field(default_factory=set)  # page: provisional marks; scope: keys of other intervals
    named: set[PointId] = field(default_factory=set)  # scope
    reconciled: dict[PointId, int] = field(default_factory=dict)  # page: keys copied meanwhile -> that BEGIN
    stale: bool = False  # page: a definition came in between; definition: another one overlapped it
    shared: bool = False  # another one of its kind is or was open for one of its keys


@dataclass(frozen=True, slots=True)
class Hold:
    """Keys (None: all of the collection) that a request may still change on `side`, for `seconds` of its life."""

    side: Side
    seconds: float
    ids: tuple[PointId, ...] | None
    touched: set[PointId] = field(default_factory=set)
    copy: bool = False  # it is a copy of ours, not a client's request


@dataclass(slots=True)
class Effects:
    """What a record brought about, for those who act on it."""

    position: int = 0  # of the record
    owner: str = ""  # whose interval it opened or closed
    ready: Iterable[PointId] = ()  # keys that may have become reconcilable
    ready_all: bool = False
    taken: dict[PointId, int | None] = field(default_factory=dict)  # reconciliation: key -> position of its mark
    skipped: frozenset[PointId] = frozenset()
    certain: tuple[PointId, ...] = ()  # write: keys whose state it alone determines
    settled: tuple[PointId, ...] = ()  # reconciliation: keys that ended clean or parked
    confirmed: dict[PointId, int] = field(default_factory=dict)  # the secondary has what it had at that BEGIN, or later
    held: Hold | None = None
    generation: bool = False  # a definition has ended: hints are void


@dataclass(slots=True)
class Ledger:
    """The state of one collection. `marks` is in the order of positions, the oldest first."""

    intervals: dict[int, Interval] = field(default_factory=dict)
    marks: dict[PointId, int] = field(default_factory=dict)
    holds: dict[int, Hold] = field(default_factory=dict)
    parked: dict[PointId, r.Parking] = field(default_factory=dict)
    parked_whole: str = ""  # why the secondary cannot have the collection; "" if it can
    claimed: bool = False
    behind: dict[PointId, bool] = field(default_factory=dict)  # since an emergency; True: changed in part since
    behind_all: str = ""  # why any key may be; "" if only those listed
    unverified: str = ""  # why a verify is needed before the secondary is relied on; "" if it is not
    unverified_at: int = 0
    emergency_at: int = 0  # what was begun before that was for the old primary
    unswept: str = NEVER_SWEPT  # why a sweep is needed; "" if it is not
    unswept_at: int = 0
    acknowledged_at: int = 0  # the last write that the primary took without having applied it
    cursors: dict[str, PointId | None] = field(default_factory=dict)  # job -> where its next page starts
    _pages: dict[int, Interval] = field(default_factory=dict)  # the open pages and scopes among the intervals
    _scopes: dict[int, Interval] = field(default_factory=dict)
    _writers: dict[PointId, tuple[Interval, ...]] = field(default_factory=dict)
    _reconcilers: dict[PointId, tuple[Interval, ...]] = field(default_factory=dict)
    _held: dict[PointId, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Rebuild the indexes by key from intervals and holds (after a snapshot was read)."""
        for position, interval in self.intervals.items():
            if isinstance(interval.record, r.BeginPage):
                self._pages[position] = interval
            elif isinstance(interval.record, r.BeginScope):
                self._scopes[position] = interval
            for point_id in dict.fromkeys(interval.ids):  # a write may name one twice
                if isinstance(interval.record, r.BeginWrite):
                    _open(self._writers, point_id, interval)
                elif point_id not in interval.skipped:
                    _open(self._reconcilers, point_id, interval)
        for hold in self.holds.values():
            for point_id in hold.ids or ():
                self._held[point_id] = self._held.get(point_id, 0) + 1

    # --- questions -----------------------------------------------------------------------

    def is_clean(self, point_id: PointId) -> bool:
        """Whether both stores are known to hold the same for this key; parked keys are not clean."""
        return not self.unswept and point_id not in self.parked and self.is_resting(point_id)

    def is_resting(self, point_id: PointId) -> bool:
        """Nothing is under way for the key, and nothing is known to be outstanding."""
        return not (
            point_id in self.marks
            or point_id in self._writers
            or point_id in self._reconcilers
            or self.is_held(point_id)
            or any(point_id in page.touched for page in self._pages.values())
            or bool(self._scopes)
        )

    def is_held(self, point_id: PointId) -> bool:
        return point_id in self._held or self.range_held

    def is_due(self, point_id: PointId) -> bool:
        """Whether the key is dirty, nothing keeps it back, and nobody is copying it. A write of it may be under way
        (`is_open`). Only while the collection is not `blocked`."""
        return (
            point_id in self.marks
            and point_id not in self._held
            and point_id not in self.behind
            and point_id not in self._reconcilers
        )

    def is_open(self, point_id: PointId) -> bool:
        """Whether a write of the key is under way."""
        return point_id in self._writers

    def may_be_copied(self, ids: Collection[PointId]) -> bool:
        """Whether all of these keys are due, and none of them has a write under way."""
        in_the_way: tuple[dict[PointId, Any], ...] = (self._held, self.behind, self._writers, self._reconcilers)
        return self.marks.keys() >= set(ids) and all(has_none_of(index, ids) for index in in_the_way)

    @property
    def range_held(self) -> bool:
        return any(hold.ids is None for hold in self.holds.values())

    @property
    def blocked(self) -> bool:
        """No key of the collection may be reconciled now."""
        return (
            bool(self.parked_whole or self.behind_all)
            or self.range_held
            or any(_defines(scope) for scope in self._scopes.values())
        )

    @property
    def is_defining(self) -> bool:
        """Whether a definition is under way, on either side."""
        return any(_defines(scope) for scope in self._scopes.values())

    def before(self, position: int, ids: tuple[PointId, ...] | None, owner: str) -> bool:
        """Whether a write that another owner began before `position` is open, of one of these keys (None: of any)."""
        for at, interval in self.intervals.items():
            if at >= position or interval.record.owner == owner:
                continue
            if isinstance(interval.record, r.BeginScope):
                return True
            if isinstance(interval.record, r.BeginWrite) and (ids is None or not set(ids).isdisjoint(interval.ids)):
                return True
        return False

    def endangered(self, ids: Iterable[PointId] | None, side: Side, rewrites: bool) -> bool:
        """Whether something that may still land on `side` could undo what is written to these keys (None: any) now: a
        copy of an older state, or, where the store's adapter `rewrites` whole points for a partial update, a client's
        request."""
        holds = [hold for hold in self.holds.values() if hold.side is side and (hold.copy or rewrites)]
        pages = any(page.record.secondary is side for page in self._pages.values())  # type: ignore[union-attr]
        if pages or any(hold.ids is None for hold in holds):
            return True
        if ids is None:
            return bool(holds) or self.endangered(self._reconcilers, side, rewrites)
        if has_none_of(self._reconcilers, ids) and has_none_of(self._held, ids):
            return False
        for point_id in ids:
            if any(interval.record.secondary is side for interval in self._reconcilers.get(point_id, ())):  # type: ignore[union-attr]
                return True
            if point_id in self._held and any(point_id in hold.ids for hold in holds if hold.ids is not None):
                return True
        return False

    @property
    def open_count(self) -> int:
        return len(self._writers) + len(self._reconcilers) + len(self._scopes)

    @property
    def held_count(self) -> int:
        return len(self._held) + sum(1 for hold in self.holds.values() if hold.ids is None)

    @property
    def collapsible(self) -> int:
        """How many marks a collapse would take away, at least."""
        return len(self.marks) - len(self._held)

    @property
    def oldest(self) -> int | None:
        """Position of the oldest record that keeps a key from being clean."""
        first_mark = next(iter(self.marks.values()), None)
        first_interval = next((p for p, i in self.intervals.items() if not isinstance(i.record, r.BeginPage)), None)
        first_hold = next(iter(self.holds), None)
        known = [position for position in (first_mark, first_interval, first_hold) if position is not None]
        return min(known, default=None)

    @property
    def at_rest(self) -> bool:
        """Nothing open, dirty, held or behind, and swept."""
        return not (self.intervals or self.marks or self.holds or self.unswept or self.behind or self.behind_all)

    @property
    def blank(self) -> bool:
        """Nothing was ever learned of the collection: the same as if it had no ledger."""
        return self.unswept == NEVER_SWEPT and not (
            self.intervals
            or self.marks
            or self.holds
            or self.parked
            or self.parked_whole
            or self.claimed
            or self.behind
            or self.behind_all
            or self.cursors
            or self.unswept_at
        )

    # --- the fold ------------------------------------------------------------------------

    def apply(self, position: int, record: r.AnyRecord) -> Effects:
        """Take the next record. `position` is higher than that of every record before."""
        match record:
            case r.BeginWrite():
                return self._begin_write(position, record)
            case r.BeginReconcile():
                return self._begin_reconcile(position, record)
            case r.BeginPage():
                return self._begin_page(position, record)
            case r.BeginScope():
                return self._begin_scope(position, record)
            case r.EndWrite() | r.EndReconcile() | r.EndPage() | r.EndScope() | r.Close():
                return self._end(position, record)
            case _:
                return self._take(position, record)

    def _take(self, position: int, record: r.AnyRecord) -> Effects:
        """A record that neither opens nor closes an interval."""
        match record:
            case r.NameKeys():
                self.intervals[record.begin].named.update(record.ids)
                return Effects()
            case r.Release():
                return self._release(position, record)
            case r.HoldSide(side=side, hold_seconds=seconds, copy=copy):
                return Effects(held=self._hold(position, side, seconds, None, copy=copy), generation=not copy)
            case r.Mark():
                return Effects(ready=self._mark(position, record.ids))
            case r.Unswept():
                self._need_sweep(position, record.reason)
                self.behind_all = record.behind_all or self.behind_all
                if record.unverified:
                    self.unverified, self.unverified_at = record.reason, position
                return Effects()
            case r.Verified(began=began):
                if self.unverified_at <= began:
                    self.unverified = ""
                return Effects()
            case r.Swept():
                return self._swept(record)
            case r.SetPhase():
                return self._set_phase(position, record)
            case _:
                return self._of_the_secondary(position, record)

    def _of_the_secondary(self, position: int, record: r.AnyRecord) -> Effects:
        """A record about what the secondary's collection is to this route."""
        match record:
            case r.Collapse():
                self._collapse(position, "too many dirty keys")
                return Effects()
            case r.ParkCollection(reason=reason):
                self.parked_whole, self.claimed = reason, False
                self._collapse(position, reason)
                return Effects()
            case r.Claim():
                return self._claim(position)
            case r.Commit(emergency=True):
                return self._emergency(position)
            case r.Recover(ids=ids):
                for point_id in ids:
                    self.behind.pop(point_id, None)
                if not ids:
                    self.behind, self.behind_all = {}, ""
                return Effects(ready=self._mark(position, ids), ready_all=not ids)
            case r.Bind():
                self.claimed = False
                self._need_sweep(position, "the route's stores are others than before")
                return Effects()
            case _:
                return Effects()

    # --- beginnings ------------------------------------------------------------------------

    def _begin_write(self, position: int, record: r.BeginWrite) -> Effects:
        interval = Interval(position, record, record.ids)
        if self.range_held or self._scopes:
            interval.mixed.update(record.ids)
        elif not has_none_of(self._held, record.ids):
            interval.mixed.update(point_id for point_id in record.ids if point_id in self._held)
        if len(set(record.ids)) < len(record.ids):
            interval.mixed.update(point_id for point_id, times in Counter(record.ids).items() if times > 1)
        _open_all(self._writers, record.ids, interval)
        self._touch(record.ids)
        self.intervals[position] = interval
        return Effects()

    def _begin_reconcile(self, position: int, record: r.BeginReconcile) -> Effects:
        ids = tuple(dict.fromkeys(record.ids))
        interval = Interval(position, record, ids)
        if record.recovery or self.blocked or not (has_none_of(self.behind, ids) and has_none_of(self._held, ids)):
            interval.skipped.update(point_id for point_id in ids if self._skips(point_id, record))
            ids = tuple(point_id for point_id in ids if point_id not in interval.skipped)
        _open_all(self._reconcilers, ids, interval)
        taken = pop_each(self.marks, ids)
        self._touch(taken)
        for page in self._pages.values():
            page.touched.update(taken)
        self.intervals[position] = interval
        return Effects(taken=taken, skipped=frozenset(interval.skipped))

    def _skips(self, point_id: PointId, record: r.BeginReconcile) -> bool:
        behind = point_id in self.behind
        kept_back = not behind or self.behind[point_id] or point_id in self._writers if record.recovery else behind
        return self.blocked or kept_back or point_id in self._held

    def _begin_page(self, position: int, record: r.BeginPage) -> Effects:
        interval = Interval(position, record, touched=set(self._reconcilers))
        interval.stale = any(_defines(scope) for scope in self._scopes.values())
        self.intervals[position] = self._pages[position] = interval
        return Effects()

    def _begin_scope(self, position: int, record: r.BeginScope) -> Effects:
        interval = Interval(position, record, touched=set(self._writers) | set(self._reconcilers))
        for scope in self._scopes.values():
            interval.touched |= scope.named
            if record.definition and _defines(scope):  # of two processes: who was last on which store?
                interval.stale = scope.stale = True
        for writer in self.intervals.values():
            if isinstance(writer.record, r.BeginWrite):
                writer.mixed.update(writer.ids)
        if record.definition:
            for page in self._pages.values():
                page.stale = True
        self.intervals[position] = self._scopes[position] = interval
        return Effects()

    def _touch(self, ids: Iterable[PointId]) -> None:
        """Tell open scopes and range holds that an interval names these keys."""
        for scope in self._scopes.values():
            scope.touched.update(ids)
        for hold in self.holds.values():
            if hold.ids is None:
                hold.touched.update(ids)

    # --- ends ------------------------------------------------------------------------------

    def _end(self, position: int, record: r.AnyRecord) -> Effects:
        assert isinstance(record, r.End)
        interval = self.intervals.pop(record.begin, None)
        if interval is None:  # closed already, by whoever took its owner for gone
            if not isinstance(record, r.Close):
                self._need_sweep(position, "an interval ended after it was closed")
            return Effects()
        self._pages.pop(record.begin, None)
        self._scopes.pop(record.begin, None)
        self._forget(interval)
        effects = self._end_of_kind(position, interval, record)
        effects.owner = interval.record.owner
        return effects

    def _end_of_kind(self, position: int, interval: Interval, record: r.End) -> Effects:
        match record:
            case r.EndWrite():
                return self._end_write(position, interval, record)
            case r.EndReconcile():
                return self._end_reconcile(position, interval, record)
            case r.EndPage():
                return self._end_page(position, interval, record)
            case r.EndScope():
                return self._end_scope(position, interval, record)
            case r.Close():
                return self._close(position, interval, record)
            case _:
                raise TypeError(f"not an end: {record}")

    def _forget(self, interval: Interval) -> None:
        match interval.record:
            case r.BeginWrite():
                index = self._writers
            case r.BeginReconcile():
                index = self._reconcilers
            case _:
                return
        if not (interval.shared or interval.skipped):
            remove(index, interval.ids)
            return
        for point_id in dict.fromkeys(interval.ids):
            if interval in (open_of_key := index.get(point_id, ())):
                left = tuple(other for other in open_of_key if other is not interval)
                if left:
                    index[point_id] = left
                else:
                    del index[point_id]

    def _end_write(self, position: int, interval: Interval, record: r.EndWrite) -> Effects:
        if record.outcome is Outcome.UNTOUCHED:
            return Effects(ready=interval.ids)
        ready = self._mark(position, interval.ids)
        if record.acknowledged:
            self.acknowledged_at = position
        held = None
        if record.outcome is Outcome.UNKNOWN:
            assert isinstance(interval.record, r.BeginWrite)
            held = self._hold(position, interval.record.primary, record.hold_seconds, interval.ids)
        sure = record.outcome is Outcome.ACCEPTED and not record.acknowledged and self._is_recent(interval)
        certain = interval.ids if sure else ()
        if interval.mixed:
            certain = tuple(i for i in certain if i not in interval.mixed)
        self._supersede(interval, interval.ids, certain if record.whole else ())
        return Effects(ready=ready, certain=certain, held=held)

    def _is_recent(self, interval: Interval) -> bool:
        """Whether it was begun for the store that is the primary since the last emergency."""
        return interval.position > self.emergency_at

    def _supersede(self, interval: Interval, ids: Iterable[PointId], whole: tuple[PointId, ...] = ()) -> None:
        """Of keys that are behind: a write that determines the whole point stands, whatever the old primary has. One
        that changes a part of it, or of which nobody knows what it did, makes two versions, which nobody can tell apart
        but people. What was begun before the emergency changed the old primary only."""
        if not self.behind or not self._is_recent(interval):
            return
        for point_id in ids:
            if point_id in self.behind:
                self.behind[point_id] = True
        for point_id in whole:
            self.behind.pop(point_id, None)

    def _end_reconcile(self, position: int, interval: Interval, record: r.EndReconcile) -> Effects:
        assert isinstance(interval.record, r.BeginReconcile)
        failed = {*record.dirty, *record.unclear, *(interval.mixed - interval.skipped)}
        settled = interval.ids
        if failed or interval.skipped:
            settled = tuple(i for i in settled if i not in failed and i not in interval.skipped)
        self._park(settled, dict(record.parked))
        if interval.record.recovery:
            for point_id in settled:
                self.behind.pop(point_id, None)
            failed.update(settled)  # as the old primary has them by now, as far as anybody knows
        if failed:
            self._mark(position, (i for i in interval.ids if i in failed))
        held = self._unclear(position, interval, record.unclear, record.hold_seconds)
        confirmed = dict.fromkeys(settled, interval.position)
        for page in self._pages.values():  # it may still put an older state there: its END will tell
            page.reconciled.update(confirmed)
        return Effects(ready=interval.ids, settled=settled, confirmed={} if self._pages else confirmed, held=held)

    def _end_page(self, position: int, interval: Interval, record: r.EndPage) -> Effects:
        assert isinstance(interval.record, r.BeginPage)
        again = {i for i in record.ids if i in interval.touched} | {*record.dirty, *record.unclear}
        if interval.stale:
            again.update(record.ids)
            self._need_sweep(position, "the collection was redefined during a backfill")
        self._park([i for i in record.ids if i not in again], dict(record.parked))
        for page in self._pages.values():
            page.touched.update(record.ids)
        for scope in self._scopes.values():
            scope.touched.update(record.ids)
        ready = self._mark(position, (i for i in record.ids if i in again))
        held = self._unclear(position, interval, record.unclear, record.hold_seconds)
        self.cursors[interval.record.job] = record.next
        self._doubt()
        confirmed = {i: at for i, at in interval.reconciled.items() if i not in self.marks}
        for page in self._pages.values():
            page.reconciled.update(confirmed)
        return Effects(ready=ready, confirmed={} if self._pages else confirmed, held=held)

    def _doubt(self) -> None:
        """A page that has ended may have put something older over what was reconciled beside it: those keys are marked,
        and another page must not confirm them, even if the mark is taken off by then."""
        for page in self._pages.values():
            for point_id in self.marks.keys() & page.reconciled.keys():
                del page.reconciled[point_id]

    def _unclear(self, position: int, interval: Interval, ids: tuple[PointId, ...], seconds: float) -> Hold | None:
        if not ids:
            return None
        assert isinstance(interval.record, r.BeginReconcile | r.BeginPage)
        return self._hold(position, interval.record.secondary, seconds, ids, copy=True)

    def _end_scope(self, position: int, interval: Interval, record: r.EndScope) -> Effects:
        assert isinstance(interval.record, r.BeginScope)
        definition = interval.record.definition
        if record.outcome is Outcome.UNTOUCHED:
            return Effects(ready_all=definition)
        if definition:
            self.parked_whole = ""
            self.claimed = self.claimed and not record.gone
        if record.sweep or interval.stale:
            self._need_sweep(position, record.sweep or "two definitions overlapped")
        elif record.equal:
            self.unswept = ""
            self.parked.clear()
            if self._is_recent(interval):  # nothing of the old primary is wanted any more
                self.behind, self.behind_all = {}, ""
        if record.acknowledged:
            self.acknowledged_at = position
        if definition or record.sweep:
            self._supersede(interval, tuple(self.behind))
        ready = self._mark(position, interval.named | interval.touched)
        self._supersede(interval, ready)
        held = None
        if record.outcome is Outcome.UNKNOWN:
            held = self._hold(position, interval.record.primary, record.hold_seconds, None)
        return Effects(ready=ready, ready_all=definition, held=held, generation=definition)

    def _close(self, position: int, interval: Interval, record: r.Close) -> Effects:
        """The owner is gone: unknown, whatever it was doing."""
        match interval.record:
            case r.BeginWrite(primary=side):
                self._supersede(interval, interval.ids)
                ready = self._mark(position, interval.ids)
                held = self._hold(position, side, record.hold_seconds, interval.ids)
            case r.BeginReconcile(secondary=side):
                ids = tuple(i for i in interval.ids if i not in interval.skipped)
                ready = self._mark(position, ids)
                held = self._hold(position, side, record.hold_seconds, ids, copy=True)
            case r.BeginPage(secondary=side):
                ready = self._mark(position, interval.touched)
                self._doubt()
                held = self._hold(position, side, record.hold_seconds, None, copy=True)
                if interval.stale:  # what may still land is of an older generation, and nobody knows its keys
                    self._need_sweep(position, "the collection was redefined during a backfill")
            case r.BeginScope(primary=side, definition=definition):
                self._supersede(interval, tuple(self.behind))
                ready = self._mark(position, interval.named | interval.touched)
                held = self._hold(position, side, record.hold_seconds, None)
                what = "a definition" if definition else "a write by filter"
                self._need_sweep(position, f"{what} was interrupted")
        return Effects(ready=ready, held=held, generation=True)

    # --- marks and holds -------------------------------------------------------------------

    def _mark(self, position: int, ids: Iterable[PointId]) -> tuple[PointId, ...]:
        marked = tuple(ids)
        remove(self.marks, marked)  # a renewed mark goes to the end: the order stays that of positions
        assign(self.marks, marked, position)
        return marked

    def _park(self, ids: Sequence[PointId], parked: dict[PointId, r.Parking]) -> None:
        """Of these keys those are parked from here on, and no other."""
        if not has_none_of(self.parked, ids):
            remove(self.parked, ids)
        if parked:
            self.parked.update((point_id, parked[point_id]) for point_id in ids if point_id in parked)

    def _hold(
        self, position: int, side: Side, seconds: float, ids: tuple[PointId, ...] | None, *, copy: bool = False
    ) -> Hold:
        hold = Hold(side, seconds, ids, copy=copy)
        if ids is None:
            hold.touched.update(self._writers, self._reconcilers)
        else:
            for point_id in ids:
                self._held[point_id] = self._held.get(point_id, 0) + 1
        self.holds[position] = hold
        return hold

    def _release(self, position: int, record: r.Release) -> Effects:
        hold = self.holds.pop(record.hold, None)
        if hold is None:
            return Effects()
        if hold.ids is None:
            self._mark(position, hold.touched)
            return Effects(ready_all=True)
        for point_id in hold.ids:
            left = self._held[point_id] - 1
            if left:
                self._held[point_id] = left
            else:
                del self._held[point_id]
        return Effects(ready=hold.ids)

    def _collapse(self, position: int, reason: str) -> None:
        """Forget which keys are dirty, and have all swept. But a page does not wait for a hold: what may still land on
        a held key would land behind its back, so those marks stay."""
        self.marks = {point_id: at for point_id, at in self.marks.items() if point_id in self._held}
        self._need_sweep(position, reason)

    def _emergency(self, position: int) -> Effects:
        """The secondary is the primary from here on, although it may lack what is not clean."""
        self.emergency_at = position
        listed = {*self.marks, *self._writers, *self._reconcilers, *self._held, *self.parked}
        for page in self._pages.values():
            listed |= page.touched
        self.behind.update(dict.fromkeys(listed, False))
        if self._scopes or self.range_held:
            self.behind_all = "a request that could touch any key was under way"
        elif self.unswept:
            self.behind_all = f"it was not known which keys differ: {self.unswept}"
        if self._scopes or self._writers or self.behind or self.behind_all or not self.unswept:
            self._need_sweep(position, "the primary was moved in an emergency")
        self.unverified, self.unverified_at = "the primary was moved in an emergency", position
        return Effects(generation=True)

    def _claim(self, position: int) -> Effects:
        self.claimed = True
        if not self.parked_whole:
            return Effects()
        self.parked_whole = ""
        self._need_sweep(position, "it was parked as a whole")
        return Effects(ready_all=True)

    def _need_sweep(self, position: int, reason: str) -> None:
        if self.unswept != NEVER_SWEPT:
            self.unswept = reason
        self._void_sweeps(position)

    def _void_sweeps(self, position: int) -> None:
        """What was swept before does not count: whoever goes on with it begins at the first page."""
        self.unswept_at = position
        self.cursors.clear()

    def _swept(self, record: r.Swept) -> Effects:
        self.cursors = {job: at for job, at in self.cursors.items() if at is not None}
        if self.unswept_at <= record.began:
            self.unswept = ""
        elif self.unswept == NEVER_SWEPT:
            self.unswept = INTERRUPTED
        return Effects()

    def _set_phase(self, position: int, record: r.SetPhase) -> Effects:
        """Un-journalled writes may still be landing on the source when journalling begins."""
        if record.phase == r.DIRECT:  # what is written from here on is not journalled
            self.marks.clear()
            self.parked.clear()
            self.unswept = NEVER_SWEPT
            self._void_sweeps(position)
            return Effects()
        held = self._hold(position, Side.SOURCE, record.hold_seconds, None) if record.hold_seconds else None
        return Effects(held=held, ready_all=True)


def _open_all(index: dict[PointId, tuple[Interval, ...]], ids: tuple[PointId, ...], interval: Interval) -> None:
    """`interval` is open for these keys, which may be repeated; where others are, too, they have overlapped."""
    if has_none_of(index, ids):
        assign(index, ids, (interval,))
        return
    for point_id in dict.fromkeys(ids):
        for other in (others := _open(index, point_id, interval)):
            other.mixed.add(point_id)
        if others:
            interval.mixed.add(point_id)


def _open(index: dict[PointId, tuple[Interval, ...]], point_id: PointId, interval: Interval) -> tuple[Interval, ...]:
    """The others that are open for the key."""
    others = index.get(point_id, ())
    index[point_id] = (*others, interval)
    if others:
        for one in (interval, *others):
            one.shared = True
    return others


def _defines(scope: Interval) -> bool:
    return isinstance(scope.record, r.BeginScope) and scope.record.definition
