"""What the body of a REST write asks: JSON -> operation. Paths are matched in `rest_routes`.

Shapes are those of lib/api/src/rest/schema.rs, lib/shard/src/operations/ and src/common/update.rs in the server. A key
that is not known here may change what the request means, so it makes the request undecodable.

Every function raises Undecodable for what the model cannot say exactly, and InvalidRequest for NaN and infinity in a
vector. A write whose points cannot be decoded, but named, is an OpaqueWrite with their ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.dialects.qdrant.filters_json import filter_of_json, optional_filter
from proxy.dialects.qdrant.ids import id_of_json, ids_of_json
from proxy.dialects.qdrant.undecodable import Undecodable, only
from proxy.dialects.qdrant.vectors import vector_of_json, vectors_of_json
from proxy.model import (
    Batch,
    ClearPayload,
    CreateAlias,
    Delete,
    DeletePayload,
    DeleteVectors,
    DropAlias,
    Filter,
    Ids,
    OpaqueWrite,
    OverwritePayload,
    Point,
    PointId,
    RenameAlias,
    SetPayload,
    SimpleWrite,
    Target,
    UpdateAliases,
    UpdateVectors,
    Upsert,
    Vector,
    Where,
)

_POINT = frozenset({"id", "vector", "vectors", "payload"})
_UPSERT = frozenset({"points", "batch", "shard_key", "update_filter", "update_mode"})
_MODES = frozenset({"upsert", "insert_only", "update_only"})


def upsert(collection: str, body: object) -> Upsert | OpaqueWrite:
    asked = only(body, _UPSERT)
    mode = asked.get("update_mode") or "upsert"
    if not isinstance(mode, str) or mode not in _MODES:
        raise Undecodable("unknown field")
    condition = _condition(asked.get("update_filter"))
    ids, points = _batch_points(asked["batch"]) if "batch" in asked else _listed_points(asked.get("points"))
    if isinstance(points, Undecodable):
        return OpaqueWrite(collection, ids, points.reason)
    if isinstance(condition, Undecodable):
        return OpaqueWrite(collection, ids, condition.reason)
    return Upsert(collection, points, condition, mode)


_Points = tuple[tuple[PointId, ...], tuple[Point, ...] | Undecodable]  # the ids, and the points or why there are none


def _condition(value: object) -> Filter | Undecodable | None:
    """The filter, or why there is none: a condition that cannot be read still names no other points."""
    try:
        return optional_filter(value)
    except Undecodable as problem:
        return problem


def _listed_points(values: object) -> _Points:
    if not isinstance(values, list):
        raise Undecodable
    ids = tuple(id_of_json(value.get("id") if isinstance(value, dict) else None) for value in values)
    try:
        return ids, tuple(map(_point, ids, values))
    except Undecodable as problem:
        return ids, problem


def _point(point_id: PointId, value: object) -> Point:
    fields = only(value, _POINT)
    return Point(
        point_id, vectors_of_json(fields.get("vector", fields.get("vectors"))), _payload(fields.get("payload"))
    )


def _payload(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Undecodable
    return value


def _batch_points(value: object) -> _Points:
    """Points as columns: ids, vectors (a list, or one by name), payloads."""
    columns = only(value, frozenset({"ids", "vectors", "payloads"}))
    ids = ids_of_json(columns.get("ids"))
    try:
        vectors = _vector_rows(columns.get("vectors"), len(ids))
        payloads = columns.get("payloads")
        rows = [None] * len(ids) if payloads is None else payloads
        if not isinstance(rows, list) or len(rows) != len(ids):
            raise Undecodable
        return ids, tuple(map(Point, ids, vectors, map(_payload, rows)))
    except Undecodable as problem:
        return ids, problem


def _vector_rows(value: object, length: int) -> list[dict[str, Vector]]:
    """The vectors of each point, from one column or from a column a name."""
    columns = value if isinstance(value, dict) else {"": value}
    rows: list[dict[str, Vector]] = [{} for _ in range(length)]
    for name, column in columns.items():
        if not isinstance(column, list) or len(column) != length:
            raise Undecodable
        for row, vector in zip(rows, column, strict=True):
            row[name] = vector_of_json(vector)
    return rows


def update_vectors(collection: str, body: object) -> UpdateVectors | OpaqueWrite:
    asked = only(body, frozenset({"points", "shard_key", "update_filter"}))
    condition = _condition(asked.get("update_filter"))
    ids, points = _listed_points(asked.get("points"))
    if isinstance(points, Undecodable):
        return OpaqueWrite(collection, ids, points.reason)
    if isinstance(condition, Undecodable):
        return OpaqueWrite(collection, ids, condition.reason)
    return UpdateVectors(collection, points, condition)


def delete(collection: str, body: object) -> Delete:
    return Delete(collection, _target(only(body, frozenset({"points", "filter", "shard_key"}))))


def clear_payload(collection: str, body: object) -> ClearPayload:
    return ClearPayload(collection, _target(only(body, frozenset({"points", "filter", "shard_key"}))))


def delete_vectors(collection: str, body: object) -> DeleteVectors:
    asked = only(body, frozenset({"points", "filter", "vector", "vectors", "shard_key"}))
    return DeleteVectors(collection, _names(asked.get("vector", asked.get("vectors"))), _target(asked))


def delete_payload(collection: str, body: object) -> DeletePayload:
    asked = only(body, frozenset({"keys", "points", "filter", "shard_key"}))
    return DeletePayload(collection, _names(asked.get("keys")), _target(asked))


def set_payload(collection: str, body: object) -> SetPayload:
    asked = _payload_write(body)
    key = asked.get("key")
    if key is not None and not isinstance(key, str):
        raise Undecodable
    return SetPayload(collection, asked["payload"], _target(asked), key)


def overwrite_payload(collection: str, body: object) -> OverwritePayload:
    """A `key` is taken and ignored, as the server does (do_overwrite_payload in src/common/update.rs)."""
    asked = _payload_write(body)
    return OverwritePayload(collection, asked["payload"], _target(asked))


def _payload_write(body: object) -> dict[str, Any]:
    asked = only(body, frozenset({"payload", "points", "filter", "shard_key", "key"}))
    if not isinstance(asked.get("payload"), dict):
        raise Undecodable
    return asked


def _target(asked: dict[str, Any]) -> Target:
    """The points that a write chooses: by ids or by a filter; with both, which one wins differs between endpoints."""
    points, condition = asked.get("points"), asked.get("filter")
    if points is not None and condition is not None:
        raise Undecodable("both points and a filter")
    if points is not None:
        return Ids(ids_of_json(points))
    return Where(filter_of_json(condition))


def _names(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not set(map(type, values)) <= {str}:
        raise Undecodable
    return tuple(values)


_PARTS: dict[str, Callable[[str, object], SimpleWrite]] = {
    "upsert": upsert,
    "delete": delete,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
}


def batch(collection: str, body: object) -> Batch:
    """Several writes; a part that cannot be decoded is an OpaqueWrite among them."""
    operations = only(body, frozenset({"operations"})).get("operations")
    if not isinstance(operations, list):
        raise Undecodable
    return Batch(collection, tuple(_part(collection, operation) for operation in operations))


def _part(collection: str, operation: object) -> SimpleWrite:
    try:
        [(kind, body)] = only(operation, frozenset(_PARTS)).items()
        return _PARTS[kind](collection, body)
    except (Undecodable, ValueError) as problem:
        return OpaqueWrite(collection, None, getattr(problem, "reason", "undecodable"))


# --- definitions -------------------------------------------------------------------------


def update_aliases(body: object) -> UpdateAliases:
    actions = only(body, frozenset({"actions"})).get("actions")
    if not isinstance(actions, list):
        raise Undecodable
    return UpdateAliases(tuple(map(_alias_action, actions)))


def _alias_action(action: object) -> CreateAlias | DropAlias | RenameAlias:
    match action:
        case {"create_alias": {"collection_name": str(collection), "alias_name": str(alias)}}:
            return CreateAlias(alias, collection)
        case {"delete_alias": {"alias_name": str(alias)}}:
            return DropAlias(alias)
        case {"rename_alias": {"old_alias_name": str(old), "new_alias_name": str(new)}}:
            return RenameAlias(old, new)
        case _:
            raise Undecodable
