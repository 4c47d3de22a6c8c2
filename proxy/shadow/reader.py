"""Asks the other side what it would have answered, where no client waits for it.

Rules of the file:

- `offer` is synchronous, never blocks and never raises. The client's answer is written first; even decoding it for
  the comparison happens afterwards.
- At most `max_in_flight` shadow reads are under way; one more is shed and counted, as is every one while `busy()`.
- A read that is put to both stores at once (pair.py) has its place among them, and its answers are held within
  a bound (pairs.py). Nothing is counted of what the client leaves.
- A comparison only counts if the keys that differ are clean. They are asked about before the other side is read
  (for the client's answer) and after it (for both), and what is unclean at either time makes the read "unsettled".
  A key that is written and reconciled entirely within one shadow read is not noticed.
- What goes wrong is a figure. Only a defect of ours is logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Set
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.config import Shadow
from proxy.errors import CrossfadeError
from proxy.model import DataRead, PointId, Result, Search, SearchBatch
from proxy.shadow.compare import Comparison, compare, ids_of, scores_of
from proxy.shadow.pairs import Pairs, Waiting
from proxy.shadow.report import IDS_KEPT, Disagreement, Report
from proxy.telemetry.instruments import Number, Observe
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn

_log = logging.getLogger("crossfade.shadow")


@dataclass(frozen=True, slots=True)
class Settled:
    """A read with both its answers."""

    read: DataRead
    answered: Result
    other: Result


@dataclass(frozen=True, slots=True)
class ShadowRead:
    """A read that a client got its answer to.

    collection: as the figures name it. answered_seconds: the time that the store took which answered.
    answered: gives the client's answer (and may decode it, at leisure). read_other: asks the other side.
    """

    read: DataRead
    collection: str
    answered_seconds: float
    answered: Callable[[], Result]
    read_other: Callable[[], Awaitable[Result]]


class ShadowReader:
    """The shadow reads of one route.

    unclean: which of these ids of a collection may differ between the stores now; set by whoever has the ledger.
    busy: whether load is so high that shadow reads should not add to it.
    timeout_seconds: longest wait for the other side. tie_tolerance: see `compare`.
    """

    def __init__(
        self,
        route: str,
        settings: Shadow,
        clock: Clock,
        metrics: Metrics,
        *,
        timeout_seconds: float = 5.0,
        tie_tolerance: float = 1e-5,
    ) -> None:
        self.unclean: Callable[[str, Iterable[PointId]], Set[PointId]] = lambda _collection, _ids: frozenset()
        self.busy: Callable[[], bool] = lambda: False
        self.report = Report(settings.keep_worst)
        self._route = route
        self._settings = settings
        self._clock = clock
        self.now = clock.now
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._tie_tolerance = tie_tolerance
        self._running: set[asyncio.Task[None]] = set()
        self.pairs = Pairs(clock, timeout_seconds)
        self._closed = False
        self._agreements: tuple[Number, Observe, Observe, Observe] | None = None

    @property
    def in_flight(self) -> int:
        return len(self._running) + len(self.pairs)

    def apply(self, settings: Shadow) -> None:
        """Take edited settings; what was found so far stays."""
        self._settings = settings
        self.report.keep(settings.keep_worst)

    def offer(self, read: ShadowRead) -> bool:
        """Compare the client's answer with the other side's, later. False if that was shed."""
        if not self._has_room():
            self._count("shed", read.collection)
            return False
        self._start(read.collection, self._compared(read))
        return True

    async def quiet(self) -> None:
        """Return when none of the reads offered so far is under way."""
        while self._running or len(self.pairs):
            await self.pairs.gone()
            if self._running:
                await asyncio.wait(self._running)

    async def close(self) -> None:
        """Give up what is under way; later offers are shed."""
        self._closed = True
        self.pairs.close()
        for task in self._running:
            task.cancel()
        await self.quiet()

    # --- reads that both stores are asked at once ----------------------------------------------------------

    def enter(self, pair: Waiting, size_bytes: int) -> bool:
        """One more, with a search of that size. False if it is shed."""
        if self._has_room() and self.pairs.add(pair, size_bytes):
            return True
        self._count("shed", pair.collection)
        return False

    def leave(self, pair: Waiting, outcome: str) -> None:
        """It is over, with what it is counted as, "" as nothing."""
        self.pairs.remove(pair)
        if outcome:
            self._count(outcome, pair.collection)

    def agreed(self, collection: str, ratio: float | None, *, any_hit: bool) -> None:
        """Both answers were the same. ratio: of the other's time to that of the client's."""
        self.report.agreed(collection, ratio, any_hit=any_hit)
        compared, overlap, difference, ratios = self._agreements or self._series()
        compared[0] += 1.0
        overlap(1.0)
        if any_hit:
            difference(0.0)
        if ratio is not None:
            ratios(ratio)

    def settle(self, collection: str, ratio: float | None, decoded: Callable[[], Settled | None]) -> None:
        """Compare in the model's terms, at leisure. The keys that differ were clean when both were asked."""
        self._start(collection, self._settle(collection, ratio, decoded))

    async def _settle(self, collection: str, ratio: float | None, decoded: Callable[[], Settled | None]) -> str:
        settled = decoded()
        if settled is None:
            return ""
        return self._judge(settled, collection, ratio, frozenset())

    # --------------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        under_way = len(self._running) + len(self.pairs)
        return not (self._closed or under_way >= self._settings.max_in_flight or self.busy())

    def _start(self, collection: str, work: Coroutine[None, None, str]) -> None:
        task = spawn(self._run(collection, work), name="shadow read")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, collection: str, work: Coroutine[None, None, str]) -> None:
        try:
            await asyncio.sleep(0)  # behind the client's answer, which is about to be written
            outcome = await work
        except (CrossfadeError, TimeoutError):
            outcome = "error"
        except Exception:  # noqa: BLE001 - a defect of ours must not end in the request path; it is logged
            outcome = "error"
            _log.exception("shadow read failed", extra={"route": self._route})
        finally:
            work.close()
        if outcome:  # else what was asked is nothing that could be compared
            self._count(outcome, collection)

    def _count(self, outcome: str, collection: str) -> None:
        match outcome:
            case "shed":
                self.report.shed(collection)
            case "error":
                self.report.failed(collection)
            case "unsettled":
                self.report.unsettled(collection)
        self._metrics.shadow.add(self._route, outcome)

    def _series(self) -> tuple[Number, Observe, Observe, Observe]:
        metrics, route = self._metrics, self._route
        self._agreements = (
            metrics.shadow.series(route, "compared"),
            metrics.shadow_overlap.series((route,)),
            metrics.shadow_score_difference.series((route,)),
            metrics.shadow_latency_ratio.series((route,)),
        )
        return self._agreements

    async def _compared(self, read: ShadowRead) -> str:
        answered = read.answered()
        ids = ids_of(answered)
        unclean = set(self.unclean(read.collection, ids))
        began = self._clock.now()
        async with asyncio.timeout(self._timeout_seconds):
            other = await read.read_other()
        seconds = self._clock.now() - began
        ratio = seconds / read.answered_seconds if read.answered_seconds > 0 else None
        return self._judge(Settled(read.read, answered, other), read.collection, ratio, unclean)

    def _judge(self, read: Settled, collection: str, ratio: float | None, unclean: Set[PointId]) -> str:
        """`unclean`: the keys that were, before the other side was asked."""
        answered, other = read.answered, read.other
        k, limits = self._settings.k, _limits(read.read)
        comparison = compare(answered, other, k=k, limits=limits, tie_tolerance=self._tie_tolerance)
        if comparison.differing:
            unclean = unclean | self.unclean(collection, ids_of(answered) | ids_of(other))
            if comparison.differing & unclean:
                return "unsettled"
        self._record(collection, comparison, ratio)
        if not comparison.agrees:
            self.report.disagreed(self._disagreement(read, collection, comparison, ratio))
        return "compared"

    def _record(self, collection: str, comparison: Comparison, ratio: float | None) -> None:
        self.report.compared(collection, comparison, ratio)
        metrics, route = self._metrics, self._route
        metrics.shadow_overlap.observe(comparison.overlap, route)
        if comparison.score_difference is not None:
            metrics.shadow_score_difference.observe(comparison.score_difference, route)
        if ratio is not None:
            metrics.shadow_latency_ratio.observe(ratio, route)
        if comparison.missing:
            metrics.shadow_missing.add(route, amount=len(comparison.missing))

    def _disagreement(
        self, read: Settled, collection: str, comparison: Comparison, ratio: float | None
    ) -> Disagreement:
        return Disagreement(
            collection=collection,
            operation=type(read.read).__name__.lower(),
            fingerprint=fingerprint(read.read),
            k=min(self._settings.k, max(_limits(read.read), default=self._settings.k)),
            overlap=comparison.overlap,
            missing=comparison.missing[:IDS_KEPT],
            unexpected=comparison.unexpected[:IDS_KEPT],
            changed=comparison.changed[:IDS_KEPT],
            score_difference=comparison.score_difference or 0.0,
            latency_ratio=ratio or 0.0,
            at=time.time(),
            answered=scores_of(read.answered, IDS_KEPT),
            shadow=scores_of(read.other, IDS_KEPT),
        )


def fingerprint(read: DataRead) -> str:
    """16 hex digits that are the same for the same read (vector, filter, limits and all), in any process."""
    return hashlib.blake2b(repr(read).encode(), digest_size=8).hexdigest()


def _limits(read: DataRead) -> tuple[int, ...]:
    match read:
        case Search(limit=limit):
            return (limit,)
        case SearchBatch(searches=searches):
            return tuple(search.limit for search in searches)
        case _:
            return ()
