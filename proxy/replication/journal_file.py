"""The journal's file: its tables, and how records stand in them.

`intervals`: a row an interval (begin and end), or a single record. `owners`: up to which position each process that has
the journal open has read it; no row goes before all of them have. `meta`: the format, and the snapshot of the book with
the position that it covers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.replication import records as r
from proxy.replication.book import Book, load

FORMAT = "2"
_READABLE = ("1", FORMAT)  # 1: one owner, without the table of owners
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


def connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.DatabaseError for a file that is no sound database."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise ValueError("its integrity check failed")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block, durable when it ends, or nothing."""
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


def join(connection: sqlite3.Connection, owner: str) -> tuple[Book, int]:
    """Make `owner` one of the journal's; the book, and the last position.

    Raises ValueError (and sqlite3.DatabaseError) if the file is not one that this version reads.
    """
    with transaction(connection):
        for statement in filter(str.strip, _SCHEMA.split(";\n")):
            connection.execute(statement)
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        if meta.get("format", FORMAT) not in _READABLE:
            raise UnknownFormatError(f"format {meta['format']!r}; this version reads {', '.join(_READABLE)}")
        connection.execute("REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
        book, last = _folded(connection, meta)
        record = r.Join(route="", owner=owner)
        insert(connection, last + 1, record, r.encode(record))
        connection.execute("INSERT INTO owners VALUES (?, ?)", (owner, last + 1))
    book.apply(last + 1, record)
    return book, last + 1


def _folded(connection: sqlite3.Connection, meta: Mapping[str, Any]) -> tuple[Book, int]:
    """The snapshot, and what came after it in the order of positions."""
    book = load(meta["snapshot"]) if "snapshot" in meta else Book()
    last: int = meta.get("covered", 0)
    for position, record in read_since(connection, last):
        book.apply(position, record)
        last = position
    return book, last


def read_since(connection: sqlite3.Connection, seen: int) -> list[Positioned]:
    """The records after position `seen`, in their order."""
    rows = connection.execute(
        "SELECT position, ended, opening, closing FROM intervals WHERE position > ? OR ended > ?", (seen, seen)
    )
    found: list[tuple[int, bytes]] = []
    for position, ended, opening, closing in rows:
        if position > seen:
            found.append((position, opening))
        if closing is not None and ended > seen:
            found.append((ended, closing))
    found.sort(key=lambda row: row[0])
    return [(position, r.decode(data)) for position, data in found]


def insert(connection: sqlite3.Connection, position: int, record: r.AnyRecord, data: bytes) -> None:
    """`record`, encoded as `data`, at `position`. An end whose interval was closed already stands by itself."""
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
    connection.execute("REPLACE INTO meta VALUES ('snapshot', ?)", (snapshot,))
    connection.execute("REPLACE INTO meta VALUES ('covered', ?)", (covered,))
    seen: int = connection.execute("SELECT min(seen) FROM owners").fetchone()[0]
    connection.execute("DELETE FROM intervals WHERE ended <= ?", (min(covered, seen),))
