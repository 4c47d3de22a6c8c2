"""The neutral model: what every layer shares and no vendor owns.

A dialect turns vendor messages into these values and back; a store executes them.
Nothing here does I/O, and nothing here names a vendor.

Rules of the file:

- **Ids** keep their type: `int` (unsigned 64 bit), `UUID`, or `str`. 7 and "7" are two points.
- **Vectors** are little-endian float32 buffers (`bytes`), never lists of floats. The unnamed
  vector has the name "".
- **Scores** all point the same way: higher is better (`Metric` says how a number arises). A dialect turns
  them into its vendor's number at the last moment.
- **Filters** are a small tree. A store that cannot express a node exactly raises
  `Untranslatable`; it never approximates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


class Side(Enum):
    """The two stores of a migration, fixed for the whole of it. Which of them is primary is the journal's word."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> Side:
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


# --- points ------------------------------------------------------------------------------

PointId = int | UUID | str


def id_order(point_id: PointId) -> tuple[int, int | str]:
    """Sort key of ids: integers, then UUIDs (as 128-bit numbers), then strings."""
    match point_id:
        case int():
            return (0, point_id)
        case UUID():
            return (1, point_id.int)
        case _:
            return (2, point_id)


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Non-zero entries; `values` is a float32 buffer as long as `indices`."""

    indices: tuple[int, ...]
    values: bytes


@dataclass(frozen=True, slots=True)
class MultiVector:
    """Several dense vectors of one point (late interaction); each row is a float32 buffer."""

    rows: tuple[bytes, ...]


Vector = bytes | SparseVector | MultiVector


@dataclass(frozen=True, slots=True)
class Point:
    """A point, or the selected part of one. `vectors` maps name to vector, "" is the unnamed one."""

    id: PointId
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    payload: Mapping[str, Json] = field(default_factory=dict)


class Metric(Enum):
    """How a score arises. In the model higher is always better, so distances are negated."""

    COSINE = "cosine"  # cosine similarity, -1..1
    DOT = "dot"  # inner product
    EUCLID = "euclid"  # minus the true (not squared) L2 distance
    MANHATTAN = "manhattan"  # minus the L1 distance


@dataclass(frozen=True, slots=True)
class Hit:
    """A point found by a search; `score` is higher-is-better (see `Metric`)."""

    point: Point
    score: float


# --- collections -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """One vector of a collection. `size` is the dimension (0 where the kind has none)."""

    size: int
    metric: Metric
    kind: str = "dense"  # dense | sparse | multi
    datatype: str = "float32"  # what the store keeps; a hint is only certain for float32


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What a store needs to make an equivalent collection.

    `native` is the vendor's own description (its JSON form), for a store of the same vendor
    and for choosing index parameters; other vendors read only the neutral part.
    """

    vectors: Mapping[str, VectorSpec]
    payload_indexes: Mapping[str, str] = field(default_factory=dict)  # field -> keyword|integer|float|bool|...
    native: Mapping[str, Any] = field(default_factory=dict)


# --- filters -----------------------------------------------------------------------------
# Field names are paths as the client wrote them ("a.b", "tags[].name"). A condition on an array
# holds if it holds for any element.

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

# --- selections --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parts of a point to return.

    `payload` / `vectors`: True for all, False for none. `payload_include` / `payload_exclude` are
    field paths and only count where `payload` is True (None: no restriction); `vector_names`
    likewise for `vectors`.
    """

    payload: bool = True
    payload_include: tuple[str, ...] | None = None
    payload_exclude: tuple[str, ...] | None = None
    vectors: bool = False
    vector_names: tuple[str, ...] | None = None


EVERYTHING = Selection(payload=True, vectors=True)
IDS_ONLY = Selection(payload=False, vectors=False)

# --- reads -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Search:
    """Nearest neighbours of `vector` (float32 buffer) in the vector named `using`.

    `score_threshold` is in the model's direction: hits score at least that much.
    """

    collection: str
    vector: bytes
    limit: int
    using: str = ""
    offset: int = 0
    filter: Filter | None = None
    score_threshold: float | None = None
    selection: Selection = IDS_ONLY
    exact: bool = False
    params: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchBatch:
    collection: str
    searches: tuple[Search, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Points by id; ids that do not exist are left out of the answer."""

    collection: str
    ids: tuple[PointId, ...]
    selection: Selection = EVERYTHING


@dataclass(frozen=True, slots=True)
class Scroll:
    """A page in the order of ids, from `start` (inclusive)."""

    collection: str
    limit: int
    start: PointId | None = None
    filter: Filter | None = None
    selection: Selection = Selection()


@dataclass(frozen=True, slots=True)
class Count:
    collection: str
    filter: Filter | None = None
    exact: bool = True


DataRead = Search | SearchBatch | Fetch | Scroll | Count


@dataclass(frozen=True, slots=True)
class PrimaryOnlyRead:
    """A read that only the primary can answer; `reason` is a short stable phrase that is counted."""

    collection: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Describe:
    collection: str


@dataclass(frozen=True, slots=True)
class Exists:
    collection: str


@dataclass(frozen=True, slots=True)
class ListCollections:
    pass


@dataclass(frozen=True, slots=True)
class ListAliases:
    """All aliases, or those of one collection."""

    collection: str | None = None


MetadataRead = Describe | Exists | ListCollections | ListAliases
Read = DataRead | PrimaryOnlyRead | MetadataRead

# --- writes ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ids:
    ids: tuple[PointId, ...]


@dataclass(frozen=True, slots=True)
class Where:
    filter: Filter


Target = Ids | Where


