"""Of many points, those before the first that does not fit a collection, and why that does not."""

from __future__ import annotations

import struct

import pytest

from proxy.model import CollectionSpec, Metric, Point, SparseVector, UnreadVector, Vector, VectorSpec
from proxy.stores.point_shape import fitting_before

SPEC = CollectionSpec({"": VectorSpec(2, Metric.DOT), "other": VectorSpec(3, Metric.DOT)})


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


GOOD = Point(1, {"": floats(1, 2), "other": floats(1, 2, 3)})
LACKING = Point(2, {"": floats(3, 4)})
UNREAD = Point(3, UnreadVector(floats(5, 6), lambda wire: {"": wire}))


def test_all_that_fit_are_all() -> None:
    points = [GOOD, LACKING, UNREAD, Point(4, {})]
    assert fitting_before(SPEC, points) == (points, "")
    assert fitting_before(SPEC, []) == ([], "")


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        ({"": floats(1, float("inf"))}, "not finite"),
        ({"other": floats(1, float("nan"), 3)}, "not finite"),
        ({"": floats(1, 2, 3)}, "expected dim: 2, got 3"),
        ({"third": floats(1, 2)}, "Not existing vector name error: third"),
        ({"": SparseVector((1,), floats(1))}, "expected a dense vector"),
    ],
)
def test_the_first_that_does_not_fit_ends_them(vectors: dict[str, Vector], reason: str) -> None:
    before, told = fitting_before(SPEC, [GOOD, UNREAD, Point(9, vectors), LACKING])
    assert list(before) == [GOOD, UNREAD]
    assert reason in told
