"""The journal: a durable, totally ordered record in one SQLite file, shared by nobody but its owner's process.

Rules of the file:

- `append` gives a record its position at once, in the order of the calls; its future resolves when the record is
  durable *and* has been applied to the book, in the order of positions. So whoever awaited it has read the journal
  up to it.
- One thread commits. Whatever has queued up while it synced goes into the next transaction (group commit); WAL with
  `synchronous=FULL`, so a commit is an fsync.
- One row an interval: its begin is an insert, its end an update of the same row. A closed row stays until a
  snapshot of the book covers it.
- When a commit fails, records that come before anything is sent are refused (nothing will be): those that open an
  interval, and those that name its keys. Every other record says what has happened, and is kept and tried again until
  it is durable.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from proxy.errors import JournalError
from proxy.replication import records as r
from proxy.replication.book import Book, dump, load
from proxy.replication.ledger import Effects

FORMAT = "1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intervals (
    position INTEGER PRIMARY KEY,  -- of the begin, or of a single record
    ended INTEGER,                 -- position of the end; NULL while open; = position for a single record
    opening BLOB NOT NULL,         -- the record, keys included, as one blob
    closing BLOB
);
"""
_BEFORE_SENDING = (*r.OPENING, r.NameKeys)
_RETRY_SECONDS = 0.5
_COMPACT_ROWS = 5_000


@dataclass(slots=True)
class _Entry:
    position: int
    record: r.AnyRecord
    sql: str
    values: tuple[Any, ...]
    done: asyncio.Future[Effects]


@dataclass(frozen=True, slots=True)
class Commit:
    """One group commit, for the metrics."""

    records: tuple[r.AnyRecord, ...]
    seconds: float


