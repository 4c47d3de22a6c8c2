"""Checksums of what stands in the journal's file. SQLite has none, and a record with a flipped bit may still be read.

`checksums` has one for each record, at the record's position, over that position and the record's bytes; `meta` has one
for the snapshot, over the position that it covers and its bytes. Each record needs its checksum and each checksum its
record: what was changed, came to another position or is missing is noticed when it is read, and all of the file when
somebody joins. Nothing else stands in a row: `ended` is NULL, the position of the closing record, or the row's own.

They came with format 3, in tables of their own: a process of format 2 may go on beside one of format 3 (that takes its
sockets over, say), and neither reads nor writes them. `earlier` names the owners of that kind. While one of them is
there, what has no checksum is taken as it is, and so is the snapshot. Once all are gone everything gets its checksum
(`_seal`), and what has none is damaged.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from zlib import crc32

SCHEMA = """
CREATE TABLE IF NOT EXISTS checksums (position INTEGER PRIMARY KEY, checksum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS earlier (owner TEXT PRIMARY KEY) WITHOUT ROWID;
"""

Stored = tuple[int, bytes]  # a record's position and its bytes; the position that a snapshot covers and its bytes


def checksum(position: int, data: bytes) -> int:
    """CRC-32 of the position (8 bytes, little endian) and `data`: no single flipped bit leaves it as it was."""
    return crc32(data, crc32(position.to_bytes(8, "little", signed=True)))


def add(connection: sqlite3.Connection, position: int, data: bytes) -> None:
    """For the record `data`. Raises sqlite3.IntegrityError if there was one at `position` already."""
    connection.execute("INSERT INTO checksums VALUES (?, ?)", (position, checksum(position, data)))


def remove(connection: sqlite3.Connection, bound: int) -> None:
    """Those of the records up to position `bound` that are gone: only the openings of rows that stay are not."""
    connection.execute(
        "DELETE FROM checksums WHERE position <= ? AND position NOT IN (SELECT position FROM intervals)", (bound,)
    )


def keep_snapshot(connection: sqlite3.Connection, covered: int, snapshot: bytes) -> None:
    """`snapshot`, the book as of position `covered`, takes the place of the one before."""
    rows = {"snapshot": snapshot, "covered": covered, "snapshot_checksum": checksum(covered, snapshot)}
    connection.executemany("REPLACE INTO meta VALUES (?, ?)", rows.items())


def snapshot(connection: sqlite3.Connection) -> Stored | None:
    """The snapshot and the position that it covers; None if none was kept. Raises ValueError if it is damaged."""
    return _snapshot(connection, _has_earlier(connection))


def records(connection: sqlite3.Connection, seen: int) -> list[Stored]:
    """The records after position `seen`, in their order. Raises ValueError if they are damaged."""
    with _one_view(connection):
        return _records(connection, seen, _has_earlier(connection))


# --- beside an earlier format --------------------------------------------------------------------------


def introduce(connection: sqlite3.Connection, is_gone: Callable[[str], bool]) -> None:
    """The file had an earlier format until now; owners that are not gone go on with it."""
    connection.execute("INSERT INTO earlier SELECT owner FROM owners")
    _seal_if_gone(connection, is_gone)


def seal_if_due(connection: sqlite3.Connection, is_gone: Callable[[str], bool]) -> None:
    """Look whether owners of an earlier format have gone meanwhile."""
    if _has_earlier(connection):
        _seal_if_gone(connection, is_gone)


def _has_earlier(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM earlier").fetchone() is not None


def _seal_if_gone(connection: sqlite3.Connection, is_gone: Callable[[str], bool]) -> None:
    if all(is_gone(owner) for (owner,) in connection.execute("SELECT owner FROM earlier").fetchall()):
        _seal(connection)


def _seal(connection: sqlite3.Connection) -> None:
    """Give everything its checksum; none may be missing from now on. Those there are have to be right."""
    stored = _records(connection, 0, lenient=True)
    kept = _snapshot(connection, lenient=True)
    connection.execute("DELETE FROM checksums")  # some may be of rows that an earlier format has removed
    for position, data in stored:
        add(connection, position, data)
    if kept is not None:
        keep_snapshot(connection, *kept)
    connection.execute("DELETE FROM earlier")


# --- reading ---------------------------------------------------------------------------------------------


@contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """All statements of the block see the same state of the file, whatever others commit meanwhile."""
    begun = not connection.in_transaction
    if begun:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        if begun and connection.in_transaction:  # an error may have ended it
            connection.execute("ROLLBACK")


def _snapshot(connection: sqlite3.Connection, lenient: bool) -> Stored | None:
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    covered, data, known = (meta.get(name) for name in ("covered", "snapshot", "snapshot_checksum"))
    if covered is None and data is None and known is None:
        return None
    if not isinstance(covered, int) or not isinstance(data, bytes):
        raise ValueError("its snapshot is damaged")
    if known != checksum(covered, data) and not lenient:
        raise ValueError("its snapshot does not fit its checksum")
    return covered, data


def _records(connection: sqlite3.Connection, seen: int, lenient: bool) -> list[Stored]:
    stored = _stored(connection, seen)
    known: dict[int, int] = dict(
        connection.execute("SELECT position, checksum FROM checksums WHERE position > ?", (seen,))
    )
    actual = {position: checksum(position, data) for position, data in stored}
    if lenient:
        known = {position: known.get(position, computed) for position, computed in actual.items()}
    if actual != known:
        wrong = sorted({position for position, _ in actual.items() ^ known.items()})
        raise ValueError(f"{len(wrong)} of its records do not fit their checksums, the first at position {wrong[0]}")
    return stored


def _stored(connection: sqlite3.Connection, seen: int) -> list[Stored]:
    rows = connection.execute(
        "SELECT position, ended, opening, closing FROM intervals WHERE position > ? OR ended > ?", (seen, seen)
    )
    found: list[tuple[int, bytes]] = []
    for position, ended, opening, closing in rows:
        alone = closing is None and ended in (None, position)
        if not isinstance(opening, bytes) or not (alone or (isinstance(closing, bytes) and isinstance(ended, int))):
            raise ValueError(f"its row at position {position} is damaged")
        if position > seen:
            found.append((position, opening))
        if closing is not None and ended > seen:
            found.append((ended, closing))
    found.sort(key=lambda row: row[0])
    return found
