"""Copying states to a store: whole points are put, absent ones deleted, and what the store cannot hold is parked.

Used by reconciliation and by backfill alike. Never raises for what a store does: the report says, key by key,
what is certain afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from proxy.errors import CollectionNotFound, CrossfadeError, Unclear
from proxy.model import MultiVector, Point, PointId, SparseVector, UnreadVector, Upsert, looked
from proxy.replication.records import Parking
from proxy.stores import Capabilities, Store, TakesNative, WriteReport


@dataclass(slots=True)
class CopyReport:
    """Keys in no set are exactly as asked. `error` is the first failure, if any."""

    dirty: set[PointId] = field(default_factory=set)  # certainly not applied, or not wholly
    unclear: set[PointId] = field(default_factory=set)  # may still land
    parked: dict[PointId, Parking] = field(default_factory=dict)
    missing_collection: bool = False
    error: CrossfadeError | None = None

    def failed(self, ids: Sequence[PointId], error: CrossfadeError) -> None:
        self.error = self.error or error
        (self.unclear if isinstance(error, Unclear) else self.dirty).update(ids)


async def copy_states(
    store: Store, collection: str, states: Mapping[PointId, Point | None], upserts: Sequence[Upsert] = ()
) -> CopyReport:
    """Make `collection` hold exactly `states` for these keys (None means absent), and the points of `upserts`, which
    have their `native`."""
    report = CopyReport()
    present = [point for point in states.values() if point is not None]
    absent = [point_id for point_id, point in states.items() if point is None]
    for upsert in upserts:
        if report.error is not None:  # the others may wait as long, one after the other
            report.dirty.update(point.id for point in upsert.points)
        elif isinstance(store, TakesNative) and _fits(upsert, store.capabilities):
            await _put(store.upsert_native(collection, upsert), upsert.points, report)
        else:
            present += upsert.points
    if report.error is not None:
        report.dirty.update((point.id for point in present), absent, report.parked)
        report.parked.clear()  # older versions of them are still there
        return report
    for points in batches(present, store.capabilities.max_batch_points, store.capabilities.max_batch_bytes):
        await _put(store.upsert(collection, points), points, report)
    await _remove(store, collection, absent + list(report.parked), report)
    return report


def _fits(upsert: Upsert, limits: Capabilities) -> bool:
    return len(upsert.points) <= limits.max_batch_points and len(upsert.native) <= limits.max_batch_bytes


async def _put(putting: Awaitable[WriteReport], points: Sequence[Point], report: CopyReport) -> None:
    ids = [point.id for point in points]
    try:
        written = await putting
    except CollectionNotFound as error:
        report.missing_collection = True
        report.failed(ids, error)
    except CrossfadeError as error:
        report.failed(ids, error)
    else:
        if written.refused:
            by_id = {point.id: point for point in points}
            for point_id, reason in written.refused.items():
                report.parked[point_id] = Parking(reason, size_bytes(by_id[point_id]))


async def _remove(store: Store, collection: str, ids: Sequence[PointId], report: CopyReport) -> None:
    """Absent keys, and older versions of parked ones: a search must not go on finding them."""
    limit = store.capabilities.max_batch_points
    for first in range(0, len(ids), limit):
        part = ids[first : first + limit]
        try:
            await store.delete(collection, part)
        except CollectionNotFound:
            continue  # then nothing of them is there
        except CrossfadeError as error:
            report.failed(part, error)
            for point_id in part:
                report.parked.pop(point_id, None)


def batches(points: Sequence[Point], limit_points: int, limit_bytes: int) -> Iterator[list[Point]]:
    """Cut `points` into runs within both limits; a single point over the byte limit goes alone."""
    sizes = list(map(size_bytes, points))
    if 0 < len(points) <= limit_points and sum(sizes) <= limit_bytes:
        yield list(points)
        return
    run: list[Point] = []
    run_bytes = 0
    for point, size in zip(points, sizes, strict=True):
        if run and (len(run) >= limit_points or run_bytes + size > limit_bytes):
            yield run
            run, run_bytes = [], 0
        run.append(point)
        run_bytes += size
    if run:
        yield run


def size_bytes(point: Point) -> int:
    """As it was sent, if the store takes that; else vectors as float32, payload as JSON."""
    if point.native:
        return len(point.native)
    payload = looked(point.payload)
    size = 16 + (len(orjson.dumps(payload, option=orjson.OPT_NON_STR_KEYS)) if payload else 0)
    if isinstance(point.vectors, UnreadVector):
        return size + len(point.vectors.wire)
    for vector in point.vectors.values():
        match vector:
            case bytes():
                size += len(vector)
            case SparseVector():
                size += 2 * len(vector.values)
            case MultiVector():
                size += sum(len(row) for row in vector.rows)
    return size
