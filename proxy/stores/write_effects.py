"""What a write makes of the points that it is about: the reference semantics, from the points before to those after.

As in Qdrant's engine (1.19, lib/shard/src/update/): a write that names points which must exist changes those that
do and then fails with PointNotFound; a condition, `insert_only` and `update_only` look at the state before the
request; an upsert under a condition still inserts what is new; of two points with one id in a request the last one
stays; a point that does not fit ends the write, and what stood before it in the request is applied. Cosine vectors
become unit vectors.

The stores that share this (memory.py, emulated_primary.py) say which points a filter chooses, fetch them, and keep
what comes out. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

from msgspec import structs

from proxy.errors import InvalidRequest, PointNotFound, RequestError, Untranslatable
from proxy.model import (
    ClearPayload,
    CollectionSpec,
    Delete,
    DeletePayload,
    DeleteVectors,
    Json,
    OpaqueWrite,
    OverwritePayload,
    Point,
    PointId,
    SetPayload,
    SimpleWrite,
    UpdateVectors,
    Upsert,
    Vector,
    points_by_id,
)
from proxy.stores.memory_collection import copied, stored
from proxy.stores.memory_filters import PointTest, point_test
from proxy.stores.payload_paths import Path, merge, parse_path, remove_at, set_at
from proxy.stores.point_shape import fitting_before, misfit

Payload = dict[str, Json]
Known = Mapping[PointId, Point]


@dataclass(frozen=True, slots=True)
class Effect:
    """`changed`: the points as they are afterwards, None for one that is gone. `error`: what the write ends with all
    the same."""

    changed: dict[PointId, Point | None] = field(default_factory=dict)
    error: RequestError | None = None


def depends_on_state(write: SimpleWrite) -> bool:
    """Whether the effect depends on the points before: whole points put without a condition, and deletes, do not."""
    match write:
        case Upsert(condition=condition, mode=mode):
            return condition is not None or mode != "upsert"
        case Delete():
            return False
        case _:
            return True


def effect_of(write: SimpleWrite, spec: CollectionSpec, known: Known, named: Sequence[PointId]) -> Effect:
    """What `write` does to a collection of `spec`. `known`: the points before, at least those that are `named` (the
    ids that its target or its points name) and exist; needed only if it `depends_on_state`.

    Raises InvalidRequest (a path or a name that is none) and Untranslatable where it changes nothing.
    """
    match write:
        case Upsert():
            return _upsert(write, spec, known)
        case UpdateVectors():
            return _update_vectors(write, spec, known)
        case Delete():
            return Effect(dict.fromkeys(named))
        case DeleteVectors(_, names):
            _require_names(spec, names)
            return _change(known, named, lambda point: structs.replace(point, vectors=_without(point.vectors, names)))
        case SetPayload() | OverwritePayload() | DeletePayload() | ClearPayload():
            change = _payload_change(write)
            return _change(known, named, lambda point: structs.replace(point, payload=change(copied(point.payload))))
        case OpaqueWrite(reason=reason):
            raise Untranslatable(reason)
        case _:
            assert_never(write)


def _upsert(write: Upsert, spec: CollectionSpec, known: Known) -> Effect:
    wanted: Sequence[Point] = write.points
    if depends_on_state(write):
        test = point_test(write.condition)
        wanted = [point for point in wanted if _is_wanted(known.get(point.id), test, write.mode)]
    fitting, reason = fitting_before(spec, wanted)
    return Effect(dict(points_by_id(stored(spec, fitting))), InvalidRequest(reason) if reason else None)


def _is_wanted(known: Point | None, test: PointTest, mode: str) -> bool:
    """Whether an upsert of this mode and condition puts a point over `known`, which was there before the request."""
    if known is None:
        return mode != "update_only"
    return mode != "insert_only" and test(known)


def _update_vectors(write: UpdateVectors, spec: CollectionSpec, known: Known) -> Effect:
    test = point_test(write.condition)
    changed: dict[PointId, Point | None] = {}
    missing: list[PointId] = []
    for point in write.points:
        if reason := misfit(spec, point):
            return Effect(changed, InvalidRequest(reason))
        before = changed.get(point.id) or known.get(point.id)
        if before is None:
            missing.append(point.id)
        elif test(before):
            (new,) = stored(spec, [point])
            changed[point.id] = structs.replace(before, vectors={**before.vectors, **new.vectors})
    return Effect(changed, _not_found(missing))


def _change(known: Known, named: Sequence[PointId], change: Callable[[Point], Point]) -> Effect:
    changed: dict[PointId, Point | None] = {}
    missing: list[PointId] = []
    for point_id in named:
        before = changed.get(point_id) or known.get(point_id)
        if before is None:
            missing.append(point_id)
        else:
            changed[point_id] = change(before)
    return Effect(changed, _not_found(missing))


def _not_found(missing: Sequence[PointId]) -> PointNotFound | None:
    return PointNotFound(f"No point with id {missing[0]} found") if missing else None


def _payload_change(
    write: SetPayload | OverwritePayload | DeletePayload | ClearPayload,
) -> Callable[[Payload], Payload]:
    """The change as a function from a payload, which it may edit, to the new one."""
    match write:
        case SetPayload(_, new, _, key):
            path = None if key is None else parse_path(key)
            return lambda payload: _set(payload, path, copied(new))
        case OverwritePayload(_, new):
            return lambda payload: copied(new)
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


def _require_names(spec: CollectionSpec, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in spec.vectors:
            raise InvalidRequest(f"Not existing vector name error: {name}")
