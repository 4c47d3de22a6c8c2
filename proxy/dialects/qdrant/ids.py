"""Point ids: unsigned 64-bit integers and UUIDs, in JSON, in proto and in a path.

A UUID may come in four spellings (the ones that Rust's uuid crate reads); the model holds the number, and answers show
the hyphenated lower-case form, as the server does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.model import PointId

MAX_ID = 2**64 - 1
_HYPHENATED = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
_UUID = re.compile(rf"[0-9a-fA-F]{{32}}|{_HYPHENATED}|urn:uuid:{_HYPHENATED}|\{{{_HYPHENATED}\}}")


def uuid_of(text: str) -> UUID:
    """Raises Undecodable if the server would not take `text` for a UUID."""
    if not _UUID.fullmatch(text):
        raise Undecodable("malformed id")
    return UUID(text)


def id_of_json(value: object) -> PointId:
    """Raises Undecodable for anything but an unsigned 64-bit integer or a UUID string (bools are no integers)."""
    if isinstance(value, str):
        return uuid_of(value)
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    raise Undecodable("malformed id")


def ids_of_json(values: object) -> tuple[PointId, ...]:
    if not isinstance(values, list):
        raise Undecodable("malformed id")
    return tuple(map(id_of_json, values))


def json_of_id(point_id: PointId) -> int | str:
    return point_id if isinstance(point_id, int) else str(point_id)


def id_of_path(text: str) -> PointId:
    """An id as a path segment: a number or a UUID."""
    if re.fullmatch(r"\+?[0-9]{1,100}", text) and int(text) <= MAX_ID:
        return int(text)
    return uuid_of(text)


def id_of_proto(message: Any) -> PointId:
    match message.WhichOneof("point_id_options"):
        case "num":
            return int(message.num)
        case "uuid":
            return uuid_of(message.uuid)
        case _:
            raise Undecodable("malformed id")


def ids_of_proto(messages: Iterable[Any]) -> tuple[PointId, ...]:
    return tuple(map(id_of_proto, messages))


def proto_of_id(point_id: PointId) -> Any:
    message = proto.PointId()
    fill_id(message, point_id)
    return message


def fill_id(message: Any, point_id: PointId) -> None:
    """Put an id into a PointId."""
    if isinstance(point_id, int):
        message.num = point_id
    else:
        message.uuid = str(point_id)
