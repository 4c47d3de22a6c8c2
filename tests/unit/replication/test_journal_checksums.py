"""Damage that SQLite does not notice, and that leaves every record readable; and formats that have no checksums."""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import Outcome
from proxy.errors import JournalError
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.book import dump
from proxy.replication.journal import Journal
from proxy.replication.journal_file import Connection, compact, connect, insert, join, read_since, transaction
from proxy.replication.owners import OwnerLock
from tests.support.clock import turns_until

HERE: Any = {"route": "docs", "collection": "c"}
DATA = Path(__file__).parent / "data"
FLIPS = 600


def begin(*ids: int) -> r.BeginWrite:
    return r.BeginWrite(**HERE, owner="A", ids=ids, primary=Side.SOURCE)


def end(position: int) -> r.EndWrite:
    return r.EndWrite(**HERE, begin=position, outcome=Outcome.ACCEPTED)


def _everybody_is_gone(_: str) -> bool:
    return True


def _journal(path: Path) -> Connection:
    """A file with rows of every kind, on either side of its snapshot: open, closed, and of a single record; "A" is an
    owner that has not read far, so that none could go yet."""
    connection = connect(path)
    book, last = join(connection, "A", _everybody_is_gone)
    for half in range(2):
        first = last + 1
        records: list[r.AnyRecord] = [
            r.Bind(route="docs", source="qdrant a", target="milvus b"),
            r.Claim(**HERE),
            begin(half, 300 + half),
            begin(100 + half),
            end(first + 2),
            r.Mark(**HERE, ids=(200 + half,)),
        ]
        with transaction(connection):
            for last, record in enumerate(records, start=first):
                insert(connection, last, record, r.encode(record))
                book.apply(last, record)
            if half == 0:
                compact(connection, last, dump(book))
    return connection


# --- a single flipped bit ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cell:
    table: str
    column: str
    key: str
    row: object

    def read(self, connection: sqlite3.Connection) -> object:
        query = f"SELECT {self.column} FROM {self.table} WHERE {self.key} = ?"
        return connection.execute(query, (self.row,)).fetchone()[0]

    def write(self, connection: sqlite3.Connection, value: object, row: object) -> None:
        connection.execute(f"UPDATE {self.table} SET {self.column} = ? WHERE {self.key} = ?", (value, row))


def _cells(connection: sqlite3.Connection) -> list[Cell]:
    rows = [position for (position,) in connection.execute("SELECT position FROM intervals")]
    records = [position for (position,) in connection.execute("SELECT position FROM checksums")]
    cells = [Cell("meta", "value", "name", name) for name in ("covered", "snapshot", "snapshot_checksum")]
    for column in ("position", "ended", "opening", "closing"):
        cells += [Cell("intervals", column, "position", row) for row in rows]
    for column in ("position", "checksum"):
        cells += [Cell("checksums", column, "position", row) for row in records]
    return cells


def _flipped(value: object, chance: random.Random) -> object:
    match value:
        case None:  # what comes to stand there
            return chance.choice((chance.randrange(40), bytes(1)))
        case int():
            flipped = (value ^ 1 << chance.randrange(64)) % 2**64
            return flipped - 2**64 if flipped >= 2**63 else flipped
        case bytes():
            changed = bytearray(value)
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            return chance.choice((bytes(changed), bytes(changed), bytes(changed), None))
    raise AssertionError(value)


def test_a_flipped_bit_in_any_column_is_noticed_by_who_joins(tmp_path: Path) -> None:
    connection = _journal(tmp_path / "journal.db")
    chance = random.Random(7)
    cells = _cells(connection)
    flips = 0
    while flips < FLIPS:
        cell = cells[flips % len(cells)]
        value = cell.read(connection)
        flipped = _flipped(value, chance)
        try:
            cell.write(connection, flipped, cell.row)
        except sqlite3.IntegrityError:  # no such row could be: another has that position, or NULL is not allowed
            continue
        with pytest.raises((ValueError, sqlite3.DatabaseError)):
            join(connection, "B", _everybody_is_gone)
            pytest.fail(f"{cell}: {value!r} became {flipped!r}")
        cell.write(connection, value, flipped if cell.column == "position" else cell.row)
        flips += 1
    join(connection, "B", _everybody_is_gone)  # all is as it was
    connection.close()


