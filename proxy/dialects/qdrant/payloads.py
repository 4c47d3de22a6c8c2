"""Payload values: JSON as it is, and Qdrant's proto Value, which keeps integers apart from doubles.

As on the server (lib/api/src/conversions/json.rs): an integer outside of int64 travels as a double in proto, a Value
without a kind is null, and a double that is no JSON number is malformed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.numbers import NO_NUMBER
from proxy.errors import InvalidRequest, Untranslatable
from proxy.model import Json

INT64: Final = range(-(2**63), 2**63)
_PLAIN: Final = frozenset({"string_value", "integer_value", "bool_value"})  # which are what they hold


def payload_of_proto(fields: Mapping[str, Any]) -> dict[str, Json]:
    """Raises InvalidRequest for NaN and infinity."""
    found: dict[str, Json] = {}
    for key in fields:  # a view of proto's maps takes twice as long
        value = fields[key]
        # Of one that holds something else these are empty; most are one of the two, and to ask which takes longer.
        found[key] = value.string_value or value.integer_value or value_of_proto(value)
    return found


def value_of_proto(value: Any) -> Json:
    """Raises InvalidRequest for NaN and infinity."""
    match value.WhichOneof("kind"):
        case kind if kind in _PLAIN:
            plain: Json = getattr(value, kind)
            return plain
        case "double_value":
            if not math.isfinite(value.double_value):
                raise InvalidRequest(f"{NO_NUMBER}: {value.double_value}")
            return float(value.double_value)
        case "struct_value":
            return payload_of_proto(value.struct_value.fields)
        case "list_value":
            return [value_of_proto(item) for item in value.list_value.values]
        case _:  # none, or null
            return None


def fill_payload(target: Any, payload: Mapping[str, Json]) -> None:
    """Write `payload` into a proto map<string, Value>, as the server does in its answers."""
    for key, value in payload.items():
        _fill_value(target[key], value, _rounded)


def value_bytes(value: Json) -> bytes:
    """A Value of an answer, as `fill_payload` writes them."""
    message = proto.Value()
    _fill_value(message, value, _rounded)
    return bytes(message.SerializeToString())


def fill_exact_payload(target: Any, payload: Mapping[str, Json]) -> None:
    """The same on the way to a server. Raises Untranslatable for a number that proto or the server cannot hold."""
    for key, value in payload.items():
        _fill_value(target[key], value, _refused)


def _rounded(message: Any, number: int | float) -> None:
    message.double_value = float(number)


def _refused(message: Any, number: int | float) -> None:
    """For numbers that `_fill_value` could not place exactly."""
    raise Untranslatable(
        "payload number is not finite" if isinstance(number, float) else "payload integer beyond int64"
    )


def _fill_value(message: Any, value: Json, fallback: Callable[[Any, int | float], None]) -> None:
    """`fallback` gets the numbers that have no exact place."""
    if isinstance(value, str):
        message.string_value = value
    elif value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, (int, float)):
        _fill_number(message, value, fallback)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        for item in value:
            _fill_value(message.list_value.values.add(), item, fallback)
    else:
        message.struct_value.SetInParent()
        for key, item in value.items():
            _fill_value(message.struct_value.fields[key], item, fallback)


def _fill_number(message: Any, value: int | float, fallback: Callable[[Any, int | float], None]) -> None:
    if isinstance(value, int) and value in INT64:
        message.integer_value = value
    elif isinstance(value, float) and math.isfinite(value):
        message.double_value = value
    else:
        fallback(message, value)
