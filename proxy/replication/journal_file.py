"""The journal's file: its tables, and how records stand in them.

`intervals`: a row an interval (begin and end), or a single record. `owners`: up to which position each process that has
the journal open has read it; no row goes before all of them have. `meta`: the format, and the snapshot of the book with
the position that it covers. Rows and snapshot have checksums: journal_checksums.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxy.replication import journal_checksums as checksums
from proxy.replication import records as r
from proxy.replication.book import Book, load
from proxy.replication.turn import Turn

FORMAT = "3"
_READABLE = ("1", "2", FORMAT)  # 2: without checksums; 1: one owner, without the table of owners
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intervals (
    position INTEGER PRIMARY KEY,  -- of the begin, or of a single record
    ended INTEGER,                 -- position of the end; NULL while open; = position for a single record
    opening BLOB NOT NULL,         -- the record, keys included, as one blob
    closing BLOB
);
CREATE INDEX IF NOT EXISTS intervals_ended ON intervals (ended);
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY, seen INTEGER NOT NULL) WITHOUT ROWID;
"""

Positioned = tuple[int, r.AnyRecord]


class Connection(sqlite3.Connection):
    """To a file that other processes write to as well, each in its turn."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, check_same_thread=False, isolation_level=None)
        self.turn = Turn(path)

    def close(self) -> None:
        super().close()
        self.turn.close()


def connect(path: Path) -> Connection:
    """Raises sqlite3.DatabaseError for a file that is no sound database."""
    connection = Connection(path)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise ValueError("its integrity check failed")
    return connection


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All of the block, durable when it ends, or nothing."""
    with connection.turn.taken():
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


class UnknownFormatError(ValueError):
    """The file is sound, and of another version."""


def join(connection: Connection, owner: str, is_gone: Callable[[str], bool]) -> tuple[Book, int]:
    """Make `owner` one of the journal's; the book, and the last position. `is_gone` tells of another owner whether its
    process has ended: one that began with an earlier format, and has not, goes on with it.

    Raises ValueError (and sqlite3.DatabaseError) if the file is not one that this version reads, or is damaged.
    """
    with transaction(connection):
        for statement in filter(str.strip, (_SCHEMA + checksums.SCHEMA).split(";\n")):
            connection.execute(statement)
        known = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone() or (FORMAT,)
        if known[0] not in _READABLE:
            readable = ", ".join(_READABLE)
            raise UnknownFormatError(f"format {known[0]!r}; this version reads {readable}: start the one that wrote it")
        connection.execute("REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
        if known[0] == FORMAT:
            checksums.seal_if_due(connection, is_gone)
        else:
            checksums.introduce(connection, is_gone)
        book, last = _folded(connection)
        record = r.Join(route="", owner=owner)
        insert(connection, last + 1, record, r.encode(record))
        connection.execute("INSERT INTO owners VALUES (?, ?)", (owner, last + 1))
    book.apply(last + 1, record)
    return book, last + 1


def _folded(connection: sqlite3.Connection) -> tuple[Book, int]:
    """The snapshot, and what came after it in the order of positions."""
    snapshot = checksums.snapshot(connection)
    covered, book = (0, Book()) if snapshot is None else (snapshot[0], load(snapshot[1]))
    stored = checksums.records(connection, 0)  # older ones, too, although the snapshot has them
    after = _decoded([(position, data) for position, data in stored if position > covered], covered)
    for position, record in after:
        book.apply(position, record)
    return book, covered + len(after)


def read_since(connection: sqlite3.Connection, seen: int) -> list[Positioned]:
    """The records after position `seen`, in their order. Raises ValueError if they are damaged, or one is missing."""
    return _decoded(checksums.records(connection, seen), seen)


def _decoded(stored: Sequence[checksums.Stored], seen: int) -> list[Positioned]:
    for expected, (position, _) in enumerate(stored, start=seen + 1):
        if position != expected:
            raise ValueError(f"its record at position {expected} is missing")
    return [(position, r.decode(data)) for position, data in stored]


def insert(connection: sqlite3.Connection, position: int, record: r.AnyRecord, data: bytes) -> None:
    """`record`, encoded as `data`, at `position`. An end whose interval was closed already stands by itself."""
    checksums.add(connection, position, data)
    if isinstance(record, r.End):
        statement = "UPDATE intervals SET ended = ?, closing = ? WHERE position = ? AND ended IS NULL"
        if connection.execute(statement, (position, data, record.begin)).rowcount:
            return
    ended = None if isinstance(record, r.Begin) else position
    connection.execute("INSERT INTO intervals VALUES (?, ?, ?, NULL)", (position, ended, data))


def tell_seen(connection: sqlite3.Connection, owner: str, seen: int) -> None:
    """That `owner` has read everything up to `seen`."""
    connection.execute("UPDATE owners SET seen = ? WHERE owner = ?", (seen, owner))


def forget(connection: sqlite3.Connection, owner: str) -> None:
    """That `owner` is gone: it will read nothing more."""
    connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))


def compact(connection: sqlite3.Connection, covered: int, snapshot: bytes) -> None:
    """Keep `snapshot`, the book as of `covered`, and remove the closed rows that it and all owners are past."""
    known = connection.execute("SELECT value FROM meta WHERE name = 'covered'").fetchone()
    if known is not None and known[0] >= covered:
        return
    checksums.keep_snapshot(connection, covered, snapshot)
    owners = dict(connection.execute("SELECT owner, seen FROM owners"))
    bound = min([covered, *owners.values()])
    connection.execute("DELETE FROM intervals WHERE ended <= ?", (bound,))
    checksums.remove(connection, bound)
    checksums.seal_if_due(connection, is_gone=lambda owner: owner not in owners)
