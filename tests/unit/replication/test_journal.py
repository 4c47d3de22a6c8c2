"""The journal on a real file: order, durability, failure, recovery, compaction."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from examples.engines import poll
from proxy.dialects import Outcome
from proxy.errors import JournalError
from proxy.model import Side
from proxy.replication import journal_loss, turn
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.journal_file import connect, join
from proxy.replication.ledger import Effects
from proxy.replication.state_file import RouteState, State, StateFile
from tests.faults.injection import says_what_to_do
from tests.support.clock import turns_until

HERE: Any = {"route": "docs", "collection": "c"}


def begin(*ids: int) -> r.BeginWrite:
    return r.BeginWrite(**HERE, owner="A", ids=ids, primary=Side.SOURCE)


def end(position: int) -> r.EndWrite:
    return r.EndWrite(**HERE, begin=position, outcome=Outcome.ACCEPTED)


async def test_records_are_applied_in_the_order_in_which_they_were_appended(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    seen: list[int] = []
    journal.subscribe(lambda position, _record, _effects: seen.append(position))
    effects = await asyncio.gather(*(journal.append(begin(number)) for number in range(200)))
    assert [effect.position for effect in effects] == seen == list(range(2, 202))  # after its own joining
    await journal.close()


async def test_a_new_process_reads_what_was_durable(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    first = (await journal.append(begin(1, 2))).position
    second = (await journal.append(begin(3))).position
    await journal.append(end(first))
    await journal.close()
    again = Journal.open(tmp_path / "journal.db")
    ledger = again.book.route("docs").ledger("c")
    assert ledger.marks == {1: second + 1, 2: second + 1}
    assert list(ledger.intervals) == [second]
    assert again.position == second + 3  # the end, and one owner after another
    await again.close()


def _recorder(into: list[tuple[int, r.AnyRecord]]) -> Callable[[int, r.AnyRecord, Effects], None]:
    return lambda position, record, _: into.append((position, record))


async def test_two_owners_read_each_other_and_agree_on_the_order(tmp_path: Path) -> None:
    """What one has made durable, it has read the journal up to; both fold the same book."""
    path = tmp_path / "journal.db"
    one, other = Journal.open(path), Journal.open(path)
    seen: dict[str, list[tuple[int, r.AnyRecord]]] = {one.owner: [], other.owner: []}
    for journal in (one, other):
        journal.subscribe(_recorder(seen[journal.owner]))

    async def write(journal: Journal, first: int) -> None:
        for number in range(first, first + 100):
            effects = await journal.append(begin(number, 7))
            assert seen[journal.owner][-1][0] >= effects.position
            await journal.append(end(effects.position))

    await asyncio.gather(write(one, 1000), write(other, 2000))
    last = max(one.position, other.position)
    await turns_until(lambda: one.position == other.position == last)
    assert one.book == other.book
    shared = [position for position, _ in seen[one.owner]]
    assert shared == sorted(set(shared))
    assert seen[one.owner][-400:] == seen[other.owner][-400:]
    await one.close()
    await turns_until(lambda: one.owner not in other.book.owners)
    await other.close()


async def test_writes_of_two_owners_that_overlap_leave_no_hint(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    one, other = Journal.open(path), Journal.open(path)
    first = (await one.append(begin(7))).position
    second = (await other.append(begin(7, 8))).position
    assert (await one.append(end(first))).certain == ()
    assert (await other.append(end(second))).certain == (8,)
    await one.close()
    await other.close()


async def test_an_end_after_its_interval_was_closed_for_it_stands_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    one, other = Journal.open(path), Journal.open(path)
    position = (await one.append(begin(7))).position
    await other.append(r.Close(**HERE, begin=position, hold_seconds=1.0))
    await one.append(end(position))
    live = one.book.route("docs").ledger("c")
    assert live.unswept_at  # nobody can tell any more what it did
    await one.close()
    await other.close()
    again = Journal.open(path)
    replayed = again.book.route("docs").ledger("c")
    assert (replayed.marks, replayed.unswept_at, replayed.holds) == (live.marks, live.unswept_at, live.holds)
    await again.close()


async def test_no_row_goes_before_every_owner_has_read_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    one = Journal.open(path)
    sleeper = connect(path)
    join(sleeper, "sleeper", lambda _: False)  # an owner that is stopped

    async def work() -> int:
        for _ in range(60):
            positions = [e.position for e in await asyncio.gather(*(one.append(begin(i)) for i in range(100)))]
            await asyncio.gather(*(one.append(end(position)) for position in positions))
            opening = r.BeginReconcile(**HERE, owner="A", ids=tuple(range(100)), secondary=Side.TARGET)
            await one.append(r.EndReconcile(**HERE, begin=(await one.append(opening)).position))
        rows: int = sleeper.execute("SELECT count(*) FROM intervals").fetchone()[0]
        return rows

    assert await work() > 6_000
    await one.append(r.Leave(route="", owner="sleeper"))
    assert await work() < 6_000
    sleeper.close()
    await one.close()


@pytest.mark.parametrize("version", ["1", "2"])
async def test_a_journal_of_an_earlier_format_is_read(tmp_path: Path, version: str) -> None:
    """Made by the version that wrote it: dirty keys, a held one, a parked one, an open write, a weight, a job."""
    path = tmp_path / "journal.db"
    shutil.copy(Path(__file__).parent / "data" / f"journal-format-{version}.db", path)
    journal = Journal.open(path)
    route = journal.book.route("docs")
    ledger = route.ledgers["c"]
    assert (route.phase, route.weight, list(route.jobs)) == ("dual-write", 25.0, ["backfill-1"])
    assert set(ledger.marks) == {1, 2, UUID(int=5)}
    assert list(ledger.parked) == [3]
    assert [interval.ids for interval in ledger.intervals.values()] == [(4,)]
    assert [hold.ids for hold in ledger.holds.values()] == [(2,)]
    assert (ledger.unswept, ledger.claimed) == ("", True)
    await journal.append(begin(9))
    await journal.close()
    await Journal.open(path).close()


async def test_a_journal_of_a_later_format_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await Journal.open(path).close()
    file = sqlite3.connect(path)
    file.execute("UPDATE meta SET value = '4' WHERE name = 'format'")
    file.commit()
    before = list(file.iterdump())
    with pytest.raises(JournalError, match="format '4'; this version reads 1, 2, 3: start the one that wrote it"):
        Journal.open(path)
    assert list(file.iterdump()) == before
    file.close()


async def test_the_snapshot_replaces_closed_rows_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    for _ in range(30):
        positions = [
            effect.position for effect in await asyncio.gather(*(journal.append(begin(i)) for i in range(100)))
        ]
        await asyncio.gather(*(journal.append(end(position)) for position in positions))
        opening = r.BeginReconcile(**HERE, owner="A", ids=tuple(range(100)), secondary=Side.TARGET)
        reconciled = (await journal.append(opening)).position
        await journal.append(r.EndReconcile(**HERE, begin=reconciled))
        for _ in range(100):
            await journal.append(r.Mark(**HERE, ids=(7,)))
    left_open = (await journal.append(begin(5))).position
    marks = dict(journal.book.route("docs").ledger("c").marks)
    await journal.close()
    rows = sqlite3.connect(path).execute("SELECT count(*) FROM intervals").fetchone()[0]
    assert rows < 5_500
    again = Journal.open(path)
    ledger = again.book.route("docs").ledger("c")
    assert ledger.marks == marks
    assert list(ledger.intervals) == [left_open]
    await again.append(end(left_open))
    assert 5 in ledger.marks
    await again.close()


async def test_the_last_owner_may_leave_with_the_commit_that_keeps_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    position = (await journal.append(begin(1))).position
    ended = journal.append(end(position))
    journal._closed_rows = journal._compact_at
    journal.compact_when_due()
    await journal.close()
    await ended
    again = Journal.open(path)
    assert set(again.book.route("docs").ledger("c").marks) == {1}
    assert list(again.book.owners) == [again.owner]
    await again.close()


async def test_what_comes_before_sending_is_refused_if_it_cannot_be_durable_and_an_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    position = (await journal.append(begin(1))).position
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("PRAGMA busy_timeout = 0")
    journal._connection.execute("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")  # somebody else writes: every commit of ours fails
    kept = journal.append(end(position))
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append(begin(2))
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append(r.NameKeys(route="docs", collection="c", begin=position, ids=(3,)))
    assert journal.error
    assert not kept.done()
    blocker.execute("ROLLBACK")
    await kept
    assert not journal.error
    assert journal.book.route("docs").ledger("c").marks.keys() == {1}
    blocker.close()
    await journal.close()


# --- a journal that is lost ----------------------------------------------------------------------------


async def _shifted(path: Path) -> Journal:
    """A journal of a route whose primary was moved, with a dirty key."""
    journal = Journal.open(path)
    await journal.append(r.Bind(route="docs", source="qdrant a", target="milvus b"))
    await journal.append(r.SetPhase(route="docs", phase="shift"))
    await journal.append(r.Claim(**HERE))
    await journal.append(r.Swept(**HERE, began=journal.position))
    prepared = (await journal.append(r.Prepare(route="docs", owner=journal.owner, to=Side.TARGET))).position
    await journal.append(r.Ready(route="docs", epoch=prepared, owner=journal.owner))
    await journal.append(r.Commit(route="docs", epoch=prepared, to=Side.TARGET, phase="cutover"))
    for number in range(50):
        position = (await journal.append(begin(number))).position
        await journal.append(end(position))
    return journal


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _flip_bits(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 97):
        data[at] ^= 0xFF
    path.write_bytes(bytes(data))


def _flip_a_bit_of_a_key(path: Path) -> None:
    """SQLite's structure stays whole, and the record can still be read."""
    file = sqlite3.connect(path)
    position, opening = file.execute("SELECT max(position), opening FROM intervals WHERE closing NOT NULL").fetchone()
    key = opening.index(b"ids") + 4
    changed = bytes([*opening[:key], opening[key] ^ 1, *opening[key + 1 :]])
    assert isinstance(r.decode(changed), r.BeginWrite)
    assert r.decode(changed) != r.decode(opening)
    file.execute("UPDATE intervals SET opening = ? WHERE position = ?", (changed, position))
    file.commit()
    file.close()


