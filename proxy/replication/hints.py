"""Hints: the state that a write left on the primary, where the write alone determines it. Saves reconciliation a read.

A hint belongs to the one mark that its write's END set: it is (position of the mark, state) and is used only by the
reconciliation that takes exactly that mark off. Memory is bounded; what does not fit is dropped, and the key is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from proxy.model import (
    Batch,
    CollectionSpec,
    Delete,
    Ids,
    Metric,
    MultiVector,
    Point,
    PointId,
    SparseVector,
    Upsert,
    Vector,
    Write,
)


def certain_states(write: Write, spec: CollectionSpec | None, normalizes_cosine: bool) -> dict[PointId, Point | None]:
    """What the primary returns for each key after `write`; None is absent. Empty if the write alone does not tell.

    Only whole, unconditional points with dense float32 vectors, and deletes by id; each key once in the request.
    """
    match write:
        case Delete(target=Ids(ids=ids)):
            return dict.fromkeys(ids) if len(set(ids)) == len(ids) else {}
        case Upsert(points=points, condition=None, mode="upsert") if spec is not None:
            states: dict[PointId, Point | None] = {}
            for point in points:
                stored = _stored(point, spec, normalizes_cosine)
                if stored is None or point.id in states:
                    return {}
                states[point.id] = stored
            return states
        case Batch(writes=(only,)):
            return certain_states(only, spec, normalizes_cosine)
        case _:
            return {}


def is_whole(write: Write) -> bool:
    """Whether `write` alone determines all that is left of its points, whatever was there before."""
    match write:
        case Delete(target=Ids(ids=ids)):
            return len(set(ids)) == len(ids)
        case Upsert(points=points, condition=None, mode="upsert"):
            return len({point.id for point in points}) == len(points)
        case Batch(writes=(only,)):
            return is_whole(only)
        case _:
            return False


def _stored(point: Point, spec: CollectionSpec, normalizes_cosine: bool) -> Point | None:
    vectors: dict[str, Vector] = {}
    for name, vector in point.vectors.items():
        known = spec.vectors.get(name)
        if known is None or known.kind != "dense" or known.datatype != "float32" or not isinstance(vector, bytes):
            return None
        if len(vector) != 4 * known.size:
            return None
        vectors[name] = unit(vector) if normalizes_cosine and known.metric is Metric.COSINE else vector
    return Point(point.id, vectors, point.payload)


def unit(vector: bytes) -> bytes:
    """The float32 buffer scaled to length 1; a zero vector stays as it is."""
    values = np.frombuffer(vector, dtype="<f4")
    length = float(np.sqrt(np.dot(values, values)))
    if length == 0.0:
        return vector
    return (values / np.float32(length)).astype("<f4").tobytes()


class Hints:
    """At most `limit_bytes` of vectors and (roughly) payload; the oldest goes first."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._known: OrderedDict[PointId, tuple[int, Point | None, int]] = OrderedDict()

    def put(self, position: int, states: Mapping[PointId, Point | None]) -> int:
        """Keep the states that the mark at `position` stands for. How many had to go for them."""
        dropped = 0
        for point_id, state in states.items():
            self.drop(point_id)
            size = _size_bytes(state)
            self._known[point_id] = (position, state, size)
            self.size_bytes += size
        while self.size_bytes > self.limit_bytes:
            self.drop(next(iter(self._known)))
            dropped += 1
        return dropped

    def take(self, point_id: PointId, mark: int | None) -> tuple[bool, Point | None]:
        """(True, state) if the hint of exactly that mark is there. The hint is gone afterwards, used or not."""
        known = self._known.get(point_id)
        self.drop(point_id)
        if known is None or mark is None or known[0] != mark:
            return False, None
        return True, known[1]

    def drop(self, point_id: PointId) -> None:
        if (known := self._known.pop(point_id, None)) is not None:
            self.size_bytes -= known[2]

    def clear(self) -> None:
        self._known.clear()
        self.size_bytes = 0


def _size_bytes(state: Point | None) -> int:
    """An estimate: exact for vectors, a flat rate a payload field."""
    if state is None:
        return 64
    size = 256 + 64 * len(state.payload)
    for value in state.payload.values():
        if isinstance(value, str | list | dict):
            size += 8 * len(value)
    for vector in state.vectors.values():
        match vector:
            case bytes():
                size += len(vector)
            case SparseVector():
                size += 2 * len(vector.values)
            case MultiVector():
                size += sum(len(row) for row in vector.rows)
    return size
