"""Which writes determine the state they leave, and what becomes of a hint."""

from __future__ import annotations

import numpy as np
import pytest

from proxy.model import (
    Batch,
    CollectionSpec,
    Delete,
    Filter,
    Ids,
    Match,
    Metric,
    OpaqueWrite,
    Point,
    SetPayload,
    SparseVector,
    Upsert,
    VectorSpec,
    Where,
    Write,
)
from proxy.replication.hints import Hints, certain_states, unit

MATCH: Filter = Match("a", 1)


def f32(*values: float) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


SPEC = CollectionSpec({"": VectorSpec(2, Metric.COSINE), "dot": VectorSpec(2, Metric.DOT)})
POINT = Point(1, {"": f32(3, 4), "dot": f32(3, 4)}, {"a": 1})


def test_a_whole_point_is_hinted_as_the_primary_returns_it() -> None:
    states = certain_states(Upsert("c", (POINT,)), SPEC, normalizes_cosine=True)
    hinted = states[1]
    assert hinted is not None
    assert hinted.payload == {"a": 1}
    assert np.allclose(np.frombuffer(hinted.vectors[""], "<f4"), [0.6, 0.8])  # type: ignore[arg-type]
    assert hinted.vectors["dot"] == f32(3, 4)


def test_a_delete_by_id_is_hinted_as_absent() -> None:
    assert certain_states(Delete("c", Ids((1, 2))), None, True) == {1: None, 2: None}


@pytest.mark.parametrize(
    "write",
    [
        Upsert("c", (POINT,), condition=MATCH),
        Upsert("c", (POINT,), mode="insert_only"),
        Upsert("c", (POINT, POINT)),
        Upsert("c", (Point(1, {"unknown": f32(1, 2)}),)),
        Upsert("c", (Point(1, {"": f32(1, 2, 3)}),)),
        Upsert("c", (Point(1, {"": SparseVector((1,), f32(1))}),)),
        Delete("c", Ids((1, 1))),
        Delete("c", Where(MATCH)),
        SetPayload("c", {"a": 1}, Ids((1,))),
        OpaqueWrite("c", (1,), "inference"),
        Batch("c", (Delete("c", Ids((1,))), Upsert("c", (POINT,)))),
    ],
    ids=lambda write: repr(write)[:60],
)
def test_everything_else_is_read_from_the_primary(write: Write) -> None:
    assert certain_states(write, SPEC, True) == {}


def test_a_vector_that_the_store_keeps_otherwise_gives_no_hint() -> None:
    spec = CollectionSpec({"": VectorSpec(2, Metric.DOT, datatype="float16")})
    assert certain_states(Upsert("c", (Point(1, {"": f32(1, 2)}),)), spec, True) == {}
    assert certain_states(Upsert("c", (POINT,)), None, True) == {}


def test_a_zero_vector_stays_as_it_is() -> None:
    assert unit(f32(0, 0)) == f32(0, 0)


def test_a_hint_serves_only_the_mark_it_belongs_to_and_only_once() -> None:
    hints = Hints(10_000)
    hints.put(5, {1: POINT})
    assert hints.take(1, 6) == (False, None)
    hints.put(5, {1: POINT})
    assert hints.take(1, 5) == (True, POINT)
    assert hints.take(1, 5) == (False, None)
    hints.put(7, {2: None})
    assert hints.take(2, 7) == (True, None)
    assert hints.size_bytes == 0


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    hints = Hints(3000)
    dropped = sum(hints.put(number, {number: Point(number, {"": bytes(400)})}) for number in range(100))
    assert hints.size_bytes <= 3000
    assert dropped > 90
    assert hints.take(0, 0) == (False, None)
    assert hints.take(99, 99)[0]