def _replace_by_an_older_one(path: Path) -> None:
    older = sqlite3.connect(path)
    older.execute("DELETE FROM intervals WHERE position > 20")
    older.commit()
    older.close()


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip_bits,
        _flip_a_bit_of_a_key,
        _replace_by_an_older_one,
        Path.unlink,
        lambda path: path.write_bytes(b""),
    ],
)
async def test_a_damaged_journal_is_put_aside_and_the_route_needs_a_sweep(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.close()
    damage(path)
    again = Journal.open(path, hold_seconds=7.0)
    route = again.book.route("docs")
    ledger = route.ledgers["c"]
    assert (route.primary, route.phase, route.bound) == (Side.TARGET, "cutover", ("qdrant a", "milvus b"))
    assert (ledger.unswept, ledger.claimed) == ("the journal was lost", True)
    assert {(hold.side, hold.seconds) for hold in ledger.holds.values()} == {(Side.SOURCE, 7.0), (Side.TARGET, 7.0)}
    await again.append(begin(1))
    await again.close()
    once_more = Journal.open(path)  # the new one is sound
    assert once_more.book.route("docs").primary is Side.TARGET
    await once_more.close()


async def test_collections_that_a_lost_journal_had_not_named_yet_are_held_as_well(tmp_path: Path) -> None:
    """Else a write that was under way to the source when the process died could land behind a page of a backfill."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    await journal.append(r.SetPhase(route="docs", phase=r.DUAL_WRITE))
    await journal.close()
    path.unlink()
    again = Journal.open(path, hold_seconds=7.0)
    route = again.book.route("docs")
    assert [(start.hold.side, start.hold.seconds, start.unaware) for start in route.starts.values()] == [
        (Side.SOURCE, 7.0, set())
    ]
    await again.append(begin(1))
    assert {(hold.side, hold.seconds) for hold in route.ledgers["c"].holds.values()} == {(Side.SOURCE, 7.0)}
    (start,) = route.starts
    await again.append(r.Release(route="docs", collection="", hold=start))
    assert not route.starts
    await again.close()


async def test_a_log_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    """The process was killed, and what was not checkpointed yet is gone."""
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.append(r.Mark(**HERE, ids=(1,)))
    copied = tmp_path / "copy"
    copied.mkdir()
    for suffix in (".db", ".state", ".mark"):
        shutil.copy(path.with_suffix(suffix), copied / f"journal{suffix}")  # but not the log
    await journal.close()
    again = Journal.open(copied / "journal.db")
    assert again.book.route("docs").ledgers["c"].unswept == "the journal was lost"
    await again.close()


async def test_a_damaged_state_file_keeps_no_whole_journal_from_being_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.close()
    path.with_suffix(".state").write_text("not a state")
    again = Journal.open(path)
    assert again.book.route("docs").primary is Side.TARGET
    assert again.book.route("docs").ledgers["c"].unswept == ""
    await again.close()


async def test_a_process_that_dies_while_it_begins_a_journal_anew_leaves_nothing_to_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.close()
    path.unlink()

    def dies(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(journal_loss, "_begin_anew", dies)
        Journal.open(path)
    assert path.exists()
    again = Journal.open(path)
    route = again.book.route("docs")
    assert (route.primary, route.phase) == (Side.TARGET, "cutover")
    assert route.ledgers["c"].unswept == "the journal was lost"
    await again.close()


@dataclass
class Disk:
    """Where the file beside the journal is written. `full`: it cannot be."""

    full: bool = True


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    save, disk = StateFile.save, Disk()

    def saved(file: StateFile, state: State) -> None:
        if disk.full:
            raise OSError(28, "No space left on device")
        save(file, state)

    monkeypatch.setattr(StateFile, "save", saved)
    return disk


def _kept_primary(path: Path) -> Side | None:
    kept = StateFile(path).load()
    assert kept is not None
    return kept.routes["docs"].primary


async def test_the_primary_does_not_move_before_the_file_says_that_it_is_being_moved(
    tmp_path: Path, disk: Disk
) -> None:
    """Else it could still name the old one when the journal is lost. Nobody is ready before, either."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    await journal.append(r.SetPhase(route="docs", phase="shift"))
    prepared = (await journal.append(r.Prepare(route="docs", owner=journal.owner, to=Side.TARGET))).position
    ready = journal.append(r.Ready(route="docs", epoch=prepared, owner=journal.owner))
    moving = journal.append(r.Commit(route="docs", epoch=prepared, to=Side.TARGET, phase="cutover"))
    await journal.append(r.SetPhase(route="docs", phase="shift"))  # others go on
    assert not ready.done()
    assert not moving.done()
    assert "No space left" in journal.unsaved
    assert not journal.error  # writes are journalled
    disk.full = False
    await moving
    assert ready.done()
    assert journal.book.route("docs").primary is Side.TARGET
    await journal.close()
    assert not journal.unsaved
    assert _kept_primary(path) is Side.TARGET


async def test_what_waits_for_the_file_when_the_journal_is_closed_is_told_so(tmp_path: Path, disk: Disk) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    prepared = (await journal.append(r.Prepare(route="docs", owner=journal.owner, to=Side.TARGET))).position
    moving = journal.append(r.Commit(route="docs", epoch=prepared, to=Side.TARGET, phase="cutover"))
    await journal.close()
    with pytest.raises(JournalError, match="stopping"):
        await asyncio.wait_for(moving, 5)


async def test_a_process_writes_the_file_that_another_left_behind(tmp_path: Path) -> None:
    """It was killed after COMMIT and before it had saved the file."""
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.close()
    StateFile(path).save(State({"docs": RouteState("shift", Side.SOURCE, None, ())}))
    again = Journal.open(path)
    assert again.book.route("docs").primary is Side.TARGET
    await again.close()
    assert _kept_primary(path) is Side.TARGET


async def test_nothing_starts_where_it_is_not_known_which_store_is_primary(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.append(r.Prepare(route="docs", owner=journal.owner, to=Side.SOURCE))
    await journal.close()
    damaged = path.read_bytes()[:5000]
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match="nothing beside it tells which store is primary") as refused:
        Journal.open(path)
    assert says_what_to_do(str(refused.value))  # what tests/faults then does
    assert path.read_bytes() == damaged
    path.with_suffix(".state").write_text("not a state")
    with pytest.raises(JournalError, match="is damaged"):
        Journal.open(path)


async def test_a_damaged_journal_is_not_replaced_under_the_hands_of_others(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = await _shifted(path)
    await journal.close()
    other = Journal.open(path)
    _cut(path)
    with pytest.raises(JournalError, match="other processes work on it"):
        Journal.open(path)
    other.lock.release()


async def test_a_journal_that_is_being_written_to_is_not_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that is stopped, say: whoever starts beside it says so, and changes nothing."""
    path = tmp_path / "journal.db"
    one = Journal.open(path)
    await one.append(begin(1))
    file = os.stat(path).st_ino
    monkeypatch.setattr(turn, "WAIT_SECONDS", 0.1)
    stopped = turn.Turn(path)
    with stopped.taken(), pytest.raises(JournalError, match="see whether one is stopped"):
        Journal.open(path)
    stopped.close()
    assert os.stat(path).st_ino == file
    assert not [name for name in os.listdir(tmp_path) if "lost" in name]
    assert (await one.append(begin(2))).position
    await one.close()


# --- what may wait, and what is told beside the journal ----------------------------------------------


async def test_a_record_at_leisure_goes_with_the_next_one_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.replication.journal._LOOK_ALONE_SECONDS", 60.0)
    monkeypatch.setattr("proxy.replication.journal._COMPANY_SECONDS", 60.0)
    monkeypatch.setattr("proxy.replication.journal._FREQUENT_SECONDS", 60.0)
    journal = Journal.open(tmp_path / "journal.db")
    commits: list[int] = []
    journal.on_commit = lambda commit: commits.append(len(commit.records))
    begun = await journal.append(begin(1))
    ended = journal.append(end(begun.position), at_leisure=True)
    await asyncio.sleep(0.05)
    assert not ended.done()
    again = await journal.append(begin(1))
    assert (await ended).position < again.position
    assert commits == [1, 2]
    await journal.close()


async def test_a_record_at_leisure_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.replication.journal._LOOK_ALONE_SECONDS", 60.0)
    journal = Journal.open(tmp_path / "journal.db")
    begun = await journal.append(begin(1))
    ended = journal.append(end(begun.position), at_leisure=True)
    async with asyncio.timeout(5):
        assert (await ended).position == begun.position + 1
    await journal.close()


async def test_a_record_at_leisure_waits_for_company_only_while_that_keeps_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.replication.journal._LOOK_ALONE_SECONDS", 60.0)
    monkeypatch.setattr("proxy.replication.journal._COMPANY_SECONDS", 60.0)
    journal = Journal.open(tmp_path / "journal.db")
    begun = await journal.append(begin(1))
    await asyncio.sleep(0.05)  # longer than what counts as frequent
    ended = journal.append(end(begun.position), at_leisure=True)
    async with asyncio.timeout(5):
        assert (await ended).position == begun.position + 1
    await journal.close()


async def test_a_record_at_leisure_is_not_left_behind_by_a_stop(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    begun = await journal.append(begin(1))
    journal.append(end(begun.position), at_leisure=True)
    await journal.close()
    again = Journal.open(tmp_path / "journal.db")
    assert not again.book.route("docs").ledger("c").intervals
    await again.close()


async def test_a_mark_that_was_removed_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    await journal.append(begin(1))
    mark = StateFile(path).mark_path
    assert await asyncio.to_thread(poll, mark.exists, 10.0)  # it is written once those who wait are told
    mark.unlink()
    last = await journal.append(begin(2))
    await journal.close()
    assert StateFile(path).marked() > last.position  # the last record says that the process leaves
