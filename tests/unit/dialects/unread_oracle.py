"""What is left unread of an upsert, against the decoder that reads all of it."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from google.protobuf.message import DecodeError

from proxy.dialects.qdrant import grpc_requests, grpc_upserts, rest_upserts, rest_writes
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import InvalidRequest
from proxy.model import OpaqueWrite, Upsert, look_into, written_ids

Whole = Upsert | OpaqueWrite | None  # None: no such request


def rest_disagreement(body: bytes) -> str:
    """Why the two do not go together; "" if they do."""
    return _disagreement(lambda: rest_upserts.unread_upsert("c", body, small_bytes=0), lambda: _whole_rest(body))


def grpc_disagreement(body: bytes) -> str:
    return _disagreement(lambda: grpc_upserts.unread_upsert(body), lambda: _whole_grpc(body))


def _disagreement(unread: Callable[[], Upsert | None], whole: Callable[[], Whole]) -> str:
    """What no server would take may be left unread as whatever it looks like, as long as that shows when it is read."""
    found, expected = _outcome(unread), _outcome(whole)
    if found is None:
        return ""
    if isinstance(found, InvalidRequest):
        same = isinstance(expected, InvalidRequest) or expected is None
        return "" if same else f"refused ({found}), and whole it is {expected}"
    assert isinstance(found, Upsert)
    try:
        look_into(found)
    except InvalidRequest:
        if isinstance(expected, OpaqueWrite) and expected.ids not in (None, written_ids(found)):
            return f"{written_ids(found)} are written, and whole {expected.ids}"
        return f"it cannot be read, and whole it is {expected}" if isinstance(expected, Upsert) else ""
    return "" if expected is None or found == expected else f"{found}, and whole {expected}"


def _outcome(decode: Callable[[], Whole]) -> Whole | InvalidRequest:
    try:
        return decode()
    except InvalidRequest as error:
        return error


def _whole_rest(body: bytes) -> Whole:
    try:
        return rest_writes.upsert("c", orjson.loads(body))
    except (ValueError, TypeError, Undecodable):
        return None


def _whole_grpc(body: bytes) -> Whole:
    try:
        message = proto.UpsertPoints.FromString(body)
        return grpc_requests.upsert(message.collection_name, message)
    except (DecodeError, Undecodable):
        return None
