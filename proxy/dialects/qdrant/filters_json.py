"""Filters as JSON -> the model's tree.

The meaning is that of lib/segment/src/types.rs (shapes) and payload_storage/query_checker.rs (evaluation): a filter
asks that all of `must`, none of `must_not`, any of `should` and enough of `min_should` hold.

Undecodable, because the model has no exact word for it or because the server itself is of two minds: several checks in
one field condition, an empty `should` list, `is_null` as a field check (it finds a null inside an array, too),
`is_empty` as a field check on a path through an array, conditions on ids or vectors inside `nested`, times finer than a
microsecond, and whatever is not known here (`slice`, `prefix`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from proxy.dialects.qdrant.ids import ids_of_json
from proxy.dialects.qdrant.undecodable import Undecodable, only
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

INT64 = range(-(2**63), 2**63)
_FILTER = frozenset({"must", "must_not", "should", "min_should"})
_BOUNDS = frozenset({"gt", "gte", "lt", "lte"})
_DAY = r"\d{4}-\d\d-\d\d"
_ZONED = rf"{_DAY}[T ]\d\d:\d\d:\d\d(\.\d{{1,6}})?(Z|[+-]\d\d:?\d\d)"
_TIME = re.compile(rf"{_DAY}([T ]\d\d:\d\d(:\d\d(\.\d{{1,6}})?)?)?|{_ZONED}")


def filter_of_json(value: object, *, nested: bool = False) -> Filter:
    """The tree that a filter object means; {} holds for every point. Raises Undecodable."""
    clauses = only(value, _FILTER)
    parts: list[Filter] = [_condition(one, nested) for one in _one_or_many(clauses.get("must"))]
    should = clauses.get("should")
    if should is not None:
        alternatives = tuple(_condition(one, nested) for one in _one_or_many(should))
        if not alternatives:
            raise Undecodable("empty should")
        parts.append(alternatives[0] if len(alternatives) == 1 else Or(alternatives))
    min_should = clauses.get("min_should")
    if min_should is not None:
        parts.append(_min_should(min_should, nested))
    parts.extend(Not(_condition(one, nested)) for one in _one_or_many(clauses.get("must_not")))
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def optional_filter(value: object) -> Filter | None:
    return None if value is None else filter_of_json(value)


def _one_or_many(value: object) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _min_should(value: object, nested: bool) -> Filter:
    match value:
        case {"conditions": list(conditions), "min_count": int(count), **rest} if not rest and count > 0:
            return AtLeast(count, tuple(_condition(one, nested) for one in conditions))
        case _:
            raise Undecodable


def _condition(value: object, nested: bool) -> Filter:
    match value:
        case {"key": str(key), **checks}:
            return _field_condition(key, checks)
        case {"is_empty": {"key": str(key), **rest}, **more} if not rest and not more:
            return IsEmpty(key)
        case {"is_null": {"key": str(key), **rest}, **more} if not rest and not more:
            return IsNull(key)
        case {"has_id": ids, **rest} if not rest and not nested:
            return HasId(ids_of_json(ids))
        case {"has_vector": str(name), **rest} if not rest and not nested:
            return HasVector(name)
        case {"nested": {"key": str(key), "filter": inner, **rest}, **more} if not rest and not more:
            return Nested(key, filter_of_json(inner, nested=True))
        case {"slice": _}:
            raise Undecodable("slice condition")
        case dict() if value.keys() <= _FILTER:
            return filter_of_json(value, nested=nested)
        case _:
            raise Undecodable("unknown condition")


def _field_condition(key: str, checks: dict[Any, object]) -> Filter:
    given = [(name, check) for name, check in checks.items() if check is not None]
    if len(given) != 1:
        raise Undecodable("several checks in one condition" if given else "undecodable")
    [(name, check)] = given
    reader = _CHECKS.get(name)
    if reader is None:
        raise Undecodable("unknown condition")
    return reader(key, check)


def _match(key: str, check: object) -> Filter:
    match check:
        case {"value": bool(value), **rest} if not rest:
            return Match(key, value)
        case {"value": str() | int() as value, **rest} if not rest and (isinstance(value, str) or value in INT64):
            return Match(key, value)
        case {"text": str(text), **rest} if not rest:
            return MatchText(key, text, "all")
        case {"text_any": str(text), **rest} if not rest:
            return MatchText(key, text, "any")
        case {"phrase": str(text), **rest} if not rest:
            return MatchText(key, text, "phrase")
        case {"any": list(values), **rest} if not rest:
            return MatchAny(key, _alternatives(values))
        case {"except": list(values), **rest} if not rest:
            return MatchExcept(key, _alternatives(values))
        case _:
            raise Undecodable("unknown match")


def _alternatives(values: list[Any]) -> tuple[str, ...] | tuple[int, ...]:
    kinds = set(map(type, values))
    if kinds <= {str} or (kinds == {int} and all(value in INT64 for value in values)):
        return tuple(dict.fromkeys(values))
    raise Undecodable("unknown match")


def _range(key: str, check: object) -> Filter:
    """Numbers, or times if any bound is a string."""
    bounds = {name: bound for name, bound in only(check, _BOUNDS).items() if bound is not None}
    if any(isinstance(bound, str) for bound in bounds.values()):
        return DatetimeRange(key, **{name: time_of(bound) for name, bound in bounds.items()})
    return Range(key, **{name: _number(bound) for name, bound in bounds.items()})


def time_of(text: object) -> datetime:
    """A time in one of the server's spellings; without a zone it is UTC. Raises Undecodable."""
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise Undecodable("unknown time format")
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Undecodable("unknown time format") from None


