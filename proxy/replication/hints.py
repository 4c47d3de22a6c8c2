"""Hints: the state that a write left on the primary, where the write alone determines it. Saves reconciliation a read.

A hint belongs to the one mark that its write's END set: it is (position of the mark, state) and is used only by the
reconciliation that takes exactly that mark off. Memory is bounded; what does not fit is dropped, and the key is read.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from proxy.errors import InvalidRequest
from proxy.model import (
    Batch,
    CollectionSpec,
    Delete,
    Ids,
    Json,
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
from proxy.replication.bulk import assign, remove

_SHARE_OF_WHOLE = 0.25  # of the memory of hints, for requests beside their points
_WHOLE_POINTS, _WHOLE_BYTES = 32, 64 * 1024  # of a request, from which on it is worth a call of its own


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

    def those_that_may_be_certain(self, left: Mapping[PointId, Point | None]) -> dict[PointId, Point | None]:
        """Those that are absent, and those that are certain, as far as it can be told without reading what is not read
        yet."""
        unread = self._keeps_floats("")
        return {
            point_id: point
            for point_id, point in left.items()
            if point is None or (unread if isinstance(point.vectors, UnreadVector) else self._is_certain(point))
        }

    def is_state(self, point: Point) -> bool:
        """Whether `point`, which may be certain, is as good as what the primary returns: it has looked at the numbers,
        and the secondary makes the same of them."""
        return self.takes_native and (bool(point.native) or isinstance(point.vectors, UnreadVector))

    def _is_certain(self, point: Point) -> bool:
        """Whether it is known how the primary returns `point`: only of dense float32 vectors it is. Raises
        InvalidRequest for what cannot be read."""
        for name, vector in point.vectors.items():
            if not self._keeps_floats(name):
                return False
            if not isinstance(vector, bytes) or len(vector) != 4 * self.spec.vectors[name].size:
                return False
        return True

    def _keeps_floats(self, name: str) -> bool:
        known = self.spec.vectors.get(name)
        return known is not None and known.kind == "dense" and known.datatype == "float32"

    def states(self, points: Sequence[Point]) -> dict[PointId, Point]:
        """Points that may be certain, as the primary returns them; without those that turn out not to be."""
        read: list[tuple[PointId, dict[str, Vector], Mapping[str, Json]]] = []
        for point in points:
            try:
                if isinstance(point.vectors, UnreadVector) and not self._is_certain(point):
                    continue
                read.append((point.id, dict(point.vectors), looked(point.payload)))
            except InvalidRequest:
                continue  # the primary has taken it for something, and tells for what
        if self.normalizes_cosine:
            for name, known in self.spec.vectors.items():
                if known.metric is Metric.COSINE:
                    _scale(name, [vectors for _, vectors, _ in read if name in vectors])
        return {point_id: Point(point_id, vectors, payload) for point_id, vectors, payload in read}


def _scale(name: str, points: Sequence[dict[str, Vector]]) -> None:
    """Give that vector, which is dense, length 1 in each of them."""
    buffers = [vectors[name] for vectors in points]
    for vectors, scaled in zip(points, units(buffers), strict=True):  # type: ignore[arg-type]
        vectors[name] = scaled


def units(vectors: Sequence[bytes]) -> list[bytes]:
    """float32 buffers of one size, each scaled to length 1; a zero vector stays as it is."""
    if not vectors:
        return []
    matrix = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)).astype(np.float32)
    lengths[lengths == 0.0] = 1.0
    scaled = (matrix / lengths[:, np.newaxis]).astype("<f4", copy=False).tobytes()
    size = len(vectors[0])
    return [scaled[start : start + size] for start in range(0, len(scaled), size)]


@dataclass(slots=True)
class _Left:
    """What one write left of keys whose points are about as large: of each, as long as it may be asked for, the point
    as the client sent it, or None if it is absent."""

    mark: int
    points: dict[PointId, Point | None]
    keeping: Keeping | None
    point_bytes: int  # of the largest; none has less than half of it


@dataclass(frozen=True, slots=True)
class _Whole:
    """A write of which the hints of all keys are there: then the client's request says what it left."""

    upsert: Upsert
    left: tuple[_Left, ...]