def test_a_flipped_bit_anywhere_in_the_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _journal(path).close()
    sound = path.read_bytes()
    connection = connect(path)
    book, _ = join(connection, "B", _everybody_is_gone)
    connection.close()
    chance = random.Random(7)
    written = [at for at, byte in enumerate(sound) if byte]  # most of the file is zeros that nobody reads
    noticed = 0
    for at in chance.sample(written, 300):
        data = bytearray(sound)
        data[at] ^= 1 << chance.randrange(8)
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(data)
        damaged: Connection | None = None
        try:
            damaged = connect(path)
            read, _ = join(damaged, "B", _everybody_is_gone)
        except (ValueError, sqlite3.DatabaseError):
            noticed += 1
        else:
            assert dump(read) == dump(book), f"byte {at}"
        finally:
            if damaged is not None:
                damaged.close()
    assert noticed > 150


# --- beside others that write --------------------------------------------------------------------------

_DAMAGES = {
    "opening": "UPDATE intervals SET opening = :another WHERE position = :at",
    "closing": "UPDATE intervals SET closing = :another WHERE ended = :at + 1",
    "ended before": "UPDATE intervals SET ended = 1 WHERE ended = :at + 1",
    "ended later": "UPDATE intervals SET ended = ended + 8 WHERE ended = :at + 1",
    "not ended": "UPDATE intervals SET ended = NULL WHERE ended = :at + 1",
    "ended, of a single record": "UPDATE intervals SET ended = 1 WHERE position = :at + 2",
    "position before": "UPDATE intervals SET position = 0 WHERE position = :at + 2",
    "position later": "UPDATE intervals SET position = 1000 WHERE position = :at",
    "checksum": "UPDATE checksums SET checksum = 1 WHERE position = :at",
    "no checksum": "DELETE FROM checksums WHERE position = :at",
    "no row": "DELETE FROM intervals WHERE position = :at",
    "neither row nor checksums": "DELETE FROM intervals WHERE position = :at;"
    "DELETE FROM checksums WHERE position IN (:at, :at + 1)",
}


@pytest.mark.parametrize("damage", _DAMAGES.values(), ids=_DAMAGES.keys())
async def test_what_another_owner_committed_and_is_damaged_is_not_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    other = connect(path)
    join(other, "other", journal.lock.is_gone)
    last = (await journal.append(begin(0))).position  # has read that it is not alone: it looks often from now on
    applied: list[int] = []
    journal.subscribe(lambda position, _, __: applied.append(position))
    at = last + 1
    with transaction(other):
        records: list[r.AnyRecord] = [begin(1, 2), end(at), r.Mark(**HERE, ids=(3,))]
        for position, record in enumerate(records, start=at):
            insert(other, position, record, r.encode(record))
        for statement in damage.split(";"):
            other.execute(statement, {"at": at, "another": r.encode(begin(1, 3))})
    await turns_until(lambda: bool(journal.error), 1_000_000)
    worked: list[None] = []
    monkeypatch.setattr(journal, "_works", lambda: worked.append(None))
    for number in range(3):
        with pytest.raises(JournalError, match="cannot be written"):
            await journal.append(begin(number))
    assert "of its records" in journal.error or "its row at" in journal.error or "is missing" in journal.error
    await asyncio.sleep(0.1)  # several looks at the file later
    assert (applied, worked) == ([], [])
    other.close()
    await journal.close()


