"""Writes and definitions as gRPC calls: what a store sends to a Qdrant server.

Every write waits until it is applied and goes through the shard's permanent leader (strong ordering). Raises
Untranslatable for what the vendor cannot hold exactly: ids that are neither unsigned 64-bit integers nor UUIDs,
integers in a payload beyond 64 bits (proto has only signed ones), numbers that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, assert_never
from uuid import UUID

from proxy.dialects.proto_bytes import Field
from proxy.dialects.qdrant.collections import proto_of_create, proto_of_index, proto_of_update
from proxy.dialects.qdrant.filters_proto import proto_of_filter
from proxy.dialects.qdrant.ids import MAX_ID, proto_of_id
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payloads import fill_exact_payload
from proxy.dialects.qdrant.vectors import fill_vectors
from proxy.errors import Untranslatable
from proxy.model import (
    Batch,
    ClearPayload,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    Definition,
    Delete,
    DeletePayload,
    DeleteVectors,
    DropAlias,
    DropCollection,
    DropPayloadIndex,
    HasId,
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
    UpdateCollection,
    UpdateVectors,
    Upsert,
    Where,
    Write,
)

CallOf = tuple[str, Any]  # the full method, the request message

_POINTS = Field(proto.UpsertPoints, "points")
_MODES = {"upsert": 0, "insert_only": 1, "update_only": 2}
_BARRIER_KEY = "crossfade_barrier_no_such_key"


def representable(point_id: PointId) -> bool:
    """Whether the vendor has ids like this one."""
    return isinstance(point_id, UUID) or (isinstance(point_id, int) and 0 <= point_id <= MAX_ID)


def exact_id(point_id: PointId) -> Any:
    """A PointId message. Raises Untranslatable."""
    if not representable(point_id):
        raise Untranslatable("id is neither an unsigned 64-bit integer nor a UUID")
    return proto_of_id(point_id)


def exact_point(point: Point) -> Any:
    """A PointStruct. Raises Untranslatable."""
    message = proto.PointStruct(id=exact_id(point.id))
    fill_exact_payload(message.payload, point.payload)
    fill_vectors(message.vectors, point.vectors)
    return message


# --- writes ------------------------------------------------------------------------------


def point_bytes(point: Point) -> bytes:
    """A PointStruct: the one that a client sent, or one made of what is known. Raises Untranslatable."""
    if point.native:
        return point.native
    wire: bytes = exact_point(point).SerializeToString()
    return wire


def upsert_call(collection: str, points: Sequence[bytes]) -> tuple[str, bytes]:
    """`points` are PointStructs; the call's message comes as bytes."""
    path, message = _alone("Upsert", proto.UpsertPoints(), collection)
    # What is put behind each other is one message.
    return path, b"".join((message.SerializeToString(), *_POINTS.each(points)))


def sent_again(collection: str, native: bytes) -> tuple[str, bytes]:
    """An upsert as a client sent it (`Upsert.native`), to that collection and as writes are sent here: what stands
    behind a message is merged into it, and of a field that can be there once the last counts."""
    path, message = _alone("Upsert", proto.UpsertPoints(), collection)
    return path, native + message.SerializeToString()


def delete_call(collection: str, ids: Sequence[PointId]) -> CallOf:
    return _alone("Delete", proto.DeletePoints(points=_selector(Ids(tuple(ids)))), collection)


def barrier_call(collection: str) -> CallOf:
    """A write that changes nothing twice over (a key that no payload has, of points that no filter matches), but waits
    its turn in every shard. An empty list of ids would not do: no shard would be asked."""
    nothing = _selector(Where(HasId(())))
    message = proto.DeletePayloadPoints(keys=[_BARRIER_KEY], points_selector=nothing)
    return _alone("DeletePayload", message, collection)


def write_call(write: Write) -> CallOf:
    """Raises Untranslatable, for an OpaqueWrite too."""
    if isinstance(write, Batch):
        message = proto.UpdateBatchPoints(operations=[_part(part) for part in write.writes])
        return _alone("UpdateBatch", message, write.collection)
    method, kind, fill = _form(write)
    message = getattr(proto, kind)()
    fill(message)
    return _alone(method, message, write.collection or "")


def _alone(method: str, message: Any, collection: str) -> CallOf:
    message.collection_name = collection
    message.wait = True
    message.ordering.type = proto.WriteOrderingType.Value("Strong")
    return f"/qdrant.Points/{method}", message


_PARTS = {
    "Upsert": "upsert",
    "Delete": "delete_points",
    "SetPayload": "set_payload",
    "OverwritePayload": "overwrite_payload",
    "DeletePayload": "delete_payload",
    "ClearPayload": "clear_payload",
    "UpdateVectors": "update_vectors",
    "DeleteVectors": "delete_vectors",
}


