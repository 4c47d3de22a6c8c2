"""What shadow reads have found so far: running figures by collection, and the worst disagreements. Pure.

Memory is bounded whatever comes: figures are histograms of fixed buckets, collections past `MAX_COLLECTIONS` share
one line, and of disagreements only the worst are kept, with ids and scores but never payloads or vectors. A request
that disagrees again takes the place of its former entry, so that one popular query cannot fill the list.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from proxy.model import PointId
from proxy.shadow.compare import Comparison

MAX_COLLECTIONS: Final = 1000
OTHER_COLLECTIONS: Final = "(other)"
IDS_KEPT: Final = 50  # of each list of a disagreement

_OVERLAPS: Final[tuple[float, ...]] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_DIFFERENCES: Final[tuple[float, ...]] = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0)
_RATIOS: Final[tuple[float, ...]] = (
    0.1,
    0.2,
    0.33,
    0.5,
    0.67,
    0.8,
    1.0,
    1.25,
    1.5,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
)

Scored = tuple[tuple[PointId, float | None], ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One read that the two sides answered differently.

    k: how many hits were looked at. answered, shadow: ids with scores, in each side's order (`IDS_KEPT` at most).
    latency_ratio: the shadow's time divided by that of the side that answered. at: Unix time in seconds.
    fingerprint: the same for the same read, so that it can be found again (`reader.fingerprint`).
    """

    collection: str
    operation: str
    fingerprint: str
    k: int
    overlap: float
    missing: tuple[PointId, ...]
    unexpected: tuple[PointId, ...]
    changed: tuple[PointId, ...]
    score_difference: float
    latency_ratio: float
    at: float
    answered: Scored = ()
    shadow: Scored = ()

    @property
    def badness(self) -> tuple[float, int, float]:
        """What is worse comes later: less overlap, then more changed payloads, then larger differences of scores."""
        return (1.0 - self.overlap, len(self.changed), self.score_difference)


@dataclass(frozen=True, slots=True)
class Figures:
    """Since the process began. Means and quantiles are None before the first comparison that has any.

    overlap: mean. overlap_p05: all but 5 % of the comparisons reach at least about this.
    score_difference_p95: all but 5 % differ by at most this (largest difference of a read's shared hits).
    latency_ratio_p50: median of the shadow's time divided by that of the side that answered.
    """

    compared: int = 0
    agreed: int = 0
    shed: int = 0
    unsettled: int = 0
    errors: int = 0
    overlap: float | None = None
    overlap_p05: float | None = None
    score_difference_p95: float | None = None
    latency_ratio_p50: float | None = None


