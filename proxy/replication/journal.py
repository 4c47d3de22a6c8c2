"""The journal: a durable, totally ordered record in one SQLite file, shared by the processes (owners) of a machine.

Rules of the file:

- A record gets its *position* in the transaction that makes it durable. That transaction first reads what other
  owners have committed since; so whoever has made a record durable has read the journal up to it.
- The future of `append` resolves when the record is durable *and* has been applied to the book, in the order of
  positions, other owners' records included.
- One thread commits and reads. Whatever has queued up while it synced goes into the next transaction (group
  commit); WAL with `synchronous=FULL`, so a commit is an fsync. A record that nobody waits for may wait for company.
- One row an interval: its begin is an insert, its end an update of the same row. A closed row stays until a
  snapshot of the book covers it and every owner has read it.
- When a commit fails, records that come before anything is done are refused (nothing will be): those that open an
  interval or name its keys, and what an operator wants now and not an hour later. Every other record says what has
  happened, and is kept and tried again until it is durable.
- The primary moves only once the state file says that it is being moved (state_file.py).

`Journal` is also the seam for a journal that several machines share: it needs nothing but `append`, `subscribe`, the
book, and owners whose end can be proven (owners.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.errors import JournalError
from proxy.replication import records as r
from proxy.replication.bell import Bell
from proxy.replication.book import Book, dump
from proxy.replication.journal_file import (
    Connection,
    Positioned,
    compact,
    forget,
    insert,
    read_since,
    tell_seen,
    transaction,
)
from proxy.replication.journal_loss import open_or_replace
from proxy.replication.ledger import Effects
from proxy.replication.owners import OwnerLock
from proxy.replication.state_file import Mark, State, StateFile, matters, state_of

_BEFORE_DOING = (*r.OPENING, r.NameKeys, r.Note, r.Prepare, r.Bind)
_MOVING = (r.Ready, r.Commit)
_log = logging.getLogger("crossfade.journal")
_RETRY_SECONDS = 0.5
_COMPACT_ROWS = 5_000
_LOOK_ALONE_SECONDS = 0.25
_LOOK_SHARED_SECONDS = 0.02
_TELL_SEEN_SECONDS = 1.0
_LEISURE_SECONDS = 0.002
_COMPANY_SECONDS = 0.005  # in place of it, while records that somebody waits for keep coming
_FREQUENT_SECONDS = 0.02  # since the last of them


@dataclass(slots=True)
class _Entry:
    record: r.AnyRecord
    data: bytes
    done: asyncio.Future[Effects]
    position: int = 0  # once it is durable


@dataclass(frozen=True, slots=True)
class Commit:
    """One group commit, for the metrics."""

    records: tuple[r.AnyRecord, ...]
    seconds: float


Applied = Callable[[int, r.AnyRecord, Effects], None]


class Journal:
    """See the file's head. Made by `Journal.open`; every method is called on the event loop."""

    def __init__(self, path: Path, connection: Connection, book: Book, position: int, lock: OwnerLock) -> None:
        self.path = path
        self._state_file = StateFile(path, lock.owner)
        self._mark = Mark(self._state_file.mark_path)
        self.lock = lock
        self.book = book
        self.position = position  # of the last record that was applied
        self.error: str = ""  # why the last commit failed; "" while the journal works
        self.unsaved: str = ""  # why the file beside it says less than the journal; "" if it does not
        self.on_commit: Callable[[Commit], None] = lambda _: None
        self._applied: list[Applied] = []
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Entry | State | None] = deque()
        self._bell = Bell()
        self._later: asyncio.TimerHandle | None = None  # rings for what waits for company
        self._awaited_at = 0.0  # when the last record came that somebody waits for
        self._snapshot: tuple[int, bytes] | None = None
        self._state = State({})  # as it was kept last
        self._closed_rows = 0
        self._compact_at = _COMPACT_ROWS
        self._closing = False
        self._shared = False  # whether there are other owners
        # The thread's own:
        self._seen = position
        self._version = -1  # of the file, as SQLite tells it to one connection
        self._told_seen_at = 0.0
        self._unsaved: State | None = None
        self._thread = threading.Thread(target=self._commit_forever, name="journal", daemon=True)
        self._keep_state()  # the process that made the last record durable may have died before it saved the file
        self._thread.start()

    # --- opening ---------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path, hold_seconds: float = 60.0) -> Journal:
        """Read the journal at `path` (made if it is not there) and become one of its owners. `hold_seconds`: how long a
        request to any store may live, for a journal that is lost.

        One that is damaged, cut short or gone is put aside, and a new one begins with what is known from beside it: the
        primary of each route, and that all its collections have to be swept and verified. Raises JournalError where
        that is not known, or where the format is unknown.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = OwnerLock.take(path.parent / "owners")
        try:
            return cls(path, *open_or_replace(path, lock, hold_seconds), lock)
        except (OSError, sqlite3.DatabaseError, ValueError) as error:
            lock.release()
            raise JournalError(f"the journal {path} cannot be read: {error}") from error

    @property
    def owner(self) -> str:
        """The name of this process in the journal."""
        return self.lock.owner

    # --- appending -------------------------------------------------------------------------

    def subscribe(self, applied: Applied) -> None:
        """Call `applied(position, record, effects)` for every record from now on, in order."""
        self._applied.append(applied)

    def unsubscribe(self, applied: Applied) -> None:
        self._applied.remove(applied)

    def append(self, record: r.AnyRecord, *, at_leisure: bool = False) -> asyncio.Future[Effects]:
        """Queue `record`. The future gives what it brought about; JournalError if it comes before anything is done and
        could not be made durable. `at_leisure`: nobody waits for it, so it goes with the next one that somebody waits
        for, or after a few milliseconds."""
        if self._closing:
            raise JournalError("the journal is closed: the program is stopping")
        entry = _Entry(record, r.encode(record), self._loop.create_future())
        self._queue.append(entry)
        if not at_leisure:
            self._awaited_at = self._loop.time()
            self._ring()
        elif self._later is None:
            is_frequent = self._loop.time() - self._awaited_at < _FREQUENT_SECONDS
            self._later = self._loop.call_later(_COMPANY_SECONDS if is_frequent else _LEISURE_SECONDS, self._ring)
        return entry.done

    def _ring(self) -> None:
        """Have the thread take all that is queued."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._bell.ring()

    def size_bytes(self) -> int:
        """What the journal takes on disk, its write-ahead log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def close(self) -> None:
        """Commit what is queued, say that this owner leaves, and let go of the file."""
        if not self._closing:
            self.append(r.Leave(route="", owner=self.owner))
            self._closing = True
            self._queue.append(None)
            self._ring()
            await asyncio.to_thread(self._thread.join)
            self._bell.close()
            self._mark.close()
            self._connection.close()
            self.lock.release()

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
        self._snapshot = (self.position, dump(self.book))

    # --- on the loop, after a commit ---------------------------------------------------------

    def _read(self, others: Sequence[tuple[int, r.AnyRecord]]) -> None:
        """What other owners have made durable."""
        for position, record in others:
            self._take(position, record)
        self._shared = len(self.book.owners) > 1

    def _durable(self, others: Sequence[tuple[int, r.AnyRecord]], batch: Sequence[_Entry], commit: Commit) -> None:
        self.error = ""
        self._read(others)
        for entry in batch:
            effects = self._take(entry.position, entry.record)
            if not entry.done.done():
                entry.done.set_result(effects)
        self.on_commit(commit)
        self.compact_when_due()

    def _take(self, position: int, record: r.AnyRecord) -> Effects:
        effects = self.book.apply(position, record)
        effects.position = self.position = position
        if not isinstance(record, r.OPENING):
            self._closed_rows += 1
        if matters(record) and not self._closing:
            self._keep_state()
        for applied in tuple(self._applied):
            applied(position, record, effects)
        return effects

    def _keep_state(self) -> None:
        """Have the state file say what is so now, before anything that is appended from here on."""
        state = state_of(self.book)
        if state != self._state:
            self._state = state
            self._queue.append(state)
            self._ring()

    def _failed(self, refused: Sequence[_Entry], error: Exception) -> None:
        self.error = f"{type(error).__name__}: {error}"
        self._refuse(refused, str(error))

    def _refuse(self, entries: Sequence[_Entry], problem: str) -> None:
        for entry in entries:
            if not entry.done.done():
                entry.done.set_exception(JournalError(f"the journal {self.path} cannot be written: {problem}"))
                entry.done.exception()  # of most records nobody waits for that

    def _works(self) -> None:
        self.error = ""

    def _saved(self, error: str) -> None:
        if error and not self.unsaved:
            words = {"path": str(self._state_file.path), "error": error}
            _log.error("the file beside the journal cannot be written: the primary cannot be moved", extra=words)
        self.unsaved = error

    def _unreadable(self, error: Exception) -> None:
        self.error = f"{type(error).__name__}: {error}"

    # --- in the thread that commits and reads ----------------------------------------------------

    def _commit_forever(self) -> None:
        kept: list[_Entry] = []  # after a commit that failed
        waiting: list[_Entry] = []  # for the file beside the journal
        stop = False
        while not stop:
            batch, stop = self._gather(kept, waiting)
            unsaved = self._save_state()
            batch, waiting = self._split(batch, unsaved)
            if not batch:
                self._look()
                continue
            began = time.perf_counter()
            try:
                others = self._commit(batch)
            except (sqlite3.Error, ValueError) as error:
                self._version = -1  # what was read with it has to be read again
                refused = [entry for entry in batch if _is_refused(entry.record)]
                kept = [entry for entry in batch if not _is_refused(entry.record)]
                self._tell(self._failed, refused, error)
                if kept and not stop:
                    time.sleep(_RETRY_SECONDS)
                continue
            kept = []
            commit = Commit(tuple(entry.record for entry in batch), time.perf_counter() - began)
            self._tell(self._durable, others, batch, commit)
            with contextlib.suppress(OSError):  # what it tells, it tells of the past: nobody waits for it
                self._mark.write(self._seen)
        self._tell(self._refuse, kept + waiting, "the program is stopping")

    def _gather(self, kept: list[_Entry], waiting: list[_Entry]) -> tuple[list[_Entry], bool]:
        """What to commit next (nothing, if nothing came for a while), and whether it is the last."""
        batch = kept + waiting
        self._bell.wait(0.0 if kept else _LOOK_SHARED_SECONDS if self._shared else _LOOK_ALONE_SECONDS)
        while self._queue:
            found = self._queue.popleft()
            if found is None:
                return batch, True
            if isinstance(found, State):
                self._unsaved = found
            else:
                batch.append(found)
        return batch, False

    def _save_state(self) -> str:
        """Tried again with every batch until it is saved; why it is not, or ""."""
        if self._unsaved is None:
            return ""
        try:
            self._state_file.save(self._unsaved)
        except OSError as error:
            problem = f"{type(error).__name__}: {error}"
        else:
            self._unsaved, problem = None, ""
        self._tell(self._saved, problem)
        return problem

    def _split(self, batch: list[_Entry], unsaved: str) -> tuple[list[_Entry], list[_Entry]]:
        """What may be committed now, and what has to wait: the primary does not move in the journal while the file
        beside it says less than the journal did before, or a journal that is lost then would be begun with another."""
        if not unsaved:
            return batch, []
        moving = [entry for entry in batch if isinstance(entry.record, _MOVING)]
        refused = [entry for entry in moving if _is_refused(entry.record)]
        self._tell(self._refuse, refused, f"{self._state_file.path}: {unsaved}")
        waiting = [entry for entry in moving if not _is_refused(entry.record)]
        return [entry for entry in batch if not isinstance(entry.record, _MOVING)], waiting

    def _commit(self, batch: Sequence[_Entry]) -> list[Positioned]:
        """Make `batch` durable, and give it positions. What other owners have made durable since."""
        connection = self._connection
        snapshot, self._snapshot = self._snapshot, None  # lost with a failed commit: only the next one comes later
        with transaction(connection):
            others = self._unread()
            last = others[-1][0] if others else self._seen
            for entry in batch:
                entry.position = last = last + 1
                insert(connection, last, entry.record, entry.data)
                if isinstance(entry.record, r.Leave):
                    forget(connection, entry.record.owner)
            if self._shared or snapshot is not None:
                tell_seen(connection, self.owner, last)
            if snapshot is not None:
                compact(connection, *snapshot)
        self._seen = last
        return others

    def _look(self) -> None:
        """Nothing to commit: read what others have, and tell them now and then how far."""
        connection = self._connection
        try:
            others = self._unread()
            if self.error:  # nobody may be asking for a commit by now
                with transaction(connection):
                    tell_seen(connection, self.owner, self._seen)
                self._tell(self._works)
            if not others:
                return
            self._seen = others[-1][0]
            self._tell(self._read, others)
            if time.monotonic() - self._told_seen_at > _TELL_SEEN_SECONDS:
                self._told_seen_at = time.monotonic()
                with transaction(connection):
                    tell_seen(connection, self.owner, self._seen)
        except (sqlite3.Error, ValueError) as error:
            self._version = -1
            self._tell(self._unreadable, error)

    def _unread(self) -> list[Positioned]:
        version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return []
        others = read_since(self._connection, self._seen)
        self._version = version
        return others

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, *arguments)


def _is_refused(record: r.AnyRecord) -> bool:
    """Whether a record that cannot be made durable now is given up."""
    return isinstance(record, _BEFORE_DOING) or (isinstance(record, r.Commit) and record.emergency)
