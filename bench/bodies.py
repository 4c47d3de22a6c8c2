"""What is sent: vectors, points, and requests made ready as bytes, so that a load generator has nothing left to do.

Vectors are random directions; payloads are a text of about 100 characters, a kind and a number. JSON carries numbers as
an application in Python writes them (a float32 as the shortest text of its float64).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from qdrant_client import grpc as qdrant

Transport = Literal["http", "grpc"]
Work = Literal["search", "upsert", "write"]  # an upsert of 100 points, a write of one
Matrix = npt.NDArray[np.float32]

TRANSPORTS: tuple[Transport, ...] = ("http", "grpc")
NAMES: dict[Transport, str] = {"http": "REST", "grpc": "gRPC"}
DIMENSIONS = 768
UPSERT_POINTS = 100
HITS = 10
_SEARCHES = 50
_UPSERTS = 10  # different ones; the same 1,000 points are written again and again
_TEXT = "A sentence about as long as those that an application keeps beside a vector, to show what was found, no. "


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request: what HTTP writes to its socket, or a gRPC method and its message."""

    path: str
    body: bytes


def matrix(count: int, dimensions: int, seed: int) -> Matrix:
    """`count` random unit vectors, the same for the same seed."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimensions), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def payload(number: int) -> dict[str, Any]:
    return {"text": f"{_TEXT}{number}", "kind": f"kind {number % 7}", "number": number}


@lru_cache(maxsize=16)
def prepared(transport: Transport, work: Work, collection: str, address: str) -> list[Prepared]:
    """Different requests of one kind, to be sent in turn. `address` is that of an HTTP server."""
    match transport, work:
        case "http", "search":
            path = f"POST /collections/{collection}/points/query"
            return [_http(path, address, search_json(vector)) for vector in queries()]
        case "http", "upsert":
            path = f"PUT /collections/{collection}/points?wait=true"
            return [_http(path, address, _upsert_json(ids, vectors)) for ids, vectors in upserts()]
        case "http", "write":
            path = f"PUT /collections/{collection}/points?wait=true"
            return [_http(path, address, _upsert_json(ids[:1], vectors[:1])) for ids, vectors in upserts()]
        case "grpc", "search":
            path = "/qdrant.Points/Query"
            return [Prepared(path, search_message(collection, vector)) for vector in queries()]
        case _:
            path, most = "/qdrant.Points/Upsert", 1 if work == "write" else UPSERT_POINTS
            return [
                Prepared(path, upsert_message(collection, ids[:most], vectors[:most])) for ids, vectors in upserts()
            ]


def queries() -> Matrix:
    return matrix(_SEARCHES, DIMENSIONS, seed=7)


def upserts() -> list[tuple[range, Matrix]]:
    """Ids and vectors of each."""
    return [
        (range(number * UPSERT_POINTS, (number + 1) * UPSERT_POINTS), matrix(UPSERT_POINTS, DIMENSIONS, 1000 + number))
        for number in range(_UPSERTS)
    ]


def search_message(collection: str, vector: Matrix) -> bytes:
    """QueryPoints as qdrant-client sends it."""
    request = qdrant.QueryPoints(
        collection_name=collection,
        query=qdrant.Query(nearest=qdrant.VectorInput(dense=qdrant.DenseVector(data=vector.tolist()))),
        limit=HITS,
        with_payload=qdrant.WithPayloadSelector(enable=True),
    )
    return bytes(request.SerializeToString())


def upsert_message(collection: str, ids: Sequence[int], vectors: Matrix) -> bytes:
    """UpsertPoints that is waited for."""
    points = [
        qdrant.PointStruct(
            id=qdrant.PointId(num=number),
            payload=proto_payload(number),
            vectors=qdrant.Vectors(vector=qdrant.Vector(dense=qdrant.DenseVector(data=vector.tolist()))),
        )
        for number, vector in zip(ids, vectors, strict=True)
    ]
    request = qdrant.UpsertPoints(collection_name=collection, wait=True, points=points)
    return bytes(request.SerializeToString())


def proto_payload(number: int) -> dict[str, Any]:
    fields = payload(number)
    return {
        "text": qdrant.Value(string_value=fields["text"]),
        "kind": qdrant.Value(string_value=fields["kind"]),
        "number": qdrant.Value(integer_value=fields["number"]),
    }


def search_json(vector: Matrix) -> bytes:
    return orjson.dumps({"query": vector.tolist(), "limit": HITS, "with_payload": True})


def _upsert_json(ids: Sequence[int], vectors: Matrix) -> bytes:
    points = [
        {"id": number, "vector": vector.tolist(), "payload": payload(number)}
        for number, vector in zip(ids, vectors, strict=True)
    ]
    return orjson.dumps({"points": points})


def _http(method_and_target: str, address: str, body: bytes) -> Prepared:
    head = (
        f"{method_and_target} HTTP/1.1\r\nhost: {address}\r\nuser-agent: crossfade-bench\r\naccept: */*\r\n"
        f"accept-encoding: gzip, deflate\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return Prepared(method_and_target, head.encode() + body)