class Spread:
    """A histogram of fixed buckets; `bounds` are their upper bounds, inclusive, the last bucket is open."""

    __slots__ = ("_bounds", "_count", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._count = 0
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._count += 1
        self._total += value

    def absorb(self, other: Spread) -> None:
        """What the other holds, too; of the same bounds."""
        self._counts = [mine + theirs for mine, theirs in zip(self._counts, other._counts, strict=True)]
        self._count += other._count
        self._total += other._total

    @property
    def mean(self) -> float | None:
        return self._total / self._count if self._count else None

    def quantile(self, share: float) -> float | None:
        """The upper bound of the bucket in which the quantile lies (the last finite bound if that is open)."""
        if not self._count:
            return None
        seen = 0
        for place, count in enumerate(self._counts):
            seen += count
            if seen >= share * self._count:
                return self._bounds[min(place, len(self._bounds) - 1)]
        return self._bounds[-1]


@dataclass(slots=True)
class _Tally:
    compared: int = 0
    agreed: int = 0
    shed: int = 0
    unsettled: int = 0
    errors: int = 0
    overlap: Spread = field(default_factory=lambda: Spread(_OVERLAPS))
    score_difference: Spread = field(default_factory=lambda: Spread(_DIFFERENCES))
    latency_ratio: Spread = field(default_factory=lambda: Spread(_RATIOS))

    def absorb(self, other: _Tally) -> None:
        """What the other holds, too."""
        self.compared += other.compared
        self.agreed += other.agreed
        self.shed += other.shed
        self.unsettled += other.unsettled
        self.errors += other.errors
        self.overlap.absorb(other.overlap)
        self.score_difference.absorb(other.score_difference)
        self.latency_ratio.absorb(other.latency_ratio)

    def figures(self) -> Figures:
        return Figures(
            compared=self.compared,
            agreed=self.agreed,
            shed=self.shed,
            unsettled=self.unsettled,
            errors=self.errors,
            overlap=self.overlap.mean,
            overlap_p05=self.overlap.quantile(0.05),
            score_difference_p95=self.score_difference.quantile(0.95),
            latency_ratio_p50=self.latency_ratio.quantile(0.5),
        )


class Report:
    """The figures of one route. keep_worst: how many disagreements are kept."""

    def __init__(self, keep_worst: int) -> None:
        self._keep = keep_worst
        self._by_collection: dict[str, _Tally] = {}
        self._worst: list[Disagreement] = []  # the least bad first

    def keep(self, keep_worst: int) -> None:
        """Keep this many disagreements from now on."""
        self._keep = keep_worst
        del self._worst[: max(0, len(self._worst) - keep_worst)]

    def figures(self, collection: str | None = None) -> Figures:
        """Of one collection (zeros if it was never shadowed), or of all."""
        if collection is not None:
            tally = self._by_collection.get(collection)
            return tally.figures() if tally is not None else Figures()
        whole = _Tally()
        for tally in self._by_collection.values():
            whole.absorb(tally)
        return whole.figures()

    @property
    def collections(self) -> Sequence[str]:
        return tuple(self._by_collection)

    def worst(self) -> tuple[Disagreement, ...]:
        """The disagreements kept, worst first."""
        return tuple(reversed(self._worst))

    def shed(self, collection: str) -> None:
        """A read was not made: too many under way, or too much to do."""
        self._tally(collection).shed += 1

    def unsettled(self, collection: str) -> None:
        """The answers differ in keys that may differ just now."""
        self._tally(collection).unsettled += 1

    def failed(self, collection: str) -> None:
        """The other side did not answer, or not in time."""
        self._tally(collection).errors += 1

    def compared(self, collection: str, comparison: Comparison, latency_ratio: float | None) -> None:
        """Two answers were compared. latency_ratio: None where the client's answer took no time that counts."""
        tally = self._tally(collection)
        tally.compared += 1
        tally.agreed += comparison.agrees
        tally.overlap.add(comparison.overlap)
        if comparison.score_difference is not None:
            tally.score_difference.add(comparison.score_difference)
        if latency_ratio is not None:
            tally.latency_ratio.add(latency_ratio)

    def agreed(self, collection: str, latency_ratio: float | None, *, any_hit: bool) -> None:
        """As `compared`, of two answers that were the same, with a hit in them or none."""
        tally = self._tally(collection)
        tally.compared += 1
        tally.agreed += 1
        tally.overlap.add(1.0)
        if any_hit:
            tally.score_difference.add(0.0)
        if latency_ratio is not None:
            tally.latency_ratio.add(latency_ratio)

    def disagreed(self, disagreement: Disagreement) -> None:
        """Keep what `compared` has counted, if it is among the worst."""
        former = [each for each in self._worst if each.fingerprint == disagreement.fingerprint]
        for each in former:
            self._worst.remove(each)
        insort(self._worst, disagreement, key=lambda each: each.badness)
        if len(self._worst) > self._keep:
            del self._worst[0]

    def _tally(self, collection: str) -> _Tally:
        tally = self._by_collection.get(collection)
        if tally is None:
            if len(self._by_collection) >= MAX_COLLECTIONS:
                collection = OTHER_COLLECTIONS
            tally = self._by_collection.setdefault(collection, _Tally())
        return tally
