"""Backfill: copies what the primary holds to the secondary while the application writes.

Keys are learned only by reading. Each page is a wildcard interval: BEGIN, read a page from the primary, write it to the
secondary, END with one record that names the page's keys and where the next page starts. The ledger makes sure that no
live write is overwritten for good and that no deleted point comes back; a page whose outcome is unclear is not tried
again but left to reconciliation. The next page is read while this one is written; ENDs keep the order of the cursor.

At the end, ids that only the secondary has are marked dirty, and the collection counts as swept. A sweep (after a
collapse, or a definition that the secondary did not follow) is the same work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.errors import (
    CollectionNotFound,
    CrossfadeError,
    Foreign,
    GateClosed,
    JournalError,
    Throttled,
    TryAgain,
    Unavailable,
    Unclear,
    Untranslatable,
)
from proxy.migration.jobs import Progress
from proxy.migration.phases import BACKFILL
from proxy.migration.throttle import Throttle
from proxy.model import EVERYTHING, IDS_ONLY, Page, PointId
from proxy.replication import records as r
from proxy.replication.copying import CopyReport, copy_states
from proxy.replication.records import DUAL_WRITE
from proxy.replication.replicator import Replicator, Workshop
from proxy.replication.site import failure_kind
from proxy.replication.writer import Moved
from proxy.telemetry.tasks import spawn

_IDS_AT_ONCE = 8192  # ids are small, and a page of them costs some stores a walk through all they hold
_RETRY_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)
_MOVED = "the primary was moved meanwhile, so there is another way round to copy; start it again"
_log = logging.getLogger("crossfade.backfill")


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    page_points: int = 256
    requests_per_second: float | None = None
    target_page_seconds: float | None = None
    adopt: bool = False  # points that are on the target already may be replaced or removed


async def start_mirroring(replicator: Replicator, collections: Sequence[str], adopt: bool) -> None:
    """The gate before the first mirrored write: the target must be empty, or the operator adopts what is there. A
    collection that the target's vendor cannot have is parked.

    Raises GateClosed, naming the collection and the count; then nothing has begun. Raises what the stores raise.
    """
    sites = [replicator.workshop(collection).site for collection in collections]
    for site in sites:
        site.redefined()  # while nothing was mirrored, nobody told
    if not adopt:
        for site in sites:
            await site.refuse_foreign_points()
    for site in sites:
        try:
            await site.claim(adopt)
        except Untranslatable as error:
            await site.park(str(error))
    await replicator.start_mirroring()


class Backfill:
    """The work of a backfill or sweep job: every collection of the route, one after the other."""

    def __init__(
        self,
        replicator: Replicator,
        collections: Callable[[], Any],
        settings: BackfillSettings,
    ) -> None:
        self._replicator = replicator
        self._collections = collections  # coroutine function: the source's collections that the route takes
        self._settings = settings

    async def __call__(self, progress: Progress) -> Mapping[str, Any]:
        """Returns points copied and parked. Raises GateClosed, Cancelled, or a store's error that does not pass; once
        all others are done, CrossfadeError with the collections that the secondary cannot have."""
        replicator = self._replicator
        patience = Patience(replicator, progress)
        checkpoint = progress.state.checkpoint
        names = list(dict.fromkeys([*checkpoint.get("collections", ()), *await patience.outlast(self._collections)]))
        if not replicator.mirroring:
            await patience.outlast(lambda: start_mirroring(replicator, names, self._settings.adopt))
        if replicator.book.phase == DUAL_WRITE:
            await replicator.set_phase(BACKFILL)
        checkpoint["collections"] = names
        checkpoint.setdefault("copied", {})
        lacking: list[str] = []
        for name in names:
            if name in checkpoint.get("swept", []) and not replicator.ledger(name).unswept:
                continue
            workshop = replicator.workshop(name)
            try:
                await Sweep(workshop, progress, patience, self._settings).run()
            except (Untranslatable, Foreign) as error:
                await workshop.site.park(str(error))
                lacking.append(f"{name} ({error})")
                continue
            checkpoint.setdefault("swept", []).append(name)
            await progress.save()
        if lacking:
            raise CrossfadeError(
                f"the secondary cannot have {', '.join(lacking)}: their reads and writes stay with the primary. "
                f"Everything else was copied"
            )
        copied = sum(checkpoint["copied"].values())
        return {"collections": len(names), "copied": copied, "parked": replicator.lag().parked}


class Patience:
    """Tries again while a store does not answer, and says so."""

    def __init__(self, replicator: Replicator, progress: Progress) -> None:
        self._route = replicator.route
        self._metrics = replicator.metrics
        self._progress = progress

    async def outlast(self, ask: Callable[[], Any]) -> Any:
        """`ask` may be repeated: a read, or an idempotent definition. What does not pass is raised."""
        attempt = 0
        while True:
            try:
                answer = await ask()
            except (Unavailable, Unclear, Throttled, JournalError, TryAgain) as error:
                await self.pause_for(error, attempt)
                attempt += 1
                continue
            self._progress.state.waiting_for = ""
            return answer

    async def pause_for(self, error: CrossfadeError, attempt: int) -> None:
        self._metrics.job_errors.add(self._route, self._progress.state.kind)
        if attempt == 0:
            words = {"route": self._route, "job": self._progress.state.id, "error": error}
            _log.warning("the job waits for a store", extra=words)
        asked = error.retry_after_seconds if isinstance(error, Throttled | TryAgain) else 0.0
        self._progress.state.waiting_for = str(error)
        await self._progress.breathe(max(asked, _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]))


@dataclass(frozen=True, slots=True)
class _Read:
    """A page under its open wildcard, whose BEGIN is at `begin`, and how long the primary took for it."""

    begin: int
    page: Page
    seconds: float


class Sweep:
    """One collection."""

    def __init__(self, workshop: Workshop, progress: Progress, patience: Patience, settings: BackfillSettings) -> None:
        self._site = site = workshop.site
        self._definer = workshop.definer
        self._progress = progress
        self._patience = patience
        self._adopt = settings.adopt
        self._page_points = settings.page_points
        self._throttle = Throttle(settings.requests_per_second, settings.target_page_seconds)
        self._job = progress.state.id
        self._to = site.secondary_side

    async def run(self) -> None:
        site, progress = self._site, self._progress
        ledger = site.ledger
        if ledger.behind or ledger.behind_all:
            raise GateClosed(
                f"the {site.secondary_side.value} may hold writes that the {site.primary_side.value} lacks since the "
                f"emergency: first `crossfade recover {site.route}`"
            )
        await progress.wait_until(
            lambda: not ledger.range_held, f"{site.collection}: waiting for writes that may still be landing"
        )
        await self._patience.outlast(lambda: site.claim(self._adopt))
        checkpoint = progress.state.checkpoint
        if ledger.cursors.get(self._job) is None:  # nothing that may have been done before counts any more
            checkpoint[f"began:{site.collection}"] = site.journal.position
            checkpoint["copied"].pop(site.collection, None)
        began = checkpoint[f"began:{site.collection}"]
        await progress.save()
        described = await self._patience.outlast(lambda: site.primary.describe(site.primary_name))
        done = checkpoint["copied"].get(site.collection, 0)
        if described is not None:
            progress.step(f"{site.collection}: copying", described.points, done)
            await self._pages()
        elif ledger.claimed:
            await self._follow_absence()
        await self._extras_if_any(is_missed=described is not None)
        await site.journal.append(r.Swept(route=site.route, collection=site.collection, began=began))

    # --- pages -----------------------------------------------------------------------------

    async def _pages(self) -> None:
        """Read ahead by one page; write and END in order."""
        start = self._site.ledger.cursors.get(self._job)
        read = await self._read(start)
        while read.page.next is not None:
            reading = spawn(self._read(read.page.next), name="read ahead")
            try:
                seconds = await self._write(read)
            except BaseException:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                if not reading.cancelled() and reading.exception() is None:
                    await self._abandon(reading.result().begin)
                raise
            read = await reading
            try:
                await self._progress.breathe(self._throttle.after_page(max(read.seconds, seconds)))
            except BaseException:
                await self._abandon(read.begin)
                raise
        await self._write(read)

    async def _read(self, start: PointId | None) -> _Read:
        """Open a wildcard and read the page at `start` under it."""
        site = self._site
        begin = r.BeginPage(
            route=site.route,
            collection=site.collection,
            owner=site.journal.owner,
            secondary=self._to,
            job=self._job,
        )

        async def open_page() -> int:
            return (await site.journal.append(begin)).position

        async def read() -> Page:
            if site.ledger.acknowledged_at:
                await site.primary.settle(site.primary_name)
            return await site.primary.scan(site.primary_name, start, self._page_points, None, EVERYTHING)

        if site.secondary_side is not self._to:
            raise GateClosed(_MOVED)
        position = await self._patience.outlast(open_page)
        started = site.clock.now()
        try:
            page = await self._patience.outlast(read)
        except CollectionNotFound:
            page = Page((), None)
        except BaseException:
            await self._abandon(position)
            raise
        seconds = site.clock.now() - started
        await site.hook("page read")
        return _Read(position, page, seconds)

    async def _write(self, read: _Read) -> float:
        """Copy a page and END it; seconds the copy took."""
        site, page = self._site, read.page
        started = site.clock.now()
        ids = tuple(point.id for point in page.points)
        report = CopyReport(unclear=set(ids))  # what an unforeseen error leaves
        try:
            if site.secondary_side is self._to:
                states = {point.id: point for point in page.points}
                report = await copy_states(site.secondary, site.secondary_name, states)
            await site.hook("page written")
        finally:
            ended = site.journal.append(
                r.EndPage(
                    route=site.route,
                    collection=site.collection,
                    begin=read.begin,
                    ids=ids,
                    next=page.next,
                    done=page.next is None,
                    dirty=tuple(report.dirty),
                    unclear=tuple(report.unclear),
                    parked=tuple(report.parked.items()),
                    hold_seconds=site.stores.hold_seconds(self._to) if report.unclear else 0.0,
                )
            )
        await ended
        seconds = site.clock.now() - started
        self._count(report, len(ids), seconds)
        if report.error is not None:
            await self._let_recover(report.error)
        return seconds

    async def _abandon(self, begin: int) -> None:
        """END a page that was read and will not be written. The cursor stays where it is: the page before may be
        under way still, and if that one never ends, it has to be read again."""
        site = self._site
        at = site.ledger.cursors.get(self._job)
        await site.journal.append(
            r.EndPage(route=site.route, collection=site.collection, begin=begin, ids=(), next=at, done=False)
        )

    def _count(self, report: CopyReport, points: int, seconds: float) -> None:
        site = self._site
        left = len(report.dirty) + len(report.unclear)
        kind = self._progress.state.kind
        site.metrics.job_points.add(site.route, kind, "copied", amount=points - left - len(report.parked))
        site.metrics.job_points.add(site.route, kind, "parked", amount=len(report.parked))
        site.metrics.job_points.add(site.route, kind, "left to reconciliation", amount=left)
        site.metrics.job_page_seconds.observe(seconds, site.route, kind)
        copied = self._progress.state.checkpoint["copied"]
        copied[site.collection] = copied.get(site.collection, 0) + points
        self._progress.advance(points)

    # --- what only the secondary has ---------------------------------------------------------

    async def _follow_absence(self) -> None:
        """The primary has no such collection."""
        try:
            await self._patience.outlast(self._definer.follow_absence)
        except Moved as error:
            raise GateClosed(_MOVED) from error

    async def _extras_if_any(self, is_missed: bool) -> None:
        """A collection that is gone from the secondary by now is swept once more, if the primary has one."""
        site = self._site
        try:
            await self._extras()
        except CollectionNotFound:
            if not is_missed:
                return
            reason = "the collection was missing"
            await site.journal.append(r.Unswept(route=site.route, collection=site.collection, reason=reason))

    async def _extras(self) -> None:
        site, progress = self._site, self._progress
        total = await self._patience.outlast(lambda: site.secondary.count(site.secondary_name))
        progress.step(f"{site.collection}: looking for points that only the secondary has", total)
        start: PointId | None = None
        while True:
            page = await self._patience.outlast(lambda at=start: self._ids_page(at))  # type: ignore[misc]
            ids = [point.id for point in page.points]
            known = await self._patience.outlast(lambda some=ids: self._known(some))  # type: ignore[misc]
            extra = tuple(point_id for point_id in ids if point_id not in known)
            if extra:
                await site.journal.append(r.Mark(route=site.route, collection=site.collection, ids=extra))
            progress.advance(len(ids))
            start = page.next
            if start is None:
                return
            await progress.breathe()

    async def _ids_page(self, start: PointId | None) -> Page:
        site = self._site
        return await site.secondary.scan(site.secondary_name, start, _IDS_AT_ONCE, None, IDS_ONLY)

    async def _known(self, ids: Sequence[PointId]) -> Mapping[PointId, Any]:
        try:
            return await self._site.primary.fetch(self._site.primary_name, ids, IDS_ONLY) if ids else {}
        except CollectionNotFound:
            return {}

    async def _let_recover(self, error: CrossfadeError) -> None:
        """The secondary failed: its keys are dirty already; wait until it answers before the next page."""
        if failure_kind(error) != "refused":
            await self._patience.pause_for(error, 0)
            await self._patience.outlast(self._site.secondary.probe)
