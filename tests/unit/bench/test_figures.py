"""bench/figures.py: percentiles by nearest rank, ratios within rounds, the line through a series."""

from __future__ import annotations

from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import MEDIAN, POINTS, TAIL, Bound, Load, added, busy, capacities, load_rows, percentile, row, slope

finite = st.floats(min_value=0, max_value=1e6)


class TestPercentile:
    def test_is_a_value_that_was_measured(self) -> None:
        assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
        assert percentile([4.0, 1.0, 3.0, 2.0], 75) == 3.0

    def test_of_few_values_the_tail_is_the_largest(self) -> None:
        assert percentile([5.0, 9.0, 7.0], 99) == 9.0

    def test_of_a_hundred_values_the_99th_is_the_last_but_one(self) -> None:
        assert percentile(map(float, range(1, 101)), 99) == 99.0

    def test_without_values_there_is_none(self) -> None:
        with pytest.raises(ValueError):
            percentile([], 50)

    @given(st.lists(finite, min_size=1), st.integers(1, 100))
    def test_so_many_percent_do_not_exceed_it(self, values: list[float], percent: int) -> None:
        found = percentile(values, percent)
        assert found in values
        assert sum(value <= found for value in values) * 100 >= percent * len(values)
        assert sum(value < found for value in values) * 100 < percent * len(values)

    def test_agrees_with_the_standard_library_on_many_values(self) -> None:
        values = [float(number * 7919 % 10_000) for number in range(10_000)]
        assert percentile(values, 50) == pytest.approx(quantiles(values, n=100)[49], abs=1)


class TestRow:
    def test_does_not_show_that_the_machine_was_slower_in_some_rounds(self) -> None:
        found = row("work", POINTS, "client", [50.0, 25.0, 12.5], [100.0, 50.0, 25.0])
        assert (found.ratio, found.low, found.high) == (0.5, 0.5, 0.5)
        assert (found.value, found.reference, found.rounds) == (25.0, 50.0, 3)

    def test_takes_ratios_within_rounds_and_not_of_medians(self) -> None:
        assert row("work", POINTS, "client", [10.0, 30.0, 20.0], [10.0, 10.0, 40.0]).ratio == 1.0

    def test_shows_the_extremes(self) -> None:
        found = row("work", POINTS, "client", [90.0, 50.0, 120.0], [100.0, 100.0, 100.0])
        assert (found.low, found.ratio, found.high) == (0.5, 0.9, 1.2)

    def test_tells_absolute_figures_in_the_unit_of_the_measure(self) -> None:
        found = row("work", MEDIAN, "direct", [0.002], [0.001])
        assert (found.value, found.reference, found.ratio) == (2.0, 1.0, 2.0)

    def test_refuses_arms_of_different_rounds(self) -> None:
        with pytest.raises(ValueError):
            row("work", POINTS, "client", [1.0, 2.0], [1.0])


class TestLoadRows:
    def test_has_throughput_median_and_tail_with_what_was_added(self) -> None:
        direct = [Load(1000.0, 0.001, 0.004)] * 3
        through = [Load(500.0, 0.0025, 0.008, proxy_cpu_seconds=0.0004)] * 3
        rate, middle, tail = load_rows("search", "direct", through, direct, {"more": 1.0})
        assert (rate.measure.name, rate.ratio) == ("requests/s", 0.5)
        assert rate.details == {"proxy_cpu_ms_per_request": pytest.approx(0.4), "more": 1.0}
        assert (middle.measure.name, middle.ratio) == ("p50", 2.5)
        assert middle.details == {"added_ms": pytest.approx(1.5)}
        assert (tail.measure.name, tail.value) == ("p99", 8.0)
        assert [one.measure.lower_is_better for one in (rate, middle, tail)] == [False, True, True]


class TestBound:
    @pytest.mark.parametrize(("ratio", "verdict"), [(0.69, "missed"), (0.7, "must"), (0.99, "must"), (1.0, "goal")])
    def test_of_what_should_be_high(self, ratio: float, verdict: str) -> None:
        assert Bound(must=0.7, goal=1.0).verdict(ratio, lower_is_better=False) == verdict

    @pytest.mark.parametrize(("ratio", "verdict"), [(2.1, "missed"), (2.0, "must"), (1.31, "must"), (1.3, "goal")])
    def test_of_what_should_be_low(self, ratio: float, verdict: str) -> None:
        assert Bound(must=2.0, goal=1.3).verdict(ratio, lower_is_better=True) == verdict

    def test_the_median_of_the_rounds_is_judged(self) -> None:
        found = row("work", POINTS, "peer", [50.0, 80.0, 200.0], [100.0] * 3, bound=Bound(must=0.7, goal=1.0))
        assert found.verdict == "must"
        assert row("work", TAIL, "peer", [0.5], [1.0], bound=Bound(2.0, 1.3)).verdict == "goal"

    def test_a_row_without_one_is_not_judged(self) -> None:
        assert row("work", POINTS, "peer", [1.0], [1.0]).verdict is None


class TestCapacity:
    def test_is_what_a_second_of_cpu_carries_whatever_the_rate(self) -> None:
        assert capacities([Load(10.0, 0.001, 0.002, proxy_cpu_seconds=0.0005)]) == [2000.0]

    def test_without_cpu_time_there_is_none(self) -> None:
        with pytest.raises(ValueError):
            capacities([Load(10.0, 0.001, 0.002)])

    def test_a_core_is_as_busy_as_its_requests_are_dear(self) -> None:
        assert busy([Load(500.0, 0.001, 0.002, proxy_cpu_seconds=0.0005)]) == 0.25


class TestAdded:
    def test_is_taken_within_rounds(self) -> None:
        assert added([1.0, 2.0], [3.0, 5.0], [2.0, 4.0]) == ([2.0, 3.0], [1.0, 2.0], 0)

    def test_rounds_in_which_the_other_added_nothing_do_not_count(self) -> None:
        assert added([1.0, 2.0, 3.0], [3.0, 5.0, 4.0], [1.0, 1.5, 3.5]) == ([1.0], [0.5], 2)

    def test_ours_may_add_nothing(self) -> None:
        assert added([2.0], [1.5], [3.0]) == ([-0.5], [1.0], 0)

    def test_refuses_arms_of_different_rounds(self) -> None:
        with pytest.raises(ValueError):
            added([1.0], [1.0, 2.0], [1.0, 2.0])


class TestSlope:
    def test_is_that_of_a_line(self) -> None:
        assert slope([1, 2, 3, 4], [10, 12, 14, 16]) == pytest.approx(2)

    def test_of_noise_around_a_level_is_small(self) -> None:
        assert slope([0, 1, 2, 3], [5, 6, 6, 5]) == pytest.approx(0)

    def test_needs_two_different_places(self) -> None:
        with pytest.raises(ValueError):
            slope([3, 3], [1, 2])

    @given(st.lists(finite, min_size=2, max_size=20, unique=True), st.floats(-100, 100))
    def test_does_not_depend_on_the_level(self, xs: list[float], level: float) -> None:
        if max(xs) - min(xs) > 1:
            ys = [3 * x for x in xs]
            assert slope(xs, [y + level for y in ys]) == pytest.approx(3, rel=1e-3, abs=1e-3)
