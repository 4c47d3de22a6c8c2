"""The model's writes as update operations of the embedded Qdrant engine (qdrant-edge-py 0.9). Pure."""

from __future__ import annotations

from typing import assert_never

import qdrant_edge as edge

from proxy.errors import Untranslatable
from proxy.model import (
    ClearPayload,
    Delete,
    DeletePayload,
    DeleteVectors,
    Filter,
    Ids,
    OpaqueWrite,
    OverwritePayload,
    PointId,
    SetPayload,
    SimpleWrite,
    UpdateVectors,
    Upsert,
    Where,
)
from proxy.stores.qdrant_edge_filters import engine_condition, engine_filter
from proxy.stores.qdrant_edge_values import engine_id, engine_point, engine_vectors

_MODES = {
    "upsert": None,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}


def engine_operation(write: SimpleWrite) -> edge.UpdateOperation:
    """The operation that carries out `write`. Raises InvalidRequest and ValueError for what the engine cannot
    take, Untranslatable for an OpaqueWrite."""
    match write:
        case Upsert(_, points, condition, mode):
            engine_points = [engine_point(point) for point in points]
            return edge.UpdateOperation.upsert_points(engine_points, engine_condition(condition), _MODES[mode])
        case UpdateVectors(_, points, condition):
            vectors = [edge.PointVectors(engine_id(point.id), engine_vectors(point.vectors)) for point in points]
            return edge.UpdateOperation.update_vectors(vectors, engine_condition(condition))
        case OpaqueWrite(reason=reason):
            raise Untranslatable(reason)
        case _:
            match write.target:
                case Ids(ids):
                    return _by_ids(write, ids)
                case Where(filter):
                    return _by_filter(write, filter)
                case _:
                    assert_never(write.target)


_Targeted = Delete | DeleteVectors | SetPayload | OverwritePayload | DeletePayload | ClearPayload


def _by_ids(write: _Targeted, ids: tuple[PointId, ...]) -> edge.UpdateOperation:
    to, points = edge.UpdateOperation, [engine_id(i) for i in ids]
    match write:
        case Delete():
            return to.delete_points(points)
        case DeleteVectors(_, names):
            return to.delete_vectors(points, list(names))
        case SetPayload(_, payload, _, key):
            return to.set_payload(points, dict(payload), key)
        case OverwritePayload(_, payload):
            return to.overwrite_payload(points, dict(payload))
        case DeletePayload(_, keys):
            return to.delete_payload(points, list(keys))
        case ClearPayload():
            return to.clear_payload(points)
        case _:
            assert_never(write)


def _by_filter(write: _Targeted, filter: Filter) -> edge.UpdateOperation:
    to, points = edge.UpdateOperation, engine_filter(filter)
    match write:
        case Delete():
            return to.delete_points_by_filter(points)
        case DeleteVectors(_, names):
            return to.delete_vectors_by_filter(points, list(names))
        case SetPayload(_, payload, _, key):
            return to.set_payload_by_filter(points, dict(payload), key)
        case OverwritePayload(_, payload):
            return to.overwrite_payload_by_filter(points, dict(payload))
        case DeletePayload(_, keys):
            return to.delete_payload_by_filter(points, list(keys))
        case ClearPayload():
            return to.clear_payload_by_filter(points)
        case _:
            assert_never(write)
