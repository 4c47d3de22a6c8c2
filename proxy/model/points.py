"""Points, their ids and vectors, and scores that all point the same way: higher is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from uuid import UUID

Json = None | bool | int | float | str | list[Any] | dict[str, Any]
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


def points_by_id(points: Sequence[Point]) -> dict[PointId, Point]:
    return {point.id: point for point in points}
