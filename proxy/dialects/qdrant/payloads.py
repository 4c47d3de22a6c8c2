"""Payload values: JSON as it is, and Qdrant's proto Value, which keeps integers apart from doubles.

As on the server (lib/api/src/conversions/json.rs): an integer outside of int64 travels as a double in proto, a Value
without a kind is null, and a double that is no JSON number is malformed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.model import Json

_INT64 = range(-(2**63), 2**63)


def payload_of_proto(fields: Mapping[str, Any]) -> dict[str, Json]:
    """Raises Undecodable for NaN and infinity."""
    return {key: value_of_proto(value) for key, value in fields.items()}


def value_of_proto(value: Any) -> Json:
    match value.WhichOneof("kind"):
        case None | "null_value":
            return None
        case "double_value":
            if not math.isfinite(value.double_value):
                raise Undecodable("payload number is not finite")
            return float(value.double_value)
        case "struct_value":
            return payload_of_proto(value.struct_value.fields)
        case "list_value":
            return [value_of_proto(item) for item in value.list_value.values]
        case kind:
            plain: Json = getattr(value, kind)
            return plain


def fill_payload(target: Any, payload: Mapping[str, Json]) -> None:
    """Write `payload` into a proto map<string, Value>."""
    for key, value in payload.items():
        _fill_value(target[key], value)


def proto_of_value(value: Json) -> Any:
    message = proto.Value()
    _fill_value(message, value)
    return message


def _fill_value(message: Any, value: Json) -> None:
    if value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        if value in _INT64:
            message.integer_value = value
        else:
            message.double_value = float(value)
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            _fill_value(message.list_value.values.add(), item)
    else:
        message.struct_value.SetInParent()
        fill_payload(message.struct_value.fields, value)
