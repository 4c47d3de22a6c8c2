"""Writes of points, and which points a write can touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.model.filters import Filter
from proxy.model.looking import look_at
from proxy.model.points import Json, Point, PointId


@dataclass(frozen=True, slots=True)
class Ids:
    ids: tuple[PointId, ...]


@dataclass(frozen=True, slots=True)
class Where:
    filter: Filter


Target = Ids | Where


@dataclass(frozen=True, slots=True)
class Upsert:
    """Put whole points. `condition`: only where the stored point matches; `mode`: upsert, insert_only,
    update_only. With either, the write alone does not determine the state it leaves. `native`: the request as a client
    of its vendor sent it, which says nothing but these points, each of which is as it came too; b"" where it is not."""

    collection: str
    points: tuple[Point, ...]
    condition: Filter | None = None
    mode: str = "upsert"
    native: bytes = field(default=b"", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Delete:
    collection: str
    target: Target


@dataclass(frozen=True, slots=True)
class SetPayload:
    """Merge `payload` into the points' payload; below `key` (a path) if given."""

    collection: str
    payload: Mapping[str, Json]
    target: Target
    key: str | None = None


@dataclass(frozen=True, slots=True)
class OverwritePayload:
    collection: str
    payload: Mapping[str, Json]
    target: Target


@dataclass(frozen=True, slots=True)
class DeletePayload:
    collection: str
    keys: tuple[str, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class ClearPayload:
    collection: str
    target: Target


@dataclass(frozen=True, slots=True)
class UpdateVectors:
    """Set the named vectors of existing points; payload and other vectors stay."""

    collection: str
    points: tuple[Point, ...]
    condition: Filter | None = None


@dataclass(frozen=True, slots=True)
class DeleteVectors:
    collection: str
    names: tuple[str, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class OpaqueWrite:
    """A write whose effect this program cannot tell: from inference, of an unknown kind, or undecodable.

    `ids`: the points it can touch, or None where that is unknown too. `guessed`: `collection` is only what such a
    request would usually name.
    """

    collection: str | None
    ids: tuple[PointId, ...] | None
    reason: str
    guessed: bool = False


SimpleWrite = (
    Upsert
    | Delete
    | SetPayload
    | OverwritePayload
    | DeletePayload
    | ClearPayload
    | UpdateVectors
    | DeleteVectors
    | OpaqueWrite
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Several writes of one request, in order."""

    collection: str
    writes: tuple[SimpleWrite, ...]


Write = SimpleWrite | Batch


def written_ids(write: Write) -> tuple[PointId, ...] | None:
    """The points that `write` can touch, in order and with repeats; None if only the primary can tell."""
    match write:
        case Upsert(points=points) | UpdateVectors(points=points):
            return tuple([point.id for point in points])
        case OpaqueWrite(ids=ids):
            return ids
        case Batch(writes=writes):
            found: list[PointId] = []
            for part in writes:
                ids = written_ids(part)
                if ids is None:
                    return None
                found.extend(ids)
            return tuple(found)
        case _:
            return write.target.ids if isinstance(write.target, Ids) else None


def look_into(operation: object) -> None:
    """Read what has been left unread of a write. Raises InvalidRequest if it is not what it was taken for."""
    if isinstance(operation, Upsert):
        look_at([point.vectors for point in operation.points])
        look_at([point.payload for point in operation.points])


def write_filters(write: Write) -> tuple[Filter, ...] | None:
    """The filters by which `write` chooses points; None if it chooses in a way that no filter expresses."""
    match write:
        case Upsert() | UpdateVectors():
            return ()
        case OpaqueWrite(ids=ids):
            return () if ids is not None else None
        case Batch(writes=writes):
            found: list[Filter] = []
            for part in writes:
                filters = write_filters(part)
                if filters is None:
                    return None
                found.extend(filters)
            return tuple(found)
        case _:
            return (write.target.filter,) if isinstance(write.target, Where) else ()
