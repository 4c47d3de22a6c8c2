"""What happens when the journal is damaged, cut short, replaced or gone: it is detected, and nothing is guessed.

Damage is what SQLite finds, and what does not fit its checksum (journal_checksums.py).

The old file is put aside. The new journal begins with what the state file knows (state_file.py): phase and primary of
each route. Of its collections nothing is known any more: all, those without a name yet too, are held as long as a
request may live, and swept, and need a verify before the secondary is read again or the primary moved. If it is not
known which store is primary, nothing starts.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.book import Book
from proxy.replication.journal_file import Connection, UnknownFormatError, connect, insert, join, transaction
from proxy.replication.owners import OwnerLock
from proxy.replication.state_file import State, StateFile

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
REASON = "the journal was lost"
_log = logging.getLogger("crossfade.journal")


def open_or_replace(path: Path, lock: OwnerLock, hold_seconds: float) -> tuple[Connection, Book, int]:
    """A connection, the book and the last position, with `lock`'s owner joined. `hold_seconds`: how long a request to
    any store may live.

    Raises ValueError (and sqlite3.DatabaseError) where the journal is lost and nothing tells which store is primary, or
    where it is of another version.
    """
    files = StateFile(path)
    marked = files.marked()  # before anything: other processes go on meanwhile
    if not path.exists() and files.path.exists():
        return _replaced(path, lock, files, "it is gone", hold_seconds)
    try:
        connection, book, position = _joined(path, lock)
        if position <= marked:
            problem = f"it ends at position {position - 1}, and had come to {marked}"
        elif unknown := _unknown_routes(book, files):
            problem = f"it does not know {', '.join(unknown)}"
        else:
            return connection, book, position
        connection.close()
    except UnknownFormatError:
        raise
    except sqlite3.DatabaseError as error:
        # One without a code is Python's own: bytes have become text. The low byte of a code is its kind.
        code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
        if code & 0xFF not in _DAMAGED:  # it is locked, say: nothing is wrong with the file
            raise
        problem = str(error)
    except ValueError as error:
        problem = str(error)
    return _replaced(path, lock, files, problem, hold_seconds)


def _joined(path: Path, lock: OwnerLock) -> tuple[Connection, Book, int]:
    connection = connect(path)
    try:
        return connection, *join(connection, lock.owner, lock.is_gone)
    except BaseException:
        connection.close()  # before the file may be put aside
        raise


def _unknown_routes(book: Book, files: StateFile) -> list[str]:
    """Routes that the state file has and the journal has not: it was only begun anew, by a process that died over it.
    (The file is never ahead of a whole journal; one that is damaged says nothing, and is written anew.)"""
    try:
        state = files.load()
    except ValueError:
        return []
    return sorted(state.routes.keys() - book.routes.keys()) if state is not None else []


def _replaced(
    path: Path, lock: OwnerLock, files: StateFile, problem: str, hold_seconds: float
) -> tuple[Connection, Book, int]:
    state = files.load()
    if state is None or any(route.primary is None for route in state.routes.values()):
        raise ValueError(
            f"{problem}; and nothing beside it tells which store is primary. Nothing was changed. If the source is, "
            f"move {path.stem}.* away: every collection then needs a backfill and a verify. If it may be the target, "
            f"nothing may start before you know"
        )
    if lock.others():
        raise ValueError(f"{problem}; other processes work on it: stop them all first")
    _log.error("the journal was lost: all collections have to be swept and verified", extra={"problem": problem})
    _put_aside(path, files)
    connection, book, position = _joined(path, lock)
    return connection, book, _begin_anew(connection, book, position, state, hold_seconds, lock.owner)


def _put_aside(path: Path, files: StateFile) -> None:
    at = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.rename(old.with_name(f"{path.name}.lost-{at}{suffix}"))
    files.mark_path.unlink(missing_ok=True)


def _begin_anew(
    connection: Connection, book: Book, position: int, state: State, hold_seconds: float, owner: str
) -> int:
    records: list[r.AnyRecord] = []
    for name, route in state.routes.items():
        assert route.primary is not None
        records.append(r.Restore(route=name, phase=route.phase, to=route.primary))
        if route.primary is Side.SOURCE and route.phase != r.DIRECT:
            # Collections that nothing names yet: what was under way to them may land while they are copied.
            start = position + len(records) + 1
            records.append(r.SetPhase(route=name, phase=route.phase, hold_seconds=hold_seconds))
            records.append(r.Ready(route=name, epoch=start, owner=owner))
        if route.bound is not None:
            records.append(r.Bind(route=name, source=route.bound[0], target=route.bound[1]))
        for collection in route.claimed:
            records.append(r.Claim(route=name, collection=collection))
            records += (
                r.HoldSide(route=name, collection=collection, side=side, hold_seconds=hold_seconds, copy=copy)
                for side, copy in ((route.primary, False), (route.primary.other, True))
            )
            # "not backfilled" would wait for an operator
            records.append(r.Swept(route=name, collection=collection, began=position))
            behind = REASON if route.behind else ""
            records.append(
                r.Unswept(route=name, collection=collection, reason=REASON, unverified=True, behind_all=behind)
            )
    with transaction(connection):
        for number, record in enumerate(records, start=position + 1):
            insert(connection, number, record, r.encode(record))
    for number, record in enumerate(records, start=position + 1):
        book.apply(number, record)
    return position + len(records)
