"""From measurements to rows: percentiles, medians over rounds, ratios. Pure; no clock, no process, no colour.

A round measures every arm once, one after the other, so that whatever else the machine does in that minute touches all
of them alike. A ratio is taken within each round; what is told is the median of those ratios, with the lowest and the
highest. Absolute figures are medians, too, and are only told because a ratio alone says nothing about its size.

Some rows have a bound: what the ratio must reach, and what it is meant to reach. It is judged by the median, and told;
nothing fails by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

Details = Mapping[str, float | Sequence[float]]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured. `unit` is that of the absolute figures; `scale` times a figure in base units gives it."""

    name: str
    unit: str
    lower_is_better: bool
    scale: float = 1.0


THROUGHPUT = Measure("requests/s", "1/s", lower_is_better=False)
MEDIAN = Measure("p50", "ms", lower_is_better=True, scale=1e3)
TAIL = Measure("p99", "ms", lower_is_better=True, scale=1e3)
POINTS = Measure("points/s", "1/s", lower_is_better=False)
RESIDENT = Measure("resident memory", "MiB", lower_is_better=True, scale=2**-20)
DURATION = Measure("time", "s", lower_is_better=True)
CAPACITY = Measure("requests per CPU second", "1/s", lower_is_better=False)
VOLUME = Measure("MB per CPU second", "MB/s", lower_is_better=False, scale=1e-6)
EACH_CPU = Measure("CPU time a request", "ms", lower_is_better=True, scale=1e3)
ADDED_TAIL = Measure("added p99", "ms", lower_is_better=True, scale=1e3)
EACH_RESIDENT = Measure("resident memory a connection", "KiB", lower_is_better=True, scale=2**-10)

Verdict = Literal["goal", "must", "missed"]


@dataclass(frozen=True, slots=True)
class Bound:
    """Of a ratio: what it has to reach (`must`), and what is aimed at (`goal`)."""

    must: float
    goal: float

    def verdict(self, ratio: float, *, lower_is_better: bool) -> Verdict:
        """The better of the two that is reached; to be level with it is to reach it."""

        def reached(value: float) -> bool:
            return ratio <= value if lower_is_better else ratio >= value

        if reached(self.goal):
            return "goal"
        return "must" if reached(self.must) else "missed"


@dataclass(frozen=True, slots=True)
class Row:
    """`work` beside `against`. `value` and `reference` are medians over `rounds` in the measure's unit; `ratio` is the
    median of value / reference of each round, `low` and `high` the extremes. `details`: more figures, units in their
    names."""

    work: str
    measure: Measure
    against: str
    value: float
    reference: float
    ratio: float
    low: float
    high: float
    rounds: int
    details: Details = field(default_factory=dict)
    bound: Bound | None = None

    @property
    def verdict(self) -> Verdict | None:
        """None for a row without a bound."""
        if self.bound is None:
            return None
        return self.bound.verdict(self.ratio, lower_is_better=self.measure.lower_is_better)


@dataclass(frozen=True, slots=True)
class Load:
    """What one arm did in one round. Times in seconds."""

    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    proxy_cpu_seconds: float = 0.0  # of the proxy, per request

    @property
    def capacity(self) -> float:
        """Requests that a second of the proxy's CPU carries. ValueError if no CPU time was counted."""
        if self.proxy_cpu_seconds <= 0:
            raise ValueError("no CPU time was counted")
        return 1 / self.proxy_cpu_seconds


def percentile(values: Iterable[float], percent: float) -> float:
    """Nearest rank: the smallest value that at least `percent` of all values do not exceed. ValueError without any."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(1, int(rank)) - 1]


def row(
    work: str,
    measure: Measure,
    against: str,
    values: Sequence[float],
    references: Sequence[float],
    details: Details | None = None,
    bound: Bound | None = None,
) -> Row:
    """One row out of the rounds of two arms, in base units. ValueError unless both have the same number of rounds."""
    ratios = [value / reference for value, reference in zip(values, references, strict=True)]
    return Row(
        work=work,
        measure=measure,
        against=against,
        value=median(values) * measure.scale,
        reference=median(references) * measure.scale,
        ratio=median(ratios),
        low=min(ratios),
        high=max(ratios),
        rounds=len(ratios),
        details=details or {},
        bound=bound,
    )


def load_rows(
    work: str,
    against: str,
    loads: Sequence[Load],
    references: Sequence[Load],
    details: Details | None = None,
) -> list[Row]:
    """Requests per second, p50 and p99 of one arm beside another; `details` go with the first."""
    cpu_ms = median(load.proxy_cpu_seconds for load in loads) * 1e3
    added_ms = median(a.p50_seconds - b.p50_seconds for a, b in zip(loads, references, strict=True)) * 1e3
    rates = [load.requests_per_second for load in loads], [load.requests_per_second for load in references]
    middles = [load.p50_seconds for load in loads], [load.p50_seconds for load in references]
    tails = [load.p99_seconds for load in loads], [load.p99_seconds for load in references]
    return [
        row(work, THROUGHPUT, against, *rates, {"proxy_cpu_ms_per_request": cpu_ms, **(details or {})}),
        row(work, MEDIAN, against, *middles, {"added_ms": added_ms}),
        row(work, TAIL, against, *tails),
    ]


def capacities(loads: Sequence[Load]) -> list[float]:
    """Requests per CPU second of what was on the way, by round."""
    return [load.capacity for load in loads]


def busy(loads: Sequence[Load]) -> float:
    """The share of its core that what was on the way used, a median."""
    return median(load.requests_per_second * load.proxy_cpu_seconds for load in loads)


def added(
    direct: Sequence[float], here: Sequence[float], there: Sequence[float]
) -> tuple[list[float], list[float], int]:
    """What two arms add to the direct one, by round, and how many rounds do not count: those in which the other arm
    (`there`) added nothing, since no ratio to nothing says anything. ValueError unless all have the same rounds."""
    pairs = [(mine - floor, theirs - floor) for floor, mine, theirs in zip(direct, here, there, strict=True)]
    counted = [(mine, theirs) for mine, theirs in pairs if theirs > 0]
    return [mine for mine, _ in counted], [theirs for _, theirs in counted], len(pairs) - len(counted)


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of the least-squares line: y per x. ValueError for fewer than two different xs."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    if spread == 0:
        raise ValueError("a slope needs two different xs")
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
