"""Both stores, point by point, as the official clients of their vendors see them: qdrant-client and pymilvus.

Deliberately not our own `verify`, and without our own adapters: what an application would find after it has moved.
The form in which a point stands in Milvus is that of docs/milvus.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pymilvus import MilvusClient, MilvusException
from qdrant_client import QdrantClient

from tests.support.migration import Migration
from tests.support.qdrant_engines import QdrantEmulator

DIRECTION_TOLERANCE = 1e-6  # of 1 - cosine
_ESCAPED = "_crossfade_key_"
_RESERVED = "_crossfade_"

Points = dict[str, tuple[str, dict[str, list[float]]]]  # id as text -> payload as JSON, vectors by name


def _connected(uri: str) -> MilvusClient:
    """gRPC shares what is below the connections of a process to one address, so that a new one can meet the end of an
    old one ("Too many pings"): that is tried again, twice."""
    for _ in range(2):
        try:
            return MilvusClient(uri, timeout=20, dedicated=True)
        except MilvusException as error:
            if "Fail connecting" not in str(error):
                raise
    return MilvusClient(uri, timeout=20, dedicated=True)


@contextmanager
def milvus_of(migration: Migration) -> Iterator[MilvusClient]:
    """pymilvus at the target, with a connection of its own: one that it keeps and shares sends more pings than Milvus
    Lite allows, and is closed."""
    assert not isinstance(migration.target, QdrantEmulator)
    client = _connected(f"http://{migration.target.address}")
    try:
        yield client
    finally:
        client.close()


def in_source(client: QdrantClient, collection: str) -> Points:
    found: Points = {}
    offset: Any = None
    while True:
        records, offset = client.scroll(collection, limit=500, offset=offset, with_payload=True, with_vectors=True)
        for record in records:
            vectors = record.vector if isinstance(record.vector, dict) else {"": record.vector}
            found[str(record.id)] = (_canonical(record.payload or {}), vectors)  # type: ignore[assignment]
        if offset is None:
            return found


def in_target(client: MilvusClient, collection: str) -> Points:
    """Empty if there is no such collection. At most 16,384 points."""
    if not client.has_collection(collection):
        return {}
    client.load_collection(collection)
    fields = client.describe_collection(collection)["fields"]
    vectors = [field["name"] for field in fields if "dim" in field.get("params", {})]
    key = next(field["name"] for field in fields if field.get("is_primary"))
    everything = f'{key} >= ""' if "max_length" in fields[0].get("params", {}) else f"{key} > {-(2**63) + 1}"
    rows = client.query(collection, everything, output_fields=["*"], limit=16_384, consistency_level="Strong")
    found: Points = {}
    for row in rows:
        payload = {
            name.removeprefix(_ESCAPED): value
            for name, value in row.items()
            if name not in (key, *vectors) and (name.startswith(_ESCAPED) or not name.startswith(_RESERVED))
        }
        named = {"" if name == "vector" else name: row[name] for name in vectors}
        found[str(row[key])] = (_canonical(payload), named)
    return found


def of_target(migration: Migration, collection: str) -> Points:
    """Of whichever vendor it is. Empty if there is no such collection."""
    if isinstance(migration.target, QdrantEmulator):
        return _if_there(migration.at_target(), collection)
    with milvus_of(migration) as milvus:
        return in_target(milvus, collection)


def _if_there(client: QdrantClient, collection: str) -> Points:
    return in_source(client, collection) if client.collection_exists(collection) else {}


def differences(migration: Migration, collection: str) -> list[str]:
    """What is not the same in the two stores, a line each. Empty also means: neither has the collection."""
    here, there = _if_there(migration.direct(), collection), of_target(migration, collection)
    lines = [f"{point_id} is missing on the target" for point_id in here.keys() - there.keys()]
    lines += [f"{point_id} is only on the target" for point_id in there.keys() - here.keys()]
    for point_id in here.keys() & there.keys():
        (payload, vectors), (other_payload, other_vectors) = here[point_id], there[point_id]
        if payload != other_payload:
            lines.append(f"{point_id}: payload {payload} is {other_payload} on the target")
        if vectors.keys() != other_vectors.keys():
            lines.append(f"{point_id}: vectors {sorted(vectors)} are {sorted(other_vectors)} on the target")
        elif not all(_same_vector(vectors[name], other_vectors[name]) for name in vectors):
            lines.append(f"{point_id}: a vector differs")
    return lines


def assert_equal(migration: Migration, collection: str, points: int | None = None) -> None:
    """Nothing is under way, and both stores hold the same points; `points` of them, if given."""
    migration.rest()
    lines = differences(migration, collection)
    assert not lines, lines
    if points is not None:
        assert migration.direct().count(collection).count == points


def _canonical(payload: dict[str, Any]) -> str:
    return json.dumps(payload, sort_keys=True)


def _same_vector(one: list[float], other: list[float]) -> bool:
    """Within what float32 leaves of it: the same direction and, relatively, the same length."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if a.shape != b.shape:
        return False
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if 0.0 in lengths:
        return lengths == (0.0, 0.0)
    cosine = float(np.dot(a, b)) / (lengths[0] * lengths[1])
    return 1.0 - cosine <= DIRECTION_TOLERANCE and abs(lengths[0] / lengths[1] - 1.0) <= 1e-5
