"""The payload of a point as it stands in a gRPC message, read without a message for each of its values.

Only what protobuf's libraries write: an entry is a key and a value, and a value is one field. Whatever else is None
here, and read by payloads.py, which also says what is wrong with it. That both say the same is tested
(tests/unit/dialects/test_qdrant_payload_wire.py).

Tags are those of protos/qdrant/points.proto and json_with_int.proto: one byte each.
"""

from __future__ import annotations

import math
from struct import Struct
from typing import Final

from google.protobuf.message import DecodeError

from proxy.dialects.proto_bytes import MORE, Field, varint_at
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payloads import value_of_proto
from proxy.errors import InvalidRequest
from proxy.model import Json

# Tags of PointStruct, of an entry, of Value.
_ID: Final = 0x0A
_ENTRY: Final = 0x1A
_KEY: Final = 0x0A
_VALUE: Final = 0x12
_DOUBLE: Final = 0x11
_INTEGER: Final = 0x18
_TEXT: Final = 0x22
_BOOLEAN: Final = 0x28
# With the tag; of integers at most: one that is longer is negative.
_DOUBLE_BYTES: Final = 9
_INTEGER_BYTES: Final = 10
_BOOLEAN_BYTES: Final = 2
_double_at: Final = Struct("<d").unpack_from
_POINT_FIELD: Final = Field(proto.UpsertPoints, "points")
_ENTRY_FIELD: Final = Field(proto.PointStruct, "payload")
_VALUE_FIELD: Final = Field(proto.PointStruct.PayloadEntry, "value")


def payload_in(point: bytes) -> dict[str, Json] | None:
    """Of a PointStruct that is an id, which is not looked at, and then its payload.

    (In one piece, since a call for each value has a price; and most lengths are one byte.)
    """
    found: dict[str, Json] = {}
    try:
        at, end = (2 + point[1] if point[0] == _ID and point[1] < MORE else 0), len(point)
        while at < end:
            tag, size, key_at = point[at], point[at + 1], at + 2
            if size >= MORE:
                size, key_at = varint_at(point, at + 1)
            after = key_at + size
            size, name_at = point[key_at + 1], key_at + 2
            if size >= MORE:
                size, name_at = varint_at(point, key_at + 1)
            value_at = name_at + size
            size, at = point[value_at + 1], value_at + 2
            if size >= MORE:
                size, at = varint_at(point, value_at + 1)
            are_there = tag == _ENTRY and point[key_at] == _KEY and point[value_at] == _VALUE
            if not are_there or at + size != after or after > end:
                return None
            key = point[name_at:value_at].decode()
            kind = point[at] if size else None
            if kind == _TEXT:
                size, text_at = point[at + 1], at + 2
                if size >= MORE:
                    size, text_at = varint_at(point, at + 1)
                if text_at + size != after:
                    return None
                found[key] = point[text_at:after].decode()
            elif kind == _INTEGER and size <= _INTEGER_BYTES:
                number, number_end = varint_at(point, at + 1)
                if number_end != after:
                    return None
                found[key] = number
            elif kind == _DOUBLE and size == _DOUBLE_BYTES and math.isfinite(double := _double_at(point, at + 1)[0]):
                found[key] = double
            elif kind == _BOOLEAN and size == _BOOLEAN_BYTES and point[at + 1] < MORE:
                found[key] = point[at + 1] != 0
            else:
                found[key] = _any_value(point[at:after])
            at = after
    except (IndexError, ValueError, DecodeError, InvalidRequest):
        return None
    return found if at == end else None


def _any_value(value: bytes) -> Json:
    """Raises InvalidRequest and DecodeError. (As deep as it stood: how deep messages may nest counts from outside.)"""
    entry = _VALUE_FIELD[len(value)] + value
    point = _ENTRY_FIELD[len(entry)] + entry
    read = proto.UpsertPoints.FromString(_POINT_FIELD[len(point)] + point)
    return value_of_proto(read.points[0].payload[""])
