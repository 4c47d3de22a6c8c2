"""The gate closes above a bound, and opens again at half of both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Reads
from proxy.routing import LagGate

BOUNDS = Reads(max_lag_keys=1000, max_lag_seconds=10)


def after(*measured: tuple[int, float]) -> bool:
    gate = LagGate()
    for keys, seconds in measured:
        gate = gate.after(BOUNDS, keys, seconds)
    return gate.open


def test_nobody_reads_what_was_not_measured() -> None:
    assert not after()
    assert not after((700, 0))
    assert after((0, 0))


def test_it_closes_above_either_bound() -> None:
    assert after((0, 0), (1000, 10))
    assert not after((0, 0), (1001, 0))
    assert not after((0, 0), (0, 10.1))


def test_it_opens_at_half_of_both_and_stays_between() -> None:
    assert not after((0, 0), (1001, 0), (501, 0))
    assert after((0, 0), (1001, 0), (501, 0), (500, 5))
    assert not after((0, 0), (1001, 0), (500, 5.1))
    assert after((0, 0), (501, 0), (1000, 9), (501, 6))


def test_new_bounds_count_at_once() -> None:
    gate = LagGate().after(BOUNDS, 400, 0)
    assert gate.open
    assert not gate.after(Reads(max_lag_keys=300), 400, 0).open


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 20))))
def test_it_opens_and_closes_only_across_the_whole_band(measured: list[tuple[int, float]]) -> None:
    gate = LagGate()
    for keys, seconds in measured:
        following = gate.after(BOUNDS, keys, seconds)
        if following.open and not gate.open:
            assert keys <= 500
            assert seconds <= 5
        if gate.open and not following.open:
            assert keys > 1000 or seconds > 10
        gate = following
