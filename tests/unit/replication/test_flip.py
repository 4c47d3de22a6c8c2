"""The flip, decision by decision, with two owners of one journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import Outcome
from proxy.errors import GateClosed, JournalError
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.alias_follower import AliasFollower
from proxy.replication.book import Book, RouteBook, dump, load
from proxy.replication.flip import Flips
from proxy.replication.hooks import no_hook
from proxy.replication.journal import Journal
from proxy.replication.state_file import State, StateFile
from proxy.telemetry.tasks import spawn
from tests.support.clock import ManualClock, turns_until

HERE: Any = {"route": "docs", "collection": "c"}
ROUTE: Any = {"route": "docs"}


def swept() -> Book:
    book = Book()
    book.apply(1, r.Join(route="", owner="A"))
    book.apply(2, r.SetPhase(**ROUTE, phase="shift"))
    book.apply(3, r.Claim(**HERE))
    book.apply(4, r.Swept(**HERE, began=3))
    return book


def prepare(book: Book, at: int, *ready: str) -> None:
    book.apply(at, r.Prepare(**ROUTE, owner="A", to=Side.TARGET))
    for owner in ready:
        book.apply(at, r.Ready(**ROUTE, epoch=at, owner=owner))


def commit(epoch: int) -> r.Commit:
    return r.Commit(**ROUTE, epoch=epoch, to=Side.TARGET, phase="cutover")


def test_the_first_decision_of_an_epoch_counts() -> None:
    for first, primary in ((commit(5), Side.TARGET), (r.Abort(**ROUTE, epoch=5, reason="late"), Side.SOURCE)):
        book = swept()
        prepare(book, 5, "A")
        book.apply(6, first)
        book.apply(7, r.Abort(**ROUTE, epoch=5, reason="late"))
        book.apply(8, commit(5))
        assert (book.route("docs").primary, book.route("docs").flip) == (primary, None)


@pytest.mark.parametrize(
    "outstanding",
    [
        r.BeginWrite(**HERE, owner="A", ids=(1,), primary=Side.SOURCE),
        r.BeginReconcile(**HERE, owner="A", ids=(1,), secondary=Side.TARGET),
        r.BeginPage(**HERE, owner="A", secondary=Side.TARGET, job="j"),
        r.BeginScope(**HERE, owner="A", primary=Side.SOURCE),
        r.Mark(**HERE, ids=(1,)),
        r.HoldSide(**HERE, side=Side.TARGET, hold_seconds=1.0),
        r.Unswept(**HERE, reason="why"),
        r.ParkCollection(**HERE, reason="why"),
        r.Unswept(route="docs", collection="another", reason="why"),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_commit_while_anything_is_outstanding_is_none(outstanding: r.AnyRecord) -> None:
    book = swept()
    book.apply(5, outstanding)
    prepare(book, 6, "A")
    book.apply(7, commit(6))
    assert book.route("docs").primary is Side.SOURCE
    assert book.route("docs").flip is not None


def test_a_commit_without_the_word_of_every_owner_is_none() -> None:
    book = swept()
    book.apply(5, r.Join(route="", owner="B"))
    prepare(book, 6, "A")
    book.apply(7, commit(6))
    assert book.route("docs").primary is Side.SOURCE
    book.apply(8, r.Leave(route="", owner="B"))
    book.apply(9, commit(6))
    assert book.route("docs").primary is Side.TARGET


def test_a_flip_survives_a_snapshot() -> None:
    book = swept()
    prepare(book, 5, "A")
    book.apply(6, r.Note(**ROUTE, who="me", what="cutover", why="", at=1.0))
    assert load(dump(book)) == book


def test_in_an_emergency_what_may_be_behind_is_listed_and_kept_back() -> None:
    book = swept()
    route = book.route("docs")
    book.apply(5, r.Mark(**HERE, ids=(1, 2)))
    book.apply(6, r.BeginWrite(**HERE, owner="A", ids=(3,), primary=Side.SOURCE))
    book.apply(7, r.BeginReconcile(**HERE, owner="A", ids=(2,), secondary=Side.TARGET))
    book.apply(8, r.Commit(**ROUTE, epoch=0, to=Side.TARGET, phase="cutover", emergency=True))
    ledger = route.ledgers["c"]
    assert route.primary is Side.TARGET
    assert ledger.behind == dict.fromkeys((1, 2, 3), False)
    assert ledger.unswept
    assert ledger.endangered((2,), Side.TARGET, rewrites=False)  # its copy may still be under way
    assert not ledger.endangered((1,), Side.TARGET, rewrites=False)
    taken = book.apply(9, r.BeginReconcile(**HERE, owner="A", ids=(1, 4), secondary=Side.SOURCE)).taken
    assert list(taken) == [4]


def test_only_a_whole_write_that_was_accepted_takes_a_key_off_the_list() -> None:
    book = swept()
    book.apply(5, r.Mark(**HERE, ids=(1, 2, 3, 4)))
    book.apply(6, r.Commit(**ROUTE, epoch=0, to=Side.TARGET, phase="cutover", emergency=True))
    outcomes = ((Outcome.UNTOUCHED, True), (Outcome.UNKNOWN, True), (Outcome.ACCEPTED, False), (Outcome.ACCEPTED, True))
    for key, (outcome, whole) in enumerate(outcomes, start=1):
        position = 10 * key
        book.apply(position, r.BeginWrite(**HERE, owner="A", ids=(key,), primary=Side.TARGET))
        book.apply(position + 1, r.EndWrite(**HERE, begin=position, outcome=outcome, whole=whole))
    assert book.route("docs").ledgers["c"].behind == {1: False, 2: True, 3: True}


def test_recovery_takes_a_key_off_the_list_when_it_has_ended_well() -> None:
    book = swept()
    book.apply(5, r.Mark(**HERE, ids=(1, 2, 3)))
    book.apply(6, r.Commit(**ROUTE, epoch=0, to=Side.TARGET, phase="cutover", emergency=True))
    ledger = book.route("docs").ledgers["c"]
    begin = r.BeginReconcile(**HERE, owner="A", ids=(1, 2, 9), secondary=Side.TARGET, recovery=True)
    assert list(book.apply(7, begin).taken) == [1, 2]
    book.apply(8, r.EndReconcile(**HERE, begin=7, unclear=(2,), hold_seconds=1.0))
    assert ledger.behind == {2: False, 3: False}
    assert {1, 2} <= ledger.marks.keys()  # the old primary gets what the new one has now
    assert ledger.endangered((2,), Side.TARGET, rewrites=False)
    book.apply(9, r.Recover(**HERE, ids=()))
    assert ledger.behind == {}


# --- with live processes -----------------------------------------------------------------------------


@dataclass
class Process:
    journal: Journal
    flips: Flips
    aliases: AliasFollower
    given: list[Side]  # by which primary, whenever the secondary was given the aliases
    clock: ManualClock

    @property
    def book(self) -> RouteBook:
        return self.journal.book.route("docs")

    async def close(self) -> None:
        await self.flips.close()
        await self.aliases.close()
        await self.journal.close()


def process(path: Path) -> Process:
    journal, clock = Journal.open(path), ManualClock()
    given: list[Side] = []

    async def give() -> None:
        given.append(journal.book.route("docs").primary)

    aliases = AliasFollower("docs", give, lambda: False, clock)
    flips = Flips("docs", journal, journal.book.route("docs"), aliases, clock, no_hook, bound_seconds=0.3)
    journal.subscribe(lambda _, record, __: flips.applied(record))
    return Process(journal, flips, aliases, given, clock)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    one, other = process(tmp_path / "journal.db"), process(tmp_path / "journal.db")
    await one.journal.append(r.SetPhase(**ROUTE, phase="shift"))
    yield one, other
    await one.close()
    await other.close()


async def test_both_processes_write_to_the_new_primary(two: tuple[Process, Process]) -> None:
    one, other = two
    flipped = await one.flips.move(Side.TARGET, "cutover")
    assert flipped.primary is Side.TARGET
    await turns_until(lambda: other.book.primary is Side.TARGET)
    await other.flips.passage()
    assert other.book.phase == one.book.phase == "cutover"
    assert other.flips.came_too_late(10**6, Side.SOURCE)


async def test_a_write_that_is_not_ended_in_time_keeps_the_primary_where_it_is(two: tuple[Process, Process]) -> None:
    one, other = two
    begin = (await other.journal.append(r.BeginWrite(**HERE, owner="B", ids=(1,), primary=Side.SOURCE))).position
    with pytest.raises(GateClosed, match="1 open"):
        await one.flips.move(Side.TARGET, "cutover")
    await turns_until(lambda: other.book.flip is None)
    await asyncio.gather(one.flips.passage(), other.flips.passage())
    assert one.book.primary is other.book.primary is Side.SOURCE
    await other.journal.append(r.EndWrite(**HERE, begin=begin, outcome=Outcome.UNTOUCHED))


async def test_the_primary_moves_once_the_last_alias_change_is_given(two: tuple[Process, Process]) -> None:
    one, other = two
    one.flips.bound_seconds = 30
    with other.aliases.changing():
        moving = spawn(one.flips.move(Side.TARGET, "cutover"), name="cutover")
        await turns_until(lambda: one.book.flip is not None)
        for _ in range(2):  # the first reads the PREPARE, the second comes after what that led to
            await other.journal.append(r.SetPhase(**ROUTE, phase="shift"))
        assert other.book.flip is not None
        assert other.journal.owner not in other.book.flip.ready
        assert other.given == []
    await moving
    assert other.given == [Side.SOURCE]


async def test_nothing_is_given_while_it_is_not_decided_who_is_the_primary(two: tuple[Process, Process]) -> None:
    one, other = two
    prepared = await one.journal.append(r.Prepare(**ROUTE, owner=one.journal.owner, to=Side.TARGET))
    for process in (other, other, one):  # each reads what was there, and what that led to comes before the next
        await process.journal.append(r.SetPhase(**ROUTE, phase="shift"))
    assert one.book.flip is not None
    assert len(one.book.flip.ready) == 2
    one.aliases.changed()
    await one.clock.advance(0.25)
    assert one.given == []
    await one.journal.append(commit(prepared.position))
    await one.clock.advance(0.25)
    await turns_until(lambda: one.given == [Side.TARGET])


async def test_aliases_that_cannot_be_given_keep_the_primary_where_it_is(two: tuple[Process, Process]) -> None:
    one, other = two
    with (
        other.aliases.changing(),
        pytest.raises(GateClosed, match="1 of 2 processes had not stopped their writes and given the aliases"),
    ):
        await one.flips.move(Side.TARGET, "cutover")
    assert one.book.primary is Side.SOURCE


async def test_an_emergency_waits_for_nobody(two: tuple[Process, Process]) -> None:
    one, other = two
    await one.flips.move(Side.TARGET, "cutover")
    await other.journal.append(r.BeginWrite(**HERE, owner="B", ids=(1,), primary=Side.TARGET))
    seen: list[Side | None] = []

    def saved(file: StateFile, state: State) -> None:
        seen.append(state.routes["docs"].primary)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StateFile, "save", saved)
        await asyncio.wait_for(one.flips.move_now(Side.SOURCE, "shift"), 5)
        await one.journal.append(r.SetPhase(**ROUTE, phase="shift"))
        await turns_until(lambda: seen[-1] is Side.SOURCE)
    assert one.book.primary is Side.SOURCE
    assert None in seen  # a journal that is lost in between is begun with neither
    assert one.book.ledgers["c"].behind.keys() == {1}
    await asyncio.gather(one.flips.passage(), other.flips.passage())


async def test_an_emergency_whose_file_cannot_be_written_changes_nothing(two: tuple[Process, Process]) -> None:
    """Else it would name the target if the journal was lost then, though writes went to the source."""
    one, other = two
    await one.flips.move(Side.TARGET, "cutover")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StateFile, "save", full)
        with pytest.raises(JournalError, match=r"journal\.state: OSError: .*No space left"):
            await asyncio.wait_for(one.flips.move_now(Side.SOURCE, "shift"), 5)
        await turns_until(lambda: one.book.flip is None and other.book.flip is None)
        await asyncio.gather(one.flips.passage(), other.flips.passage())
        assert (one.book.primary, other.book.primary) == (Side.TARGET, Side.TARGET)
    await one.flips.move_now(Side.SOURCE, "shift")
    assert one.book.primary is Side.SOURCE


async def test_a_begin_after_a_prepare_must_not_be_sent(two: tuple[Process, Process]) -> None:
    one, other = two
    await one.journal.append(r.Prepare(**ROUTE, owner=one.journal.owner, to=Side.TARGET))
    record = r.BeginWrite(**HERE, owner=other.journal.owner, ids=(1,), primary=Side.SOURCE)
    begin = (await other.journal.append(record)).position
    assert other.flips.came_too_late(begin, Side.SOURCE)
    await other.journal.append(r.EndWrite(**HERE, begin=begin, outcome=Outcome.UNTOUCHED))


async def test_who_comes_after_a_prepare_starts_held_and_anyone_aborts_past_the_bound(
    two: tuple[Process, Process], tmp_path: Path
) -> None:
    one, _ = two
    await one.journal.append(r.Prepare(**ROUTE, owner="nobody", to=Side.TARGET))
    late = process(tmp_path / "journal.db")
    passing = asyncio.ensure_future(late.flips.passage())  # noqa: TID251
    await turns_until(lambda: late.book.flip is not None and late.journal.owner in late.book.flip.ready)
    assert not passing.done()
    await late.clock.advance(1.4)
    await passing
    assert late.book.primary is Side.SOURCE
    await late.close()


async def test_whoever_waits_for_news_hears_the_next_record_and_none_before(two: tuple[Process, Process]) -> None:
    one, other = two
    for number in (1, 2):
        waiting = [spawn(one.flips.news(), name="who waits") for _ in range(2)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
        await other.journal.append(r.Mark(**HERE, ids=(number,)))
        await asyncio.wait_for(asyncio.gather(*waiting), 5)


async def test_only_one_flip_at_a_time(two: tuple[Process, Process]) -> None:
    one, other = two
    results = await asyncio.gather(
        one.flips.move(Side.TARGET, "cutover"), other.flips.move(Side.TARGET, "cutover"), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Flipped", "GateClosed"]
