"""Reconciliation: the only thing that changes the secondary. It copies state, not statements.

For a batch of dirty keys: BEGIN, durable before the first byte is sent, takes their marks off; each key's state comes
from the hint of exactly that mark, or is read from the primary; it is written to the secondary; END says what is
certain. A batch never holds up a client's write, and no key is in two batches at once.

When the secondary fails, batches stop until it answers a probe; what is dirty meanwhile only costs keys in memory.
A key that never comes to rest (`_RESTLESS` batches in a row) is copied once with its lane held.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from proxy.errors import CollectionNotFound, CrossfadeError, Foreign, Throttled, Untranslatable
from proxy.model import Point, PointId, Side, Upsert
from proxy.replication import records as r
from proxy.replication.bulk import has_none_of, remove
from proxy.replication.copying import CopyReport, copy_states
from proxy.replication.ledger import Ledger
from proxy.replication.read_ahead import read_ahead
from proxy.replication.site import Site, failure_kind
from proxy.telemetry.tasks import spawn

_WORKERS = 2
_RESTLESS = 8
_TURN_POINTS = 32  # that are read before others have their turn
_BACKOFF_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_log = logging.getLogger("crossfade.reconcile")


class Reconciler:
    """Works on one collection until closed. `wake` is called with keys that may have become reconcilable."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ready: dict[PointId, None] = {}
        self._in_flight: set[PointId] = set()
        self._restless: dict[PointId, int] = {}
        self._work = asyncio.Event()
        self._settled_at = 0
        self._failures = 0
        self._healthy = asyncio.Event()
        self._healthy.set()
        self._closing = False
        self._tasks = [spawn(self._work_forever(), name=f"reconcile {site.collection}") for _ in range(_WORKERS)]

    def wake(self, ids: Iterable[PointId]) -> None:
        """Look at these keys; those that are dirty will be copied. Cheap and synchronous."""
        self._ready.update(dict.fromkeys(filter(self._site.ledger.marks.__contains__, ids)))
        if self._ready:
            self._work.set()

    def wake_all(self) -> None:
        self.wake(list(self._site.ledger.marks))

    def look_again(self) -> None:
        """What kept the collection from being reconciled is over."""
        self._work.set()

    async def close(self) -> None:
        """Let running batches end, start no other."""
        self._closing = True
        self._work.set()
        self._healthy.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- choosing --------------------------------------------------------------------------

    async def _work_forever(self) -> None:
        while True:
            await self._healthy.wait()
            if self._closing:
                return
            ids, exclusive = self._pick()
            if not ids:
                self._work.clear()
                await self._work.wait()
                continue
            try:
                failure = await (self._with_lanes(ids) if exclusive else self._reconcile(ids))
            finally:
                self._in_flight.difference_update(ids)
                self._work.set()
            if failure is not None and not self._closing:
                await self._recover(failure)

    def _pick(self) -> tuple[tuple[PointId, ...], bool]:
        """The next batch, and whether it needs its lanes held. What cannot be copied now comes back by `wake`."""
        ledger = self._site.ledger
        if self._closing or ledger.blocked:
            return (), False
        first = self._first(ledger)
        if has_none_of(self._restless, first) and self._in_flight.isdisjoint(first) and ledger.may_be_copied(first):
            remove(self._ready, first)
            self._in_flight.update(first)
            return first, False
        return self._pick_one_by_one(ledger)

    def _first(self, ledger: Ledger) -> tuple[PointId, ...]:
        """Those that are ready longest; up to the end of a write, if the next one can be copied by its request."""
        most = self._site.settings.batch_points
        first = list(islice(self._ready, most + 1))
        if len(first) <= most:
            return tuple(first)
        mark = ledger.marks.get(first.pop())
        if self._site.hints.has_whole(mark) and ledger.marks.get(first[0]) != mark:
            while ledger.marks.get(first[-1]) == mark:
                first.pop()
        return tuple(first)

    def _pick_one_by_one(self, ledger: Ledger) -> tuple[tuple[PointId, ...], bool]:
        batch: list[PointId] = []
        gone: list[PointId] = []
        for point_id in self._ready:
            if point_id in self._in_flight:
                continue
            gone.append(point_id)
            if not ledger.is_due(point_id):
                continue
            weary = self._restless.get(point_id, 0)
            if weary >= _RESTLESS:
                if batch:
                    gone.pop()
                    break
                batch.append(point_id)
                break
            if ledger.is_open(point_id):  # its END comes, and wakes it
                self._restless[point_id] = weary + 1
                continue
            batch.append(point_id)
            if len(batch) >= self._site.settings.batch_points:
                break
        for point_id in gone:
            del self._ready[point_id]
        self._in_flight.update(batch)
        return tuple(batch), bool(batch) and self._restless.get(batch[0], 0) >= _RESTLESS

    # --- one batch ---------------------------------------------------------------------------

    async def _with_lanes(self, ids: tuple[PointId, ...]) -> CrossfadeError | None:
        """Keep writers of a restless key away, but never for longer than `exclusive_seconds`."""
        limit = self._site.settings.exclusive_seconds
        for point_id in ids:
            self._restless.pop(point_id, None)
        try:
            async with asyncio.timeout(limit):
                held = self._site.lanes.hold(ids)
                await held.__aenter__()
        except TimeoutError:
            self.wake(ids)
            return None
        batch = spawn(self._reconcile(ids, holds_lanes=True), name="reconcile exclusively")
        try:
            await asyncio.wait({batch}, timeout=limit)
        finally:
            await held.__aexit__(None, None, None)
        return await batch

    async def _reconcile(self, ids: tuple[PointId, ...], *, holds_lanes: bool = False) -> CrossfadeError | None:
        """Copy one batch, at leisure unless it keeps writers waiting. Returns what made the secondary (or the primary's
        reads) fail, if anything."""
        site = self._site
        began, to = site.clock.now(), site.secondary_side
        begin = r.BeginReconcile(
            route=site.route,
            collection=site.collection,
            owner=site.journal.owner,
            ids=ids,
            secondary=to,
        )
        try:
            effects = await site.journal.append(begin, at_leisure=self._at_leisure(holds_lanes))
        except CrossfadeError as error:
            self._ready.update(dict.fromkeys(ids))  # nothing was begun: their marks stand, and no record will wake them
            return error
        await site.hook("reconciliation begun")
        report = CopyReport(unclear=set(effects.taken))  # what an unforeseen error leaves
        try:
            report = await self._copy(effects.taken, to)
        finally:
            end = self._end(effects.position, report, to)
            ended = site.journal.append(end, at_leisure=self._at_leisure(holds_lanes))
        await ended
        self._count(report, len(effects.taken), site.clock.now() - began)
        again = set(filter(site.ledger.marks.__contains__, ids))
        for point_id in again:
            self._restless[point_id] = self._restless.get(point_id, 0) + 1
        if self._restless:
            remove(self._restless, (point_id for point_id in ids if point_id not in again))
        return report.error

    def _at_leisure(self, holds_lanes: bool) -> bool:
        """Whether nobody waits for the batch: no writer, and no other batch that could be begun in its place."""
        site = self._site
        return not holds_lanes and len(self._ready) < site.settings.batch_points and site.at_leisure(site.policy)

    def _end(self, begin: int, report: CopyReport, to: Side) -> r.EndReconcile:
        site = self._site
        return r.EndReconcile(
            route=site.route,
            collection=site.collection,
            begin=begin,
            dirty=tuple(report.dirty),
            unclear=tuple(report.unclear),
            parked=tuple(report.parked.items()),
            hold_seconds=site.stores.hold_seconds(to) if report.unclear else 0.0,
        )

    async def _copy(self, taken: Mapping[PointId, int | None], to: Side) -> CopyReport:
        site = self._site
        try:
            if taken and not site.ledger.claimed:
                await site.claim()
            states, upserts = await self._states(taken)
        except (Foreign, Untranslatable) as error:
            await site.park(str(error))
            return CopyReport(dirty=set(taken))
        except CrossfadeError as error:
            return CopyReport(dirty=set(taken), error=error)
        await site.hook("reconciliation read")
        if site.secondary_side is not to:  # in an emergency: what was read is the wrong way round
            return CopyReport(dirty=set(taken))
        report = await copy_states(site.secondary, site.secondary_name, states, upserts)
        await site.hook("reconciliation written")
        if report.missing_collection:
            report.error = await self._restore_collection(report.error)
        elif report.parked:
            await self._suspect_shape(report)
        return report

    async def _states(
        self, taken: Mapping[PointId, int | None]
    ) -> tuple[dict[PointId, Point | None], Sequence[Upsert]]:
        """What the primary holds: from hints where they are certain, else read after making earlier writes visible. And
        upserts, which are what it holds of their keys."""
        site = self._site
        hinted = site.hints.take(taken)
        states, unknown = hinted.states, hinted.unknown
        for keeping, points in hinted.written:
            await read_ahead(points, site.offload)
            for start in range(0, len(points), _TURN_POINTS):
                some = points[start : start + _TURN_POINTS]
                known = keeping.states(some)
                states |= known
                unknown += [point.id for point in some if point.id not in known]
                await asyncio.sleep(0)  # vectors are read by now: let others have their turn
        used = len(states) + sum(len(upsert.points) for upsert in hinted.upserts)
        site.metrics.hints.add(site.route, "used", amount=used)
        site.metrics.hints.add(site.route, "missing", amount=len(unknown))
        if unknown:
            if site.ledger.acknowledged_at > self._settled_at:
                settling = site.ledger.acknowledged_at
                await site.primary.settle(site.primary_name)
                self._settled_at = settling
            try:
                found = await site.primary.fetch(site.primary_name, unknown)
            except CollectionNotFound:
                found = {}
            states.update((point_id, found.get(point_id)) for point_id in unknown)
        return states, hinted.upserts

    async def _suspect_shape(self, report: CopyReport) -> None:
        """Points that do not fit may be due to a collection that somebody has made anew in another shape: then it is
        made as the primary has it, and swept, and nothing is parked."""
        try:
            remade = await self._site.claim()
        except CrossfadeError as error:
            remade, report.error = True, report.error or error
        if remade:
            report.dirty |= report.parked.keys()
            report.parked.clear()

    async def _restore_collection(self, error: CrossfadeError | None) -> CrossfadeError | None:
        """The secondary has no such collection: make it as the primary describes it, and have it swept."""
        site = self._site
        try:
            if await site.make_secondary():
                await site.journal.append(
                    r.Unswept(route=site.route, collection=site.collection, reason="the collection was missing")
                )
                return None
        except Untranslatable as failure:
            await site.park(str(failure))
            return None
        except CrossfadeError as failure:
            return failure
        return error

    # --- failing and recovering -----------------------------------------------------------------

    async def _recover(self, failure: CrossfadeError) -> None:
        """Back off, then wait until both stores answer: a batch tried against a dead store only makes noise."""
        site = self._site
        site.metrics.reconcile_errors.add(site.route, failure_kind(failure))
        site.metrics.store_errors.add(site.stores.label(site.secondary_side), failure_kind(failure))
        self._healthy.clear()
        try:
            while not self._closing:
                delay = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)]
                if self._failures == 0:
                    _log.warning("reconciliation waits for a store", extra=self._words(failure))
                self._failures += 1
                asked = failure.retry_after_seconds if isinstance(failure, Throttled) else 0.0
                await site.clock.sleep(max(delay, asked))
                try:
                    await site.secondary.probe()
                    await site.primary.probe()
                except CrossfadeError as error:
                    failure = error
                    continue
                return
        finally:
            self._healthy.set()

    def _words(self, failure: CrossfadeError) -> dict[str, object]:
        site = self._site
        return {"route": site.route, "collection": site.collection, "error": failure}

    def _count(self, report: CopyReport, points: int, seconds: float) -> None:
        site = self._site
        left = len(report.dirty) + len(report.unclear)
        outcome = "held" if report.unclear else "dirty again" if report.dirty else "clean"
        if not left and self._failures:
            _log.info("reconciliation goes on", extra={"route": site.route, "collection": site.collection})
            self._failures = 0
        site.metrics.reconcile_batches.add(site.route, outcome)
        site.metrics.reconcile_seconds.observe(seconds, site.route)
        site.metrics.reconcile_batch.observe(points, site.route)
        site.metrics.reconcile_points.add(site.route, "left for another try", amount=left)
        site.metrics.reconcile_points.add(site.route, "parked", amount=len(report.parked))
        site.metrics.reconcile_points.add(site.route, "copied", amount=points - left - len(report.parked))
