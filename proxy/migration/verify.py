"""Verify: proves that both stores hold the same, while the application writes. Resumable, bounded in memory.

Three outcomes for a point: equal, different, could not be checked. Steps, for each collection:

1. *compare*: page through the primary, fetch the same ids from the secondary, compare payloads and vectors; fold id and
   payload of every point into buckets (a count and a modular sum: a xor would not see a pair of equal mistakes);
2. *fold*: page through the secondary's ids and payloads into buckets of its own;
3. *open* only buckets that differ: ids in them that the primary lacks are candidates;
4. *look again*: a candidate that is not clean, or was touched by a write since, is read again once it has come to rest;
   only what differs while nothing touches it is reported.

Parked keys, and collections that are parked as a whole, are left alone and counted. Repair marks what differs as dirty,
and looks once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxy.errors import CollectionNotFound, CrossfadeError
from proxy.migration.jobs import Progress
from proxy.migration.throttle import Throttle
from proxy.model import EVERYTHING, CollectionSpec, Page, Point, PointId, Selection
from proxy.replication import records as r
from proxy.replication.comparison import bucket, difference, fingerprint
from proxy.replication.ledger import Effects
from proxy.replication.replicator import Replicator
from proxy.replication.site import Site

_BUCKETS = 4096
_MASK = (1 << 64) - 1
_PAYLOAD_ONLY = Selection(payload=True, vectors=False)
_LOOKS = 8
_MAX_CANDIDATES = 20_000
_SHOWN = 20
_REST_SECONDS = 30.0


@dataclass(slots=True)
class Folded:
    """One store's points, folded."""

    counts: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    sums: list[int] = field(default_factory=lambda: [0] * _BUCKETS)

    def add(self, point: Point) -> None:
        at = bucket(point.id, _BUCKETS)
        self.counts[at] += 1
        self.sums[at] = (self.sums[at] + fingerprint(point)) & _MASK

    def differing(self, other: Folded) -> set[int]:
        return {at for at in range(_BUCKETS) if self.counts[at] != other.counts[at] or self.sums[at] != other.sums[at]}


@dataclass(slots=True)
class Verdict:
    """The outcome for one collection."""

    equal: int = 0
    different: int = 0
    unchecked: int = 0
    parked: int = 0
    repaired: int = 0
    primary_points: int = 0
    secondary_points: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)  # at most _SHOWN, ids and what differs
    truncated: bool = False  # more candidates than are remembered: everything past that counts as unchecked


class Verify:
    """The work of a verify job. Options: `repair`."""

    def __init__(
        self,
        replicator: Replicator,
        collections: Callable[[], Any],
        page_points: int,
        throttle: Throttle,
        repair: bool,
    ) -> None:
        self._replicator = replicator
        self._collections = collections
        self._page_points = page_points
        self._throttle = throttle
        self._repair = repair

    async def __call__(self, progress: Progress) -> Mapping[str, Any]:
        """Returns the sums over all collections and each one's verdict. Raises Cancelled, or a store's error."""
        finished: dict[str, dict[str, Any]] = progress.state.checkpoint.setdefault("verdicts", {})
        for name in await self._collections():
            if name in finished:
                continue
            check = _Check(self._replicator, name, progress, self._page_points, self._throttle)
            began = self._replicator.journal.position
            verdict = await check.run(self._repair)
            if not (verdict.different or verdict.unchecked):
                record = r.Verified(route=self._replicator.route, collection=name, began=began)
                await self._replicator.journal.append(record)
            finished[name] = {slot: getattr(verdict, slot) for slot in Verdict.__slots__}
            await progress.save()
        keys = ("equal", "different", "unchecked", "parked", "repaired", "primary_points", "secondary_points")
        return {key: sum(verdict[key] for verdict in finished.values()) for key in keys} | {"collections": finished}


