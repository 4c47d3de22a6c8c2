"""Routes and what they know of collections."""

from __future__ import annotations

from proxy.dialects import Outcome
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.book import Book, dump, load
from proxy.replication.records import DIRECT, DUAL_WRITE


def begin(collection: str) -> r.BeginWrite:
    return r.BeginWrite(route="docs", collection=collection, owner="A", ids=(7,), primary=Side.SOURCE)


def end(collection: str, position: int, outcome: Outcome) -> r.EndWrite:
    return r.EndWrite(route="docs", collection=collection, begin=position, outcome=outcome)


def test_a_name_that_is_no_collection_takes_no_memory() -> None:
    book = Book()
    for position in range(1, 201, 2):
        name = f"made up {position}"
        book.apply(position, begin(name))
        assert name in book.route("docs").ledgers
        book.apply(position + 1, end(name, position, Outcome.UNTOUCHED))
    assert book.route("docs").ledgers == {}


def test_what_is_no_name_of_a_collection_has_no_ledger_and_loses_one_that_it_had() -> None:
    book = Book()
    book.apply(1, begin(""))
    assert book.route("docs").at_rest
    book.route("docs").ledger("").apply(2, begin(""))  # as earlier versions did
    book.apply(3, begin("c"))
    assert list(load(dump(book)).route("docs").ledgers) == ["c"]


def test_a_collection_that_was_written_to_is_remembered() -> None:
    book = Book()
    book.apply(1, begin("c"))
    book.apply(2, end("c", 1, Outcome.ACCEPTED))
    assert list(book.route("docs").ledgers) == ["c"]


def test_leaving_direct_holds_every_collection_until_it_is_released_later_ones_too() -> None:
    book = Book()
    assert book.route("docs").phase == DIRECT
    book.apply(1, begin("before"))
    assert book.apply(2, r.SetPhase(route="docs", phase=DUAL_WRITE, hold_seconds=5.0)).held is not None
    book.apply(3, begin("after"))
    route = book.route("docs")
    assert route.phase == DUAL_WRITE
    assert route.ledgers["before"].range_held
    assert route.ledgers["after"].range_held
    kept = load(dump(book)).route("docs")
    assert kept.ledgers["after"].range_held
    assert list(kept.starts) == [2]
    book.apply(4, r.Release(route="docs", collection="", hold=2))
    assert [ledger.range_held for ledger in route.ledgers.values()] == [False, False]
    assert route.starts == {}


def test_who_may_still_send_what_is_not_journalled_survives_a_snapshot() -> None:
    book = Book()
    for position, owner in enumerate("ABC", start=1):
        book.apply(position, r.Join(route="", owner=owner))
    book.apply(4, r.SetPhase(route="docs", phase=DUAL_WRITE, hold_seconds=5.0))
    book.apply(5, r.Join(route="", owner="D"))  # begins with what the journal says
    book.apply(6, r.Ready(route="docs", epoch=4, owner="A"))
    book.apply(7, r.Leave(route="", owner="B"))
    for kept in (book, load(dump(book))):
        assert kept.route("docs").starts[4].unaware == {"C"}


def test_weights_and_jobs_survive_a_snapshot() -> None:
    book = Book()
    book.apply(1, r.SetWeight(route="docs", weight=25.0, wish=5.0))
    book.apply(2, r.SaveJob(route="docs", job="j", state={"done": 3}))
    kept = load(dump(book)).route("docs")
    assert (kept.weight, kept.wish, kept.jobs) == (25.0, 5.0, {"j": {"done": 3}})
    book.apply(3, r.SetWeight(route="docs", weight=None))
    assert load(dump(book)).route("docs").weight is None