class Journal:
    """See the file's head. Made by `Journal.open`; every method is called on the event loop."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: IO[bytes], book: Book, position: int) -> None:
        self.path = path
        self.owner = f"{os.uname().nodename}:{os.getpid()}"
        self.book = book
        self.position = position
        self.error: str = ""  # why the last commit failed; "" while the journal works
        self.on_commit: Callable[[Commit], None] = lambda _: None
        self._applied: list[Callable[[int, r.AnyRecord, Effects], None]] = []
        self._connection = connection
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._snapshot: tuple[int, bytes] | None = None
        self._last_applied = position
        self._closed_rows = 0
        self._compact_at = _COMPACT_ROWS
        self._closing = False
        self._thread = threading.Thread(target=self._commit_forever, name="journal", daemon=True)
        self._thread.start()

    # --- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read the journal at `path` (made if it is not there) and become its owner.

        Raises JournalError when another process owns it, or when it is damaged or of an unknown format.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path.with_suffix(".lock"), "wb")  # noqa: SIM115  held for the life of the process
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise JournalError(f"{path} is in use by another process; stop it, or choose another data_dir") from error
        try:
            connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
            book, position = _read(connection)
        except (sqlite3.DatabaseError, ValueError) as error:
            lock.close()
            raise JournalError(
                f"the journal {path} cannot be read ({error}). Nothing was changed. To start anew, move it away: every "
                "collection then needs a backfill and a verify before reads may leave the source"
            ) from error
        return cls(path, connection, lock, book, position)

    # --- appending -------------------------------------------------------------------------

    def subscribe(self, applied: Callable[[int, r.AnyRecord, Effects], None]) -> None:
        """Call `applied(position, record, effects)` for every record from now on, in order."""
        self._applied.append(applied)

    def unsubscribe(self, applied: Callable[[int, r.AnyRecord, Effects], None]) -> None:
        self._applied.remove(applied)

    def append(self, record: r.AnyRecord) -> asyncio.Future[Effects]:
        """Queue `record`. The future gives what it brought about; JournalError if it comes before anything is sent and
        could not be made durable."""
        if self._closing:
            raise JournalError("the journal is closed: the program is stopping")
        self.position += 1
        entry = _Entry(self.position, record, *_row(self.position, record), self._loop.create_future())
        self._queue.put(entry)
        return entry.done

    def size_bytes(self) -> int:
        """What the journal takes on disk, its write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def close(self) -> None:
        """Commit what is queued and let go of the file."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._connection.close()
            self._lock.close()

    def compact_when_due(self) -> None:
        """Replace closed rows by a snapshot of the book once they outnumber what is open or dirty."""
        if self._closed_rows < self._compact_at or self._snapshot is not None:
            return
        ledgers = [ledger for route in self.book.routes.values() for ledger in route.ledgers.values()]
        size = sum(len(ledger.marks) + len(ledger.intervals) for ledger in ledgers)
        if self._closed_rows < 4 * size:
            self._compact_at = 4 * size
            return
        self._closed_rows, self._compact_at = 0, _COMPACT_ROWS
        self._snapshot = (self._last_applied, dump(self.book))

    # --- on the loop, after a commit ---------------------------------------------------------

    def _durable(self, batch: Sequence[_Entry], commit: Commit) -> None:
        self.error = ""
        for entry in batch:
            effects = self.book.apply(entry.position, entry.record)
            effects.position = entry.position
            self._last_applied = entry.position
            if not isinstance(entry.record, r.OPENING):
                self._closed_rows += 1
            for applied in self._applied:
                applied(entry.position, entry.record, effects)
            if not entry.done.done():
                entry.done.set_result(effects)
        self.on_commit(commit)
        self.compact_when_due()

    def _failed(self, refused: Sequence[_Entry], error: Exception) -> None:
        self.error = f"{type(error).__name__}: {error}"
        for entry in refused:
            if not entry.done.done():
                entry.done.set_exception(JournalError(f"the journal {self.path} cannot be written: {error}"))

    # --- in the committing thread --------------------------------------------------------------

    def _commit_forever(self) -> None:
        kept: list[_Entry] = []
        stop = False
        while not stop:
            batch = kept
            if not batch:
                first = self._queue.get()
                if first is None:
                    return
                batch = [first]
            while not self._queue.empty():
                entry = self._queue.get()
                if entry is None:
                    stop = True
                    break
                batch.append(entry)
            began = time.perf_counter()
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                refused = [entry for entry in batch if isinstance(entry.record, _BEFORE_SENDING)]
                kept = [entry for entry in batch if not isinstance(entry.record, _BEFORE_SENDING)]
                self._loop.call_soon_threadsafe(self._failed, refused, error)
                if kept and not stop:
                    time.sleep(_RETRY_SECONDS)
                continue
            kept = []
            commit = Commit(tuple(entry.record for entry in batch), time.perf_counter() - began)
            self._loop.call_soon_threadsafe(self._durable, batch, commit)

    def _commit(self, batch: Sequence[_Entry]) -> None:
        connection = self._connection
        snapshot, self._snapshot = self._snapshot, None  # lost with a failed commit: only the next one comes later
        connection.execute("BEGIN IMMEDIATE")
        try:
            for entry in batch:
                connection.execute(entry.sql, entry.values)
            if snapshot is not None:
                position, state = snapshot
                connection.execute("REPLACE INTO meta VALUES ('snapshot', ?)", (state,))
                connection.execute("REPLACE INTO meta VALUES ('covered', ?)", (position,))
                connection.execute("DELETE FROM intervals WHERE ended <= ?", (position,))
            connection.execute("COMMIT")
        except sqlite3.Error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _row(position: int, record: r.AnyRecord) -> tuple[str, tuple[Any, ...]]:
    data = r.encode(record)
    match record:
        case r.Begin():
            return "INSERT INTO intervals VALUES (?, NULL, ?, NULL)", (position, data)
        case r.End():
            return "UPDATE intervals SET ended = ?, closing = ? WHERE position = ?", (position, data, record.begin)
        case _:
            return "INSERT INTO intervals VALUES (?, ?, ?, NULL)", (position, position, data)


def _read(connection: sqlite3.Connection) -> tuple[Book, int]:
    """The book and the last position: the snapshot, and what came after it in the order of positions."""
    meta = dict(connection.execute("SELECT name, value FROM meta"))
    if meta.setdefault("format", FORMAT) != FORMAT:
        raise ValueError(f"format {meta['format']!r}, this version reads {FORMAT!r}")
    connection.execute("REPLACE INTO meta VALUES ('format', ?)", (FORMAT,))
    if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise ValueError("its integrity check failed")
    book = load(meta["snapshot"]) if "snapshot" in meta else Book()
    covered = meta.get("covered", 0)
    records: list[tuple[int, bytes]] = []
    for position, ended, opening, closing in connection.execute("SELECT * FROM intervals"):
        if position > covered:
            records.append((position, opening))
        if closing is not None and ended > covered:
            records.append((ended, closing))
    records.sort(key=lambda row: row[0])
    last = covered
    for last, data in records:
        book.apply(last, r.decode(data))
    return book, last
