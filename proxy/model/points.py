"""Points, their ids and vectors, and scores that all point the same way: higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar
from uuid import UUID

import msgspec

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


V0 = TypeVar("V0")
V = TypeVar("V")


if TYPE_CHECKING:
    _AsMapping = Mapping
else:

    class _AsMapping(Generic[V0, V]):
        """The methods of `Mapping`, which this is registered as, without its metaclass, with which `isinstance` takes
        twenty times as long: every point is asked."""

        __slots__ = ()
        get, keys, items, values = Mapping.get, Mapping.keys, Mapping.items, Mapping.values
        __contains__, __eq__, __hash__ = Mapping.__contains__, Mapping.__eq__, None

    Mapping.register(_AsMapping)


class Unread(_AsMapping[str, V], msgspec.Struct, eq=False, gc=False):
    """A mapping that is read when somebody looks into it. `wire`: what it is read from, by `read`; a view has hold of
    all that it is a part of, so whoever keeps it for long has it `settle`.

    Looking raises InvalidRequest if it is not what it was taken for, as often as it is tried."""

    is_slow: ClassVar[bool] = False  # to read many is work for another process: `read` is the same function for all
    wire: bytes | memoryview
    read: Callable[[Any], Mapping[str, V]]
    _known: Mapping[str, V] | None = None

    @property
    def is_read(self) -> bool:
        return self._known is not None

    def look(self) -> Mapping[str, V]:
        if self._known is None:
            self._known = self.read(self.wire)
        return self._known

    def settle(self) -> None:
        """Have hold of no more than is its own."""
        if type(self.wire) is memoryview:
            self.wire = bytes(self.wire)

    def know(self, known: Mapping[str, V]) -> None:
        """It was read elsewhere."""
        self._known = known

    def __getitem__(self, name: str) -> V:
        return self.look()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.look())

    def __len__(self) -> int:
        return len(self.look())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.wire)} bytes)"


class Reader(ABC, Generic[V]):
    """What reads an `Unread`, and many of them in less time than one after the other."""

    def __call__(self, wire: bytes) -> Mapping[str, V]:
        """Raises InvalidRequest."""
        (found,) = self.all([wire])
        return found

    @abstractmethod
    def all(self, wires: Sequence[Any]) -> Iterable[Mapping[str, V]]:
        """What each of them says, in their order. Raises InvalidRequest if one is not what it was taken for."""


class UnreadVector(Unread[Vector], gc=False):
    """The one vector of a point, dense and without a name. Most of what is written are vectors, and often nobody looks
    at them. Its numbers are finite, or looking raises."""


class Point(msgspec.Struct, frozen=True, eq=False, gc=False):
    """A point, or the selected part of one. `vectors` maps name to vector, "" is the unnamed one.

    `native`: the same point as a client of its vendor sent it, in that vendor's encoding; b"" where nobody did. Two
    that differ in nothing else are equal.

    (A struct of msgspec's, which takes a tenth of the time to make that a frozen dataclass does, and one that the
    garbage collector does not walk: there are many, and nothing in them leads back.)
    """

    id: PointId
    vectors: Mapping[str, Vector] = msgspec.field(default_factory=dict)
    payload: Mapping[str, Json] = msgspec.field(default_factory=dict)
    native: bytes = b""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Point):
            return NotImplemented
        return (self.id, self.vectors, self.payload) == (other.id, other.vectors, other.payload)


class Metric(Enum):
    """How a score arises. In the model higher is always better, so distances are negated."""

    COSINE = "cosine"  # cosine similarity, -1..1
    DOT = "dot"  # inner product
    EUCLID = "euclid"  # minus the true (not squared) L2 distance
    MANHATTAN = "manhattan"  # minus the L1 distance


class Hit(msgspec.Struct, frozen=True, gc=False):
    """A point found by a search; `score` is higher-is-better (see `Metric`)."""

    point: Point
    score: float


def points_by_id(points: Sequence[Point]) -> dict[PointId, Point]:
    return {point.id: point for point in points}
