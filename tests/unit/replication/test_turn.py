"""Who waits to write comes next, however busy another process is."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from proxy.replication.turn import Turn

HELD_SECONDS = 0.1


@contextmanager
def busy(path: Path, processes: int) -> Iterator[list[int]]:
    """Others that begin anew as soon as they have ended; how often each had its turn."""
    turns, stop = [0] * processes, threading.Event()

    def work(number: int) -> None:
        turn = Turn(path)
        while not stop.is_set():
            with turn.taken():
                turns[number] += 1
                time.sleep(HELD_SECONDS)
        turn.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(processes)]
    for thread in threads:
        thread.start()
    try:
        yield turns
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_who_waits_comes_after_the_one_that_is_writing(tmp_path: Path) -> None:
    """Ten times in a row, with no luck about the moment between two turns of the other."""
    turn = Turn(tmp_path / "journal")
    with busy(tmp_path / "journal", 1) as turns:
        for _ in range(10):
            time.sleep(HELD_SECONDS / 2)
            with turn.taken():
                pass
    turn.close()
    assert turns[0] <= 30  # one or two for each of ours


def test_all_of_several_come(tmp_path: Path) -> None:
    with busy(tmp_path / "journal", 3) as turns:
        time.sleep(30 * HELD_SECONDS)
    assert min(turns) >= 3


def test_it_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with ExitStack() as closing:
        first, second = Turn(path), Turn(path, wait_seconds=0.1)
        closing.callback(first.close)
        closing.callback(second.close)
        with (
            first.taken(),
            pytest.raises(sqlite3.OperationalError, match=r"have been writing to .*journal for 0\.1 s") as told,
            second.taken(),
        ):
            pass
        assert told.value.sqlite_errorcode == sqlite3.SQLITE_BUSY  # else it would be taken for a damaged file
        with second.taken():  # and whoever gave up is not in the way
            pass
        with first.taken():
            pass