@dataclass(frozen=True, slots=True)
class Upsert:
    """Put whole points. `condition`: only where the stored point matches; `mode`: upsert, insert_only,
    update_only. With either, the write alone does not determine the state it leaves."""

    collection: str
    points: tuple[Point, ...]
    condition: Filter | None = None
    mode: str = "upsert"


@dataclass(frozen=True, slots=True)
class Delete:
    collection: str
    target: Target


@dataclass(frozen=True, slots=True)
class SetPayload:
    """Merge `payload` into the points' payload; below `key` (a path) if given."""

    collection: str
    payload: Mapping[str, Json]
    target: Target
    key: str | None = None


@dataclass(frozen=True, slots=True)
class OverwritePayload:
    collection: str
    payload: Mapping[str, Json]
    target: Target


@dataclass(frozen=True, slots=True)
class DeletePayload:
    collection: str
    keys: tuple[str, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class ClearPayload:
    collection: str
    target: Target


@dataclass(frozen=True, slots=True)
class UpdateVectors:
    """Set the named vectors of existing points; payload and other vectors stay."""

    collection: str
    points: tuple[Point, ...]
    condition: Filter | None = None


@dataclass(frozen=True, slots=True)
class DeleteVectors:
    collection: str
    names: tuple[str, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class OpaqueWrite:
    """A write whose effect this program cannot tell: from inference, of an unknown kind, or undecodable.

    `ids`: the points it can touch, or None where that is unknown too.
    """

    collection: str | None
    ids: tuple[PointId, ...] | None
    reason: str


SimpleWrite = (
    Upsert
    | Delete
    | SetPayload
    | OverwritePayload
    | DeletePayload
    | ClearPayload
    | UpdateVectors
    | DeleteVectors
    | OpaqueWrite
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Several writes of one request, in order."""

    collection: str
    writes: tuple[SimpleWrite, ...]


Write = SimpleWrite | Batch


def written_ids(write: Write) -> tuple[PointId, ...] | None:
    """The points that `write` can touch, in order and with repeats; None if only the primary can tell."""
    match write:
        case Upsert(points=points) | UpdateVectors(points=points):
            return tuple(point.id for point in points)
        case OpaqueWrite(ids=ids):
            return ids
        case Batch(writes=writes):
            found: list[PointId] = []
            for part in writes:
                ids = written_ids(part)
                if ids is None:
                    return None
                found.extend(ids)
            return tuple(found)
        case _:
            return write.target.ids if isinstance(write.target, Ids) else None


def write_filters(write: Write) -> tuple[Filter, ...] | None:
    """The filters by which `write` chooses points; None if it chooses in a way that no filter expresses."""
    match write:
        case Upsert() | UpdateVectors():
            return ()
        case OpaqueWrite(ids=ids):
            return () if ids is not None else None
        case Batch(writes=writes):
            found: list[Filter] = []
            for part in writes:
                filters = write_filters(part)
                if filters is None:
                    return None
                found.extend(filters)
            return tuple(found)
        case _:
            return (write.target.filter,) if isinstance(write.target, Where) else ()


# --- collection definitions (DDL) --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateCollection:
    collection: str
    spec: CollectionSpec


@dataclass(frozen=True, slots=True)
class UpdateCollection:
    """Changes parameters (optimizers, quantization, ...), not points; `native` is the vendor's own body."""

    collection: str
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DropCollection:
    collection: str


@dataclass(frozen=True, slots=True)
class CreateAlias:
    alias: str
    collection: str


@dataclass(frozen=True, slots=True)
class DropAlias:
    alias: str


@dataclass(frozen=True, slots=True)
class RenameAlias:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class UpdateAliases:
    """Several alias changes, applied as one."""

    actions: tuple[CreateAlias | DropAlias | RenameAlias, ...]


@dataclass(frozen=True, slots=True)
class CreatePayloadIndex:
    collection: str
    field_name: str
    kind: str | None  # keyword, integer, float, bool, geo, datetime, text, uuid; None: the store chooses
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DropPayloadIndex:
    collection: str
    field_name: str


Definition = (
    CreateCollection | UpdateCollection | DropCollection | UpdateAliases | CreatePayloadIndex | DropPayloadIndex
)


@dataclass(frozen=True, slots=True)
class Administration:
    """Something that touches neither points nor definitions (health, cluster, telemetry, making a snapshot)."""

    reason: str


Operation = Read | Write | Definition | Administration


def collection_of(operation: Operation) -> str | None:
    """The collection that the client named (maybe an alias), if it named one."""
    return getattr(operation, "collection", None)


# --- results -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hits:
    metric: Metric
    hits: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class HitsBatch:
    batches: tuple[Hits, ...]


@dataclass(frozen=True, slots=True)
class Points:
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of points in the store's order; `next` starts the following page, None at the end."""

    points: tuple[Point, ...]
    next: PointId | None


@dataclass(frozen=True, slots=True)
class Counted:
    count: int


@dataclass(frozen=True, slots=True)
class Written:
    """A write was taken. `acknowledged`: accepted but not yet applied. `operations`: one number a part."""

    operations: tuple[int, ...] = (0,)
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    collection: str
    spec: CollectionSpec
    points: int


@dataclass(frozen=True, slots=True)
class Existence:
    exists: bool


@dataclass(frozen=True, slots=True)
class CollectionNames:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aliases:
    aliases: tuple[CreateAlias, ...]


@dataclass(frozen=True, slots=True)
class Defined:
    """A definition was taken; `changed` is False where there was nothing to do (drop of what is not there)."""

    changed: bool = True


Result = (
    Hits | HitsBatch | Points | Page | Counted | Written | Described | Existence | CollectionNames | Aliases | Defined
)


def points_by_id(points: Sequence[Point]) -> dict[PointId, Point]:
    return {point.id: point for point in points}
