"""What is asked and answered in the endurance run, known to both of its ends.

Every request has a number of its own, and every answer repeats it, so that an answer which reaches another request's
client is seen. A client sends the number as `x-request-id`; of searches every other one carries it in its body instead
(`hnsw_ef`), so that heads come again as they do from real clients. All numbers have the same length as text and as a
varint, so that all answers of a kind have the same length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import orjson
from qdrant_client import grpc as qdrant

from bench.bodies import (
    DIMENSIONS,
    HITS,
    Matrix,
    matrix,
    payload,
    proto_payload,
    queries,
    search_json,
    search_message,
    upsert_message,
)

Kind = Literal["search", "fetch", "large", "write", "upsert"]
Way = Literal["http", "tls", "grpc"]

KINDS: tuple[Kind, ...] = ("search", "fetch", "large", "write", "upsert")
WRITES: tuple[Kind, ...] = ("write", "upsert")
WAYS: tuple[Way, ...] = ("http", "tls", "grpc")
COLLECTION = "endured"
FIRST_ID, LAST_ID = 10_000_000, 99_999_999
POINTS = 1000  # written again and again
UPSERT_POINTS = 20
HEADER = "x-request-id"
METHODS: dict[Kind, str] = {
    "search": "/qdrant.Points/Query",
    "fetch": "/qdrant.Points/Get",
    "large": "/qdrant.Points/Scroll",
    "write": "/qdrant.Points/Upsert",
    "upsert": "/qdrant.Points/Upsert",
}
_LARGE_POINTS = 100
_LARGE_TEXT = "More than fits into what a connection holds, so that it is passed on while it comes. " * 180
_ID_BYTES = 4  # of a number as a varint
_IN_JSON = b'{"params":{"hnsw_ef":'
_IN_MESSAGE = qdrant.QueryPoints(params=qdrant.SearchParams(hnsw_ef=FIRST_ID)).SerializeToString()[:-_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is sent: over HTTP a head and a body, over gRPC a method and a message."""

    head: bytes
    body: bytes
    path: str
    keys: range  # that it writes


def over_http(kind: Kind, number: int, in_body: bool) -> Asked:
    named = "" if in_body else f"{HEADER}: {number}\r\n"
    keys = keys_of(kind, number)
    match kind:
        case "search":
            body = _searches()[number % len(_searches())]
            if in_body:
                body = b"%b%d},%b" % (_IN_JSON, number, body[1:])
            path = f"POST /collections/{COLLECTION}/points/query"
        case "fetch":
            body, path = b"", f"GET /collections/{COLLECTION}/points/{number % POINTS}"
        case "large":
            body, path = b'{"limit":%d}' % _LARGE_POINTS, f"POST /collections/{COLLECTION}/points/scroll"
        case _:
            body = b'{"points":[%b]}' % b",".join(_points_json()[keys.start : keys.stop])
            path = f"PUT /collections/{COLLECTION}/points?wait=true"
    length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    head = (
        f"{path} HTTP/1.1\r\nhost: endurance\r\nuser-agent: crossfade-endurance\r\naccept: */*\r\n{length}{named}\r\n"
    )
    return Asked(head.encode(), body, path, keys)


