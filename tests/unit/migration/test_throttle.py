"""A job steps back when pages get slow, and comes forward again."""

from __future__ import annotations

from proxy.migration.throttle import Throttle


def test_quick_pages_are_not_delayed() -> None:
    throttle = Throttle()
    assert [throttle.after_page(0.02) for _ in range(5)] == [0.0] * 5


def test_slow_pages_are_followed_by_growing_pauses_and_quick_ones_end_them() -> None:
    throttle = Throttle()
    throttle.after_page(0.02)
    slow = [throttle.after_page(0.5) for _ in range(4)]
    assert slow == sorted(slow)
    assert slow[0] > 0
    quick = [throttle.after_page(0.02) for _ in range(20)]
    assert quick == sorted(quick, reverse=True)
    assert quick[-1] == 0.0


def test_a_target_latency_replaces_the_comparison_with_the_quickest_page() -> None:
    throttle = Throttle(target_page_seconds=1.0)
    throttle.after_page(0.02)
    assert throttle.after_page(0.9) == 0.0
    assert throttle.after_page(1.1) > 0


def test_requests_per_second_bounds_the_pace() -> None:
    throttle = Throttle(requests_per_second=10)
    assert abs(throttle.after_page(0.03) - 0.07) < 1e-9
    assert throttle.after_page(0.05) >= 0.05


def test_a_pause_never_grows_beyond_five_seconds() -> None:
    throttle = Throttle()
    throttle.after_page(0.01)
    assert max(throttle.after_page(60.0) for _ in range(50)) <= 5.0


def test_a_store_that_stays_slow_is_still_worked_with_for_a_fifth_of_the_time() -> None:
    """As a Milvus that was killed is for minutes: it is not our load that makes it slow."""
    throttle = Throttle()
    throttle.after_page(0.005)
    assert [throttle.after_page(0.05) for _ in range(50)][-1] <= 4 * 0.05
