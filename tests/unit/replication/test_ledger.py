"""Rules of the ledger that are easier to read one by one."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.dialects import Outcome
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.book import Book, dump, load
from proxy.replication.ledger import NEVER_SWEPT, Ledger

HERE: Any = {"route": "docs", "collection": "c"}


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(unswept="")


def begin_write(*ids: int) -> r.BeginWrite:
    return r.BeginWrite(**HERE, owner="A", ids=ids, primary=Side.SOURCE)


def end_write(begin: int, outcome: Outcome = Outcome.ACCEPTED, acknowledged: bool = False) -> r.EndWrite:
    hold = 5.0 if outcome is Outcome.UNKNOWN else 0.0
    return r.EndWrite(**HERE, begin=begin, outcome=outcome, acknowledged=acknowledged, hold_seconds=hold)


def begin_reconcile(*ids: int) -> r.BeginReconcile:
    return r.BeginReconcile(**HERE, owner="A", ids=ids, secondary=Side.TARGET)


def test_a_write_leaves_its_keys_dirty_until_they_are_reconciled(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7, 8))
    assert not ledger.is_clean(7)
    effects = ledger.apply(2, end_write(1))
    assert effects.certain == (7, 8)
    assert ledger.marks == {7: 2, 8: 2}
    assert ledger.apply(3, begin_reconcile(7, 8)).taken == {7: 2, 8: 2}
    assert not ledger.is_clean(7)
    assert ledger.apply(4, r.EndReconcile(**HERE, begin=3, dirty=(8,))).settled == (7,)
    assert ledger.is_clean(7)
    assert not ledger.is_clean(8)


def test_two_reconciliations_of_a_key_that_overlap_leave_it_dirty(ledger: Ledger) -> None:
    ledger.apply(1, r.Mark(**HERE, ids=(7,)))
    ledger.apply(2, begin_reconcile(7))
    ledger.apply(3, r.Mark(**HERE, ids=(7,)))
    ledger.apply(4, begin_reconcile(7))
    assert ledger.apply(5, r.EndReconcile(**HERE, begin=2)).settled == ()
    assert ledger.apply(6, r.EndReconcile(**HERE, begin=4)).settled == ()
    assert 7 in ledger.marks


def test_a_write_that_was_refused_leaves_nothing(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7))
    ledger.apply(2, end_write(1, Outcome.UNTOUCHED))
    assert ledger.is_clean(7)
    assert ledger.at_rest


def test_an_error_that_may_have_changed_something_leaves_dirty_keys_without_a_hint(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7))
    assert ledger.apply(2, end_write(1, Outcome.FAILED)).certain == ()
    assert 7 in ledger.marks
    assert not ledger.is_held(7)


def test_a_write_that_was_only_acknowledged_gives_no_hint(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7))
    assert ledger.apply(2, end_write(1, acknowledged=True)).certain == ()
    assert ledger.acknowledged_at == 2


def test_a_key_twice_in_a_request_gives_no_hint(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7, 7, 8))
    assert ledger.apply(2, end_write(1)).certain == (8,)


def test_a_held_key_is_not_reconciled_until_it_is_released(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7))
    ledger.apply(2, end_write(1, Outcome.UNKNOWN))
    assert ledger.apply(3, begin_reconcile(7)).skipped == {7}
    ledger.apply(4, r.EndReconcile(**HERE, begin=3))
    assert 7 in ledger.marks
    assert tuple(ledger.apply(5, r.Release(**HERE, hold=2)).ready) == (7,)
    assert ledger.apply(6, begin_reconcile(7)).taken == {7: 2}


def test_a_parked_key_is_not_clean_and_leaves_the_parking_when_it_is_copied(ledger: Ledger) -> None:
    ledger.apply(1, r.Mark(**HERE, ids=(7,)))
    ledger.apply(2, begin_reconcile(7))
    ledger.apply(3, r.EndReconcile(**HERE, begin=2, parked=((7, r.Parking("too large", 70_000)),)))
    assert ledger.parked[7].reason == "too large"
    assert not ledger.is_clean(7)
    ledger.apply(4, r.Mark(**HERE, ids=(7,)))
    ledger.apply(5, begin_reconcile(7))
    ledger.apply(6, r.EndReconcile(**HERE, begin=5))
    assert ledger.is_clean(7)


def test_nothing_is_clean_before_the_backfill() -> None:
    ledger = Ledger()
    assert ledger.unswept == NEVER_SWEPT
    assert not ledger.is_clean(7)
    ledger.apply(9, r.Swept(**HERE, began=5))
    assert ledger.is_clean(7)


def test_a_sweep_does_not_cover_what_was_lost_while_it_ran(ledger: Ledger) -> None:
    ledger.apply(1, r.Unswept(**HERE, reason="first"))
    ledger.apply(3, r.Collapse(**HERE))
    ledger.apply(4, r.Swept(**HERE, began=2))
    assert ledger.unswept == "too many dirty keys"
    ledger.apply(6, r.Swept(**HERE, began=5))
    assert ledger.unswept == ""


def test_a_definition_keeps_reconciliation_away_and_makes_open_pages_stale(ledger: Ledger) -> None:
    ledger.apply(1, r.BeginPage(**HERE, owner="A", secondary=Side.TARGET, job="j"))
    ledger.apply(2, r.Mark(**HERE, ids=(7,)))
    ledger.apply(3, r.BeginScope(**HERE, owner="A", primary=Side.SOURCE, definition=True))
    assert ledger.blocked
    assert ledger.apply(4, begin_reconcile(7)).skipped == {7}
    ledger.apply(5, r.EndReconcile(**HERE, begin=4))
    effects = ledger.apply(6, r.EndScope(**HERE, begin=3, outcome=Outcome.ACCEPTED, equal=True))
    assert effects.generation
    ledger.apply(7, r.EndPage(**HERE, begin=1, ids=(8, 9), next=None, done=True))
    assert {8, 9} <= ledger.marks.keys()
    assert ledger.unswept


def test_marks_stand_in_the_order_of_their_positions(ledger: Ledger) -> None:
    ledger.apply(1, r.Mark(**HERE, ids=(7, 8)))
    ledger.apply(2, r.Mark(**HERE, ids=(7,)))
    assert list(ledger.marks) == [8, 7]
    assert ledger.oldest == 1


def test_the_end_of_an_unknown_interval_asks_for_a_sweep(ledger: Ledger) -> None:
    ledger.apply(5, end_write(2))
    assert ledger.unswept


def test_a_collapse_keeps_the_marks_of_held_keys(ledger: Ledger) -> None:
    """A page does not wait for a hold, so it could copy the key before the late request lands."""
    ledger.apply(1, begin_write(7))
    ledger.apply(2, end_write(1, Outcome.UNKNOWN))
    ledger.apply(3, r.Mark(**HERE, ids=(8, 9)))
    assert ledger.collapsible == 2
    ledger.apply(4, r.Collapse(**HERE))
    assert ledger.marks == {7: 2}
    assert ledger.collapsible == 0
    ledger.apply(6, r.Swept(**HERE, began=5))
    assert not ledger.is_clean(7)
    assert tuple(ledger.apply(7, r.Release(**HERE, hold=2)).ready) == (7,)
    assert 7 in ledger.marks


def test_a_collection_that_the_secondary_cannot_have_is_left_alone_until_it_is_claimed(ledger: Ledger) -> None:
    ledger.apply(1, r.Claim(**HERE))
    ledger.apply(2, r.ParkCollection(**HERE, reason="metric manhattan"))
    assert (ledger.blocked, ledger.claimed, ledger.unswept) == (True, False, "metric manhattan")
    ledger.apply(3, r.Mark(**HERE, ids=(7,)))
    assert ledger.apply(4, begin_reconcile(7)).skipped == {7}
    ledger.apply(5, r.EndReconcile(**HERE, begin=4))
    assert ledger.apply(7, r.Claim(**HERE)).ready_all
    assert (ledger.blocked, ledger.claimed) == (False, True)
    ledger.apply(8, r.Swept(**HERE, began=6))
    assert ledger.unswept  # the sweep began before the claim
    ledger.apply(10, r.Swept(**HERE, began=9))
    assert not ledger.unswept


@pytest.mark.parametrize("gone", [True, False])
def test_a_definition_ends_the_parking_of_a_collection(ledger: Ledger, gone: bool) -> None:
    ledger.apply(1, r.Claim(**HERE))
    ledger.apply(2, r.Mark(**HERE, ids=(7,)))
    ledger.apply(3, begin_reconcile(7))
    ledger.apply(4, r.EndReconcile(**HERE, begin=3, parked=((7, r.Parking("too large", 70_000)),)))
    ledger.apply(5, r.BeginScope(**HERE, owner="A", primary=Side.SOURCE, definition=True))
    ledger.apply(6, r.EndScope(**HERE, begin=5, outcome=Outcome.ACCEPTED, equal=True, gone=gone))
    assert ledger.claimed is not gone
    assert ledger.at_rest
    assert ledger.parked == {}


def test_other_stores_than_before_leave_nothing_known() -> None:
    book = Book()
    book.apply(1, r.Bind(route="docs", source="qdrant a", target="milvus b"))
    book.apply(2, r.Claim(**HERE))
    book.apply(3, r.Swept(**HERE, began=2))
    book.apply(4, r.Bind(route="docs", source="qdrant a", target="milvus b"))
    ledger = book.route("docs").ledgers["c"]
    assert (ledger.claimed, ledger.unswept) == (True, "")
    book.apply(5, r.Bind(route="docs", source="qdrant a", target="milvus other"))
    assert (ledger.claimed, ledger.unswept) == (False, "the route's stores are others than before")
    assert load(dump(book)) == book


# --- what runs against the oracle have found (test_ledger_oracle.py) ---------------------------------


def begin_page() -> r.BeginPage:
    return r.BeginPage(**HERE, owner="A", secondary=Side.TARGET, job="j")


def test_a_page_does_not_confirm_a_copy_that_another_page_may_have_written_over(ledger: Ledger) -> None:
    """A backfill reads one page ahead, so two are open. Key 7 is in the first, which read it before it was written."""
    ledger.apply(1, begin_page())
    ledger.apply(2, begin_page())
    ledger.apply(3, begin_write(7))
    ledger.apply(4, end_write(3))
    ledger.apply(5, begin_reconcile(7))
    ledger.apply(6, r.EndReconcile(**HERE, begin=5))
    ledger.apply(7, r.EndPage(**HERE, begin=1, ids=(7,), next=8, done=False))
    assert ledger.marks == {7: 7}
    ledger.apply(8, begin_reconcile(7))  # under way: the secondary may still have what the page read
    assert ledger.apply(9, r.EndPage(**HERE, begin=2, ids=(8,), next=None, done=True)).confirmed == {}
    assert ledger.apply(10, r.EndReconcile(**HERE, begin=8)).confirmed == {7: 8}


def test_what_a_dead_page_had_sent_of_an_older_generation_is_swept(ledger: Ledger) -> None:
    """The collection was dropped while the page was under way; its points may land in the one that is made anew."""
    ledger.apply(1, begin_page())
    ledger.apply(2, r.BeginScope(**HERE, owner="A", primary=Side.SOURCE, definition=True))
    ledger.apply(3, r.EndScope(**HERE, begin=2, outcome=Outcome.ACCEPTED, equal=True))
    assert not ledger.unswept
    ledger.apply(4, r.Close(**HERE, begin=1, hold_seconds=5.0))
    assert ledger.unswept


def test_hints_are_void_once_writes_went_on_without_the_journal(ledger: Ledger) -> None:
    assert ledger.apply(1, r.HoldSide(**HERE, side=Side.SOURCE, hold_seconds=1.0, copy=False)).generation


def test_a_snapshot_of_a_write_that_names_a_key_twice_opens_it_once(ledger: Ledger) -> None:
    ledger.apply(1, begin_write(7, 7))
    book = Book()
    book.route("docs").ledgers["c"] = ledger
    again = load(dump(book)).route("docs").ledger("c")
    again.apply(2, end_write(1))
    assert not again.is_open(7)


@pytest.fixture
def behind(ledger: Ledger) -> Ledger:
    """Keys 7 and 8 were written on the old primary, and are not on the new one, when there was an emergency; so was 9,
    whose write is still open (3)."""
    ledger.apply(1, r.BeginWrite(**HERE, owner="A", ids=(7, 8), primary=Side.TARGET))
    ledger.apply(2, end_write(1))
    ledger.apply(3, r.BeginWrite(**HERE, owner="A", ids=(9,), primary=Side.TARGET))
    ledger.apply(4, r.Commit(route="docs", epoch=0, to=Side.SOURCE, phase="shift", emergency=True))
    assert ledger.behind == {7: False, 8: False, 9: False}
    return ledger


def test_a_write_that_the_old_primary_answers_after_the_emergency_is_still_behind(behind: Ledger) -> None:
    """It is on the old primary alone, although it determines the whole point; and it is no hint."""
    ended = r.EndWrite(**HERE, begin=3, outcome=Outcome.ACCEPTED, whole=True)
    assert behind.apply(5, ended).certain == ()
    assert behind.behind[9] is False


def test_a_write_on_the_new_primary_that_ended_with_its_process_is_not_copied_over(behind: Ledger) -> None:
    """The client may have been told that it was accepted: END is appended after the answer."""
    behind.apply(5, begin_write(7))
    behind.apply(6, r.Close(**HERE, begin=5, hold_seconds=5.0))
    assert behind.behind == {7: True, 8: False, 9: False}


def test_a_write_by_filter_on_the_new_primary_is_not_copied_over(behind: Ledger) -> None:
    behind.apply(5, r.BeginScope(**HERE, owner="A", primary=Side.SOURCE))
    behind.apply(6, r.NameKeys(**HERE, begin=5, ids=(8,)))
    behind.apply(7, r.EndScope(**HERE, begin=5, outcome=Outcome.ACCEPTED))
    assert (behind.behind[7], behind.behind[8]) == (False, True)


def test_nothing_is_behind_in_a_collection_that_was_dropped_since(behind: Ledger) -> None:
    behind.apply(5, r.BeginScope(**HERE, owner="A", primary=Side.SOURCE, definition=True))
    behind.apply(6, r.EndScope(**HERE, begin=5, outcome=Outcome.ACCEPTED, equal=True, gone=True))
    assert behind.behind == {}


def test_a_page_to_the_new_primary_that_is_under_way_in_an_emergency_endangers_every_write_there(
    ledger: Ledger,
) -> None:
    ledger.apply(1, r.BeginPage(**HERE, owner="A", secondary=Side.SOURCE, job="j"))
    ledger.apply(2, r.Commit(route="docs", epoch=0, to=Side.SOURCE, phase="shift", emergency=True))
    assert ledger.endangered((7,), Side.SOURCE, rewrites=False)
    assert ledger.endangered(None, Side.SOURCE, rewrites=False)
    ledger.apply(3, r.EndPage(**HERE, begin=1, ids=(), next=None, done=False))
    assert not ledger.endangered(None, Side.SOURCE, rewrites=False)


def test_a_copy_to_the_new_primary_that_is_under_way_endangers_a_write_by_filter_there(ledger: Ledger) -> None:
    ledger.apply(1, r.Mark(**HERE, ids=(7,)))
    ledger.apply(2, r.BeginReconcile(**HERE, owner="A", ids=(7,), secondary=Side.SOURCE))
    assert ledger.endangered(None, Side.SOURCE, rewrites=False)
    assert not ledger.endangered((8,), Side.SOURCE, rewrites=False)
