"""Ledgers with a rule left out, which more than one test has to catch."""

from __future__ import annotations

from proxy.replication import records as r
from proxy.replication.ledger import Effects, Interval, Ledger


class MarkOffAtEnd(Ledger):
    def _begin_reconcile(self, position: int, record: r.BeginReconcile) -> Effects:
        effects = super()._begin_reconcile(position, record)
        self.marks.update({key: mark for key, mark in effects.taken.items() if mark is not None})
        return effects

    def _end_reconcile(self, position: int, interval: Interval, record: r.EndReconcile) -> Effects:
        effects = super()._end_reconcile(position, interval, record)
        for key in effects.settled:
            self.marks.pop(key, None)
        return effects


class PageMarksNothing(Ledger):
    def _end_page(self, position: int, interval: Interval, record: r.EndPage) -> Effects:
        interval.touched.clear()
        return super()._end_page(position, interval, record)


class ScopeForgetsOverlaps(Ledger):
    def _end_scope(self, position: int, interval: Interval, record: r.EndScope) -> Effects:
        interval.touched.clear()
        return super()._end_scope(position, interval, record)
