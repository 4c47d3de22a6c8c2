"""Whether a point has the shape that a collection keeps, and why not.

What does not fit will never fit while the collection stays as it is: a store names such points in its
WriteReport. The messages are those of the embedded engine (Qdrant 1.19, lib/segment/src/common/operation_error.rs).
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, assert_never

import numpy as np

from proxy.model import CollectionSpec, MultiVector, Point, SparseVector, Vector, VectorSpec, look_at, looked

FLOAT32_BYTES: Final = 4


def fitting_before(spec: CollectionSpec, points: Sequence[Point]) -> tuple[Sequence[Point], str]:
    """The points before the first that does not fit, and why that does not; all, and "", if all do. Raises
    InvalidRequest as `looked` does."""
    if _all_fit(spec, points):
        return points, ""
    for number, point in enumerate(points):
        if reason := misfit(spec, point):
            return points[:number], reason
    return points, ""


def _all_fit(spec: CollectionSpec, points: Sequence[Point]) -> bool:
    """Whether that can be said of all at once: each look of numpy's has a price. Only of dense vectors."""
    found = look_at([point.vectors for point in points])
    for name in set[str]().union(*found):
        expected = spec.vectors.get(name)
        if expected is None or expected.kind != "dense":
            return False
        vectors: list[Any] = [own[name] for own in found if name in own]
        if set(map(type, vectors)) != {bytes} or set(map(len, vectors)) != {expected.size * FLOAT32_BYTES}:
            return False
    # The others were seen to be finite when they were read.
    given: list[Any] = [own for point, own in zip(points, found, strict=True) if own is point.vectors]
    return not given or _infinite(b"".join([vector for own in given for vector in own.values()])) is None


def misfit(spec: CollectionSpec, point: Point) -> str | None:
    """Why `point` does not fit into a collection of `spec`; None if it does. Lacking vectors are no reason."""
    for name, vector in looked(point.vectors).items():
        expected = spec.vectors.get(name)
        if expected is None:
            return f"Not existing vector name error: {name}"
        if reason := vector_misfit(expected, vector):
            return reason
    return None


def vector_misfit(expected: VectorSpec, vector: Vector) -> str | None:
    """Why the vector is not of the expected kind and size, or not finite; None if it is."""
    rows: tuple[bytes, ...]
    match vector:
        case bytes():
            rows, kind = (vector,), "dense"
        case MultiVector(rows):
            kind = "multi"
        case SparseVector(_, values):
            return _kind_misfit("sparse", expected) or _infinite(values)
        case _:
            assert_never(vector)
    return _kind_misfit(kind, expected) or next((r for row in rows if (r := _row_misfit(expected.size, row))), None)


def _kind_misfit(kind: str, expected: VectorSpec) -> str | None:
    return None if kind == expected.kind else f"expected a {expected.kind} vector, got a {kind} one"


def _row_misfit(size: int, row: bytes) -> str | None:
    if len(row) != size * FLOAT32_BYTES:
        return f"Vector dimension error: expected dim: {size}, got {len(row) // FLOAT32_BYTES}"
    return _infinite(row)


def _infinite(values: bytes) -> str | None:
    finite = bool(np.isfinite(np.frombuffer(values, dtype="<f4")).all())
    return None if finite else "the vector has a component that is not finite"
