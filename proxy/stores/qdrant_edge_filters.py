"""The model's filters as conditions of the embedded Qdrant engine (qdrant-edge-py 0.9). Pure.

Every node has an exact counterpart. Three quirks of the binding are met here:

- `MatchValue(True)` would be taken for the integer 1 (a bool is an int to it); numpy's bool is not;
- an empty `should` or `min_should` passes everything, where an empty `Or` passes nothing;
- numbers and ids that the engine cannot hold are refused, where they just match nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, assert_never
from uuid import UUID

import numpy as np
import qdrant_edge as edge

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
    PointId,
    Range,
    Scalar,
    ValuesCount,
)

_INT64 = range(-(2**63), 2**63)
_UINT64 = range(2**64)


def engine_filter(filter: Filter) -> edge.Filter:
    """The engine's filter. Raises ValueError for a path or a place that the engine cannot read."""
    return _group(_condition(filter))


def engine_condition(filter: Filter | None) -> edge.Filter | None:
    return None if filter is None else engine_filter(filter)


def engine_ids(ids: Iterable[PointId]) -> list[int | UUID | str]:
    """The ids that a point of the engine can have."""
    return [i for i in ids if isinstance(i, UUID) or (isinstance(i, int) and i in _UINT64)]


def _condition(filter: Filter) -> edge.ConditionType:
    match filter:
        case And() | Or() | Not() | AtLeast():
            return _combination(filter)
        case HasId(ids):
            return edge.HasIdCondition(set(engine_ids(ids)))
        case HasVector(name):
            return edge.HasVectorCondition(name)
        case Nested(field, of):
            return edge.NestedCondition(field, _group(_condition(of)))
        case IsEmpty(field):
            return edge.IsEmptyCondition(field)
        case IsNull(field):
            return edge.IsNullCondition(field)
        case Match() | MatchAny() | MatchExcept() | MatchText():
            return _match(filter)
        case Range(field, gt, gte, lt, lte):
            return edge.FieldCondition(field, range=edge.RangeFloat(gt=gt, gte=gte, lt=lt, lte=lte))
        case DatetimeRange(field, gt, gte, lt, lte):
            bounds = edge.RangeDateTime(gt=_rfc3339(gt), gte=_rfc3339(gte), lt=_rfc3339(lt), lte=_rfc3339(lte))
            return edge.FieldCondition(field, range=bounds)
        case ValuesCount(field, gt, gte, lt, lte):
            return edge.FieldCondition(field, values_count=edge.ValuesCount(gt=gt, gte=gte, lt=lt, lte=lte))
        case GeoBox() | GeoRadius() | GeoPolygon():
            return _geo(filter)
        case _:
            assert_never(filter)


def _combination(filter: And | Or | Not | AtLeast) -> edge.Filter:
    match filter:
        case And(of):
            return edge.Filter(must=[_condition(part) for part in of])
        case Or(of):
            return edge.Filter(should=[_condition(part) for part in of]) if of else _nothing()
        case Not(of):
            return edge.Filter(must_not=[_condition(of)])
        case AtLeast(count, of):
            if not of:
                return edge.Filter() if count <= 0 else _nothing()
            return edge.Filter(min_should=edge.MinShould([_condition(part) for part in of], max(count, 0)))
        case _:
            assert_never(filter)


def _match(filter: Match | MatchAny | MatchExcept | MatchText) -> edge.ConditionType:
    match filter:
        case Match(field, bool() as value):
            truth: Any = np.bool_(value)
            return edge.FieldCondition(field, match=edge.MatchValue(truth))
        case Match(field, value):
            return edge.FieldCondition(field, match=edge.MatchValue(value)) if _fits(value) else _nothing()
        case MatchAny(field, values):
            return edge.FieldCondition(field, match=edge.MatchAny(_fitting(values)))
        case MatchExcept(field, values):
            return edge.FieldCondition(field, match=edge.MatchExcept(_fitting(values)))
        case MatchText(field, text, mode):
            return edge.FieldCondition(field, match=_text(text, mode))
        case _:
            assert_never(filter)


def _text(text: str, mode: str) -> edge.MatchType:
    match mode:
        case "any":
            return edge.MatchTextAny(text)
        case "phrase":
            return edge.MatchPhrase(text)
        case _:
            return edge.MatchText(text)


def _geo(filter: GeoBox | GeoRadius | GeoPolygon) -> edge.FieldCondition:
    match filter:
        case GeoBox(field, top_left, bottom_right):
            box = edge.GeoBoundingBox(_place(top_left), _place(bottom_right))
            return edge.FieldCondition(field, geo_bounding_box=box)
        case GeoRadius(field, center, radius_meters):
            return edge.FieldCondition(field, geo_radius=edge.GeoRadius(_place(center), radius_meters))
        case GeoPolygon(field, exterior, interiors):
            rings = [[_place(place) for place in ring] for ring in (exterior, *interiors)]
            return edge.FieldCondition(field, geo_polygon=edge.GeoPolygon(rings[0], rings[1:] or None))
        case _:
            assert_never(filter)


def _group(condition: edge.ConditionType) -> edge.Filter:
    return condition if isinstance(condition, edge.Filter) else edge.Filter(must=[condition])


def _nothing() -> edge.Filter:
    return edge.Filter(must=[edge.HasIdCondition(set())])


def _fits(value: Scalar) -> bool:
    return not isinstance(value, int) or value in _INT64


def _fitting(values: tuple[str, ...] | tuple[int, ...]) -> Any:
    return [value for value in values if _fits(value)]


def _place(place: GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(place.lon, place.lat)


def _rfc3339(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()
