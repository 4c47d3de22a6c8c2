"""Whose turn it is to write to a file that several processes share.

SQLite's own waiting asks again and again, ever more rarely, while the process that has just committed begins anew at
once: where a commit takes seconds (a disk that is busy), the other would never find the moment between two of them.
Here one process at a time waits next in line, and whoever has written has to get in line again behind it.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAIT_SECONDS = 15.0
_LOOK_SECONDS = 0.0002
_LOOK_AT_MOST_SECONDS = 0.005


class Turn:
    """The place in line of one connection to the file at `path`. The kernel lets go of it when the process ends."""

    def __init__(self, path: Path, wait_seconds: float | None = None) -> None:
        self._path = path
        self._wait_seconds = WAIT_SECONDS if wait_seconds is None else wait_seconds
        self._next = path.with_name(path.name + ".next").open("wb")
        self._writing = path.with_name(path.name + ".turn").open("wb")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises sqlite3.OperationalError if it does not come for `wait_seconds`."""
        until = time.monotonic() + self._wait_seconds
        self._take(self._next.fileno(), until)
        try:
            self._take(self._writing.fileno(), until)
        finally:
            fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._writing, fcntl.LOCK_UN)

    def close(self) -> None:
        self._next.close()
        self._writing.close()

    def _take(self, descriptor: int, until: float) -> None:
        look_seconds = _LOOK_SECONDS  # asked in turns: a lock that is waited for cannot be given up
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise _busy(
                        f"other processes have been writing to {self._path} for {self._wait_seconds:g} s:"
                        " see whether one is stopped, or the disk is slow"
                    ) from None
            else:
                return
            time.sleep(look_seconds)
            look_seconds = min(2 * look_seconds, _LOOK_AT_MOST_SECONDS)


def _busy(text: str) -> sqlite3.OperationalError:
    """As SQLite says it: an error without a code would be one of a damaged file."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_BUSY, "SQLITE_BUSY"
    return error
