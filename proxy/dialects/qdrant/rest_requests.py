"""What the body of a REST request asks: JSON -> operation. Paths are matched in `rest_routes`.

Shapes and defaults are those of lib/api/src/rest/schema.rs, lib/shard/src/operations/ and src/common/update.rs. A key
that is not known here may change what the request means, so it makes the request undecodable.

Every function raises Undecodable for what the model cannot say exactly, and InvalidRequest for NaN and infinity in a
vector. `writes_*` name the ids of what they cannot decode, where they can (`opaque`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.dialects.qdrant.filters_json import filter_of_json, optional_filter
from proxy.dialects.qdrant.ids import id_of_json, ids_of_json
from proxy.dialects.qdrant.selections import selection_of_json
from proxy.dialects.qdrant.undecodable import Undecodable, only
from proxy.dialects.qdrant.vectors import dense_of_json, vector_of_json, vectors_of_json
from proxy.model import (
    Batch,
    ClearPayload,
    Count,
    CreateAlias,
    Delete,
    DeletePayload,
    DeleteVectors,
    DropAlias,
    Fetch,
    Filter,
    Ids,
    OpaqueWrite,
    OverwritePayload,
    Point,
    PointId,
    RenameAlias,
    Scroll,
    Search,
    SearchBatch,
    SetPayload,
    SimpleWrite,
    Target,
    UpdateAliases,
    UpdateVectors,
    Upsert,
    Vector,
    Where,
)

DEFAULT_LIMIT = 10
ScoreOf = Callable[[str, float], float]  # (vector name, a score as the vendor says it) -> the model's score

_SELECTORS = {"with_payload", "with_vector", "with_vectors"}
_QUERY = frozenset(
    {"prefetch", "query", "using", "filter", "params", "score_threshold", "limit", "offset", "lookup_from", "shard_key"}
    | _SELECTORS
)
_SEARCH = frozenset(
    {"vector", "filter", "params", "limit", "top", "offset", "score_threshold", "shard_key"} | _SELECTORS
)
_PARAMS = frozenset({"hnsw_ef", "exact", "quantization", "indexed_only", "acorn", "idf"})
_SCROLL = frozenset({"offset", "limit", "filter", "order_by", "shard_key"} | _SELECTORS)
_POINT = frozenset({"id", "vector", "vectors", "payload"})
_UPSERT = frozenset({"points", "batch", "shard_key", "update_filter", "update_mode"})
_MODES = frozenset({"upsert", "insert_only", "update_only"})

# --- reads -------------------------------------------------------------------------------


def fetch(collection: str, body: object) -> Fetch:
    asked = _read(body, frozenset({"ids", "shard_key"} | _SELECTORS))
    return Fetch(collection, ids_of_json(asked.get("ids")), _selection(asked, payload_by_default=True))


def scroll(collection: str, body: object) -> Scroll:
    asked = _read(body, _SCROLL)
    if asked.get("order_by") is not None:
        raise Undecodable("order_by")
    start = asked.get("offset")
    return Scroll(
        collection,
        _natural(asked.get("limit"), DEFAULT_LIMIT, at_least=1),
        None if start is None else id_of_json(start),
        optional_filter(asked.get("filter")),
        _selection(asked, payload_by_default=True),
    )


def count(collection: str, body: object) -> Count:
    asked = _read(body, frozenset({"filter", "exact", "shard_key"}))
    exact = asked.get("exact", True)
    if not isinstance(exact, bool):
        raise Undecodable
    return Count(collection, optional_filter(asked.get("filter")), exact)


def query(collection: str, body: object, score_of: ScoreOf) -> Search:
    """A search by one dense vector; everything else that this endpoint can do is Undecodable, by name."""
    asked = _read(body, _QUERY)
    for clause in ("prefetch", "lookup_from"):
        if asked.get(clause):
            raise Undecodable(clause)
    using = asked.get("using")
    return _search(collection, asked, _query_vector(asked.get("query")), "" if using is None else using, score_of)


def _query_vector(value: object) -> bytes:
    match value:
        case {"nearest": nearest, **rest} if rest.keys() <= {"mmr"}:
            if rest.get("mmr") is not None:
                raise Undecodable("mmr")
            return _query_vector(nearest) if not isinstance(nearest, dict) else _no_dense(nearest)
        case [list(), *_]:
            raise Undecodable("multi-vector query")
        case list():
            return dense_of_json(value)
        case None:
            raise Undecodable("query without a vector")
        case int() | str():
            raise Undecodable("query by id")
        case dict():
            return _no_dense(value)
        case _:
            raise Undecodable


def _no_dense(value: dict[str, Any]) -> bytes:
    """Raises Undecodable with the kind of query that an object is."""
    if "indices" in value:
        raise Undecodable("sparse query")
    if "model" in value:
        raise Undecodable("inference object")
    kinds = ("recommend", "discover", "context", "order_by", "fusion", "rrf", "formula", "sample", "relevance_feedback")
    raise Undecodable(next((kind for kind in kinds if kind in value), "undecodable"))


def search(collection: str, body: object, score_of: ScoreOf) -> Search:
    """The endpoint of older clients: the vector alone, or with its name."""
    asked = _read(body, _SEARCH)
    limit = asked.get("limit", asked.get("top"))
    if limit is None:
        raise Undecodable
    match asked.get("vector"):
        case {"name": str(using), "vector": list(vector), **rest} if not rest:
            pass
        case {"vector": dict()}:
            raise Undecodable("sparse query")
        case vector:
            using = ""
    return _search(collection, {**asked, "limit": limit}, dense_of_json(vector), using, score_of)


def query_batch(collection: str, body: object, score_of: ScoreOf) -> SearchBatch:
    return SearchBatch(collection, tuple(query(collection, one, score_of) for one in _searches(body)))


def search_batch(collection: str, body: object, score_of: ScoreOf) -> SearchBatch:
    return SearchBatch(collection, tuple(search(collection, one, score_of) for one in _searches(body)))


def _searches(body: object) -> list[Any]:
    searches = only(body, frozenset({"searches"})).get("searches")
    if not isinstance(searches, list):
        raise Undecodable
    return searches


def _search(collection: str, asked: dict[str, Any], vector: bytes, using: object, score_of: ScoreOf) -> Search:
    if not isinstance(using, str):
        raise Undecodable
    exact, params = _search_params(asked.get("params"))
    threshold = asked.get("score_threshold")
    if threshold is not None and type(threshold) not in (int, float):
        raise Undecodable
    return Search(
        collection,
        vector,
        _natural(asked.get("limit"), DEFAULT_LIMIT, at_least=1),
        using,
        _natural(asked.get("offset"), 0),
        optional_filter(asked.get("filter")),
        None if threshold is None else score_of(using, float(threshold)),
        _selection(asked, payload_by_default=False),
        exact,
        params,
    )


def _search_params(value: object) -> tuple[bool, dict[str, Any]]:
    """Whether to search exactly, and the hints that do not change what is asked."""
    params = {key: hint for key, hint in only(value or {}, _PARAMS).items() if hint is not None}
    if params.get("indexed_only"):
        raise Undecodable("indexed_only")
    params.pop("indexed_only", None)
    return bool(params.pop("exact", False)), params


def _read(body: object, allowed: frozenset[str]) -> dict[str, Any]:
    asked = only(body, allowed)
    if asked.get("shard_key") is not None:
        raise Undecodable("shard_key")
    return asked


def _selection(asked: dict[str, Any], *, payload_by_default: bool) -> Any:
    vectors = asked.get("with_vector", asked.get("with_vectors"))
    return selection_of_json(asked.get("with_payload"), vectors, payload_by_default=payload_by_default)


def _natural(value: object, default: int, at_least: int = 0) -> int:
    if value is None:
        return default
    if type(value) is not int or value < at_least:
        raise Undecodable
    return value


# --- writes ------------------------------------------------------------------------------


def upsert(collection: str, body: object) -> Upsert | OpaqueWrite:
    asked = only(body, _UPSERT)
    mode = asked.get("update_mode") or "upsert"
    if mode not in _MODES:
        raise Undecodable("unknown field")
    condition = _condition(asked.get("update_filter"))
    ids, points = _batch_points(asked["batch"]) if "batch" in asked else _listed_points(asked.get("points"))
    if isinstance(points, Undecodable):
        return OpaqueWrite(collection, ids, points.reason)
    if isinstance(condition, Undecodable):
        return OpaqueWrite(collection, ids, condition.reason)
    return Upsert(collection, points, condition, str(mode))


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
