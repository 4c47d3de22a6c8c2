"""The ledger against a simulated world: thousands of interleavings come to rest with equal stores, and each rule that
is left out is caught by one of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.model import PointId, Side
from proxy.replication import records as r
from proxy.replication.book import Book, RouteBook, dump, load
from proxy.replication.ledger import Effects, Hold, Interval, Ledger
from tests.unit.replication.broken_ledgers import MarkOffAtEnd, PageMarksNothing, ScopeForgetsOverlaps
from tests.unit.replication.simulation import differences, run

RUNS = 1500


def test_at_rest_both_stores_hold_the_same() -> None:
    for seed in range(RUNS):
        world = run(seed, Ledger())
        assert not differences(world), f"seed {seed}\n" + "\n".join(world.log)


def test_a_snapshot_taken_anywhere_changes_nothing() -> None:
    for seed in range(0, RUNS, 10):
        straight = run(seed, Ledger())
        reloaded = run(seed, _Reloading())
        assert straight.log == reloaded.log


class _Reloading(Ledger):
    """Passes through a snapshot before every record."""

    def apply(self, position: int, record: r.AnyRecord) -> Effects:
        book = Book({"x": RouteBook(ledgers={"c": self})})
        fresh = load(dump(book)).routes["x"].ledgers["c"]
        for slot in Ledger.__slots__:
            setattr(self, slot, getattr(fresh, slot))
        return super().apply(position, record)


# --- rules left out -------------------------------------------------------------------------------


class _UnknownIsUntouched(Ledger):
    def _end_write(self, position: int, interval: Interval, record: r.EndWrite) -> Effects:
        return super()._end_write(position, interval, record) if not record.hold_seconds else Effects()


class _HintDespiteHold(Ledger):
    def _begin_write(self, position: int, record: r.BeginWrite) -> Effects:
        effects = super()._begin_write(position, record)
        self.intervals[position].mixed.clear()
        return effects


class _NoHold(Ledger):
    def _hold(
        self, position: int, side: Side, seconds: float, ids: tuple[PointId, ...] | None, *, copy: bool = False
    ) -> Hold:
        hold = super()._hold(position, side, seconds, ids, copy=copy)
        self.apply(position, r.Release(route="x", collection="c", hold=position))
        return hold


class _PageTakesMarks(Ledger):
    def _begin_page(self, position: int, record: r.BeginPage) -> Effects:
        self.marks.clear()
        return super()._begin_page(position, record)


class _DeadPageForgotten(Ledger):
    def _close(self, position: int, interval: Interval, record: r.Close) -> Effects:
        if isinstance(interval.record, r.BeginPage):
            return Effects()
        return super()._close(position, interval, record)


class _DeadReconcilerNotHeld(Ledger):
    def _close(self, position: int, interval: Interval, record: r.Close) -> Effects:
        effects = super()._close(position, interval, record)
        if isinstance(interval.record, r.BeginReconcile):
            self.apply(position, r.Release(route="x", collection="c", hold=position))
        return effects


class _ScopeNamesNothing(Ledger):
    def _end_scope(self, position: int, interval: Interval, record: r.EndScope) -> Effects:
        interval.named.clear()
        return super()._end_scope(position, interval, record)


BROKEN: list[Callable[[], Ledger]] = [
    _UnknownIsUntouched,
    _HintDespiteHold,
    _NoHold,
    MarkOffAtEnd,
    PageMarksNothing,
    _PageTakesMarks,
    _DeadPageForgotten,
    _DeadReconcilerNotHeld,
    ScopeForgetsOverlaps,
    _ScopeNamesNothing,
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda kind: kind.__name__.strip("_"))
def test_every_rule_is_needed(broken: Callable[[], Ledger]) -> None:
    assert any(differences(run(seed, broken())) for seed in range(10 * RUNS))
