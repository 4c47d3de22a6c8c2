"""The reader: off the client's path, bounded, time-limited, and silent about keys that may differ just now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import pytest

from proxy.clock import SystemClock
from proxy.config import Shadow
from proxy.errors import InvalidRequest, Unavailable
from proxy.model import Counted, DataRead, Hit, Hits, Metric, Point, PointId, Result, Search, SearchBatch
from proxy.shadow import ShadowRead, ShadowReader
from proxy.shadow.reader import fingerprint
from proxy.shadow.report import IDS_KEPT
from proxy.telemetry.metrics import Metrics

SEARCH = Search("docs", b"\x00\x00\x80?", limit=3)


def hits(*scored: tuple[PointId, float]) -> Hits:
    return Hits(Metric.COSINE, tuple(Hit(Point(i, {"": b"vector"}, {"secret": 1}), score) for i, score in scored))


SAME = hits((1, 0.9), (2, 0.8), (3, 0.7))
OTHER = hits((1, 0.9), (2, 0.8), (4, 0.75))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def reader(metrics: Metrics) -> AsyncIterator[ShadowReader]:
    reader = ShadowReader("docs", Shadow(max_in_flight=2, keep_worst=5), SystemClock(), metrics, timeout_seconds=10)
    yield reader
    await reader.close()


def gives(result: Result) -> Callable[[], Awaitable[Result]]:
    async def read_other() -> Result:
        return result

    return read_other


def raises(error: Exception) -> Callable[[], Awaitable[Result]]:
    async def read_other() -> Result:
        raise error

    return read_other


def offering(other: Callable[[], Awaitable[Result]], answered: Result = SAME, seconds: float = 1.0) -> ShadowRead:
    return ShadowRead(SEARCH, "docs", seconds, lambda: answered, other)


async def test_a_read_that_agrees(reader: ShadowReader, metrics: Metrics) -> None:
    assert reader.offer(offering(gives(SAME)))
    await reader.quiet()
    figures = reader.report.figures("docs")
    assert (figures.compared, figures.agreed, figures.overlap) == (1, 1, 1.0)
    assert reader.report.worst() == ()
    assert metrics.shadow.value("docs", "compared") == 1
    assert metrics.shadow_missing.value("docs") == 0


async def test_a_read_that_differs_is_kept_without_payloads_and_vectors(reader: ShadowReader, metrics: Metrics) -> None:
    reader.offer(offering(gives(OTHER)))
    await reader.quiet()
    (worst,) = reader.report.worst()
    assert (worst.collection, worst.operation, worst.k) == ("docs", "search", 3)
    assert (worst.overlap, worst.missing, worst.unexpected) == (2 / 3, (3,), (4,))
    assert worst.answered == ((1, 0.9), (2, 0.8), (3, 0.7))
    assert worst.shadow == ((1, 0.9), (2, 0.8), (4, 0.75))
    assert worst.fingerprint == fingerprint(SEARCH)
    assert "secret" not in repr(worst)
    assert "vector" not in repr(worst)
    assert metrics.shadow_missing.value("docs") == 1


async def test_what_is_kept_of_long_lists_is_bounded(reader: ShadowReader) -> None:
    many = hits(*((number, 1.0) for number in range(500)))
    reader.apply(Shadow(max_in_flight=2, keep_worst=5, k=500))
    reader.offer(ShadowRead(Search("docs", b"", limit=500), "docs", 1.0, lambda: many, gives(hits())))
    await reader.quiet()
    (worst,) = reader.report.worst()
    assert len(worst.missing) == len(worst.answered) == IDS_KEPT


async def test_the_answer_is_decoded_after_the_offer(reader: ShadowReader) -> None:
    decoded = asyncio.Event()

    def answered() -> Result:
        decoded.set()
        return SAME

    reader.offer(ShadowRead(SEARCH, "docs", 1.0, answered, gives(SAME)))
    assert not decoded.is_set()
    await asyncio.sleep(0)
    assert not decoded.is_set()  # nor in the first moment after it, which is the client's
    await reader.quiet()
    assert decoded.is_set()


async def test_more_than_may_be_in_flight_are_shed(reader: ShadowReader, metrics: Metrics) -> None:
    proceed = asyncio.Event()

    async def slow() -> Result:
        await proceed.wait()
        return SAME

    assert [reader.offer(offering(slow)) for _ in range(4)] == [True, True, False, False]
    assert reader.in_flight == 2
    proceed.set()
    await reader.quiet()
    assert reader.offer(offering(gives(SAME)))
    await reader.quiet()
    figures = reader.report.figures()
    assert (figures.compared, figures.shed) == (3, 2)
    assert metrics.shadow.value("docs", "shed") == 2


async def test_all_are_shed_under_load(reader: ShadowReader) -> None:
    reader.busy = lambda: True
    assert not reader.offer(offering(gives(SAME)))
    reader.busy = lambda: False
    assert reader.offer(offering(gives(SAME)))
    await reader.quiet()
    assert reader.report.figures().shed == 1


async def test_edited_settings_count_from_the_next_offer(reader: ShadowReader) -> None:
    reader.offer(offering(gives(OTHER)))
    await reader.quiet()
    reader.apply(Shadow(max_in_flight=1, keep_worst=0))
    assert reader.report.worst() == ()
    proceed = asyncio.Event()

    async def slow() -> Result:
        await proceed.wait()
        return SAME

    assert [reader.offer(offering(slow)) for _ in range(2)] == [True, False]
    proceed.set()
    await reader.quiet()


@pytest.mark.parametrize("error", [Unavailable("down"), InvalidRequest("no"), RuntimeError("a defect")])
async def test_failures_are_figures(reader: ShadowReader, metrics: Metrics, error: Exception) -> None:
    reader.offer(offering(raises(error)))

    def undecodable() -> Result:
        raise error

    reader.offer(ShadowRead(SEARCH, "docs", 1.0, undecodable, gives(SAME)))
    await reader.quiet()
    assert reader.report.figures().errors == 2
    assert metrics.shadow.value("docs", "error") == 2


async def test_an_answer_of_another_kind_is_an_error(reader: ShadowReader) -> None:
    reader.offer(offering(gives(Counted(3))))
    await reader.quiet()
    assert reader.report.figures().errors == 1


async def test_a_slow_side_is_given_up(metrics: Metrics) -> None:
    reader = ShadowReader("docs", Shadow(), SystemClock(), metrics, timeout_seconds=0.01)
    cancelled = asyncio.Event()

    async def never() -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    reader.offer(offering(never))
    await reader.quiet()
    assert cancelled.is_set()
    assert reader.report.figures().errors == 1
    await reader.close()


async def test_latency_is_compared_with_that_of_the_answer(reader: ShadowReader, metrics: Metrics) -> None:
    class ByHand:
        time = 0.0

        def now(self) -> float:
            return self.time

        async def sleep(self, seconds: float) -> None:
            self.time += seconds

    clock = ByHand()
    reader = ShadowReader("docs", Shadow(), clock, metrics)

    async def takes_three() -> Result:
        await clock.sleep(3.0)
        return OTHER

    reader.offer(offering(takes_three, seconds=2.0))
    await reader.quiet()
    assert reader.report.worst()[0].latency_ratio == 1.5
    assert reader.report.figures().latency_ratio_p50 == 1.5
    reader.offer(offering(takes_three, seconds=0.0))
    await reader.quiet()
    assert reader.report.figures().latency_ratio_p50 == 1.5  # no ratio to nothing


# --- keys that are not clean ----------------------------------------------------------------


class Keys:
    """Which keys are unclean, at each time of asking."""

    def __init__(self, *moments: set[PointId]) -> None:
        self.moments = list(moments)
        self.asked: list[set[PointId]] = []

    def __call__(self, collection: str, ids: Iterable[PointId]) -> set[PointId]:
        assert collection == "docs"
        self.asked.append(set(ids))
        return self.moments.pop(0) & self.asked[-1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param({3}, set(), id="missing hit was unclean before"),
        pytest.param(set(), {3}, id="missing hit is unclean after"),
        pytest.param(set(), {4}, id="unexpected hit is unclean after"),
    ],
)
async def test_a_difference_in_an_unclean_key_is_unsettled(
    reader: ShadowReader, metrics: Metrics, before: set[PointId], after: set[PointId]
) -> None:
    keys = reader.unclean = Keys(before, after)
    reader.offer(offering(gives(OTHER)))
    await reader.quiet()
    figures = reader.report.figures()
    assert (figures.compared, figures.unsettled) == (0, 1)
    assert reader.report.worst() == ()
    assert metrics.shadow.value("docs", "unsettled") == 1
    assert keys.asked == [{1, 2, 3}, {1, 2, 3, 4}]


async def test_keys_that_agree_may_be_unclean(reader: ShadowReader) -> None:
    reader.unclean = Keys({1}, {2})
    reader.offer(offering(gives(OTHER)))
    await reader.quiet()
    figures = reader.report.figures()
    assert (figures.compared, figures.unsettled) == (1, 0)


async def test_a_changed_score_or_payload_of_an_unclean_key_is_unsettled(reader: ShadowReader) -> None:
    reader.unclean = Keys(set(), {2}, set(), {2})
    reader.offer(offering(gives(hits((1, 0.9), (2, 0.79), (3, 0.7)))))
    await reader.quiet()
    plain = Hits(Metric.COSINE, (*SAME.hits[:1], Hit(Point(2, {}, {"secret": 2}), 0.8), *SAME.hits[2:]))
    reader.offer(offering(gives(plain)))
    await reader.quiet()
    assert reader.report.figures().unsettled == 2


# --- the end --------------------------------------------------------------------------------


async def test_close_gives_up_what_is_under_way(reader: ShadowReader) -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def never() -> Result:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    reader.offer(offering(never))
    await begun.wait()
    await reader.close()
    assert cancelled.is_set()
    assert reader.in_flight == 0
    assert not reader.offer(offering(gives(SAME)))


def test_a_fingerprint_tells_reads_apart_and_knows_them_again() -> None:
    assert fingerprint(SEARCH) == fingerprint(Search("docs", b"\x00\x00\x80?", limit=3)) == "7b665a87f64ca31d"
    different: list[DataRead] = [
        SEARCH,
        Search("docs", b"\x00\x00\x80@", limit=3),
        Search("docs", b"\x00\x00\x80?", limit=4),
        SearchBatch("docs", (SEARCH,)),
    ]
    assert len({fingerprint(read) for read in different}) == len(different)
