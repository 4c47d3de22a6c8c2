"""The instruments fold what they are given, and stay small."""

from __future__ import annotations

import pytest

from proxy.telemetry.instruments import MAX_SERIES, OVERFLOW, Counter, Gauge, Histogram, Spec


def counter() -> Counter:
    return Counter(Spec("reads", "counter", "1", ("route", "store"), "Reads"))


def gauge() -> Gauge:
    return Gauge(Spec("keys", "gauge", "1", ("route",), "Keys"))


def test_a_counter_adds_up_by_label_set() -> None:
    reads = counter()
    reads.add("docs", "primary")
    reads.add("docs", "primary", amount=2)
    reads.add("docs", "secondary")
    assert reads.value("docs", "primary") == 3
    assert dict(reads.read()) == {("docs", "primary"): 3, ("docs", "secondary"): 1}
    assert reads.value("other", "primary") == 0


def test_a_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="takes the labels"):
        counter().add("docs")
    with pytest.raises(ValueError, match="takes the labels"):
        gauge().set(1.0)


def test_series_past_the_limit_are_folded_into_one() -> None:
    reads = counter()
    for number in range(MAX_SERIES + 50):
        reads.add(f"route-{number}", "primary")
    reads.add("route-0", "primary")
    assert len(reads.read()) == MAX_SERIES + 1
    assert reads.value(OVERFLOW, OVERFLOW) == 50
    assert reads.value("route-0", "primary") == 2


def test_a_gauge_is_set_moved_and_forgotten() -> None:
    keys = gauge()
    keys.set(5, "docs")
    keys.add(-2, "docs")
    keys.add(1, "other")
    assert dict(keys.read()) == {("docs",): 3, ("other",): 1}
    keys.forget("docs")
    assert dict(keys.read()) == {("other",): 1}


def test_a_watched_source_is_asked_at_each_reading_until_it_ends() -> None:
    keys, held = gauge(), {"docs": 1.0}
    stop = keys.watch(lambda: [((route,), count) for route, count in held.items()])
    assert keys.read() == [(("docs",), 1.0)]
    held["docs"] = 7.0
    assert keys.read() == [(("docs",), 7.0)]
    stop()
    assert keys.read() == []


def test_a_histogram_counts_a_value_in_the_first_bucket_that_holds_it() -> None:
    seconds = Histogram(Spec("duration", "histogram", "s", ("side",), "Time", bounds=(0.1, 1.0)))
    for value in (0.05, 0.1, 0.5, 1.0, 3.0):
        seconds.observe(value, "client")
    ((labels, spread),) = seconds.read()
    assert labels == ("client",)
    assert spread.counts == [2, 2, 1]
    assert spread.sum == pytest.approx(4.65)
    assert seconds.count("client") == 5
    assert seconds.count("primary") == 0


@pytest.mark.parametrize(
    ("kind", "unit", "exposed"),
    [
        ("counter", "1", "reads_total"),
        ("gauge", "By", "reads_bytes"),
        ("histogram", "s", "reads_seconds"),
        ("gauge", "%", "reads_percent"),
    ],
)
def test_the_exposed_name_says_the_unit(kind: str, unit: str, exposed: str) -> None:
    assert Spec("reads", kind, unit, (), "Reads").exposed == exposed  # type: ignore[arg-type]
