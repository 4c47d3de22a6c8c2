"""serving/fast_path: which reads are looked into."""

from __future__ import annotations

from proxy.serving.fast_path import LOOKED_INTO, LOOKS_APART_SECONDS, Looks
from tests.support.clock import ManualClock


def looked_into(reads: int, seconds_apart: float) -> int:
    clock = ManualClock()
    looks, found = Looks(clock), 0
    for _ in range(reads):
        found += looks.is_due()
        clock.freeze(seconds_apart)
    return found


def test_the_first_is_and_then_one_of_so_many() -> None:
    clock = ManualClock()
    looks = Looks(clock)
    due = []
    for number in range(3 * LOOKED_INTO):
        if looks.is_due():
            due.append(number)
        clock.freeze(0.01)
    assert due == [0, LOOKED_INTO, 2 * LOOKED_INTO]


def test_a_listener_with_much_to_do_looks_ten_times_a_second() -> None:
    seconds, reads_a_second = 20, 50_000
    found = looked_into(seconds * reads_a_second, 1 / reads_a_second)
    assert 0.9 * seconds / LOOKS_APART_SECONDS < found <= seconds / LOOKS_APART_SECONDS + 1
