"""A bell that was rung is heard, once, whenever it was rung; one that was not lets the time pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from proxy.replication.bell import Bell

LONG_SECONDS = 30.0
ENTRIES = 2_000


@pytest.fixture
def bell() -> Iterator[Bell]:
    bell = Bell()
    yield bell
    bell.close()


def test_what_was_rung_before_is_heard_at_once_and_once(bell: Bell) -> None:
    bell.ring()
    bell.ring()
    began = time.monotonic()
    bell.wait(LONG_SECONDS)
    assert time.monotonic() - began < LONG_SECONDS / 2
    began = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - began >= 0.04


@pytest.mark.parametrize("ahead", [1, 100])
def test_who_waits_is_woken_again_and_again(bell: Bell, ahead: int) -> None:
    """`ahead`: how many entries may be unheard when the next one comes."""
    heard: list[int] = []
    entries: list[int] = []
    room = threading.Semaphore(ahead)

    def listen() -> None:
        while len(heard) < ENTRIES:
            bell.wait(LONG_SECONDS)
            while entries:
                heard.append(entries.pop(0))
                room.release()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    for number in range(ENTRIES):
        assert room.acquire(timeout=LONG_SECONDS / 2), number
        entries.append(number)
        bell.ring()
    listener.join(LONG_SECONDS / 2)
    assert heard == list(range(ENTRIES))
