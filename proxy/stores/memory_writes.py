"""The model's writes, carried out on a collection of the reference store.

As in Qdrant's engine (1.19, lib/shard/src/update/): a write that names points which must exist changes those that
do and then raises PointNotFound; a condition, `insert_only` and `update_only` look at the state before the request;
an upsert under a condition still inserts what is new; of two points with one id in a request the last one stays.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never

from proxy.errors import InvalidRequest, PointNotFound, Untranslatable
from proxy.model import (
    Batch,
    ClearPayload,
    Delete,
    DeletePayload,
    DeleteVectors,
    Ids,
    Json,
    OpaqueWrite,
    OverwritePayload,
    Point,
    PointId,
    SetPayload,
    SimpleWrite,
    Target,
    UpdateVectors,
    Upsert,
    Vector,
    Where,
    Write,
)
from proxy.stores.memory_collection import HeldCollection
from proxy.stores.memory_filters import PointTest, point_test
from proxy.stores.payload_paths import Path, merge, parse_path, remove_at, set_at
from proxy.stores.point_shape import misfit

Payload = dict[str, Json]


def apply_write(collection: HeldCollection, write: Write) -> int:
    """Carry out `write`; the number of operations it had. Raises InvalidRequest, PointNotFound, Untranslatable."""
    if isinstance(write, Batch):
        for part in write.writes:
            _apply(collection, part)
        return len(write.writes)
    _apply(collection, write)
    return 1


def _apply(collection: HeldCollection, write: SimpleWrite) -> None:
    match write:
        case Upsert():
            _upsert(collection, write)
        case UpdateVectors():
            _update_vectors(collection, write)
        case Delete(_, target):
            for point_id in _named(collection, target):
                collection.points.pop(point_id, None)
        case DeleteVectors(_, names, target):
            _require_names(collection, names)
            _change(collection, target, lambda point: replace(point, vectors=_without(point.vectors, names)))
        case SetPayload() | OverwritePayload() | DeletePayload() | ClearPayload():
            change = _payload_change(write)
            _change(
                collection,
                write.target,
                lambda point: replace(point, payload=change(copy.deepcopy(dict(point.payload)))),
            )
        case OpaqueWrite(reason=reason):
            raise Untranslatable(reason)
        case _:
            assert_never(write)


def _upsert(collection: HeldCollection, write: Upsert) -> None:
    test = point_test(write.condition)
    known = {point.id: collection.points.get(point.id) for point in write.points}
    for point in write.points:
        if _is_wanted(known[point.id], test, write.mode):
            _require_fit(collection, point)
            collection.points[point.id] = collection.stored(point)


def _is_wanted(known: Point | None, test: PointTest, mode: str) -> bool:
    """Whether an upsert of this mode and condition puts a point over `known`, which was there before the request."""
    if known is None:
        return mode != "update_only"
    return mode != "insert_only" and test(known)


def _update_vectors(collection: HeldCollection, write: UpdateVectors) -> None:
    test = point_test(write.condition)
    missing: list[PointId] = []
    for point in write.points:
        _require_fit(collection, point)
        known = collection.points.get(point.id)
        if known is None:
            missing.append(point.id)
        elif test(known):
            new = collection.stored(point).vectors
            collection.points[point.id] = replace(known, vectors={**known.vectors, **new})
    _require_none(missing)


def _change(collection: HeldCollection, target: Target, change: Callable[[Point], Point]) -> None:
    missing: list[PointId] = []
    for point_id in _named(collection, target):
        if point_id in collection.points:
            collection.points[point_id] = change(collection.points[point_id])
        else:
            missing.append(point_id)
    _require_none(missing)


def _named(collection: HeldCollection, target: Target) -> tuple[PointId, ...]:
    match target:
        case Ids(ids):
            return ids
        case Where(filter):
            return tuple(point.id for point in collection.matching(filter))
        case _:
            assert_never(target)


def _payload_change(
    write: SetPayload | OverwritePayload | DeletePayload | ClearPayload,
) -> Callable[[Payload], Payload]:
    """The change as a function from a payload, which it may edit, to the new one."""
    match write:
        case SetPayload(_, new, _, key):
            path = None if key is None else parse_path(key)
            return lambda payload: _set(payload, path, copy.deepcopy(dict(new)))
        case OverwritePayload(_, new):
            return lambda payload: copy.deepcopy(dict(new))
        case DeletePayload(_, keys):
            paths = [parse_path(key) for key in keys]
            return lambda payload: _removed(payload, paths)
        case ClearPayload():
            return lambda payload: {}
        case _:
            assert_never(write)


def _set(payload: Payload, path: Path | None, new: Payload) -> Payload:
    if path is None:
        merge(payload, new)
    else:
        set_at(payload, path, new)
    return payload


def _removed(payload: Payload, paths: list[Path]) -> Payload:
    for path in paths:
        remove_at(payload, path)
    return payload


def _without(vectors: Mapping[str, Vector], names: tuple[str, ...]) -> dict[str, Vector]:
    return {name: vector for name, vector in vectors.items() if name not in names}


def _require_fit(collection: HeldCollection, point: Point) -> None:
    if reason := misfit(collection.spec, point):
        raise InvalidRequest(reason)


def _require_names(collection: HeldCollection, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in collection.spec.vectors:
            raise InvalidRequest(f"Not existing vector name error: {name}")


def _require_none(missing: list[PointId]) -> None:
    if missing:
        raise PointNotFound(f"No point with id {missing[0]} found")
