"""Whether a point passes a filter: the reference evaluation that other stores are checked against.

The rules are those of the vendor that the model's filters come from (Qdrant 1.19,
lib/segment/src/payload_storage/query_checker.rs and condition_checker.rs, without payload indexes):

- `IsNull` holds for null and for an array with a null in it (Qdrant's engine since edge 0.9; servers up to 1.19
  see the null in an array only where the field has a payload index);
- a condition on an array holds if it holds for one element; an array inside an array is not looked into;
- JSON types are kept apart: 1 is not 1.0 (for `Match`), not "1" and not true; `Range` takes any number;
- a missing field fails every condition but `IsEmpty`, `Not`, and a `ValuesCount` that admits 0;
- inside `Nested` there are no ids and no vectors: `HasId` and `HasVector` fail there.

What depends on tokenizers or on another library's geometry (`MatchText`, `GeoPolygon`) raises Untranslatable.
Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, assert_never

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
    Json,
    Match,
    MatchAny,
    MatchExcept,
    MatchText,
    Nested,
    Not,
    Or,
    Point,
    Range,
    ValuesCount,
)
from proxy.stores.memory_datetimes import Instant, instant_of, parse_instant
from proxy.stores.payload_paths import Path, parse_path, values_at

EARTH_RADIUS_METERS = 6371008.8  # mean radius of GRS80, as in the geo crate's Haversine
_INT64 = range(-(2**63), 2**63)


PointTest = Callable[[Point], bool]
_Test = Callable[[Mapping[str, Json], Point | None], bool]


def point_test(filter: Filter | None) -> PointTest:
    """The filter as a function of whole points. Raises Untranslatable, and InvalidRequest for a path that is none."""
    if filter is None:
        return lambda point: True
    test = _test(filter)
    return lambda point: test(point.payload, point)


def _test(filter: Filter) -> _Test:
    match filter:
        case And() | Or() | AtLeast():
            return _combined(filter)
        case Not(of):
            inner = _test(of)
            return lambda payload, point: not inner(payload, point)
        case HasId(ids):
            return lambda payload, point: point is not None and point.id in ids
        case HasVector(name):
            return lambda payload, point: point is not None and name in point.vectors
        case Nested(field, of):
            inner, elements = _test(of), _elements_path(field)
            return lambda payload, point: any(
                isinstance(element, dict) and inner(element, None) for element in values_at(payload, elements)
            )
        case MatchText():
            raise Untranslatable("full text")
        case GeoPolygon():
            raise Untranslatable("geo polygon")
        case _:
            path, values_test = parse_path(filter.field), _values_test(filter)
            return lambda payload, point: values_test(values_at(payload, path))


def _combined(filter: And | Or | AtLeast) -> _Test:
    tests = [_test(part) for part in filter.of]
    match filter:
        case And():
            return lambda payload, point: all(test(payload, point) for test in tests)
        case Or():
            return lambda payload, point: any(test(payload, point) for test in tests)
        case AtLeast(count):
            return lambda payload, point: sum(test(payload, point) for test in tests) >= count
        case _:
            assert_never(filter)


def _elements_path(field: str) -> Path:
    """`Nested` looks into the elements of the array, whether or not the path ends in "[]"."""
    path = parse_path(field)
    return path if path[-1] is None else (*path, None)


_ElementCondition = Match | MatchAny | MatchExcept | Range | DatetimeRange | GeoBox | GeoRadius


def _values_test(condition: _ElementCondition | ValuesCount | IsEmpty | IsNull) -> Callable[[list[Json]], bool]:
    match condition:
        case IsEmpty():
            return lambda values: all(value is None or value == [] for value in values)
        case IsNull():
            return lambda values: any(value is None or (isinstance(value, list) and None in value) for value in values)
        case ValuesCount():
            return lambda values: any(
                _within(count, condition) for count in ([_values_count(value) for value in values] or [0])
            )
        case _:
            test = _element_test(condition)
            return lambda values: any(
                test(element) for value in values for element in (value if isinstance(value, list) else [value])
            )


def _element_test(condition: _ElementCondition) -> Callable[[Json], bool]:
    match condition:
        case Match(_, wanted):
            return lambda value: _same(value, wanted)
        case MatchAny(_, listed):
            return lambda value: any(_same(value, one) for one in listed)
        case MatchExcept(_, listed):
            return lambda value: value is not None and not any(_same(value, one) for one in listed)
        case Range():
            return lambda value: (number := _number(value)) is not None and _within(number, condition)
        case DatetimeRange():
            bounds = _instants(condition)
            return lambda value: isinstance(value, str) and _instant_within(value, bounds)
        case GeoBox():
            return lambda value: (place := _place(value)) is not None and _in_box(place, condition)
        case GeoRadius(_, center, radius_meters):
            return lambda value: (place := _place(value)) is not None and _meters(center, place) < radius_meters
        case _:
            assert_never(condition)


def _same(value: Json, wanted: str | int | bool) -> bool:
    """Equal, and of the same JSON type; integers only within 64 signed bits."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    if isinstance(wanted, int):
        return isinstance(value, int) and value == wanted and value in _INT64
    return isinstance(value, str) and value == wanted


def _number(value: Json) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _values_count(value: Json) -> int:
    match value:
        case None:
            return 0
        case list():
            return len(value)
        case _:
            return 1


def _within(number: Any, bounds: Range | ValuesCount) -> bool:
    return (
        (bounds.gt is None or number > bounds.gt)
        and (bounds.gte is None or number >= bounds.gte)
        and (bounds.lt is None or number < bounds.lt)
        and (bounds.lte is None or number <= bounds.lte)
    )


_Instants = tuple[Instant | None, Instant | None, Instant | None, Instant | None]


def _instants(condition: DatetimeRange) -> _Instants:
    def instant(bound: datetime | None) -> Instant | None:
        return None if bound is None else instant_of(bound)

    return instant(condition.gt), instant(condition.gte), instant(condition.lt), instant(condition.lte)


def _instant_within(text: str, bounds: _Instants) -> bool:
    at = parse_instant(text)
    gt, gte, lt, lte = bounds
    return (
        at is not None
        and (gt is None or at > gt)
        and (gte is None or at >= gte)
        and (lt is None or at < lt)
        and (lte is None or at <= lte)
    )


def _place(value: Json) -> GeoPoint | None:
    if not isinstance(value, dict):
        return None
    lon, lat = _number(value.get("lon")), _number(value.get("lat"))
    return None if lon is None or lat is None else GeoPoint(lon, lat)


def _in_box(place: GeoPoint, box: GeoBox) -> bool:
    west, east = box.top_left.lon, box.bottom_right.lon
    # A box whose west edge lies east of its east edge crosses the antimeridian.
    inside = west < place.lon < east if west <= east else place.lon > west or place.lon < east
    return inside and box.bottom_right.lat < place.lat < box.top_left.lat


def _meters(a: GeoPoint, b: GeoPoint) -> float:
    """Great-circle distance by the haversine formula."""
    south, north = math.radians(a.lat), math.radians(b.lat)
    half_lat, half_lon = (north - south) / 2, math.radians(b.lon - a.lon) / 2
    chord = math.sin(half_lat) ** 2 + math.cos(south) * math.cos(north) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_METERS * math.asin(math.sqrt(chord))
