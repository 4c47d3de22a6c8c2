"""Rows and columns: float buffers go through messages unchanged, and chunks keep to their bounds."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import chain
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.messages import milvus, schema
from proxy.dialects.milvus.rows import (
    Rows,
    chunks,
    decode_points,
    encode_points,
    float_bytes,
    keys_of,
    marks_in,
    scores_of,
    written,
)
from proxy.dialects.milvus.schema import Layout, VectorField
from proxy.model import Metric, MultiVector, Point, PointId, SparseVector, Vector

TWO = Layout(
    "id",
    IdMapping.TEXT,
    1024,
    {"": VectorField("vector", 3, Metric.COSINE, "HNSW"), "b": VectorField("b", 2, Metric.DOT, "FLAT")},
)
ONE = Layout("pk", IdMapping.INTEGER, 0, {"": VectorField("vector", 2, Metric.COSINE, "HNSW")})


def floats(*values: float) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


@given(st.lists(st.floats(width=32), max_size=300))
def test_a_buffer_goes_through_a_float_array_unchanged(values: list[float]) -> None:
    buffer = floats(*values)
    message = schema.FloatArray.FromString(schema.FloatArray(data=values).SerializeToString())
    assert float_bytes(message) == buffer
    np.testing.assert_array_equal(np.asarray(message.data, "<f4"), np.frombuffer(buffer, "<f4"))


@pytest.mark.parametrize("layout", [ONE, TWO])
def test_points_come_back_from_their_columns(layout: Layout) -> None:
    ids: list[PointId] = [7, 8, 2**62]
    points = [
        Point(each, {name: floats(*range(at + 1, at + 1 + v.size)) for name, v in layout.vectors.items()}, {"n": at})
        for at, each in enumerate(ids)
    ]
    rows = encode_points(points, layout)
    assert rows.refused == {}
    for kind in (milvus.UpsertRequest, milvus.InsertRequest):
        request = kind.FromString(written(kind(num_rows=3), rows.rows, layout))
        assert request.num_rows == 3
        fields = request.fields_data
        assert decode_points(fields, keys_of(fields, layout), layout) == points
        dims = {column.field_name: column.vectors.dim for column in fields if column.vectors.dim}
        assert dims == {vector.field: vector.size for vector in layout.vectors.values()}


@pytest.mark.parametrize(
    ("point_id", "vectors", "reason"),
    [
        ("x", {"": floats(1, 2)}, "not an integer"),
        (1, {}, "no vector ''"),
        (1, {"": floats(1, 2), "b": floats(1, 2)}, "no vector 'b'"),
        (1, {"": floats(1, 2, 3)}, "3 dimensions instead of 2"),
        (1, {"": floats(1, math.nan)}, "not finite"),
        (1, {"": floats(-math.inf, 1)}, "not finite"),
        (1, {"": floats(0, 0)}, "for a cosine"),
        (1, {"": floats(1e-25, 0)}, "for a cosine"),
        (1, {"": floats(3e38, 3e38)}, "for a cosine"),
        (1, {"": SparseVector((1,), floats(1))}, "not a dense"),
        (1, {"": MultiVector((floats(1, 2),))}, "not a dense"),
    ],
)
def test_a_point_without_a_row_says_why_and_stands_alone(
    point_id: PointId, vectors: dict[str, Vector], reason: str
) -> None:
    good = Point(5, {"": floats(1, 2)})
    rows = encode_points([good, Point(point_id, vectors), Point(6, {"": floats(2, 1)})], ONE)
    assert rows.rows.ids == [5, 6]
    assert list(rows.refused) == [point_id]
    assert reason in rows.refused[point_id]


@pytest.mark.parametrize("point_id", [2**63, -(2**63) - 1, "x", UUID(int=7)])
def test_an_integer_key_that_does_not_fit_is_refused_alone(point_id: PointId) -> None:
    good: list[PointId] = [2**63 - 1, -(2**63), 0]
    encoded = encode_points([Point(each, {"": floats(1, 2)}) for each in (*good, point_id)], ONE)
    assert encoded.rows.keys == good
    assert list(encoded.refused) == [point_id]


def test_only_a_cosine_needs_a_direction() -> None:
    layout = replace(ONE, vectors={"": VectorField("vector", 2, Metric.DOT, "FLAT")})
    points = [Point(1, {"": floats(0, 0)}), Point(2, {"": floats(3e38, 3e38)}), Point(3, {"": floats(math.inf, 0)})]
    encoded = encode_points(points, layout)
    assert encoded.rows.ids == [1, 2]
    assert "not finite" in encoded.refused[3]


def test_each_vector_of_a_point_has_to_be_one_that_can_be_searched() -> None:
    good, bad = floats(1, 2), floats(math.nan, 1)
    points = [Point(str(at), {"": floats(1, 2, 3), "b": bad if at == 1 else good}) for at in range(3)]
    encoded = encode_points(points, TWO)
    assert encoded.rows.ids == ["0", "2"]
    assert encoded.rows.vectors == ([floats(1, 2, 3)] * 2, [good] * 2)
    assert "not finite" in encoded.refused["1"]


def test_of_many_points_each_that_has_no_row_is_told() -> None:
    odd = {0, 5, 6, 98, 99}
    points = [Point(at, {"": floats(1) if at in odd else floats(1, 2)}) for at in range(100)]
    encoded = encode_points(points, ONE)
    assert encoded.rows.ids == [at for at in range(100) if at not in odd]
    assert list(encoded.refused) == sorted(odd)


def test_rows_tell_their_marks() -> None:
    points = [Point(at, {"": floats(1, 2)}, {"tag": tag}) for at, tag in enumerate(("plain", None, True))]
    assert marks_in(encode_points(points, ONE).rows) == {"n:tag", "t:tag"}


@given(st.lists(st.integers(0, 500), max_size=40), st.integers(1, 10), st.integers(1, 2000))
def test_chunks_keep_order_and_bounds(sizes: list[int], max_rows: int, max_bytes: int) -> None:
    places = list(range(len(sizes)))
    vectors = ([b"v" * 100] * len(sizes), [b"v" * 200] * len(sizes))
    rows = Rows([*places], [*places], vectors, [b"x" * size for size in sizes], [frozenset({str(at)}) for at in places])
    pieces = list(chunks(rows, max_rows, max_bytes))
    joined = Rows([], [], ([], []), [], [])
    for piece in pieces:
        joined.add(piece)
        assert 1 <= len(piece) <= max_rows
        size_bytes = sum(map(len, chain(piece.dynamic, *piece.vectors)))
        assert len(piece) == 1 or size_bytes <= max_bytes
    assert joined == rows


def test_scores_point_up() -> None:
    assert list(scores_of([0.5, 0.25], Metric.COSINE)) == [0.5, 0.25]
    assert list(scores_of([-7.0], Metric.DOT)) == [-7.0]
    assert list(scores_of([25.0, -1e-9], Metric.EUCLID)) == [-5.0, 0.0]
