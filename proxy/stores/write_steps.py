"""One write on its way to a store of whole points: read, worked out (write_effects.py), checked, put.

Points are read once, and what an earlier part of a batch left of them is what a later part sees, its filters included.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

from proxy.errors import (
    AppliedInPart,
    CollectionNotFound,
    Refused,
    RequestError,
    Throttled,
    Unavailable,
    Unstorable,
)
from proxy.model import IDS_ONLY, CollectionSpec, Filter, Point, PointId, SimpleWrite, write_filters, written_ids
from proxy.stores import WholePointStore
from proxy.stores.memory_filters import point_test
from proxy.stores.write_effects import depends_on_state, effect_of

T = TypeVar("T")

_TOLD = 5  # ids in an error


class WriteSteps:
    """Of one request, on one collection."""

    def __init__(self, store: WholePointStore, collection: str, spec: CollectionSpec) -> None:
        self._store = store
        self._collection = collection
        self._spec = spec
        self._step_points = store.capabilities.max_batch_points
        self._points: dict[PointId, Point | None] = {}  # as read, or as a part of this write left them
        self._changed: dict[PointId, Point | None] = {}  # what of them is still to be put
        self._applied = 0
        self._about = 0  # how many points the write is about, as far as it is known

    async def at_once(self, parts: Sequence[SimpleWrite]) -> None:
        """Carry out all parts, in order; they are worked out before anything is changed. What ends one of them ends the
        write, after what came before it was put."""
        error: RequestError | None = None
        for part in parts:
            error = await self._work_out(part, await self._named(part), chosen=bool(write_filters(part)))
            if error is not None:
                break
        self._about = len(self._changed)
        await self._put()
        if error is not None:
            raise error

    async def through(self, write: SimpleWrite) -> None:
        """Carry out a write by filter on the points that match now, some at a time."""
        ids = await self._named(write)
        self._about = len(ids)
        for start in range(0, max(len(ids), 1), self._step_points):
            error = await self._work_out(write, ids[start : start + self._step_points], chosen=True)
            if error is not None:
                raise error
            await self._put()
            self._points.clear()

    # --- working out ----------------------------------------------------------------------------

    async def _work_out(self, part: SimpleWrite, named: Sequence[PointId], *, chosen: bool) -> RequestError | None:
        """`chosen`: by a filter, so that a point which is gone by now is no mistake."""
        if depends_on_state(part):
            await self._read(named)
        known: dict[PointId, Point] = {}
        if self._points:
            known = {point_id: point for point_id in named if (point := self._points.get(point_id)) is not None}
        if chosen and depends_on_state(part):
            named = list(known)
        try:
            effect = effect_of(part, self._spec, known, named)
        except RequestError as error:
            return error
        self._points |= effect.changed
        self._changed |= effect.changed
        return effect.error

    async def _named(self, part: SimpleWrite) -> Sequence[PointId]:
        """The points that a part is about."""
        ids = written_ids(part)
        if ids is not None:
            return ids
        (choice,) = write_filters(part) or ()
        matching = await matching_ids(self._store, self._collection, choice)
        if not self._changed:
            return matching
        test = point_test(choice)
        others = [point_id for point_id in matching if point_id not in self._changed]
        return others + [point.id for point in self._changed.values() if point is not None and test(point)]

    async def _read(self, ids: Sequence[PointId]) -> None:
        unread = [point_id for point_id in dict.fromkeys(ids) if point_id not in self._points]
        for start in range(0, len(unread), self._step_points):
            some = unread[start : start + self._step_points]
            found = await self._told(self._store.fetch(self._collection, some))
            self._points |= {point_id: found.get(point_id) for point_id in some}

    # --- putting ----------------------------------------------------------------------------------

    async def _put(self) -> None:
        """Put what has changed."""
        changed, self._changed = self._changed, {}
        kept = [point for point in changed.values() if point is not None]
        gone = [point_id for point_id, point in changed.items() if point is None]
        is_one_step = len(kept) <= self._step_points  # the store is asked once then, not twice
        if not is_one_step and (unfit := await self._told(self._store.unfit(self._collection, kept))):
            raise self._unstorable(unfit)
        for start in range(0, len(kept), self._step_points):
            some = kept[start : start + self._step_points]
            report = await self._told(self._store.upsert(self._collection, some, whole=is_one_step))
            self._applied += len(some) - len(report.refused) if report.put else 0
            if report.refused:
                raise self._unstorable(report.refused)
        for start in range(0, len(gone), self._step_points):
            ids = gone[start : start + self._step_points]
            await self._told(self._store.delete(self._collection, ids))
            self._applied += len(ids)

    async def _told(self, step: Awaitable[T]) -> T:
        """`step`, whose failure says whether something was applied before it."""
        try:
            return await step
        except (Unavailable, Refused, Throttled, CollectionNotFound) as failure:
            if self._applied:
                raise self._in_part(str(failure)) from failure
            raise

    def _unstorable(self, refused: Mapping[PointId, str]) -> RequestError:
        told = "; ".join(f"point {point_id}: {reason}" for point_id, reason in list(refused.items())[:_TOLD])
        more = f"; and {len(refused) - _TOLD} more" if len(refused) > _TOLD else ""
        vendor = self._store.capabilities.vendor
        if self._applied:
            return self._in_part(f"{vendor} cannot hold {told}{more}")
        return Unstorable(f"{vendor} cannot hold {told}{more}. Nothing was changed")

    def _in_part(self, reason: str) -> AppliedInPart:
        return AppliedInPart(f"{self._applied} of {self._about} points are changed, the others are not: {reason}")


async def matching_ids(store: WholePointStore, collection: str, filter: Filter) -> list[PointId]:
    """All points that pass the filter, as the store sees it. Raises Untranslatable."""
    ids: list[PointId] = []
    page = await store.scan(collection, None, store.capabilities.max_batch_points, filter, IDS_ONLY)
    ids += (point.id for point in page.points)
    while page.next is not None:
        page = await store.scan(collection, page.next, store.capabilities.max_batch_points, filter, IDS_ONLY)
        ids += (point.id for point in page.points)
    return ids
