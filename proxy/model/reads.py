"""Reads: what a client may ask, and which parts of a point it wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.model.filters import Filter
from proxy.model.points import Json, PointId


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
