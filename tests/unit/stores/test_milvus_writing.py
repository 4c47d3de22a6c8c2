"""What MilvusWriter puts, and of which points it says that the server does not hold them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.requests import Place
from proxy.dialects.milvus.rows import Rows
from proxy.dialects.milvus.schema import Layout, VectorField
from proxy.dialects.milvus.status import InvalidRowError
from proxy.errors import Refused, Throttled, Unclear
from proxy.model import Metric, Point, PointId
from proxy.stores import WriteReport, milvus_writing
from proxy.stores.milvus_collection import MilvusCollection
from proxy.stores.milvus_survey import Survey
from proxy.stores.milvus_writing import MilvusWriter
from tests.support.contract_points import floats

LAYOUT = Layout("id", IdMapping.INTEGER, 0, {"": VectorField("vector", 2, Metric.COSINE, "HNSW")})
MANY = range(2 * milvus_writing._TURN_POINTS + 2)  # three turns
LAST = MANY[-1]


class Writer(MilvusWriter):
    """Before a server that fails a request with one of these points in it."""

    def __init__(self, failures: dict[PointId, Exception]) -> None:
        super().__init__(cast(Any, None), cast(Any, None), cast(Any, None))
        self.failures = failures
        self.put: list[list[PointId]] = []

    async def _put(self, collection: MilvusCollection, rows: Rows) -> None:
        for point_id in rows.ids:
            if point_id in self.failures:
                raise self.failures[point_id]
        self.put.append(rows.ids)

    async def write(self, points: list[Point], *, whole: bool = False) -> WriteReport:
        return await self.upsert(MilvusCollection("docs", Place("", "docs"), LAYOUT, Survey(empty=True)), points, whole)


def points(ids: Any, odd: Any = ()) -> list[Point]:
    """`odd`: those without a direction, which no row can have."""
    return [Point(each, {"": floats(0.0, 0.0) if each in odd else floats(1.0, 2.0)}) for each in ids]


async def test_points_of_every_turn_are_put_at_once_and_refused_ones_told() -> None:
    writer = Writer({})
    report = await writer.write(points(MANY, odd=(3, LAST)))
    assert set(report.refused) == {3, LAST}
    assert writer.put == [[each for each in MANY if each not in (3, LAST)]]


async def test_nothing_is_put_of_what_must_be_put_whole() -> None:
    writer = Writer({})
    report = await writer.write(points(MANY, odd=(LAST,)), whole=True)
    assert not report.put
    assert set(report.refused) == {LAST}
    assert not writer.put


async def test_a_row_that_the_server_refuses_takes_no_other_with_it() -> None:
    writer = Writer({5: InvalidRowError("too odd"), 7: Refused("not now")})
    report = await writer.write(points(range(10)))
    assert dict(report.refused) == {5: "too odd", 7: "not now"}
    assert writer.put == [[each] for each in range(10) if each not in (5, 7)]


async def test_a_server_that_refuses_every_row_for_another_reason_refuses_the_write() -> None:
    refusal = Refused("not loaded")
    with pytest.raises(Refused, match="not loaded"):
        await Writer(dict.fromkeys(range(4), refusal)).write(points(range(4)))


async def test_what_was_put_before_a_failure_makes_it_unclear() -> None:
    writer = Writer({2: Refused("odd"), 3: Throttled("later")})
    with pytest.raises(Unclear, match="a part of 5 points was put"):
        await writer.write(points(range(5)))
    assert writer.put == [[0], [1]]
