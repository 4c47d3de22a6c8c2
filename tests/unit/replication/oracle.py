"""What the ledger has to say, from the whole list of records: slow, and to be checked against docs/replication.md.

`History` keeps the records and nothing else. Every question is put about a moment `t` (after the first `t` records; the
position of a record is its number) and answered by looking through the list: which intervals were open then, which of
them overlapped, which record was the last to say something about a key. What was answered about a moment stays true, so
answers are remembered; nothing is ever updated.

The words are those of docs/replication.md; each rule is quoted where it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from proxy.dialects import Outcome
from proxy.model import PointId, Side
from proxy.replication import records as r

P = ParamSpec("P")
T = TypeVar("T")


def remembered(question: Callable[Concatenate[History, P], T]) -> Callable[Concatenate[History, P], T]:
    @wraps(question)
    def ask(self: History, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (question.__name__, args)
        if key not in self._answers:
            self._answers[key] = question(self, *args, **kwargs)
        return cast(T, self._answers[key])

    return cast("Callable[Concatenate[History, P], T]", ask)


class History:
    """The records of one collection's ledger, from the first one on."""

    def __init__(self) -> None:
        self._records: list[r.AnyRecord] = []
        self._ends: dict[int, int] = {}  # begin -> the record that ended it: the first one counts
        self._answers: dict[tuple[str, tuple[Any, ...]], Any] = {}

    def add(self, record: r.AnyRecord) -> int:
        """The record's position."""
        self._records.append(record)
        position = len(self._records)
        if isinstance(record, r.End):
            self._ends.setdefault(record.begin, position)
        return position

    def at(self, position: int) -> r.AnyRecord:
        return self._records[position - 1]

    # --- intervals -------------------------------------------------------------------------------

    def is_open(self, begin: int, t: int) -> bool:
        return begin <= t and not self._ends.get(begin, t + 1) <= t

    @remembered
    def open_at(self, t: int, kind: type[r.Begin]) -> list[int]:
        return [begin for begin in range(1, t + 1) if isinstance(self.at(begin), kind) and self.is_open(begin, t)]

    def overlapping(self, begin: int, t: int, kind: type[r.Begin]) -> Iterator[int]:
        """Other intervals of that kind that were open at some time from `begin` to `t`."""
        for other in range(1, t + 1):
            if other != begin and isinstance(self.at(other), kind) and (other > begin or self.is_open(other, begin)):
                yield other

    def ended_by(self, position: int) -> int | None:
        """The interval that the record at `position` ended; None if it ended none, or one that was closed before."""
        record = self.at(position)
        ends = isinstance(record, r.End) and self._ends[record.begin] == position
        return record.begin if ends else None  # type: ignore[union-attr]

    def names(self, begin: int, key: PointId) -> bool:
        """Whether the write or reconciliation at `begin` works on the key."""
        record = self.at(begin)
        if isinstance(record, r.BeginReconcile):
            return self.takes(begin, key)
        return isinstance(record, r.BeginWrite) and key in record.ids

    @remembered
    def names_in_time(self, begin: int, key: PointId, t: int) -> bool:
        """Whether the scope at `begin` had named the key by `t`."""
        records = (self.at(position) for position in range(begin + 1, t + 1))
        return any(isinstance(each, r.NameKeys) and each.begin == begin and key in each.ids for each in records)

    def is_definition(self, begin: int) -> bool:
        record = self.at(begin)
        return isinstance(record, r.BeginScope) and record.definition

    def definitions_overlap(self, begin: int, t: int) -> bool:
        return any(self.is_definition(other) for other in self.overlapping(begin, t, r.BeginScope))

    @remembered
    def takes(self, begin: int, key: PointId) -> bool:
        """ "Nobody reconciles a held key"; a definition, a parked collection and an emergency keep keys back, too."""
        record, before = self.at(begin), begin - 1
        assert isinstance(record, r.BeginReconcile)
        if key not in record.ids or self.is_held(key, before) or self.is_blocked(before):
            return False
        if not record.recovery:
            return self.behind(key, before) is None
        return self.behind(key, before) is False and not self.written_now(key, before)

    @remembered
    def written_now(self, key: PointId, t: int) -> bool:
        return any(self.names(begin, key) for begin in self.open_at(t, r.BeginWrite))

    @remembered
    def copied_now(self, key: PointId, t: int) -> bool:
        return any(self.takes(begin, key) for begin in self.open_at(t, r.BeginReconcile))

    @remembered
    def provisional(self, page: int, key: PointId, t: int) -> bool:
        """ "What reconciles one of its keys meanwhile is marked provisionally", another page among it."""
        if any(self.takes(other, key) for other in self.overlapping(page, t, r.BeginReconcile)):
            return True
        return any(self._page_named(end, key) for end in range(page + 1, t + 1))

    def _page_named(self, end: int, key: PointId) -> bool:
        record = self.at(end)
        return isinstance(record, r.EndPage) and self.ended_by(end) is not None and key in record.ids

    # --- dirty -----------------------------------------------------------------------------------

    @remembered
    def mark(self, key: PointId, t: int) -> int | None:
        """Position of the record that left the key dirty; None if it is not."""
        if t == 0:
            return None
        if self._makes_dirty(t, key):
            return t
        if self._takes_mark_off(t, key):
            return None
        return self.mark(key, t - 1)

    def _takes_mark_off(self, position: int, key: PointId) -> bool:
        match self.at(position):
            case r.BeginReconcile():  # "BEGIN of a reconciliation takes the marks off, never its END"
                return self.takes(position, key)
            case r.Collapse() | r.ParkCollection():  # "... but for those of held keys"
                return not self.is_held_by_name(key, position - 1)
            case r.SetPhase(phase=r.DIRECT):
                return True
        return False

    @remembered
    def _makes_dirty(self, position: int, key: PointId) -> bool:
        record, begin = self.at(position), self.ended_by(position)
        if begin is not None:
            return self._end_makes_dirty(position, begin, key)
        match record:
            case r.Mark(ids=ids) | r.Recover(ids=ids):
                return key in ids
            case r.Release(hold=hold):  # keys touched under a hold of the collection are dirty again when it ends
                return self._is_held_range(hold, position - 1) and self._touched_under(hold, key, position)
        return False

    def _touched_under(self, hold: int, key: PointId, t: int) -> bool:
        kinds = (r.BeginWrite, r.BeginReconcile)
        return any(self.names(other, key) for kind in kinds for other in self.overlapping(hold, t, kind))

    def _end_makes_dirty(self, position: int, begin: int, key: PointId) -> bool:
        record = self.at(position)
        match self.at(begin), record:
            case r.BeginWrite(ids=ids), r.EndWrite(outcome=outcome):  # "only what was certainly refused leaves nothing"
                return key in ids and outcome is not Outcome.UNTOUCHED
            case r.BeginWrite(ids=ids), r.Close():
                return key in ids
            case r.BeginReconcile(recovery=recovery), r.EndReconcile():
                return self.takes(begin, key) and (recovery or not self.settled(position, key))
            case r.BeginReconcile(), r.Close():
                return self.takes(begin, key)
            case r.BeginPage(), r.EndPage(ids=ids):
                return (key in ids and not self._page_left_clean(position, key)) or key in self._failed(record)
            case r.BeginPage(), r.Close():
                return self.provisional(begin, key, position - 1)
            case r.BeginScope(), r.EndScope(outcome=Outcome.UNTOUCHED):
                return False
            case r.BeginScope(), _:
                return self.names_in_time(begin, key, position) or self._overlapped(begin, key, position)
        return False

    def _overlapped(self, scope: int, key: PointId, end: int) -> bool:
        """ "Every key that another interval overlapped"."""
        kinds = (r.BeginWrite, r.BeginReconcile)
        if any(self.names(other, key) for kind in kinds for other in self.overlapping(scope, end, kind)):
            return True
        if any(self._page_named(at, key) for at in range(scope + 1, end)):
            return True
        return any(self.names_in_time(other, key, scope) for other in self.open_at(scope - 1, r.BeginScope))

    @staticmethod
    def _failed(record: r.AnyRecord) -> set[PointId]:
        assert isinstance(record, r.EndReconcile | r.EndPage)
        return {*record.dirty, *record.unclear}

    @remembered
    def settled(self, end: int, key: PointId) -> bool:
        """The reconciliation ended well for the key: "two that overlap on a key leave it dirty"."""
        begin, record = self.ended_by(end), self.at(end)
        if begin is None or not isinstance(record, r.EndReconcile) or not self.takes(begin, key):
            return False
        others = self.overlapping(begin, end, r.BeginReconcile)
        return key not in self._failed(record) and not any(self.takes(other, key) for other in others)

    @remembered
    def _page_left_clean(self, end: int, key: PointId) -> bool:
        begin, record = self.ended_by(end), self.at(end)
        if begin is None or not isinstance(record, r.EndPage) or key not in record.ids:
            return False
        stale = self.definitions_overlap(begin, end)
        return not (stale or key in self._failed(record) or self.provisional(begin, key, end - 1))

    # --- held --------------------------------------------------------------------------------------

    @remembered
    def hold(self, position: int) -> tuple[Side, float, frozenset[PointId] | None, bool] | None:
        """What the record at `position` says may still land: on which side, for how long, on which keys (None: any),
        and whether it is a copy of ours."""
        match self.at(position):
            case r.HoldSide(side=side, hold_seconds=seconds, copy=copy):
                return side, seconds, None, copy
            case r.SetPhase(phase=phase, hold_seconds=seconds) if seconds and phase != r.DIRECT:
                return Side.SOURCE, seconds, None, False
        begin = self.ended_by(position)
        return None if begin is None else self._hold_of_end(begin, position)

    def _hold_of_end(self, begin: int, end: int) -> tuple[Side, float, frozenset[PointId] | None, bool] | None:
        match self.at(begin), self.at(end):
            case (r.BeginWrite(primary=side, ids=ids), r.EndWrite(outcome=Outcome.UNKNOWN, hold_seconds=seconds)):
                return side, seconds, frozenset(ids), False
            case r.BeginWrite(primary=side, ids=ids), r.Close(hold_seconds=seconds):
                return side, seconds, frozenset(ids), False
            case (
                r.BeginReconcile(secondary=side) | r.BeginPage(secondary=side),
                r.EndReconcile(unclear=unclear, hold_seconds=seconds)
                | r.EndPage(unclear=unclear, hold_seconds=seconds),
            ) if unclear:
                return side, seconds, frozenset(unclear), True
            case r.BeginReconcile(secondary=side, ids=ids), r.Close(hold_seconds=seconds):
                return side, seconds, frozenset(key for key in ids if self.takes(begin, key)), True
            case r.BeginPage(secondary=side), r.Close(hold_seconds=seconds):
                return side, seconds, None, True
            case r.BeginScope(primary=side), r.EndScope(outcome=Outcome.UNKNOWN, hold_seconds=seconds):
                return side, seconds, None, False
            case r.BeginScope(primary=side), r.Close(hold_seconds=seconds):
                return side, seconds, None, False
        return None

    @remembered
    def holds_at(self, t: int) -> list[int]:
        released = {record.hold for record in self._records[:t] if isinstance(record, r.Release)}
        return [p for p in range(1, t + 1) if p not in released and self.hold(p) is not None]

    @remembered
    def is_held_by_name(self, key: PointId, t: int) -> bool:
        return any(key in (self._held_keys(position) or ()) for position in self.holds_at(t))

    @remembered
    def is_range_held(self, t: int) -> bool:
        return any(self._held_keys(position) is None for position in self.holds_at(t))

    def is_held(self, key: PointId, t: int) -> bool:
        return self.is_held_by_name(key, t) or self.is_range_held(t)

    def _held_keys(self, position: int) -> frozenset[PointId] | None:
        hold = self.hold(position)
        assert hold is not None
        return hold[2]

    def _is_held_range(self, hold: int, t: int) -> bool:
        return hold in self.holds_at(t) and self._held_keys(hold) is None

    def endangered(self, key: PointId, side: Side, rewrites: bool, t: int) -> bool:
        """Whether something that may still land on `side` could undo a write of the key there: a copy of ours, sent or
        to be sent, or, where the store rewrites whole points, a client's request."""
        for position in self.holds_at(t):
            hold = self.hold(position)
            assert hold is not None
            if hold[0] is side and (hold[3] or rewrites) and (hold[2] is None or key in hold[2]):
                return True
        for begin in self.open_at(t, r.BeginReconcile):
            if self.at(begin).secondary is side and self.takes(begin, key):  # type: ignore[union-attr]
                return True
        return any(self.at(begin).secondary is side for begin in self.open_at(t, r.BeginPage))  # type: ignore[union-attr]

    @remembered
    def is_blocked(self, t: int) -> bool:
        """ "Reconciliation waits for" a definition; nothing goes to a collection that the secondary cannot have."""
        defining = any(self.is_definition(begin) for begin in self.open_at(t, r.BeginScope))
        return defining or self.is_range_held(t) or bool(self.parked_whole(t)) or self.all_behind(t)

    # --- parked, claimed, swept --------------------------------------------------------------------

    @remembered
    def parked(self, key: PointId, t: int) -> r.Parking | None:
        if t == 0:
            return None
        record = self.at(t)
        if self.settled(t, key) or self._page_left_clean(t, key):
            assert isinstance(record, r.EndReconcile | r.EndPage)
            return dict(record.parked).get(key)
        emptied = self._made_equal(t) or (isinstance(record, r.SetPhase) and record.phase == r.DIRECT)
        return None if emptied else self.parked(key, t - 1)

    def _ended_scope(self, t: int) -> r.EndScope | None:
        """The end of a scope that may have changed something."""
        record = self.at(t)
        counts = isinstance(record, r.EndScope) and record.outcome is not Outcome.UNTOUCHED
        return record if counts and self.ended_by(t) is not None else None  # type: ignore[return-value]

    def _ended_definition(self, t: int) -> r.EndScope | None:
        ended = self._ended_scope(t)
        return ended if ended is not None and self.is_definition(ended.begin) else None

    def _made_equal(self, t: int) -> bool:
        """A definition after which both hold nothing. Of two that overlapped, nobody knows which came last."""
        ended = self._ended_definition(t)
        return ended is not None and ended.equal and not ended.sweep and not self.definitions_overlap(ended.begin, t)

    @remembered
    def parked_whole(self, t: int) -> str:
        if t == 0:
            return ""
        record = self.at(t)
        if isinstance(record, r.ParkCollection):
            return record.reason
        if isinstance(record, r.Claim) or self._ended_definition(t) is not None:
            return ""
        return self.parked_whole(t - 1)

    @remembered
    def claimed(self, t: int) -> bool:
        """ "Made for the route, found empty, or adopted", and not dropped since."""
        if t == 0:
            return False
        record, definition = self.at(t), self._ended_definition(t)
        if isinstance(record, r.Claim):
            return True
        if isinstance(record, r.ParkCollection | r.Bind) or (definition is not None and definition.gone):
            return False
        return self.claimed(t - 1)

    @remembered
    def _asks_for_sweep(self, t: int) -> bool:
        record, begin = self.at(t), self.ended_by(t)
        if isinstance(record, r.End) and begin is None:  # it ended after it was closed
            return not isinstance(record, r.Close)
        if begin is not None and isinstance(self.at(begin), r.BeginPage):
            return self.definitions_overlap(begin, t)
        if begin is not None and isinstance(self.at(begin), r.BeginScope):
            if isinstance(record, r.Close):
                return True
            ended = self._ended_scope(t)
            twice = self.is_definition(begin) and self.definitions_overlap(begin, t)
            return ended is not None and (bool(ended.sweep) or twice)
        match record:
            case r.Unswept() | r.Collapse() | r.ParkCollection() | r.Bind():
                return True
            case r.SetPhase(phase=r.DIRECT):
                return True
            case r.Claim():
                return bool(self.parked_whole(t - 1))
        return self.is_emergency(t)

    @remembered
    def needs_sweep(self, t: int) -> bool:
        if t == 0 or self._asks_for_sweep(t):
            return True
        record = self.at(t)
        if isinstance(record, r.Swept) and not self._asked_since(record.began, t):
            return False
        return not self._made_equal(t) and self.needs_sweep(t - 1)

    def _asked_since(self, began: int, t: int) -> bool:
        """ "A sweep that began before the last such reason does not clear it"."""
        return any(self._asks_for_sweep(position) for position in range(began + 1, t))

    @remembered
    def never_swept(self, t: int) -> bool:
        """The operator has to say that the secondary may be filled: nothing was ever in step."""
        if t == 0:
            return True
        record = self.at(t)
        if isinstance(record, r.SetPhase) and record.phase == r.DIRECT:
            return True
        return not (isinstance(record, r.Swept) or self._made_equal(t)) and self.never_swept(t - 1)

    # --- emergencies -------------------------------------------------------------------------------

    def is_emergency(self, t: int) -> bool:
        record = self.at(t)
        return isinstance(record, r.Commit) and record.emergency

    def _since_emergency(self, begin: int, t: int) -> bool:
        """Whether an interval was begun for the new primary."""
        return not any(self.is_emergency(position) for position in range(begin, t + 1))

    @remembered
    def behind(self, key: PointId, t: int) -> bool | None:
        """None: it is not behind. True: changed on the new primary since, so that nothing may be copied over it."""
        if t == 0:
            return None
        before = self.behind(key, t - 1)
        if self.is_emergency(t):
            return False if self._uncertain(key, t - 1) else before
        if before is None:
            return None
        match self.at(t):
            case r.Recover(ids=ids):
                return before if ids and key not in ids else None
            case r.EndReconcile(begin=copy) if self.settled(t, key):
                return None if self.at(copy).recovery else before  # type: ignore[union-attr]
        begin = self.ended_by(t)
        if begin is not None and self._since_emergency(begin, t):
            return self._superseded(begin, t, key, before)
        return before

    def _uncertain(self, key: PointId, t: int) -> bool:
        """ "Whatever was not clean may be behind"."""
        pages = self.open_at(t, r.BeginPage)
        return (
            self.mark(key, t) is not None
            or self.written_now(key, t)
            or self.copied_now(key, t)
            or self.is_held_by_name(key, t)
            or self.parked(key, t) is not None
            or any(self.provisional(page, key, t) for page in pages)
        )

    def _superseded(self, begin: int, end: int, key: PointId, before: bool) -> bool | None:
        """What a write on the new primary leaves of it: one that determines the whole point stands, any other makes two
        versions. A definition after which both hold nothing leaves nothing behind."""
        record = self.at(end)
        match self.at(begin):
            case r.BeginWrite(ids=ids) if key in ids:
                if isinstance(record, r.Close):
                    return True
                assert isinstance(record, r.EndWrite)
                if record.outcome is Outcome.UNTOUCHED:
                    return before
                return None if record.whole and key in self.certain(end) else True
            case r.BeginScope():
                if isinstance(record, r.EndScope) and record.outcome is Outcome.UNTOUCHED:
                    return before
                if self._made_equal(end):
                    return None
                anything = isinstance(record, r.Close) or self.is_definition(begin) or record.sweep  # type: ignore[union-attr]
                return True if anything or self._end_makes_dirty(end, begin, key) else before
        return before

    @remembered
    def all_behind(self, t: int) -> bool:
        if t == 0:
            return False
        before, record = self.all_behind(t - 1), self.at(t)
        if self.is_emergency(t):
            scopes = self.open_at(t - 1, r.BeginScope)
            return before or bool(scopes) or self.is_range_held(t - 1) or self.needs_sweep(t - 1)
        if isinstance(record, r.Recover) and not record.ids:
            return False
        begin = self.ended_by(t)
        if begin is not None and self._made_equal(t) and self._since_emergency(begin, t):
            return False
        return before

    # --- what others act on --------------------------------------------------------------------------

    @remembered
    def certain(self, end: int) -> frozenset[PointId]:
        """Keys whose state the write that ended alone determines."""
        begin, record = self.ended_by(end), self.at(end)
        if begin is None or not isinstance(record, r.EndWrite):
            return frozenset()
        if record.outcome is not Outcome.ACCEPTED or record.acknowledged or not self._since_emergency(begin, end):
            return frozenset()
        if self.is_range_held(begin - 1) or any(self.overlapping(begin, end, r.BeginScope)):
            return frozenset()
        ids: tuple[PointId, ...] = self.at(begin).ids  # type: ignore[union-attr]
        others = list(self.overlapping(begin, end, r.BeginWrite))
        return frozenset(
            key
            for key in ids
            if ids.count(key) == 1
            and not self.is_held_by_name(key, begin - 1)
            and not any(self.names(other, key) for other in others)
        )

    def confirmed(self, t: int) -> dict[PointId, int]:
        """Keys of which it is known since the record at `t` that the secondary has what it had when that reconciliation
        began: it has ended well, and so has every page that could put something older there."""
        record = self.at(t)
        if not isinstance(record, r.EndReconcile | r.EndPage) or self.ended_by(t) is None or self._paged(t):
            return {}
        found: dict[PointId, int] = {}
        for end in range(1, t + 1):
            begin, copied = self.ended_by(end), self.at(end)
            if begin is None or not isinstance(copied, r.EndReconcile):
                continue
            if all(self._paged(later) for later in range(end, t)):
                found |= {key: begin for key in copied_keys(self.at(begin)) if self._stands(end, key, t)}
        return found

    def _paged(self, t: int) -> bool:
        return bool(self.open_at(t, r.BeginPage))

    def _stands(self, end: int, key: PointId, t: int) -> bool:
        begins = [(at, self.ended_by(at)) for at in range(end, t + 1)]
        pages = [at for at, begin in begins if begin is not None and isinstance(self.at(begin), r.BeginPage)]
        return self.settled(end, key) and all(self.mark(key, at) is None for at in pages)

    def voids_hints(self, t: int) -> bool:
        """Whether a hint from before may be other than what the primary holds: a definition, an owner that is gone with
        its memory, another primary, or requests that nobody journalled."""
        record = self.at(t)
        if isinstance(record, r.HoldSide):
            return not record.copy
        dead = isinstance(record, r.Close) and self.ended_by(t) is not None
        return dead or self.is_emergency(t) or self._ended_definition(t) is not None

    def acknowledged_at(self, t: int) -> int:
        for position in range(t, 0, -1):
            record = self.at(position)
            if not isinstance(record, r.EndWrite | r.EndScope) or self.ended_by(position) is None:
                continue
            if record.acknowledged and record.outcome is not Outcome.UNTOUCHED:
                return position
        return 0

    def cursors(self, t: int) -> dict[str, PointId | None]:
        found: dict[str, PointId | None] = {}
        for position in range(1, t + 1):
            record, begin = self.at(position), self.ended_by(position)
            if self._asks_for_sweep(position):
                found.clear()
            if isinstance(record, r.Swept):
                found = {job: at for job, at in found.items() if at is not None}
            if begin is not None and isinstance(record, r.EndPage):
                found[self.at(begin).job] = record.next  # type: ignore[union-attr]
        return found

    def is_resting(self, key: PointId, t: int) -> bool:
        scopes, pages = self.open_at(t, r.BeginScope), self.open_at(t, r.BeginPage)
        under_way = self.written_now(key, t) or self.copied_now(key, t) or bool(scopes)
        provisional = any(self.provisional(page, key, t) for page in pages)
        return not (under_way or provisional or self.is_held(key, t) or self.mark(key, t) is not None)

    def is_clean(self, key: PointId, t: int) -> bool:
        """Both stores are known to hold the same."""
        return self.is_resting(key, t) and not self.needs_sweep(t) and self.parked(key, t) is None


def copied_keys(record: r.AnyRecord) -> tuple[PointId, ...]:
    assert isinstance(record, r.BeginReconcile)
    return record.ids
