"""Hints: the state that a write left on the primary, where the write alone determines it. Saves reconciliation a read.

A hint belongs to the one mark that its write's END set: it is (position of the mark, state) and is used only by the
reconciliation that takes exactly that mark off. Memory is bounded; what does not fit is dropped, and the key is read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from proxy.errors import InvalidRequest
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
    Unread,
    UnreadVector,
    Upsert,
    Vector,
    Write,
    looked,
)


def left_by(write: Write) -> dict[PointId, Point | None]:
    """What `write` alone determines of its keys; None is absent. Empty if it does not: only whole, unconditional points
    and deletes by id do, each key once in the request."""
    match write:
        case Delete(target=Ids(ids=ids)) if is_whole(write):
            return dict.fromkeys(ids)
        case Upsert(points=points) if is_whole(write):
            return {point.id: point for point in points}
        case Batch(writes=(only,)):
            return left_by(only)
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


@dataclass(frozen=True, slots=True)
class Keeping:
    """How the primary keeps the points of a collection. `normalizes_cosine`: vectors have to be scaled here to be what
    it keeps; not so where the secondary scales them in the same way. `takes_native`: both take points
    as the same clients send them (`Point.native`), and make the same of them."""

    spec: CollectionSpec
    normalizes_cosine: bool
    takes_native: bool = False

    def may_be_certain(self, point: Point) -> bool:
        """The same as `is_certain`, as far as it can be told without reading what is not read yet."""
        return self._keeps_floats("") if type(point.vectors) is UnreadVector else self.is_certain(point)

    def is_certain(self, point: Point) -> bool:
        """Whether it is known how the primary returns `point`: only of dense float32 vectors it is. Raises
        InvalidRequest for what cannot be read."""
        if self.takes_native and type(point.vectors) is UnreadVector:
            return self._keeps_floats("")  # the primary has looked at the numbers
        for name, vector in point.vectors.items():
            if not self._keeps_floats(name):
                return False
            if not isinstance(vector, bytes) or len(vector) != 4 * self.spec.vectors[name].size:
                return False
        return True

    def _keeps_floats(self, name: str) -> bool:
        known = self.spec.vectors.get(name)
        return known is not None and known.kind == "dense" and known.datatype == "float32"

    def state(self, point: Point) -> Point:
        """`point`, which is certain, as the primary returns it, or as good. Raises InvalidRequest for what cannot be
        read."""
        if self.takes_native and (point.native or type(point.vectors) is UnreadVector):
            return point
        vectors, payload = looked(point.vectors), looked(point.payload)
        if self.normalizes_cosine:
            vectors = {name: self._as_kept(name, vector) for name, vector in vectors.items()}
        return Point(point.id, vectors, payload)

    def _as_kept(self, name: str, vector: Vector) -> Vector:
        if isinstance(vector, bytes) and self.spec.vectors[name].metric is Metric.COSINE:
            return unit(vector)
        return vector


def unit(vector: bytes) -> bytes:
    """The float32 buffer scaled to length 1; a zero vector stays as it is."""
    values = np.frombuffer(vector, dtype="<f4")
    length = float(np.sqrt(np.dot(values, values)))
    if length == 0.0:
        return vector
    return (values / np.float32(length)).astype("<f4").tobytes()


@dataclass(slots=True)  # not frozen: that takes twice as long to make
class _Hint:
    """`written`: as the client sent it, and how it is kept; None if the key is absent."""

    mark: int
    written: tuple[Point, Keeping] | None
    size_bytes: int


class Hints:
    """At most `limit_bytes` of vectors and (roughly) payload; the oldest goes first.

    What was written is kept as it came, and its state is worked out when a reconciliation takes it: while the secondary
    is away, most never are.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._known: OrderedDict[PointId, _Hint] = OrderedDict()

    def put(self, mark: int, left: Mapping[PointId, Point | None], keeping: Keeping | None) -> tuple[int, int]:
        """Keep what the mark at position `mark` stands for; points only if it is certain how the primary keeps them.
        How many of them are kept, and how many hints had to go for them."""
        kept = dropped = 0
        for point_id, point in left.items():
            self.drop(point_id)
            written = None
            if point is not None:
                if keeping is None or not keeping.may_be_certain(point):
                    continue
                if point.native and not keeping.takes_native:
                    point = Point(point.id, point.vectors, point.payload)
                written = point, keeping
            size = _size_bytes(point)
            self._known[point_id] = _Hint(mark, written, size)
            self.size_bytes += size
            kept += 1
        while self.size_bytes > self.limit_bytes:
            self.drop(next(iter(self._known)))
            dropped += 1
        return kept, dropped

    def take(self, point_id: PointId, mark: int | None) -> tuple[bool, Point | None]:
        """(True, state) if the hint of exactly that mark is there, None for a key that is absent; else (False, None).
        The hint is gone afterwards, used or not."""
        hint = self._known.get(point_id)
        self.drop(point_id)
        if hint is None or hint.mark != mark:
            return False, None
        if hint.written is None:
            return True, None
        point, keeping = hint.written
        try:
            return (True, keeping.state(point)) if keeping.is_certain(point) else (False, None)
        except InvalidRequest:
            return False, None  # the primary has taken it for something, and tells for what

    def drop(self, point_id: PointId) -> None:
        if (hint := self._known.pop(point_id, None)) is not None:
            self.size_bytes -= hint.size_bytes

    def clear(self) -> None:
        self._known.clear()
        self.size_bytes = 0


def _size_bytes(point: Point | None) -> int:
    """An estimate: exact for vectors, a flat rate a payload field."""
    if point is None:
        return 64
    size = 256 + len(point.native)
    if isinstance(point.payload, Unread) and not point.payload.is_read:
        size += 0 if point.native else len(point.payload.wire)
    else:
        size += 64 * len(point.payload)
        for value in point.payload.values():
            if isinstance(value, str | list | dict):
                size += 8 * len(value)
    if type(point.vectors) is UnreadVector:
        size += len(point.vectors.wire)
        if not point.vectors.is_read:
            return size
    for vector in point.vectors.values():
        match vector:
            case bytes():
                size += len(vector)
            case SparseVector():
                size += 2 * len(vector.values)
            case MultiVector():
                size += sum(len(row) for row in vector.rows)
    return size