@dataclass(slots=True)
class Taken:
    """What is known of the keys of a reconciliation: upserts whose points are as they came (`Upsert.native`), states
    (None: absent), points whose state has to be worked out (`Keeping.states`), and keys of which nothing is."""

    upserts: list[Upsert] = field(default_factory=list)
    states: dict[PointId, Point | None] = field(default_factory=dict)
    written: list[tuple[Keeping, list[Point]]] = field(default_factory=list)
    unknown: list[PointId] = field(default_factory=list)


class Hints:
    """At most `limit_bytes` of vectors, (roughly) payload and requests; the oldest goes first.

    What was written is kept as it came, and its state is worked out when a reconciliation takes it: while the secondary
    is away, most never are. Large requests are kept beside their points, as long as none of these is taken or written
    over: most are copied at once, and then the same bytes go to the secondary. They take a quarter of the memory at
    most, and go first where it is short. (Small ones are put together by their points: each would be a call.)
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._known: dict[PointId, _Left] = {}  # the oldest first
        self._whole: OrderedDict[int, _Whole] = OrderedDict()  # by their marks, the oldest first
        self._whole_bytes = 0

    @property
    def _most_whole_bytes(self) -> float:
        return self.limit_bytes * _SHARE_OF_WHOLE

    def put(
        self,
        mark: int,
        left: Mapping[PointId, Point | None],
        keeping: Keeping | None,
        write: Write | None = None,
    ) -> tuple[int, int]:
        """Keep what the mark at position `mark` stands for; points only if it is certain how the primary keeps them.
        `write`: that left it, if a reconciliation may take all of it. How many of them are kept, and how many hints had
        to go for them."""
        self._drop(self._known.keys() & left.keys())
        points: dict[PointId, Point | None]
        if keeping is None:
            points = {point_id: None for point_id, point in left.items() if point is None}
        else:
            points = keeping.those_that_may_be_certain(left)
        if not points:
            return 0, 0
        kept = []
        for point_bytes, alike in _by_size(points):
            self.size_bytes += point_bytes * len(alike)
            kept.append(_Left(mark, alike, keeping, point_bytes))
            assign(self._known, alike, kept[-1])
        takes_native = keeping is not None and keeping.takes_native
        if takes_native and isinstance(write, Upsert) and len(write.points) == len(points) and self._is_large(write):
            self._put_whole(mark, _Whole(write, tuple(kept)))
        else:
            _settle(kept)
        return len(points), self._shrink()

    def _is_large(self, upsert: Upsert) -> bool:
        """Whether it is worth a call of its own, and not too much to keep."""
        size = len(upsert.native)
        return _WHOLE_BYTES <= size <= self._most_whole_bytes and len(upsert.points) >= _WHOLE_POINTS

    def _put_whole(self, mark: int, whole: _Whole) -> None:
        self._whole[mark] = whole
        size = len(whole.upsert.native)
        self.size_bytes += size
        self._whole_bytes += size
        while self._whole_bytes > self._most_whole_bytes:
            self._drop_whole(next(iter(self._whole)))

    def take(self, taken: Mapping[PointId, int | None]) -> Taken:
        """What the hints of exactly these marks say of their keys. They are gone afterwards, used or not."""
        found = Taken()
        if self._whole:
            taken = self._take_whole(taken, found)
        for point_id, mark in taken.items():
            left = self._known.pop(point_id, None)
            if left is None:
                found.unknown.append(point_id)
                continue
            self._drop_whole(left.mark)
            self.size_bytes -= left.point_bytes
            point = left.points.pop(point_id)
            if left.mark != mark:
                found.unknown.append(point_id)
            elif point is None or (left.keeping is not None and left.keeping.is_state(point)):
                found.states[point_id] = point
            elif left.keeping is not None:
                if not found.written or found.written[-1][0] is not left.keeping:
                    found.written.append((left.keeping, []))
                found.written[-1][1].append(point)
        return found

    def has_whole(self, mark: int | None) -> bool:
        """Whether `take` gives the request of the write with that mark, if all of its keys are taken."""
        return mark in self._whole

    def _take_whole(self, taken: Mapping[PointId, int | None], found: Taken) -> Mapping[PointId, int | None]:
        """Those writes of which all keys are taken; the keys of others. (A mark is one write's, so as many keys with it
        as the write has are all.)"""
        counts = Counter(taken.values())
        for mark in self._whole.keys() & counts.keys():
            whole = self._whole[mark]
            if counts[mark] == len(whole.upsert.points):
                self._forget_whole(mark)
                found.upserts.append(whole.upsert)
                for each in whole.left:
                    self.size_bytes -= each.point_bytes * len(each.points)
                    remove(self._known, each.points)
                del counts[mark]
        if not counts:
            return {}
        return {point_id: mark for point_id, mark in taken.items() if mark in counts}

    def _drop_whole(self, mark: int) -> None:
        """The request of that write, if it is there; its points stay."""
        if (whole := self._forget_whole(mark)) is not None:
            _settle(whole.left)

    def _forget_whole(self, mark: int) -> _Whole | None:
        if (whole := self._whole.pop(mark, None)) is not None:
            size = len(whole.upsert.native)
            self.size_bytes -= size
            self._whole_bytes -= size
        return whole

    def _shrink(self) -> int:
        """How many had to go. (In one walk: each that begins at the head of a dict passes all that is gone there.)"""
        while self._whole and self.size_bytes > self.limit_bytes:
            self._drop_whole(next(iter(self._whole)))
        size_bytes = self.size_bytes
        too_many: list[PointId] = []
        for point_id, left in self._known.items():
            if size_bytes <= self.limit_bytes:
                break
            size_bytes -= left.point_bytes
            too_many.append(point_id)
        self._drop(too_many)
        return len(too_many)

    def _drop(self, ids: Iterable[PointId]) -> None:
        marks: set[int] = set()
        for point_id in ids:
            left = self._known.pop(point_id)
            marks.add(left.mark)
            self.size_bytes -= left.point_bytes
            del left.points[point_id]
        for mark in marks:  # last: of points that are gone nothing has to be kept
            self._drop_whole(mark)

    def clear(self) -> None:
        self._known.clear()
        self._whole.clear()
        self.size_bytes = self._whole_bytes = 0


def _settle(those: Iterable[_Left]) -> None:
    """Let go of the request that they came in: one point of it would keep it all in memory."""
    for left in those:
        for point in left.points.values():
            if point is not None and isinstance(point.vectors, UnreadVector):
                point.vectors.settle()


def _by_size(points: dict[PointId, Point | None]) -> Iterator[tuple[int, dict[PointId, Point | None]]]:
    """Those that are about as large, by powers of two, with the size of the largest."""
    sizes = list(map(_size_bytes, points.values()))
    magnitudes = list(map(int.bit_length, sizes))
    if len(found := set(magnitudes)) == 1:
        yield max(sizes), points
        return
    for magnitude in found:
        alike = [number for number, each in enumerate(magnitudes) if each == magnitude]
        entries = list(points.items())
        yield max(sizes[number] for number in alike), dict(entries[number] for number in alike)


_SIZED = (str, list, dict)


def _size_bytes(point: Point | None) -> int:
    """An estimate: exact for vectors and for what is not read yet, a flat rate a payload field."""
    if point is None:
        return 64
    native, payload, vectors = point.native, point.payload, point.vectors
    size = 256 + len(native)
    if type(payload) is dict or not isinstance(payload, Unread):
        size += 64 * len(payload)
        for value in payload.values():
            if isinstance(value, _SIZED):
                size += 8 * len(value)
    elif payload.wire is not native:
        size += len(payload.wire)
    if isinstance(vectors, Unread):
        return size if vectors.wire is native else size + len(vectors.wire)
    for vector in vectors.values():
        match vector:
            case bytes():
                size += len(vector)
            case SparseVector():
                size += 2 * len(vector.values)
            case MultiVector():
                size += sum(len(row) for row in vector.rows)
    return size