def test_what_others_commit_while_it_is_read_is_left_for_the_next_time(tmp_path: Path) -> None:
    """Else there would be a checksum without its record."""
    path = tmp_path / "journal.db"
    reader, other = connect(path), connect(path)
    _, last = join(reader, "reader", _everybody_is_gone)
    commits = [begin(2), begin(1)]

    def commit(statement: str) -> None:
        nonlocal last
        if "FROM checksums" in statement and commits:
            last += 1
            record = commits.pop()
            with transaction(other):
                insert(other, last, record, r.encode(record))

    before = last
    commit("FROM checksums")
    reader.set_trace_callback(commit)  # called when a statement of the reader's begins
    assert read_since(reader, before) == [(before + 1, begin(1))]
    assert read_since(reader, before) == [(before + 1, begin(1)), (before + 2, begin(2))]
    for connection in (reader, other):
        connection.close()


# --- formats without checksums ---------------------------------------------------------------------------


def _earlier_file(path: Path, version: str) -> None:
    shutil.copy(DATA / f"journal-format-{version}.db", path)


def _bare(path: Path) -> tuple[set[int], set[str]]:
    """Positions of records without a checksum (or of checksums without a record), and owners that write none."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT position, ended FROM intervals").fetchall()
    known = {position for (position,) in connection.execute("SELECT position FROM checksums")}
    earlier = {owner for (owner,) in connection.execute("SELECT owner FROM earlier")}
    connection.close()
    return known ^ {position for row in rows for position in row if position is not None}, earlier


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE intervals SET opening = zeroblob(9)",
        "UPDATE intervals SET opening = CAST(opening AS TEXT)",
        "DELETE FROM checksums WHERE position = 12",
        "UPDATE meta SET value = value - 1 WHERE name = 'covered'",
        "DELETE FROM meta WHERE name = 'snapshot_checksum'",
    ],
)
async def test_an_earlier_format_gets_its_checksums_when_it_is_opened(
    tmp_path: Path, version: str, damage: str
) -> None:
    path = tmp_path / "journal.db"
    _earlier_file(path, version)
    await Journal.open(path).close()
    assert _bare(path) == (set(), set())
    connection = sqlite3.connect(path)
    connection.execute(damage)
    connection.commit()
    connection.close()
    path.with_suffix(".state").unlink()  # else it would be begun anew with what is known there
    with pytest.raises(JournalError, match=r"damaged|checksum|decode"):
        Journal.open(path)


class FormatTwo:
    """A process of format 2, in that version's own statements. It looks at the format when it starts, never again."""

    def __init__(self, path: Path) -> None:
        self.lock = OwnerLock.take(path.parent / "owners")
        self.connection = connect(path)
        rows = self.connection.execute("SELECT max(position), max(ended) FROM intervals").fetchone()
        self.position: int = max(rows)
        self.append(r.Join(route="", owner=self.lock.owner))
        self.connection.execute("INSERT INTO owners VALUES (?, ?)", (self.lock.owner, self.position))

    def append(self, record: r.AnyRecord) -> int:
        """Its position."""
        self.position += 1
        data = r.encode(record)
        if isinstance(record, r.End):
            statement = "UPDATE intervals SET ended = ?, closing = ? WHERE position = ? AND ended IS NULL"
            if self.connection.execute(statement, (self.position, data, record.begin)).rowcount:
                return self.position
        ended = None if isinstance(record, r.Begin) else self.position
        self.connection.execute("INSERT INTO intervals VALUES (?, ?, ?, NULL)", (self.position, ended, data))
        return self.position

    def read(self) -> list[r.AnyRecord]:
        """What others have written since."""
        rows = self.connection.execute(
            "SELECT position, ended, opening, closing FROM intervals WHERE position > ? OR ended > ?",
            (self.position, self.position),
        )
        found = []
        for position, ended, opening, closing in rows:
            found += [(position, opening)] if position > self.position else []
            found += [(ended, closing)] if closing is not None and ended > self.position else []
        found.sort()
        self.position = found[-1][0]
        return [r.decode(data) for _, data in found]

    def compact(self, covered: int, snapshot: bytes) -> None:
        self.connection.execute("UPDATE owners SET seen = ? WHERE owner = ?", (self.position, self.lock.owner))
        self.connection.execute("REPLACE INTO meta VALUES ('snapshot', ?)", (snapshot,))
        self.connection.execute("REPLACE INTO meta VALUES ('covered', ?)", (covered,))
        seen: int = self.connection.execute("SELECT min(seen) FROM owners").fetchone()[0]
        self.connection.execute("DELETE FROM intervals WHERE ended <= ?", (min(covered, seen),))

    def leave(self) -> None:
        with transaction(self.connection):
            self.append(r.Leave(route="", owner=self.lock.owner))
            self.connection.execute("DELETE FROM owners WHERE owner = ?", (self.lock.owner,))
        self.connection.close()
        self.lock.release()

    def die(self) -> None:
        self.connection.close()
        self.lock.release()


