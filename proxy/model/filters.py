"""Filters: a small tree. Field names are paths as the client wrote them ("a.b", "tags[].name"); a condition on an array
holds if it holds for any element."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from proxy.model.points import PointId

Scalar = str | int | bool


@dataclass(frozen=True, slots=True)
class And:
    of: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    of: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Holds where `of` does not, points that lack the field included."""

    of: Filter


@dataclass(frozen=True, slots=True)
class AtLeast:
    count: int
    of: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """The field equals `value`, with the same JSON type (1 is not 1.0, and not "1")."""

    field: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class MatchAny:
    field: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MatchExcept:
    """The field has a value, and one that is not listed."""

    field: str
    values: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MatchText:
    """Full text: `mode` is all (every token), any, or phrase."""

    field: str
    text: str
    mode: str = "all"


@dataclass(frozen=True, slots=True)
class Range:
    """Numeric range; a bound that is None is open."""

    field: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class DatetimeRange:
    field: str
    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None


@dataclass(frozen=True, slots=True)
class ValuesCount:
    """How many values the field has (1 for a scalar, the length for an array)."""

    field: str
    gt: int | None = None
    gte: int | None = None
    lt: int | None = None
    lte: int | None = None


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """The field is missing, null or []."""

    field: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """The field is there and null."""

    field: str


@dataclass(frozen=True, slots=True)
class HasId:
    ids: tuple[PointId, ...]


@dataclass(frozen=True, slots=True)
class HasVector:
    name: str


@dataclass(frozen=True, slots=True)
class GeoPoint:
    lon: float
    lat: float


@dataclass(frozen=True, slots=True)
class GeoBox:
    field: str
    top_left: GeoPoint
    bottom_right: GeoPoint


@dataclass(frozen=True, slots=True)
class GeoRadius:
    field: str
    center: GeoPoint
    radius_meters: float


@dataclass(frozen=True, slots=True)
class GeoPolygon:
    field: str
    exterior: tuple[GeoPoint, ...]
    interiors: tuple[tuple[GeoPoint, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Nested:
    """`of` holds for one and the same element of the array of objects at `field`."""

    field: str
    of: Filter


Filter = (
    And
    | Or
    | Not
    | AtLeast
    | Match
    | MatchAny
    | MatchExcept
    | MatchText
    | Range
    | DatetimeRange
    | ValuesCount
    | IsEmpty
    | IsNull
    | HasId
    | HasVector
    | GeoBox
    | GeoRadius
    | GeoPolygon
    | Nested
)