def _part(write: SimpleWrite) -> Any:
    """One operation of a batch. Its message has the same fields as the one that travels alone."""
    method, _, fill = _form(write)
    operation = proto.PointsUpdateOperation()
    part = getattr(operation, _PARTS[method])
    part.SetInParent()
    fill(part)
    return operation


def _form(write: SimpleWrite) -> tuple[str, str, Callable[[Any], None]]:
    """The method, its message, and what fills the message (or the part of a batch that is like it)."""
    match write:
        case Upsert():
            return "Upsert", "UpsertPoints", lambda message: _fill_upsert(message, write)
        case Delete(target=target):
            return "Delete", "DeletePoints", lambda message: message.points.CopyFrom(_selector(target))
        case SetPayload():
            return "SetPayload", "SetPayloadPoints", lambda message: _fill_payload_write(message, write, write.key)
        case OverwritePayload():
            return "OverwritePayload", "SetPayloadPoints", lambda message: _fill_payload_write(message, write, None)
        case DeletePayload(keys=keys, target=target):
            return "DeletePayload", "DeletePayloadPoints", lambda message: _fill_keys(message, keys, target)
        case ClearPayload(target=target):
            return "ClearPayload", "ClearPayloadPoints", lambda message: message.points.CopyFrom(_selector(target))
        case UpdateVectors():
            return "UpdateVectors", "UpdatePointVectors", lambda message: _fill_update_vectors(message, write)
        case DeleteVectors(names=names, target=target):
            return "DeleteVectors", "DeletePointVectors", lambda message: _fill_names(message, names, target)
        case OpaqueWrite(reason=reason):
            raise Untranslatable(f"opaque write: {reason}")
        case _:
            assert_never(write)


def _fill_upsert(message: Any, write: Upsert) -> None:
    message.points.extend(map(exact_point, write.points))
    if write.condition is not None:
        message.update_filter.CopyFrom(proto_of_filter(write.condition))
    if write.mode != "upsert":
        message.update_mode = _MODES[write.mode]


def _fill_payload_write(message: Any, write: SetPayload | OverwritePayload, key: str | None) -> None:
    fill_exact_payload(message.payload, write.payload)
    message.points_selector.CopyFrom(_selector(write.target))
    if key is not None:
        message.key = key


def _fill_keys(message: Any, keys: tuple[str, ...], target: Target) -> None:
    message.keys.extend(keys)
    message.points_selector.CopyFrom(_selector(target))


def _fill_update_vectors(message: Any, write: UpdateVectors) -> None:
    for point in write.points:
        vectors = message.points.add(id=exact_id(point.id)).vectors
        fill_vectors(vectors, point.vectors)
    if write.condition is not None:
        message.update_filter.CopyFrom(proto_of_filter(write.condition))


def _fill_names(message: Any, names: tuple[str, ...], target: Target) -> None:
    message.vectors.names.extend(names)
    message.points_selector.CopyFrom(_selector(target))


def _selector(target: Target) -> Any:
    match target:
        case Ids(ids=ids):
            return proto.PointsSelector(points=proto.PointsIdsList(ids=list(map(exact_id, ids))))
        case Where(filter=condition):
            return proto.PointsSelector(filter=proto_of_filter(condition))
        case _:
            assert_never(target)


# --- definitions -------------------------------------------------------------------------


def definition_call(definition: Definition) -> CallOf:
    """Raises Untranslatable."""
    match definition:
        case CreateCollection(collection=collection, spec=spec):
            return "/qdrant.Collections/Create", proto_of_create(collection, spec)
        case UpdateCollection(collection=collection, native=native):
            return "/qdrant.Collections/Update", proto_of_update(collection, native)
        case DropCollection(collection=collection):
            return "/qdrant.Collections/Delete", proto.DeleteCollection(collection_name=collection)
        case UpdateAliases(actions=actions):
            return "/qdrant.Collections/UpdateAliases", proto.ChangeAliases(actions=list(map(_alias_action, actions)))
        case CreatePayloadIndex():
            return "/qdrant.Points/CreateFieldIndex", proto_of_index(definition)
        case DropPayloadIndex(collection=collection, field_name=field):
            dropped = proto.DeleteFieldIndexCollection(collection_name=collection, wait=True, field_name=field)
            return "/qdrant.Points/DeleteFieldIndex", dropped
        case _:
            assert_never(definition)


def _alias_action(action: CreateAlias | DropAlias | RenameAlias) -> Any:
    match action:
        case CreateAlias(alias=alias, collection=collection):
            created = proto.CreateAlias(alias_name=alias, collection_name=collection)
            return proto.AliasOperations(create_alias=created)
        case DropAlias(alias=alias):
            return proto.AliasOperations(delete_alias=proto.DeleteAlias(alias_name=alias))
        case RenameAlias(old=old, new=new):
            renamed = proto.RenameAlias(old_alias_name=old, new_alias_name=new)
            return proto.AliasOperations(rename_alias=renamed)
        case _:
            assert_never(action)