def _number(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise Undecodable


def _values_count(key: str, check: object) -> Filter:
    bounds = {name: bound for name, bound in only(check, _BOUNDS).items() if bound is not None}
    if not all(type(bound) is int and bound >= 0 for bound in bounds.values()):
        raise Undecodable
    return ValuesCount(key, **bounds)  # type: ignore[arg-type]  # checked above: integers


def _geo_point(value: object) -> GeoPoint:
    match value:
        case {"lon": lon, "lat": lat, **rest} if not rest:
            return GeoPoint(_number(lon), _number(lat))
        case _:
            raise Undecodable


def _geo_box(key: str, check: object) -> Filter:
    match check:
        case {"top_left": top_left, "bottom_right": bottom_right, **rest} if not rest:
            return GeoBox(key, _geo_point(top_left), _geo_point(bottom_right))
        case _:
            raise Undecodable


def _geo_radius(key: str, check: object) -> Filter:
    match check:
        case {"center": center, "radius": radius, **rest} if not rest:
            return GeoRadius(key, _geo_point(center), _number(radius))
        case _:
            raise Undecodable


def _line(value: object) -> tuple[GeoPoint, ...]:
    match value:
        case {"points": list(points), **rest} if not rest:
            return tuple(map(_geo_point, points))
        case _:
            raise Undecodable


def _geo_polygon(key: str, check: object) -> Filter:
    match check:
        case {"exterior": exterior, **rest} if rest.keys() <= {"interiors"}:
            return GeoPolygon(key, _line(exterior), tuple(map(_line, _one_or_many(rest.get("interiors")))))
        case _:
            raise Undecodable


def emptiness(key: str, check: object) -> Filter:
    """A field check `is_empty: true|false`. On a path through an array it asks any element, which IsEmpty does not."""
    if not isinstance(check, bool) or "[" in key:
        raise Undecodable("emptiness inside an array")
    return IsEmpty(key) if check else Not(IsEmpty(key))


_CHECKS: dict[str, Callable[[str, object], Filter]] = {
    "match": _match,
    "range": _range,
    "values_count": _values_count,
    "geo_bounding_box": _geo_box,
    "geo_radius": _geo_radius,
    "geo_polygon": _geo_polygon,
    "is_empty": emptiness,
}
