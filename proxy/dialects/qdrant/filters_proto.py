"""Filters as proto <-> the model's tree. What is undecodable is said in `filters_json`; the meaning is the same.

In proto an empty list is no list, so a filter without conditions holds for every point.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import numpy as np

from proxy.dialects.qdrant.filters_json import emptiness
from proxy.dialects.qdrant.ids import ids_of_proto, proto_of_id
from proxy.dialects.qdrant.messages import known, proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import Untranslatable
from proxy.model import (
    And,
    AtLeast,
    DatetimeRange,
    Filter,
    GeoBox,
    GeoPoint,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MatchText,
    Nested,
    Not,
    Or,
    Range,
    ValuesCount,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BOUNDS = ("gt", "gte", "lt", "lte")
_TEXT_MODES = {"text": "all", "text_any": "any", "phrase": "phrase"}
_TEXT_FIELDS = {mode: field for field, mode in _TEXT_MODES.items()}

# --- proto -> model ----------------------------------------------------------------------


def filter_of_proto(message: Any, *, nested: bool = False) -> Filter:
    """The tree that a Filter means. Raises Undecodable."""
    known(message)
    parts: list[Filter] = [_condition(one, nested) for one in message.must]
    alternatives = tuple(_condition(one, nested) for one in message.should)
    if alternatives:
        parts.append(alternatives[0] if len(alternatives) == 1 else Or(alternatives))
    if message.HasField("min_should"):
        minimum = known(message.min_should)
        if minimum.min_count == 0:
            raise Undecodable
        parts.append(AtLeast(minimum.min_count, tuple(_condition(one, nested) for one in minimum.conditions)))
    parts.extend(Not(_condition(one, nested)) for one in message.must_not)
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _condition(message: Any, nested: bool) -> Filter:
    kind = known(message).WhichOneof("condition_one_of")
    match kind:
        case "field":
            return _field_condition(message.field)
        case "is_empty":
            return IsEmpty(message.is_empty.key)
        case "is_null":
            return IsNull(message.is_null.key)
        case "has_id" if not nested:
            return HasId(ids_of_proto(message.has_id.has_id))
        case "has_vector" if not nested:
            return HasVector(message.has_vector.has_vector)
        case "nested" if message.nested.HasField("filter"):
            return Nested(message.nested.key, filter_of_proto(message.nested.filter, nested=True))
        case "filter":
            return filter_of_proto(message.filter, nested=nested)
        case "slice":
            raise Undecodable("slice condition")
        case _:
            raise Undecodable("unknown condition")


def _field_condition(message: Any) -> Filter:
    given = [field.name for field, _ in known(message).ListFields() if field.name != "key"]
    if len(given) != 1:
        raise Undecodable("several checks in one condition" if given else "undecodable")
    reader = _CHECKS.get(given[0])
    if reader is None:
        raise Undecodable("unknown condition")
    return reader(message.key, getattr(message, given[0]))


def _match(key: str, message: Any) -> Filter:
    kind = known(message).WhichOneof("match_value")
    match kind:
        case "keyword" | "integer" | "boolean":
            return Match(key, getattr(message, kind))
        case "text" | "text_any" | "phrase":
            return MatchText(key, getattr(message, kind), _TEXT_MODES[kind])
        case "keywords":
            return MatchAny(key, tuple(dict.fromkeys(message.keywords.strings)))
        case "integers":
            return MatchAny(key, tuple(dict.fromkeys(message.integers.integers)))
        case "except_keywords":
            return MatchExcept(key, tuple(dict.fromkeys(message.except_keywords.strings)))
        case "except_integers":
            return MatchExcept(key, tuple(dict.fromkeys(message.except_integers.integers)))
        case _:
            raise Undecodable("unknown match")


def _bounds(message: Any) -> dict[str, Any]:
    return {field.name: value for field, value in known(message).ListFields()}


def _datetime_range(key: str, message: Any) -> Filter:
    return DatetimeRange(key, **{name: _time(stamp) for name, stamp in _bounds(message).items()})


def _time(stamp: Any) -> datetime:
    if stamp.nanos % 1000:
        raise Undecodable("unknown time format")
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError:
        raise Undecodable("unknown time format") from None


def _geo_point(message: Any) -> GeoPoint:
    return GeoPoint(message.lon, message.lat)


def _line(message: Any) -> tuple[GeoPoint, ...]:
    return tuple(map(_geo_point, message.points))


_CHECKS: dict[str, Callable[[str, Any], Filter]] = {
    "match": _match,
    "range": lambda key, message: Range(key, **_bounds(message)),
    "datetime_range": _datetime_range,
    "values_count": lambda key, message: ValuesCount(key, **_bounds(message)),
    "geo_bounding_box": lambda key, box: GeoBox(key, _geo_point(box.top_left), _geo_point(box.bottom_right)),
    "geo_radius": lambda key, circle: GeoRadius(key, _geo_point(circle.center), circle.radius),
    "geo_polygon": lambda key, shape: GeoPolygon(key, _line(shape.exterior), tuple(map(_line, shape.interiors))),
    "is_empty": emptiness,
}

# --- model -> proto ----------------------------------------------------------------------


def proto_of_filter(node: Filter) -> Any:
    """A Filter message. Raises Untranslatable for a radius that a 32-bit float does not hold."""
    match node:
        case And(of=parts):
            return proto.Filter(must=list(map(_proto_of_condition, parts)))
        case Or(of=()):
            return proto.Filter(must=[_never()])
        case Or(of=parts):
            return proto.Filter(should=list(map(_proto_of_condition, parts)))
        case Not(of=part):
            return proto.Filter(must_not=[_proto_of_condition(part)])
        case AtLeast(count=count) if count <= 0:
            return proto.Filter()
        case AtLeast(count=count, of=parts) if count > len(parts):
            return proto.Filter(must=[_never()])
        case AtLeast(count=count, of=parts):
            conditions = list(map(_proto_of_condition, parts))
            return proto.Filter(min_should=proto.MinShould(conditions=conditions, min_count=count))
        case _:
            return proto.Filter(must=[_proto_of_condition(node)])


def _never() -> Any:
    """A condition that no point meets."""
    return proto.Condition(has_id=proto.HasIdCondition())


def _proto_of_condition(node: Filter) -> Any:
    match node:
        case And() | Or() | Not() | AtLeast():
            return proto.Condition(filter=proto_of_filter(node))
        case IsEmpty(field=key):
            return proto.Condition(is_empty=proto.IsEmptyCondition(key=key))
        case IsNull(field=key):
            return proto.Condition(is_null=proto.IsNullCondition(key=key))
        case HasId(ids=ids):
            return proto.Condition(has_id=proto.HasIdCondition(has_id=list(map(proto_of_id, ids))))
        case HasVector(name=name):
            return proto.Condition(has_vector=proto.HasVectorCondition(has_vector=name))
        case Nested(field=key, of=inner):
            return proto.Condition(nested=proto.NestedCondition(key=key, filter=proto_of_filter(inner)))
        case _:
            return proto.Condition(field=_proto_of_field(node))


_FieldNode = (
    Match | MatchAny | MatchExcept | MatchText | Range | DatetimeRange | ValuesCount | GeoBox | GeoRadius | GeoPolygon
)


def _proto_of_field(node: _FieldNode) -> Any:
    match node:
        case Match() | MatchAny() | MatchExcept() | MatchText():
            return proto.FieldCondition(key=node.field, match=_proto_of_match(node))
        case Range():
            return proto.FieldCondition(key=node.field, range=proto.Range(**_given(node)))
        case ValuesCount():
            return proto.FieldCondition(key=node.field, values_count=proto.ValuesCount(**_given(node)))
        case DatetimeRange():
            return proto.FieldCondition(key=node.field, datetime_range=_proto_of_times(node))
        case GeoBox(field=key, top_left=top_left, bottom_right=bottom_right):
            box = proto.GeoBoundingBox(top_left=_corner(top_left), bottom_right=_corner(bottom_right))
            return proto.FieldCondition(key=key, geo_bounding_box=box)
        case GeoRadius(field=key, center=center, radius_meters=radius_meters):
            if float(np.float32(radius_meters)) != radius_meters:
                raise Untranslatable("geo radius needs more than 32 bits")
            circle = proto.GeoRadius(center=_corner(center), radius=radius_meters)
            return proto.FieldCondition(key=key, geo_radius=circle)
        case GeoPolygon(field=key, exterior=exterior, interiors=interiors):
            shape = proto.GeoPolygon(exterior=_proto_of_line(exterior), interiors=list(map(_proto_of_line, interiors)))
            return proto.FieldCondition(key=key, geo_polygon=shape)
        case _:
            assert_never(node)


def _proto_of_match(node: Match | MatchAny | MatchExcept | MatchText) -> Any:
    match node:
        case Match(value=bool(value)):
            return proto.Match(boolean=value)
        case Match(value=int(value)):
            return proto.Match(integer=value)
        case Match(value=value):
            return proto.Match(keyword=value)
        case MatchText(text=text, mode=mode):
            return proto.Match(**{_TEXT_FIELDS[mode]: text})
        case MatchAny(values=values):
            return _proto_of_alternatives("", values)
        case MatchExcept(values=values):
            return _proto_of_alternatives("except_", values)
        case _:
            assert_never(node)


def _proto_of_alternatives(prefix: str, values: tuple[str, ...] | tuple[int, ...]) -> Any:
    if values and isinstance(values[0], int):
        return proto.Match(**{prefix + "integers": proto.RepeatedIntegers(integers=values)})
    return proto.Match(**{prefix + "keywords": proto.RepeatedStrings(strings=values)})


def _given(node: Range | ValuesCount | DatetimeRange) -> dict[str, Any]:
    return {name: bound for name in _BOUNDS if (bound := getattr(node, name)) is not None}


def _proto_of_times(node: DatetimeRange) -> Any:
    message = proto.DatetimeRange()
    for name, moment in _given(node).items():
        since = moment - _EPOCH
        stamp = getattr(message, name)
        stamp.SetInParent()
        stamp.seconds = since.days * 86_400 + since.seconds
        stamp.nanos = since.microseconds * 1000
    return message


def _corner(point: GeoPoint) -> Any:
    return proto.GeoPoint(lon=point.lon, lat=point.lat)


def _proto_of_line(points: tuple[GeoPoint, ...]) -> Any:
    return proto.GeoLineString(points=list(map(_corner, points)))
