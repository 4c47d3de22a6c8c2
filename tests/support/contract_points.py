"""Points for the contract suite: builders, the data set that filters are tried on, and when two points are the same."""

from __future__ import annotations

import random
from collections.abc import Mapping
from uuid import UUID

import numpy as np

from proxy.model import Json, Metric, Point, PointId, Vector

DIMENSION = 4


def floats(*values: float) -> bytes:
    """A float32 buffer."""
    return np.asarray(values, dtype="<f4").tobytes()


def point(point_id: PointId, vector: bytes | None = None, **payload: Json) -> Point:
    """A point with an unnamed vector; without one given, a vector of its own that no other small id has."""
    if vector is None:
        seed = point_id if isinstance(point_id, int) else hash(point_id)
        vector = floats(*np.random.default_rng(seed % 2**32).normal(size=DIMENSION))
    return Point(point_id, {"": vector}, payload)


def uuid(number: int) -> UUID:
    return UUID(int=number)


def unit(vector: bytes) -> bytes:
    values = np.frombuffer(vector, dtype="<f4").astype(np.float64)
    length = float(np.linalg.norm(values))
    return vector if length == 0 else floats(*(values / length))


def stored_vector(vector: bytes, metric: Metric, normalizes_cosine: bool) -> bytes:
    """What a store returns for a vector that was put in."""
    return unit(vector) if normalizes_cosine and metric is Metric.COSINE else vector


def assert_same_vector(found: Vector, expected: Vector) -> None:
    assert isinstance(found, bytes)
    assert isinstance(expected, bytes)
    np.testing.assert_allclose(np.frombuffer(found, "<f4"), np.frombuffer(expected, "<f4"), rtol=1e-5, atol=1e-6)


def assert_same_payload(found: Mapping[str, Json], expected: Mapping[str, Json]) -> None:
    """Equal with their JSON types: 1 is not 1.0 and not true."""
    assert _typed(dict(found)) == _typed(dict(expected))


def _typed(value: Json) -> object:
    if isinstance(value, dict):
        return {key: _typed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_typed(inner) for inner in value]
    return type(value).__name__, value


def assert_same_point(found: Point, expected: Point, normalizes_cosine: bool, metric: Metric = Metric.COSINE) -> None:
    assert found.id == expected.id
    assert type(found.id) is type(expected.id)
    assert_same_payload(found.payload, expected.payload)
    assert set(found.vectors) == set(expected.vectors)
    for name, vector in expected.vectors.items():
        assert isinstance(vector, bytes)
        assert_same_vector(found.vectors[name], stored_vector(vector, metric, normalizes_cosine))


# --- the data set ------------------------------------------------------------------------
# Every field holds what it should, the same in an array, null, nothing, and values of other types.

_ODD: list[Json] = [None, [], {}, [None], [[]], "", 0, False]
_POOLS: dict[str, list[Json]] = {
    "color": ["red", "green", "blue", ["red", "blue"], ["green", None], [["red"]], "Red", 1, 1.0, True],
    "size": [1, 2, 3, -1, 2.0, 2.5, "2", [1, 2], [2.5, 7], ["1", 3], 2**53 + 1, 2**63 - 1, -(2**63), 1e300, True],
    "flag": [True, False, [True, False], [False], 1, 0, "true"],
    "tags": [["a"], ["a", "b"], ["b", "c", "d"], "a", ["a", "a"], [1, "a"], [["a", "b"]], "ä", "a'b\"c\\d\n"],
    "at": [
        "2024-02-29T12:00:00Z",
        "2024-02-29T12:00:00.123456Z",
        "2024-02-29T13:00:00+01:00",
        "2024-02-29T12:00:00",
        "2024-02-29 12:00:01",
        "2024-02-29",
        "2024-02-30",
        ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"],
        "soon",
        1709208000,
    ],
    "place": [
        {"lon": 13.4, "lat": 52.5},
        {"lon": 2.35, "lat": 48.85},
        {"lon": 179.9, "lat": -17.0},
        {"lon": -179.9, "lat": -17.0},
        [{"lon": 13.4, "lat": 52.5}, {"lon": 0.0, "lat": 0.0}],
        {"lon": "13.4", "lat": 52.5},
        {"lon": 13.4},
        "52.5,13.4",
    ],
    "inner": [
        {"a": {"b": 1}},
        {"a": {"b": [1, 2]}},
        {"a": {"b": None}},
        {"a": []},
        {"a": [{"b": 1}, {"b": 2}]},
        [{"a": 1}],
    ],
    "items": [
        [{"color": "red", "size": 1}, {"color": "blue", "size": 2}],
        [{"color": "red", "size": 2}],
        [{"color": "blue"}, {"size": 2}],
        [{"color": ["red", "blue"], "size": [1, 2]}],
        {"color": "red", "size": 2},
        [[{"color": "red", "size": 2}]],
        [{"parts": [{"n": 1}, {"n": 2}]}, {"parts": []}, {}, None, 3],
    ],
    "odd name.x": ["plain", 1],
}


def dataset(count: int = 160, *, nulls_in_arrays: bool = True) -> list[Point]:
    """Points with integer and UUID ids; the same every time."""
    draw = random.Random(7)
    points: list[Point] = []
    for number in range(count):
        point_id: PointId = number if number % 3 else uuid(number)
        payload: dict[str, Json] = {}
        for field, pool in _POOLS.items():
            kind = draw.random()
            if kind < 0.6:
                payload[field] = draw.choice(pool)
            elif kind < 0.8:
                payload[field] = draw.choice(_ODD)
        if not nulls_in_arrays:
            payload = {field: value for field, value in payload.items() if not _has_null_in_array(value)}
        points.append(Point(point_id, {"": floats(*(draw.gauss(0, 1) for _ in range(DIMENSION)))}, payload))
    return points


def _has_null_in_array(value: Json) -> bool:
    if isinstance(value, list):
        return any(each is None or _has_null_in_array(each) for each in value)
    return isinstance(value, dict) and any(_has_null_in_array(each) for each in value.values())
