"""Vectors that are slow to read, read before they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest

from proxy.dialects.qdrant.rest_upserts import unread_upsert
from proxy.errors import InvalidRequest
from proxy.model import Point, UnreadVector
from proxy.offload import Offload
from proxy.replication.read_ahead import read_ahead
from proxy.telemetry.metrics import Metrics

DIM = 768


class Counting(Offload):
    """Whose process never begins: all is done here, and counted."""

    def __init__(self) -> None:
        super().__init__(Metrics())
        self._closed = True
        self.works = 0

    async def run(self, work: Callable[..., Any], data: Sequence[bytes], *given: object) -> Any:
        self.works += 1
        return await super().run(work, data, *given)


def points(count: int, first: list[object] | None = None) -> list[Point]:
    vectors = [[number / 7 + place / 1000 for place in range(DIM)] for number in range(count)]
    listed = [{"id": number, "vector": vector} for number, vector in enumerate(vectors)]
    if first is not None:
        listed[0]["vector"] = first
    upsert = unread_upsert("c", orjson.dumps({"points": listed}))
    assert upsert is not None
    return list(upsert.points)


def vectors_of(point: Point) -> UnreadVector:
    assert isinstance(point.vectors, UnreadVector)
    return point.vectors


async def test_many_are_read_at_once_and_are_what_they_would_have_been() -> None:
    ahead, plain, offload = points(64), points(64), Counting()
    await read_ahead(ahead, offload)
    assert offload.works == 1
    assert all(vectors_of(point).is_read for point in ahead)
    assert [dict(point.vectors) for point in ahead] == [dict(point.vectors) for point in plain]
    await read_ahead(ahead, offload)
    assert offload.works == 1


async def test_more_than_a_megabyte_leaves_room_for_the_work_of_others_in_between() -> None:
    ahead, plain, offload = points(500), points(500), Counting()
    await read_ahead(ahead, offload)
    assert offload.works == -(-sum(len(vectors_of(point).wire) for point in plain) // (1 << 20))
    assert [dict(point.vectors) for point in ahead] == [dict(point.vectors) for point in plain]


async def test_few_are_left_to_be_read_when_they_are_needed() -> None:
    some, offload = points(4), Counting()
    await read_ahead(some, offload)
    await read_ahead([], offload)
    assert offload.works == 0
    assert not any(vectors_of(point).is_read for point in some)


async def test_one_that_cannot_be_read_harms_no_other_and_says_so_when_it_is_asked_for() -> None:
    some, offload = points(64, first=[None]), Counting()
    await read_ahead(some, offload)
    assert [vectors_of(point).is_read for point in some] == [False] + 63 * [True]
    with pytest.raises(InvalidRequest):
        dict(some[0].vectors)
