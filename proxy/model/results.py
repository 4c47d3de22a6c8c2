"""Results: what a store answers."""

from __future__ import annotations

from dataclasses import dataclass

from proxy.model.collections import CollectionSpec
from proxy.model.definitions import CreateAlias
from proxy.model.points import Hit, Metric, Point, PointId


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
    """A write was taken. `acknowledged`: accepted but not yet applied. `operations`: one number a part. `failed`: it
    was acknowledged, and then could not be applied, or not all of it, as happens behind a client's back."""

    operations: tuple[int, ...] = (0,)
    acknowledged: bool = False
    failed: bool = False


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