class _Check:
    """One collection."""

    def __init__(
        self, replicator: Replicator, collection: str, progress: Progress, page_points: int, throttle: Throttle
    ) -> None:
        self._replicator = replicator
        self._site: Site = replicator.workshop(collection).site
        self._progress = progress
        self._page_points = page_points
        self._throttle = throttle
        self._verdict = Verdict()
        self._candidates: dict[PointId, None] = {}
        caps = (self._site.primary.capabilities, self._site.secondary.capabilities)
        self._by_direction = any(cap.normalizes_cosine for cap in caps)

    async def run(self, repair: bool) -> Verdict:
        site, verdict = self._site, self._verdict
        described = await self._retrying(lambda: site.primary.describe(site.primary_name))
        there = await self._retrying(lambda: site.secondary.describe(site.secondary_name))
        if described is None and there is None:
            return verdict
        spec = described.spec if described is not None else CollectionSpec({})
        total = described.points if described is not None else 0
        if site.ledger.parked_whole:
            verdict.parked = verdict.primary_points = total
            return verdict
        self._progress.step(f"{site.collection}: comparing points", total)
        primary = await self._compare(spec)
        self._progress.step(f"{site.collection}: counting the secondary's points", there.points if there else 0)
        secondary = await self._fold_secondary()
        await self._open(primary.differing(secondary))
        verdict.primary_points, verdict.secondary_points = sum(primary.counts), sum(secondary.counts)
        found = await self._look_again(spec, tuple(self._candidates))
        if repair and found:
            await site.journal.append(r.Mark(route=site.route, collection=site.collection, ids=tuple(found)))
            left = await self._look_again(spec, tuple(found))
            verdict.repaired = len(found) - len(left)
            found = left
        verdict.different = len(found)
        verdict.examples = [{"id": str(i), "differs": what} for i, what in list(found.items())[:_SHOWN]]
        for outcome in ("equal", "different", "unchecked"):
            amount = getattr(verdict, outcome)
            site.metrics.job_points.add(site.route, "verify", outcome, amount=amount)
        return verdict

    # --- steps 1 to 3 -------------------------------------------------------------------------

    async def _compare(self, spec: CollectionSpec) -> Folded:
        site, folded = self._site, Folded()
        start: PointId | None = None
        while True:
            began = site.clock.now()
            page = await self._page(site.primary.scan, site.primary_name, start, EVERYTHING)
            there = await self._fetch_secondary([point.id for point in page.points])
            for point in page.points:
                if point.id in site.ledger.parked:
                    self._verdict.parked += 1
                    continue
                folded.add(point)
                if difference(point, there.get(point.id), spec, self._by_direction):
                    self._suspect(point.id)
                else:
                    self._verdict.equal += 1
            self._progress.advance(len(page.points))
            start = page.next
            if start is None:
                return folded
            await self._progress.breathe(self._throttle.after_page(site.clock.now() - began))

    async def _fold_secondary(self) -> Folded:
        site, folded = self._site, Folded()
        start: PointId | None = None
        while True:
            page = await self._page(site.secondary.scan, site.secondary_name, start, _PAYLOAD_ONLY)
            for point in page.points:
                folded.add(point)
            self._progress.advance(len(page.points))
            start = page.next
            if start is None:
                return folded
            await self._progress.breathe()

    async def _open(self, buckets: set[int]) -> None:
        """Find the ids behind buckets that differ: of the secondary's points, those that the primary lacks or has
        otherwise. (What only the primary has was found by `_compare`, or was written since and is dirty.)"""
        if not buckets:
            return
        site = self._site
        self._progress.step(f"{site.collection}: opening {len(buckets)} of {_BUCKETS} buckets")
        start: PointId | None = None
        while True:
            page = await self._page(site.secondary.scan, site.secondary_name, start, _PAYLOAD_ONLY)
            points = [point for point in page.points if bucket(point.id, _BUCKETS) in buckets]
            ids = [point.id for point in points]
            known = await self._fetch(site.primary.fetch, site.primary_name, ids, _PAYLOAD_ONLY)
            for point in points:
                if difference(known.get(point.id), point, CollectionSpec({}), False):
                    self._suspect(point.id)
            start = page.next
            if start is None:
                return
            await self._progress.breathe()

    def _suspect(self, point_id: PointId) -> None:
        if len(self._candidates) >= _MAX_CANDIDATES and point_id not in self._candidates:
            self._verdict.truncated = True
            self._verdict.unchecked += 1
            return
        self._candidates[point_id] = None

    # --- step 4 ---------------------------------------------------------------------------------

    async def _look_again(self, spec: CollectionSpec, ids: Sequence[PointId]) -> dict[PointId, str]:
        """Read candidates again, at rest and untouched. What still differs, and how; the rest is counted."""
        if not ids:
            return {}
        site = self._site
        self._progress.step(f"{site.collection}: looking again at {len(ids)} points", len(ids))
        found: dict[PointId, str] = {}
        left = list(ids)
        for _ in range(_LOOKS):
            left = await self._look(spec, left, found)
            if not left:
                break
            await self._rest(left)
        self._verdict.unchecked += len(left)
        return found

    async def _look(self, spec: CollectionSpec, ids: Sequence[PointId], found: dict[PointId, str]) -> list[PointId]:
        """One look at each id; returns those that were not at rest."""
        site = self._site
        again: list[PointId] = []
        for first in range(0, len(ids), self._page_points):
            part = ids[first : first + self._page_points]
            with _Watch(self._replicator, site.collection) as touched:
                restless = {point_id for point_id in part if not self._resting(point_id)}
                here = await self._fetch(site.primary.fetch, site.primary_name, part, EVERYTHING)
                there = await self._fetch_secondary(part)
            for point_id in part:
                what = difference(here.get(point_id), there.get(point_id), spec, self._by_direction)
                if not what:
                    self._verdict.equal += point_id in here
                elif point_id in site.ledger.parked:
                    self._verdict.parked += 1
                elif point_id in restless or point_id in touched or not self._resting(point_id):
                    again.append(point_id)
                else:
                    found[point_id] = what
            self._progress.advance(len(part))
            await self._progress.breathe()
        return again

    def _resting(self, point_id: PointId) -> bool:
        """Nothing is under way for the key. (A collection that still has to be swept is compared as it is.)"""
        return self._site.ledger.is_resting(point_id)

    async def _rest(self, ids: Sequence[PointId]) -> None:
        deadline = self._site.clock.now() + _REST_SECONDS
        clock = self._site.clock
        await self._progress.wait_until(
            lambda: clock.now() > deadline or all(self._resting(point_id) for point_id in ids),
            f"{self._site.collection}: waiting for {len(ids)} points to come to rest",
        )

    # --- reading ----------------------------------------------------------------------------------

    async def _page(self, scan: Any, name: str, start: PointId | None, selection: Selection) -> Page:
        async def read() -> Page:
            try:
                page: Page = await scan(name, start, self._page_points, None, selection)
            except CollectionNotFound:
                return Page((), None)
            return page

        page: Page = await self._retrying(read)
        return page

    async def _fetch_secondary(self, ids: Sequence[PointId]) -> Mapping[PointId, Point]:
        return await self._fetch(self._site.secondary.fetch, self._site.secondary_name, ids, EVERYTHING)

    async def _fetch(
        self, fetch: Any, name: str, ids: Sequence[PointId], selection: Selection
    ) -> Mapping[PointId, Point]:
        async def read() -> Mapping[PointId, Point]:
            try:
                points: Mapping[PointId, Point] = await fetch(name, ids, selection)
            except CollectionNotFound:
                return {}
            return points

        return await self._retrying(read) if ids else {}

    async def _retrying(self, read: Callable[[], Any]) -> Any:
        for attempt in range(_LOOKS):
            try:
                return await read()
            except CrossfadeError:
                if attempt == _LOOKS - 1:
                    raise
                await self._progress.breathe(0.25 * 2**attempt)
        raise AssertionError("unreachable")


class _Watch:
    """The ids of one collection that records name while the block runs."""

    def __init__(self, replicator: Replicator, collection: str) -> None:
        self._replicator = replicator
        self._collection = collection
        self._touched: set[PointId] = set()

    def __enter__(self) -> set[PointId]:
        self._replicator.journal.subscribe(self._applied)
        return self._touched

    def __exit__(self, *_: object) -> None:
        self._replicator.journal.unsubscribe(self._applied)

    def _applied(self, _: int, record: r.AnyRecord, effects: Effects) -> None:
        if record.route == self._replicator.route and record.collection == self._collection:
            self._touched.update(_named(record))
            self._touched.update(effects.ready)


def _named(record: r.AnyRecord) -> Iterable[PointId]:
    return getattr(record, "ids", ())
