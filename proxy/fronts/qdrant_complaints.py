"""What a Qdrant server says to a request that it cannot take.

The dialect decodes what it can and never refuses; what it left undecoded is looked at again here, to tell a
request that a server would refuse too (its status and, where it does not come out of a Rust library, its very
text) from one that a server would answer and the model cannot say.

Texts are from Qdrant 1.19.0; each function names the file. All are of validation or deserialisation, which a
server does before anything else, and all are pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
from google.protobuf.message import DecodeError

from proxy.dialects.qdrant.grpc_routes import METHODS
from proxy.dialects.qdrant.ids import id_of_json, id_of_path, id_of_proto
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.refusals import INTERNAL, INVALID_ARGUMENT
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import CrossfadeError, InvalidRequest, RequestError
from proxy.model import (
    Batch,
    CreateCollection,
    DeleteVectors,
    Ids,
    OpaqueWrite,
    Operation,
    PrimaryOnlyRead,
    UpdateVectors,
    Upsert,
)
from proxy.wire import Request

_MALFORMED = frozenset({"undecodable", "malformed id"})  # the dialect's reasons for what no server takes
_FORBIDDEN_IN_NAMES = '<>:"/\\|?*\0\x1f'
_LONGEST_NAME = 255

# The last segment of an endpoint -> the structure that holds its limit (lib/api/src/rest/schema.rs and
# lib/collection/src/operations/types.rs); a batch is below the endpoint of one.
_LIMIT_OWNERS = {"query": "internal.", "scroll": "scroll_request.", "search": "search_request."}


class ValidationError(RequestError):
    """Well-formed, but out of bounds: HTTP 422 instead of 400 (validation_error_handler, src/actix/mod.rs)."""


class StatusError(CrossfadeError):
    """A gRPC error whose text stands alone, without the prefix of a storage error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def complaint(request: Request, operation: Operation) -> CrossfadeError | None:
    """The error that a server answers before it carries out `operation`; None if it would try."""
    match operation:
        case PrimaryOnlyRead(reason=reason) | OpaqueWrite(reason=reason):
            if reason not in _MALFORMED:
                return None
            return _rest_complaint(request) if request.transport == "http" else _grpc_complaint(request)
        case Batch(writes=writes):
            return next((problem for write in writes if (problem := complaint(request, write))), None)
        case CreateCollection(collection):
            return _name_complaint(request, collection)
        case UpdateVectors(points=()) if request.transport == "http":  # lib/api/src/rest/schema.rs
            return _invalid(request, "points", "must specify points to update")
        case DeleteVectors(names=()):  # lib/collection/src/operations/vector_ops.rs, lib/api/build.rs
            field = "vector" if request.transport == "http" else "vector_names"
            return _invalid(request, field, "must specify vector names to delete")
        case _:
            return None


def empty_write(operation: Operation) -> CrossfadeError | None:
    """A write that names no point (lib/collection/src/collection/point_ops.rs); said after the collection is found."""
    match operation:
        case Upsert(points=()) | UpdateVectors(points=()):
            return InvalidRequest("Bad request: Empty update request")
        case Upsert() | UpdateVectors():
            return None
        case _ if getattr(operation, "target", None) == Ids(()):
            return InvalidRequest("Bad request: Empty update request")
        case _:
            return None


def _invalid(request: Request, field: str, problem: str, part: str = "") -> ValidationError:
    """label_errors in lib/collection/src/operations/validation.rs."""
    where = part or ("JSON body" if request.transport == "http" else "body")
    return ValidationError(f"Validation error in {where}: [{field}: {problem}]")


def _name_complaint(request: Request, name: str) -> CrossfadeError | None:
    """StrictCollectionPath (src/actix/api/mod.rs), validate_collection_name (lib/common/common/src/validation.rs)."""
    part = "path parameters" if request.transport == "http" else ""
    if not 1 <= len(name) <= _LONGEST_NAME:
        problem = f'value "{name}" invalid, must be from 1 to {_LONGEST_NAME} characters'
        return _invalid(request, "collection_name", problem, part)
    for character in _FORBIDDEN_IN_NAMES:
        if character in name:
            return _invalid(request, "collection_name", f'collection name cannot contain "{character}" char', part)
    return None


# --- REST --------------------------------------------------------------------------------


def _rest_complaint(request: Request) -> CrossfadeError:
    segments = request.path.split("/")
    if request.method == "GET":
        try:
            id_of_path(segments[-1])
        except Undecodable:  # src/actix/api/retrieve_api.rs
            return InvalidRequest(f'Can not recognize "{segments[-1]}" as point id')
    try:
        body = orjson.loads(request.bytes)
    except orjson.JSONDecodeError as error:
        return _format_error(f"{error.msg} at line {error.lineno} column {error.colno}")
    for path, limit in _limits(body, _LIMIT_OWNERS.get(segments[-1], _LIMIT_OWNERS.get(segments[-2], ""))):
        if limit == 0:
            return _invalid(request, path, "value 0 invalid, must be 1 or larger")
    for value in _ids(body):
        try:
            id_of_json(value)
        except Undecodable:  # Deserialize for ExtendedPointId, lib/segment/src/types.rs
            kinds = "valid values are either an unsigned integer or a UUID"
            return _format_error(f"value {_rust_value(value)} is not a valid point ID, {kinds}")
    return _format_error("the body has not the form that this endpoint expects")


def _format_error(problem: str) -> InvalidRequest:
    return InvalidRequest(f"Format error in JSON body: {problem}")


def _limits(body: Any, owner: str) -> Iterator[tuple[str, Any]]:
    """The limits in a read's body, with their paths in the server's structures."""
    if isinstance(body, dict):
        if type(body.get("limit")) is int:
            yield f"{owner}limit", body["limit"]
        searches = body.get("searches")
        for number, search in enumerate(searches if isinstance(searches, list) else []):
            for path, limit in _limits(search, owner):
                yield f"searches[{number}].{path}", limit


def _ids(body: Any) -> Iterator[Any]:
    """Everything in a body that stands where a point id belongs."""
    if not isinstance(body, dict):
        return
    for key in ("ids", "points"):
        for entry in body[key] if isinstance(body.get(key), list) else []:
            yield entry.get("id") if isinstance(entry, dict) else entry
    yield from _ids(body.get("batch"))
    if isinstance(body.get("offset"), str):
        yield body["offset"]


def _rust_value(value: Any) -> str:
    return orjson.dumps(value).decode()


# --- gRPC --------------------------------------------------------------------------------


def _grpc_complaint(request: Request) -> CrossfadeError:
    try:
        message = getattr(proto, METHODS[request.path].request).FromString(request.bytes)
    except DecodeError as error:
        return StatusError(INTERNAL, f"failed to decode Protobuf message: {error}")  # tonic's codec
    for point_id in _point_ids(message):
        try:
            id_of_proto(point_id)
        except Undecodable:  # TryFrom<PointId>, lib/api/src/grpc/conversions.rs
            said = point_id.HasField("uuid")
            text = f"Unable to parse UUID: {point_id.uuid}" if said else "No ID options provided"
            return StatusError(INVALID_ARGUMENT, text)
    if "limit" in message.DESCRIPTOR.fields_by_name and message.limit == 0:
        return _invalid(request, "limit", "value 0 invalid, must be 1 or larger")
    return StatusError(INVALID_ARGUMENT, "the message has not the form that this method expects")


def _point_ids(message: Any) -> Iterator[Any]:
    """Every point id in a message."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in value if field.is_repeated else [value]:
            if field.message_type.name == "PointId":
                yield inner
            else:
                yield from _point_ids(inner)