async def _has_read(journal: Journal, position: int) -> None:
    await turns_until(lambda: journal.position == position, 1_000_000)  # it looks four times a second


async def _side_by_side(path: Path) -> tuple[FormatTwo, Journal]:
    """A process of format 2, and one that has joined it since; both have written, and the old one has compacted."""
    _earlier_file(path, "2")
    old = FormatTwo(path)
    opened = old.append(begin(20))
    journal = Journal.open(path)
    await journal.append(begin(21))
    assert [type(record) for record in old.read()] == [r.Join, r.BeginWrite]
    old.append(end(opened))
    old.append(begin(22))
    await _has_read(journal, old.position)
    await journal.append(r.Mark(**HERE, ids=(23,)))
    old.read()
    old.compact(journal.position, dump(journal.book))
    return old, journal


def _ledger(journal: Journal) -> tuple[set[Any], set[Any]]:
    """Dirty keys, and open ones."""
    ledger = journal.book.route("docs").ledgers["c"]
    return set(ledger.marks), {key for interval in ledger.intervals.values() for key in interval.ids}


async def test_a_process_of_an_earlier_format_goes_on_beside_one_of_this(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    old, journal = await _side_by_side(path)
    third = Journal.open(path)
    for one in (journal, third):
        await _has_read(one, third.position)
        dirty, opened = _ledger(one)
        assert {20, 23} <= dirty
        assert {21, 22} <= opened
    bare, earlier = _bare(path)
    assert (bool(bare), earlier) == (True, {old.lock.owner})
    await third.close()
    await journal.close()
    old.read()
    old.append(begin(24))
    old.leave()


async def _open_again(path: Path, journal: Journal) -> Journal:
    await journal.close()
    return Journal.open(path)


async def _compact(_: Path, journal: Journal) -> Journal:
    journal._closed_rows = journal._compact_at
    journal.compact_when_due()
    await journal.append(begin(30))
    return journal


@pytest.mark.parametrize(
    ("go", "then"),
    [(FormatTwo.leave, _open_again), (FormatTwo.die, _open_again), (FormatTwo.leave, _compact)],
    ids=["left, and opened again", "died, and opened again", "left, and compacted"],
)
async def test_checksums_are_required_once_the_last_process_of_an_earlier_format_is_gone(
    tmp_path: Path, go: Callable[[FormatTwo], None], then: Callable[[Path, Journal], Any]
) -> None:
    path = tmp_path / "journal.db"
    old, journal = await _side_by_side(path)
    go(old)
    await _has_read(journal, old.position)
    expected = _ledger(journal)
    journal = await then(path, journal)
    assert _bare(path) == (set(), set())
    assert _ledger(journal)[0] == expected[0]
    await journal.close()
    again = Journal.open(path)
    assert _ledger(again)[1] >= expected[1]
    await again.close()


async def test_beside_an_earlier_format_what_has_a_checksum_is_compared_with_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    old, journal = await _side_by_side(path)
    await journal.append(begin(25))
    await journal.close()
    changed = (r.encode(begin(26)), r.encode(begin(25)))
    assert old.connection.execute("UPDATE intervals SET opening = ? WHERE opening = ?", changed).rowcount == 1
    with pytest.raises(JournalError, match="1 of its records do not fit"):
        Journal.open(path)
    old.die()
