"""What a client was told about a write, by kind: from the exceptions of the official client, of both transports.

Each kind says one of three things about the write, which the checker holds it to: it is there (no exception), it is
certainly not there, or it may be.
"""

from __future__ import annotations

import enum
import re

import grpc
import httpx
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from tests.support.stand_ins import MARK


class Kind(enum.Enum):
    DONE = "done"
    UNAVAILABLE = "the primary takes no connections"  # 502, UNAVAILABLE; or does not answer the handshake of a new one
    UNASKED = "names could not be read, so nothing was asked"  # 502, UNAVAILABLE
    UNCLEAR = "outcome unknown"  # 504, DEADLINE_EXCEEDED
    JOURNAL = "not journalled"  # 503 with Retry-After, UNAVAILABLE
    UNLISTED = "what matches could not be listed"  # 503 with Retry-After, UNAVAILABLE
    MOVING = "no decision on the primary could be read"  # 503 with Retry-After, UNAVAILABLE
    LANDING = "an older request may still land"  # 503 with Retry-After, UNAVAILABLE
    IN_PART = "applied in part"  # of several steps at a target that keeps whole points
    THROTTLED = "the source's own 429"  # RESOURCE_EXHAUSTED
    OVERLOADED = "the source's own 503"  # UNAVAILABLE
    NO_PROXY = "proxy takes no connections"
    BROKEN = "connection to the proxy broke"
    WRONG = "anything else"


class Said(enum.Enum):
    THERE = enum.auto()
    NOT_THERE = enum.auto()
    MAYBE = enum.auto()


_UNASKED = "so nothing was asked"
_UNREACHED = re.compile("takes no connections|takes no calls|took no call within|does not answer the handshake")
_NOT_THERE = frozenset(
    {
        *(Kind.UNAVAILABLE, Kind.UNASKED, Kind.JOURNAL, Kind.UNLISTED, Kind.MOVING, Kind.LANDING),
        *(Kind.THROTTLED, Kind.OVERLOADED, Kind.NO_PROXY),
    }
)


def said(kind: Kind) -> Said:
    """What `kind` says about the write. Throttled and overloaded come from a stand-in that applies nothing."""
    if kind is Kind.DONE:
        return Said.THERE
    return Said.NOT_THERE if kind in _NOT_THERE else Said.MAYBE


def kind_of(error: BaseException) -> Kind:
    match error:
        case UnexpectedResponse():
            return _of_status(error)
        case ResourceExhaustedResponse():
            return Kind.THROTTLED if MARK in str(error) else Kind.WRONG
        case ResponseHandlingException(source=httpx.ConnectError()):
            return Kind.NO_PROXY
        case ResponseHandlingException(source=httpx.NetworkError() | httpx.RemoteProtocolError()):
            return Kind.BROKEN
        case grpc.RpcError():
            return _of_code(error.code(), error.details() or "")
        case _:
            return Kind.WRONG


def _of_status(error: UnexpectedResponse) -> Kind:
    text = error.content.decode(errors="replace")
    waits = error.headers.get("retry-after") is not None
    match error.status_code:
        case 429 if MARK in text:
            return Kind.THROTTLED
        case 503 if waits and (refusal := _refusal(text)) is not Kind.WRONG:
            return refusal
        case 503 if MARK in text:
            return Kind.OVERLOADED
        case 502 if MARK in text:  # asked something else first, so Milvus was not sent the write
            return Kind.OVERLOADED
        case 502 if _UNASKED in text:
            return Kind.UNASKED
        case 502 if _UNREACHED.search(text):
            return Kind.UNAVAILABLE
        case 504 if "Timeout: " in text:
            return Kind.UNCLEAR
        case 400 | 500 if "points are changed, the others are not" in text:
            return Kind.IN_PART
        case _:
            return Kind.WRONG


def _of_code(code: grpc.StatusCode, text: str) -> Kind:
    match code:
        case grpc.StatusCode.RESOURCE_EXHAUSTED if MARK in text:
            return Kind.THROTTLED
        case grpc.StatusCode.DEADLINE_EXCEEDED if text.startswith("Timeout: "):
            return Kind.UNCLEAR
        case grpc.StatusCode.UNAVAILABLE if MARK in text and "did not list" not in text:
            return Kind.OVERLOADED
        case grpc.StatusCode.UNAVAILABLE if _UNASKED in text and "did not list" not in text:
            return Kind.UNASKED
        case grpc.StatusCode.UNAVAILABLE if _UNREACHED.search(text) and "did not list" not in text:
            return Kind.UNAVAILABLE
        case grpc.StatusCode.UNAVAILABLE if (refusal := _refusal(text)) is not Kind.WRONG:
            return refusal
        case grpc.StatusCode.UNAVAILABLE if text.startswith("failed to connect to all addresses"):
            return Kind.NO_PROXY
        case grpc.StatusCode.UNAVAILABLE:  # gRPC's own texts for a connection that broke
            return Kind.BROKEN
        case _:
            return Kind.WRONG


def _refusal(text: str) -> Kind:
    if "could not be journalled" in text:
        return Kind.JOURNAL
    if "the primary is being moved" in text:
        return Kind.MOVING
    if "may still land" in text:
        return Kind.LANDING
    return Kind.UNLISTED if "did not list what matches" in text else Kind.WRONG
