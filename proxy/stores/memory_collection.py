"""One collection of the reference store: its points, what matches, and how near it is.

Cosine vectors are kept at unit length, as Qdrant does (1.19, lib/segment/src/spaces/simple.rs,
cosine_preprocess): a vector of length 0, or already of length 1 within 1e-6, stays as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
from msgspec import structs

from proxy.model import CollectionSpec, Filter, Json, Metric, Point, PointId, Selection, Vector, look_at
from proxy.stores.memory_filters import point_test
from proxy.stores.payload_paths import select_payload

T = TypeVar("T")
Floats = npt.NDArray[np.float32]

_SCALARS: Final = frozenset({str, int, float, bool, type(None)})


@dataclass(slots=True)
class HeldCollection:
    """A collection's description and its points, as `stored` made them."""

    spec: CollectionSpec
    points: dict[PointId, Point] = field(default_factory=dict)

    def matching(self, filter: Filter | None) -> Iterator[Point]:
        """The points that pass, in no order. Raises Untranslatable or InvalidRequest before the first."""
        test = point_test(filter)
        return (point for point in self.points.values() if test(point))


def stored(spec: CollectionSpec, points: Iterable[Point]) -> list[Point]:
    """The points, which fit, as a collection of `spec` keeps them: copies, cosine vectors at unit length. (What was
    read from a request is not copied: nobody edits it in place.) Raises InvalidRequest as `looked` does."""
    given = list(points)
    vectors = _own([point.vectors for point in given], dict)
    payloads = _own([point.payload for point in given], copied)
    for name, vector in spec.vectors.items():
        if vector.metric is Metric.COSINE:
            vectors = _normalised(name, vectors)
    return list(map(Point, [point.id for point in given], vectors, payloads))


def _own(
    parts: Sequence[Mapping[str, T]], copied: Callable[[Mapping[str, T]], Mapping[str, T]]
) -> list[Mapping[str, T]]:
    return [copied(said) if said is part else said for part, said in zip(parts, look_at(parts), strict=True)]


def _normalised(name: str, those: list[Mapping[str, Vector]]) -> list[Mapping[str, Vector]]:
    """All at once: each look of numpy's has a price."""
    places = [place for place, own in enumerate(those) if type(own.get(name)) is bytes]
    given: list[Any] = [those[place][name] for place in places]
    scaled = units(given)
    if scaled is given:
        return those
    found = list(those)
    for place, vector in zip(places, scaled, strict=True):
        found[place] = {name: vector} if len(those[place]) == 1 else {**those[place], name: vector}
    return found


def copied(payload: Mapping[str, Json]) -> dict[str, Json]:
    """For whoever changes it, or keeps it while others do."""
    return {key: value if type(value) in _SCALARS else copy.deepcopy(value) for key, value in payload.items()}


def selected(point: Point, selection: Selection) -> Point:
    """A copy of the part of a point that was asked for."""
    vectors = {
        name: vector
        for name, vector in point.vectors.items()
        if selection.vectors and (selection.vector_names is None or name in selection.vector_names)
    }
    return structs.replace(point, vectors=vectors, payload=copy.deepcopy(select_payload(point.payload, selection)))


def units(vectors: list[bytes]) -> list[bytes]:
    """Vectors of one size at length 1; the list itself if all are."""
    if not vectors:
        return vectors
    rows = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    with np.errstate(over="ignore"):  # each by itself, as exactly as one alone: einsum is not, where they are long
        squared = np.matmul(rows[:, np.newaxis, :], rows[:, :, np.newaxis])[:, 0, 0]
    stays = (squared < np.finfo(np.float32).eps) | (np.abs(squared - 1.0) <= 1e-6)
    if stays.all():
        return vectors
    divisors = np.where(stays, np.float32(1.0), np.sqrt(squared))
    divided = (rows / divisors[:, np.newaxis]).astype("<f4", copy=False)
    scaled = divided.view(f"V{len(vectors[0])}")[:, 0].tolist()  # the bytes of each row
    return [vector if stay else new for vector, stay, new in zip(vectors, stays.tolist(), scaled, strict=True)]


def scores(metric: Metric, query: bytes, vectors: Sequence[bytes]) -> list[float]:
    """How near each vector is to the query, higher is nearer (`Metric`). Cosine vectors have unit length."""
    if not vectors:
        return []
    rows = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1).astype(np.float64)
    match metric:
        case Metric.COSINE:
            found = rows @ np.frombuffer(units([query])[0], dtype="<f4").astype(np.float64)
        case Metric.DOT:
            found = rows @ np.frombuffer(query, dtype="<f4").astype(np.float64)
        case Metric.EUCLID:
            found = -np.linalg.norm(rows - np.frombuffer(query, dtype="<f4"), axis=1)
        case Metric.MANHATTAN:
            found = -np.abs(rows - np.frombuffer(query, dtype="<f4")).sum(axis=1)
    return [float(score) for score in found]
