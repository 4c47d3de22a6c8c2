"""When are two points the same? Pure.

Ids and payloads are compared exactly, by a canonical form in which key order does not count and 1 is not 1.0. Vectors
are never equal bit for bit across stores (one normalises in float32, the other in float64, a third not at all), so
they are compared with a stated tolerance: by direction where either side keeps unit vectors, else by value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import orjson

from proxy.model import CollectionSpec, Json, Metric, MultiVector, Point, PointId, SparseVector, Vector

DIRECTION_TOLERANCE = 1e-6  # of 1 - cosine
VALUE_TOLERANCE = 1e-5  # relative, and of the largest component


def canonical_payload(payload: Mapping[str, Json]) -> bytes:
    """JSON with sorted keys; floats keep their ".0"."""
    return orjson.dumps(dict(payload), option=orjson.OPT_SORT_KEYS)


def fingerprint(point: Point) -> int:
    """64 bits over id (with its type) and payload, to be summed into buckets."""
    digest = hashlib.blake2b(_canonical_id(point.id), digest_size=8)
    digest.update(canonical_payload(point.payload))
    return int.from_bytes(digest.digest(), "little")


def bucket(point_id: PointId, buckets: int) -> int:
    """Where the id is counted; the same for both stores."""
    digest = hashlib.blake2b(_canonical_id(point_id), digest_size=4).digest()
    return int.from_bytes(digest, "little") % buckets


def _canonical_id(point_id: PointId) -> bytes:
    return f"{type(point_id).__name__}:{point_id}".encode()


def difference(left: Point | None, right: Point | None, spec: CollectionSpec, by_direction: bool) -> str:
    """ "" if the same, else what differs: "missing", "extra", "payload" or "vector"."""
    if left is None and right is None:
        return ""
    if right is None:
        return "missing"
    if left is None:
        return "extra"
    if canonical_payload(left.payload) != canonical_payload(right.payload):
        return "payload"
    if left.vectors.keys() != right.vectors.keys():
        return "vector"
    for name, vector in left.vectors.items():
        known = spec.vectors.get(name)
        directional = by_direction and known is not None and known.metric is Metric.COSINE
        if not same_vector(vector, right.vectors[name], directional):
            return "vector"
    return ""


def same_vector(left: Vector, right: Vector, by_direction: bool) -> bool:
    """Within tolerance; zero vectors are the same only as each other."""
    match left, right:
        case bytes(), bytes():
            return _same_dense(left, right, by_direction)
        case SparseVector(), SparseVector():
            return left.indices == right.indices and _same_dense(left.values, right.values, False)
        case MultiVector(), MultiVector():
            return len(left.rows) == len(right.rows) and all(
                _same_dense(a, b, by_direction) for a, b in zip(left.rows, right.rows, strict=True)
            )
        case _:
            return False


def _same_dense(left: bytes, right: bytes, by_direction: bool) -> bool:
    if left == right:
        return True
    if len(left) != len(right):
        return False
    a = np.frombuffer(left, dtype="<f4").astype(np.float64)
    b = np.frombuffer(right, dtype="<f4").astype(np.float64)
    if by_direction:
        lengths = float(np.sqrt(np.dot(a, a)) * np.sqrt(np.dot(b, b)))
        return lengths > 0 and 1.0 - float(np.dot(a, b)) / lengths <= DIRECTION_TOLERANCE
    scale = float(np.max(np.abs(a), initial=0.0))
    return bool(np.all(np.abs(a - b) <= VALUE_TOLERANCE * np.maximum(np.abs(a), scale)))
