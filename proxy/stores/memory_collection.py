"""One collection of the reference store: its points, what matches, and how near it is.

Cosine vectors are kept at unit length, as Qdrant does (1.19, lib/segment/src/spaces/simple.rs,
cosine_preprocess): a vector of length 0, or already of length 1 within 1e-6, stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from msgspec import structs

from proxy.model import CollectionSpec, Filter, Metric, Point, PointId, Selection, Vector
from proxy.stores.memory_filters import point_test
from proxy.stores.payload_paths import select_payload

Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class HeldCollection:
    """A collection's description and its points, as `stored` made them."""

    spec: CollectionSpec
    points: dict[PointId, Point] = field(default_factory=dict)

    def matching(self, filter: Filter | None) -> Iterator[Point]:
        """The points that pass, in no order. Raises Untranslatable or InvalidRequest before the first."""
        test = point_test(filter)
        return (point for point in self.points.values() if test(point))


def stored(spec: CollectionSpec, point: Point) -> Point:
    """The point as a collection of `spec` keeps it: a copy, cosine vectors at unit length."""
    vectors = {name: _stored_vector(spec, name, vector) for name, vector in point.vectors.items()}
    return Point(point.id, vectors, copy.deepcopy(dict(point.payload)))


def _stored_vector(spec: CollectionSpec, name: str, vector: Vector) -> Vector:
    cosine = spec.vectors[name].metric is Metric.COSINE
    return unit(vector) if cosine and isinstance(vector, bytes) else vector


def selected(point: Point, selection: Selection) -> Point:
    """A copy of the part of a point that was asked for."""
    vectors = {
        name: vector
        for name, vector in point.vectors.items()
        if selection.vectors and (selection.vector_names is None or name in selection.vector_names)
    }
    return structs.replace(point, vectors=vectors, payload=copy.deepcopy(select_payload(point.payload, selection)))


def unit(vector: bytes) -> bytes:
    floats = np.frombuffer(vector, dtype="<f4")
    squared = float(np.dot(floats, floats))
    if squared < np.finfo(np.float32).eps or abs(squared - 1.0) <= 1e-6:
        return vector
    return (floats / np.float32(np.sqrt(squared))).astype("<f4").tobytes()


def scores(metric: Metric, query: bytes, vectors: Sequence[bytes]) -> list[float]:
    """How near each vector is to the query, higher is nearer (`Metric`). Cosine vectors have unit length."""
    if not vectors:
        return []
    rows = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1).astype(np.float64)
    match metric:
        case Metric.COSINE:
            found = rows @ np.frombuffer(unit(query), dtype="<f4").astype(np.float64)
        case Metric.DOT:
            found = rows @ np.frombuffer(query, dtype="<f4").astype(np.float64)
        case Metric.EUCLID:
            found = -np.linalg.norm(rows - np.frombuffer(query, dtype="<f4"), axis=1)
        case Metric.MANHATTAN:
            found = -np.abs(rows - np.frombuffer(query, dtype="<f4")).sum(axis=1)
    return [float(score) for score in found]
