"""What a gRPC request asks: proto message -> operation. Methods are matched in `grpc_routes`.

Meaning and defaults are those of src/tonic/api/update_common.rs and query_common.rs in the server. A field that
protos/qdrant does not describe may change what the request means, so it makes the request undecodable.

Every function raises Undecodable for what the model cannot say exactly, and InvalidRequest for NaN and infinity in a
vector. A write that cannot be decoded is still keyed by its ids where they can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from proxy.dialects.qdrant.configs import json_of_config
from proxy.dialects.qdrant.filters_proto import filter_of_proto
from proxy.dialects.qdrant.ids import id_of_proto, ids_of_proto
from proxy.dialects.qdrant.messages import known, proto
from proxy.dialects.qdrant.payloads import payload_of_proto
from proxy.dialects.qdrant.rest_reads import DEFAULT_LIMIT, ScoreOf
from proxy.dialects.qdrant.selections import selection_of_proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import FLOAT32, check_finite, dense_query, finite, vectors_of_proto
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
    UpdateCollection,
    UpdateVectors,
    Upsert,
    Where,
)

# --- reads -------------------------------------------------------------------------------


def _read(message: Any) -> Any:
    for clause in ("read_consistency", "shard_key_selector"):
        if message.HasField(clause):
            raise Undecodable("consistency" if clause == "read_consistency" else "shard_key")
    return known(message)


def _filter(message: Any) -> Filter | None:
    return filter_of_proto(message.filter) if message.HasField("filter") else None


def fetch(message: Any) -> Fetch:
    asked = _read(message)
    return Fetch(asked.collection_name, ids_of_proto(asked.ids), selection_of_proto(asked, payload_by_default=True))


def scroll(message: Any) -> Scroll:
    asked = _read(message)
    if asked.HasField("order_by"):
        raise Undecodable("order_by")
    return Scroll(
        asked.collection_name,
        _limit(asked.limit if asked.HasField("limit") else DEFAULT_LIMIT),
        id_of_proto(asked.offset) if asked.HasField("offset") else None,
        _filter(asked),
        selection_of_proto(asked, payload_by_default=True),
    )


def count(message: Any) -> Count:
    asked = _read(message)
    return Count(asked.collection_name, _filter(asked), asked.exact if asked.HasField("exact") else True)


def query(message: Any, score_of: ScoreOf) -> Search:
    """A search by one dense vector; everything else that this method can do is Undecodable, by name."""
    asked = _read(message)
    if asked.prefetch:
        raise Undecodable("prefetch")
    if asked.HasField("lookup_from"):
        raise Undecodable("lookup_from")
    kind = known(asked.query).WhichOneof("variant")
    if kind is None:
        raise Undecodable("query without a vector")
    if kind != "nearest":
        raise Undecodable(_KINDS.get(kind, kind))
    vector = dense_query(asked.query.nearest)
    limit = asked.limit if asked.HasField("limit") else DEFAULT_LIMIT
    return _search(asked, vector, asked.using, limit, _least(asked, asked.using, score_of))


_KINDS = {"nearest_with_mmr": "mmr", "text": "text query"}


def search(message: Any, score_of: ScoreOf) -> Search:
    """The method of older clients."""
    asked = _read(message)
    if asked.HasField("sparse_indices"):
        raise Undecodable("sparse query")
    vector = finite(np.array(asked.vector, FLOAT32).tobytes())
    least = _least(asked, asked.vector_name, score_of)
    return _search(asked, vector, asked.vector_name, asked.limit, least)


def _least(asked: Any, using: str, score_of: ScoreOf) -> float | None:
    return score_of(using, asked.score_threshold) if asked.HasField("score_threshold") else None


def _search(asked: Any, vector: bytes, using: str, limit: int, least: float | None) -> Search:
    exact, params = _search_params(asked.params)
    return Search(
        asked.collection_name,
        vector,
        _limit(limit),
        using,
        asked.offset,
        _filter(asked),
        least,
        selection_of_proto(asked, payload_by_default=False),
        exact,
        params,
    )


def _limit(limit: int) -> int:
    if limit < 1:
        raise Undecodable
    return limit


def _search_params(message: Any) -> tuple[bool, dict[str, Any]]:
    """Whether to search exactly, and the hints that do not change what is asked."""
    params = json_of_config(message)
    if params.get("indexed_only"):
        raise Undecodable("indexed_only")
    params.pop("indexed_only", None)
    return bool(params.pop("exact", False)), params


def query_batch(message: Any, score_of: ScoreOf) -> SearchBatch:
    return _batch_of(message, message.query_points, query, score_of)


def search_batch(message: Any, score_of: ScoreOf) -> SearchBatch:
    return _batch_of(message, message.search_points, search, score_of)


def _batch_of(
    message: Any, searches: Iterable[Any], decode: Callable[[Any, ScoreOf], Search], score_of: ScoreOf
) -> SearchBatch:
    """The batch names the collection for all; what its parts say about it is ignored, as the server does."""
    known(message)
    if message.HasField("read_consistency"):
        raise Undecodable("consistency")
    collection = message.collection_name
    decoded = []
    for one in searches:
        own = type(one)()
        own.CopyFrom(one)
        own.collection_name = collection
        own.ClearField("read_consistency")
        decoded.append(decode(own, score_of))
    return SearchBatch(collection, tuple(decoded))


# --- writes ------------------------------------------------------------------------------
# The same parts travel alone (UpsertPoints) and in a batch (PointsUpdateOperation.PointStructList), without the
# collection there: so each function takes it as an argument.

_MODES = {0: "upsert", 1: "insert_only", 2: "update_only"}


def upsert(collection: str, message: Any) -> Upsert | OpaqueWrite:
    ids = ids_of_proto(point.id for point in message.points)
    try:
        known(message)
        points = tuple(map(_point, ids, message.points))
        check_finite(points)
        condition = filter_of_proto(message.update_filter) if message.HasField("update_filter") else None
    except Undecodable as problem:
        return OpaqueWrite(collection, ids, problem.reason)
    # The server takes a mode that it does not know for "upsert" (grpc_update_mode_to_rest); a newer one may not.
    if message.update_mode not in _MODES:
        return OpaqueWrite(collection, ids, "unknown field")
    return Upsert(collection, points, condition, _MODES[message.update_mode])


def _point(point_id: PointId, message: Any) -> Point:
    vectors = vectors_of_proto(known(message).vectors)
    return Point(point_id, vectors, payload_of_proto(message.payload), message.SerializeToString())


def update_vectors(collection: str, message: Any) -> UpdateVectors | OpaqueWrite:
    ids = ids_of_proto(point.id for point in message.points)
    try:
        known(message)
        points = tuple(
            Point(point_id, vectors_of_proto(known(point).vectors))
            for point_id, point in zip(ids, message.points, strict=True)
        )
        check_finite(points)
        condition = filter_of_proto(message.update_filter) if message.HasField("update_filter") else None
    except Undecodable as problem:
        return OpaqueWrite(collection, ids, problem.reason)
    return UpdateVectors(collection, points, condition)


def delete(collection: str, message: Any) -> Delete:
    return Delete(collection, _target(known(message).points))


def clear_payload(collection: str, message: Any) -> ClearPayload:
    return ClearPayload(collection, _target(known(message).points))


def delete_vectors(collection: str, message: Any) -> DeleteVectors:
    return DeleteVectors(collection, tuple(known(message).vectors.names), _target(message.points_selector))


def delete_payload(collection: str, message: Any) -> DeletePayload:
    return DeletePayload(collection, tuple(known(message).keys), _target(message.points_selector))


def set_payload(collection: str, message: Any) -> SetPayload | OpaqueWrite:
    target = _target(known(message).points_selector)
    try:
        payload = payload_of_proto(message.payload)
    except Undecodable as problem:
        return _opaque(collection, target, problem)
    return SetPayload(collection, payload, target, message.key if message.HasField("key") else None)


def overwrite_payload(collection: str, message: Any) -> OverwritePayload | OpaqueWrite:
    """A `key` is taken and ignored, as the server does."""
    target = _target(known(message).points_selector)
    try:
        return OverwritePayload(collection, payload_of_proto(message.payload), target)
    except Undecodable as problem:
        return _opaque(collection, target, problem)


def _opaque(collection: str, target: Target, problem: Undecodable) -> OpaqueWrite:
    return OpaqueWrite(collection, target.ids if isinstance(target, Ids) else None, problem.reason)


def _target(message: Any) -> Target:
    match known(message).WhichOneof("points_selector_one_of"):
        case "points":
            return Ids(ids_of_proto(message.points.ids))
        case "filter":
            return Where(filter_of_proto(message.filter))
        case _:
            raise Undecodable


_PARTS: dict[str, Callable[[str, Any], SimpleWrite]] = {
    "upsert": upsert,
    "delete_points": delete,
    "delete_deprecated": lambda collection, message: Delete(collection, _target(message)),
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "clear_payload_deprecated": lambda collection, message: ClearPayload(collection, _target(message)),
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
}


def batch(collection: str, message: Any) -> Batch:
    """Several writes; a part that cannot be decoded is an OpaqueWrite among them."""
    return Batch(collection, tuple(_part(collection, operation) for operation in known(message).operations))


def _part(collection: str, operation: Any) -> SimpleWrite:
    try:
        kind = known(operation).WhichOneof("operation")
        if kind is None:
            raise Undecodable
        return _PARTS[kind](collection, getattr(operation, kind))
    except Undecodable as problem:
        return OpaqueWrite(collection, None, problem.reason)


# --- definitions -------------------------------------------------------------------------


def update_collection(message: Any) -> UpdateCollection:
    native = json_of_config(message)
    native.pop("collection_name", None)
    native.pop("timeout", None)
    return UpdateCollection(message.collection_name, native)


def update_aliases(message: Any) -> UpdateAliases:
    return UpdateAliases(tuple(_alias_action(known(action)) for action in known(message).actions))


def _alias_action(message: Any) -> CreateAlias | DropAlias | RenameAlias:
    match message.WhichOneof("action"):
        case "create_alias":
            return CreateAlias(message.create_alias.alias_name, message.create_alias.collection_name)
        case "delete_alias":
            return DropAlias(message.delete_alias.alias_name)
        case "rename_alias":
            return RenameAlias(message.rename_alias.old_alias_name, message.rename_alias.new_alias_name)
        case _:
            raise Undecodable


def named_collection(body: bytes) -> str | None:
    """The collection of a request of an unknown kind: by the vendor's habit, field 1 is `collection_name`."""
    try:
        name = proto.CollectionExistsRequest.FromString(body).collection_name
    except DecodeError:
        return None
    return str(name) or None
