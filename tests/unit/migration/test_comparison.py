"""When two points are the same."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import CollectionSpec, Metric, MultiVector, Point, SparseVector, VectorSpec
from proxy.replication.comparison import bucket, canonical_payload, difference, fingerprint, same_vector
from proxy.replication.hints import units


def f32(*values: float) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


COSINE = CollectionSpec({"": VectorSpec(3, Metric.COSINE)})
DOT = CollectionSpec({"": VectorSpec(3, Metric.DOT)})


def test_the_order_of_keys_does_not_count_but_the_type_of_a_number_does() -> None:
    assert canonical_payload({"a": 1, "b": {"d": 2, "c": 3}}) == canonical_payload({"b": {"c": 3, "d": 2}, "a": 1})
    assert canonical_payload({"a": 1}) != canonical_payload({"a": 1.0})
    assert canonical_payload({"a": None}) != canonical_payload({})


def test_ids_of_different_types_are_different_points() -> None:
    assert fingerprint(Point(7)) != fingerprint(Point("7"))
    assert fingerprint(Point(7)) != fingerprint(Point(UUID(int=7)))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (Point(1), None, "missing"),
        (None, Point(1), "extra"),
        (None, None, ""),
        (Point(1, {}, {"a": 1}), Point(1, {}, {"a": 2}), "payload"),
        (Point(1, {"": f32(1, 2, 3)}), Point(1, {"": f32(1, 2, 3.01)}), "vector"),
        (Point(1, {"": f32(1, 2, 3)}), Point(1, {}), "vector"),
        (Point(1, {"": f32(1, 2, 3)}, {"a": 1}), Point(1, {"": f32(1, 2, 3)}, {"a": 1}), ""),
    ],
)
def test_what_differs_is_named(left: Point | None, right: Point | None, expected: str) -> None:
    assert difference(left, right, DOT, by_direction=True) == expected


def test_cosine_vectors_are_compared_by_direction_if_a_store_keeps_unit_vectors() -> None:
    kept, sent = Point(1, {"": units([f32(1, 2, 3)])[0]}), Point(1, {"": f32(1, 2, 3)})
    assert difference(kept, sent, COSINE, by_direction=True) == ""
    assert difference(kept, sent, COSINE, by_direction=False) == "vector"
    assert difference(kept, sent, DOT, by_direction=True) == "vector"


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=64).filter(lambda v: max(map(abs, v)) > 1e-3))
def test_normalising_in_another_precision_is_no_difference(values: list[float]) -> None:
    exact = np.asarray(values, dtype=np.float64)
    there = (exact / np.linalg.norm(exact)).astype("<f4").tobytes()
    assert same_vector(units([f32(*values)])[0], there, by_direction=True)
    assert same_vector(f32(*values), there, by_direction=True)


def test_a_zero_vector_is_only_the_same_as_itself() -> None:
    assert same_vector(f32(0, 0, 0), f32(0, 0, 0), by_direction=True)
    assert not same_vector(f32(0, 0, 0), f32(1, 0, 0), by_direction=True)


def test_sparse_and_multi_vectors() -> None:
    assert same_vector(SparseVector((1, 5), f32(1, 2)), SparseVector((1, 5), f32(1, 2)), False)
    assert not same_vector(SparseVector((1, 5), f32(1, 2)), SparseVector((1, 6), f32(1, 2)), False)
    assert same_vector(MultiVector((f32(1), f32(2))), MultiVector((f32(1), f32(2))), False)
    assert not same_vector(MultiVector((f32(1),)), f32(1), False)


@given(st.integers(0, 2**64 - 1) | st.uuids())
def test_an_id_is_always_in_the_same_bucket(point_id: int | UUID) -> None:
    assert 0 <= bucket(point_id, 64) == bucket(point_id, 64) < 64