def over_grpc(kind: Kind, number: int, in_body: bool) -> Asked:
    keys = keys_of(kind, number)
    match kind:
        case "search":
            message = _searches_proto()[number % len(_searches_proto())]
            if in_body:
                message = _IN_MESSAGE + _varint(number) + message
        case "fetch":
            asked = qdrant.GetPoints(collection_name=COLLECTION, ids=[qdrant.PointId(num=number % POINTS)])
            message = asked.SerializeToString()
        case "large":
            message = qdrant.ScrollPoints(collection_name=COLLECTION, limit=_LARGE_POINTS).SerializeToString()
        case _:
            message = _upserts_proto(kind)[keys.start // len(keys)]
    return Asked(b"", message, METHODS[kind], keys)


def keys_of(kind: Kind, number: int) -> range:
    """The points that a request with this number writes."""
    match kind:
        case "write":
            return range(number % POINTS, number % POINTS + 1)
        case "upsert":
            start = number % (POINTS // UPSERT_POINTS) * UPSERT_POINTS
            return range(start, start + UPSERT_POINTS)
        case _:
            return range(0)


def number_in_json(start: bytes) -> int:
    """The number in the beginning of a search's body; 0 if there is none, or not yet."""
    end = len(_IN_JSON) + 8
    return int(start[len(_IN_JSON) : end]) if start.startswith(_IN_JSON) and len(start) >= end else 0


def number_in_message(message: bytes) -> int:
    """The same of a gRPC message behind its prefix of five bytes."""
    start = 5 + len(_IN_MESSAGE)
    if not message.startswith(_IN_MESSAGE, 5) or len(message) < start + _ID_BYTES:
        return 0
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(message[start : start + _ID_BYTES]))


def http_body(kind: Kind, number: int) -> bytes:
    """The right answer over HTTP, without its head."""
    return b"%b%08d}" % (_http_answers()[kind], number)


def grpc_message(kind: Kind, number: int) -> bytes:
    """The right answer over gRPC."""
    return _grpc_answers()[kind] + struct.pack("<d", number)


# --- made once ---------------------------------------------------------------------------------------


@cache
def _vectors() -> Matrix:
    return matrix(POINTS, DIMENSIONS, seed=23)


@cache
def _searches() -> list[bytes]:
    return [search_json(vector) for vector in queries()]


@cache
def _searches_proto() -> list[bytes]:
    return [search_message(COLLECTION, vector) for vector in queries()]


@cache
def _points_json() -> list[bytes]:
    return [
        orjson.dumps({"id": key, "vector": vector.tolist(), "payload": payload(key)})
        for key, vector in enumerate(_vectors())
    ]


@cache
def _upserts_proto(kind: Kind) -> list[bytes]:
    size = 1 if kind == "write" else UPSERT_POINTS
    return [
        upsert_message(COLLECTION, range(start, start + size), _vectors()[start : start + size])
        for start in range(0, POINTS, size)
    ]


@cache
def points() -> dict[int, qdrant.RetrievedPoint]:
    """As a store has them that was written to."""
    return {
        key: qdrant.RetrievedPoint(
            id=qdrant.PointId(num=key),
            payload=proto_payload(key),
            vectors=qdrant.VectorsOutput(vector=qdrant.VectorOutput(dense=qdrant.DenseVector(data=vector.tolist()))),
        )
        for key, vector in enumerate(_vectors())
    }


def _varint(number: int) -> bytes:
    return bytes((number >> 7 * place & 0x7F) | (0x80 if place < _ID_BYTES - 1 else 0) for place in range(_ID_BYTES))


def _scored(key: int) -> dict[str, Any]:
    return {"id": key, "version": key, "score": 0.9 - key / 100, "payload": payload(key)}


@cache
def _http_answers() -> dict[Kind, bytes]:
    large = [{"id": key, "payload": {"text": _LARGE_TEXT}} for key in range(_LARGE_POINTS)]
    results: dict[Kind, Any] = {
        "search": {"points": [_scored(key) for key in range(HITS)]},
        "fetch": {"id": 1, "payload": payload(1)},
        "large": {"points": large, "next_page_offset": None},
        **{kind: {"operation_id": 17, "status": "completed"} for kind in WRITES},
    }
    return {kind: b'{"result":%b,"status":"ok","time":0.' % orjson.dumps(result) for kind, result in results.items()}


@cache
def _grpc_answers() -> dict[Kind, bytes]:
    """Up to the time, the last field, whose eight bytes are the number."""
    scored = [
        qdrant.ScoredPoint(id=qdrant.PointId(num=key), version=key, score=0.9 - key / 100, payload=proto_payload(key))
        for key in range(HITS)
    ]
    large = [
        qdrant.RetrievedPoint(id=qdrant.PointId(num=key), payload={"text": qdrant.Value(string_value=_LARGE_TEXT)})
        for key in range(_LARGE_POINTS)
    ]
    fetched = [qdrant.RetrievedPoint(id=qdrant.PointId(num=1), payload=proto_payload(1))]
    written = qdrant.UpdateResult(operation_id=17, status=qdrant.UpdateStatus.Completed)
    answers: dict[Kind, Any] = {
        "search": qdrant.QueryResponse(result=scored, time=1),
        "fetch": qdrant.GetResponse(result=fetched, time=1),
        "large": qdrant.ScrollResponse(result=large, time=1),
        **{kind: qdrant.PointsOperationResponse(result=written, time=1) for kind in WRITES},
    }
    return {kind: _untimed(answer.SerializeToString(deterministic=True)) for kind, answer in answers.items()}


def _untimed(message: bytes) -> bytes:
    assert message.endswith(struct.pack("<d", 1))
    return message[:-8]
