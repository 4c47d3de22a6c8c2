"""A search over gRPC that is cut in two, against the decoder that reads all of it."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from proxy.dialects.qdrant import grpc_requests
from proxy.dialects.qdrant.grpc_routes import glance_of, glance_of_whole
from proxy.dialects.qdrant.grpc_searches import QUERY, SEARCH, asked
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import InvalidRequest
from proxy.model import Search

_WHOLE = {QUERY: (proto.QueryPoints, grpc_requests.query), SEARCH: (proto.SearchPoints, grpc_requests.search)}
UNSCALED = "unscaled"  # a vector whose threshold cannot be read


def score_of(using: str, threshold: float) -> float:
    """Of a collection whose scores are negated."""
    if using == UNSCALED:
        raise Undecodable("score_threshold")
    return -threshold


def search_disagreement(path: str, body: bytes) -> str:
    """Why the two do not go together; "" if they do: in what is asked, and in what a glance says. (Twice each, since
    what was said once is kept.)"""
    for _ in range(2):
        found = _outcome(path, body)
        expected = _whole(path, body)
        if found is not None and repr(found) != repr(expected):
            return f"{found}, and whole {expected}"
        glance, seen = glance_of(path, body), glance_of_whole(path, body)
        if glance != seen:
            return f"at a glance {glance}, and whole {seen}"
    return ""


def _outcome(path: str, body: bytes) -> Search | str | None:
    try:
        return asked(path, body, lambda collection: score_of)
    except InvalidRequest as error:
        return f"refused: {error}"


def _whole(path: str, body: bytes) -> Search | str:
    message, read = _WHOLE[path]
    try:
        return read(message.FromString(body), score_of)
    except InvalidRequest as error:
        return f"refused: {error}"
    except (DecodeError, Undecodable) as problem:
        return f"undecodable: {problem}"
