"""Counters, gauges and histograms that cost a dictionary look-up, because the request path calls them.

A measurement through the OpenTelemetry SDK takes about 7 microseconds, a tenth of what a whole
request may cost once it records five of them. These instruments only fold numbers; `exposition`
turns what they hold into OpenTelemetry data when somebody scrapes.

Rules:

- Label values are given in the order that the instrument declares, as strings. A wrong number of
  them raises ValueError at the first use of the series.
- A series has one writing thread (in practice the event loop's). Reading from another is safe.
- An instrument holds at most `MAX_SERIES` label sets. What comes later is folded into one series
  whose labels all say "overflow": memory stays bounded whatever clients send.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

Labels = tuple[str, ...]
Reading = tuple[Labels, float]
Kind = Literal["counter", "gauge", "histogram"]

MAX_SERIES: Final = 1000
OVERFLOW: Final = "overflow"

# OpenTelemetry unit (UCUM) -> the suffix that Prometheus users expect.
UNIT_SUFFIXES: Final = {"1": "", "s": "_seconds", "By": "_bytes", "%": "_percent"}


@dataclass(frozen=True, slots=True)
class Spec:
    """One line of the table of metrics. `bounds` are the upper bounds of a histogram's buckets, inclusive."""

    name: str
    kind: Kind
    unit: str
    labels: Labels
    description: str
    bounds: tuple[float, ...] = ()

    @property
    def exposed(self) -> str:
        """The name on the Prometheus page."""
        total = "_total" if self.kind == "counter" else ""
        return f"{self.name}{UNIT_SUFFIXES[self.unit]}{total}"


def _admit(spec: Spec, labels: Labels, known: int) -> Labels:
    """The label set under which a new series is kept."""
    if len(labels) != len(spec.labels):
        raise ValueError(f"{spec.name} takes the labels {spec.labels}, not {labels}")
    return labels if known < MAX_SERIES else (OVERFLOW,) * len(labels)


Number = list[float]  # one, that can be counted up where it is
Observe = Callable[[float], None]


class Counter:
    """A number that only grows."""

    __slots__ = ("_series", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._series: dict[Labels, Number] = {}

    def add(self, *labels: str, amount: float = 1.0) -> None:
        series = self._series.get(labels) or self._new(labels)
        series[0] += amount

    def series(self, *labels: str) -> Number:
        """That series, for who counts often: `series[0] += 1.0`."""
        return self._series.get(labels) or self._new(labels)

    def _new(self, labels: Labels) -> Number:
        return self._series.setdefault(_admit(self.spec, labels, len(self._series)), [0.0])

    def value(self, *labels: str) -> float:
        """What the series holds, 0 if it was never counted."""
        return self._series.get(labels, [0.0])[0]

    def read(self) -> list[Reading]:
        return [(labels, number) for labels, [number] in list(self._series.items())]


Source = Callable[[], Iterable[Reading]]


class Gauge:
    """A number that goes up and down: set here, or asked of a `watch`ed source at the time of the scrape."""

    __slots__ = ("_series", "_sources", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._series: dict[Labels, float] = {}
        self._sources: list[Source] = []

    def set(self, value: float, *labels: str) -> None:
        series = self._series
        if labels not in series:
            labels = _admit(self.spec, labels, len(series))
        series[labels] = value

    def add(self, amount: float, *labels: str) -> None:
        self.set(self._series.get(labels, 0.0) + amount, *labels)

    def forget(self, *labels: str) -> None:
        """Stop showing a series (its route is gone)."""
        self._series.pop(labels, None)

    def watch(self, source: Source) -> Callable[[], None]:
        """Ask `source` at every scrape; it must be cheap and not raise. Returns the call that ends the watch."""
        self._sources.append(source)
        return lambda: self._sources.remove(source)

    def read(self) -> list[Reading]:
        readings = dict(self._series)
        for source in list(self._sources):
            for labels, value in source():
                readings[_admit(self.spec, labels, len(readings))] = value
        return list(readings.items())


@dataclass(slots=True)
class Spread:
    """One series of a histogram: a count for each bucket (one more than bounds) and the sum of all values."""

    counts: list[int]
    sum: float = 0.0


class Histogram:
    """How values are spread over fixed buckets."""

    __slots__ = ("_series", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._series: dict[Labels, Spread] = {}

    def observe(self, value: float, *labels: str) -> None:
        spread = self._series.get(labels) or self._new(labels)
        spread.counts[bisect_left(self.spec.bounds, value)] += 1
        spread.sum += value

    def series(self, *each: Labels) -> Observe:
        """What observes a value of each of these series, for who observes often."""
        spreads, bounds = [self._series.get(labels) or self._new(labels) for labels in each], self.spec.bounds

        def observe(value: float) -> None:
            bucket = bisect_left(bounds, value)
            for spread in spreads:
                spread.counts[bucket] += 1
                spread.sum += value

        return observe

    def _new(self, labels: Labels) -> Spread:
        labels = _admit(self.spec, labels, len(self._series))
        return self._series.setdefault(labels, Spread([0] * (len(self.spec.bounds) + 1)))

    def count(self, *labels: str) -> int:
        """How many values the series holds."""
        spread = self._series.get(labels)
        return sum(spread.counts) if spread else 0

    def read(self) -> list[tuple[Labels, Spread]]:
        return [(labels, Spread(list(spread.counts), spread.sum)) for labels, spread in list(self._series.items())]


Instrument = Counter | Gauge | Histogram
