"""A search over gRPC, cut in two: the numbers of its vector, and what it asks beside them.

An application asks much the same again and again, with another vector each time. So what stands beside it is read once
and kept, and a search is not parsed: where its vector begins is known from the last one that began alike.

Sure or not at all: whatever is not the plain form (a name, then one dense vector, then the rest) is None here, and
parsed whole by grpc_requests.py. That both say the same is tested (tests/unit/dialects/test_qdrant_searches.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from google.protobuf.message import DecodeError

from proxy.dialects.proto_bytes import MORE, varint_at
from proxy.dialects.qdrant import grpc_requests as ask
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest_reads import ScoreOf
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import finite
from proxy.errors import InvalidRequest
from proxy.model import Search

QUERY: Final = "/qdrant.Points/Query"
SEARCH: Final = "/qdrant.Points/Search"
_NAME: Final = 0x0A  # field 1 of both messages
_FLOAT_BYTES: Final = 4
_HEADS: Final = 256
SHORT_BYTES: Final = 2048  # of what stands beside a vector; more is not kept


class _Head(NamedTuple):
    """How messages of one size begin: `prefix` is all before the numbers, which go from its end to `end`."""

    prefix: bytes
    name_end: int
    end: int


@dataclass(frozen=True, slots=True)
class _Form:
    """Of one method: its message, the tags before a vector's numbers, the field that they are in, what that is with one
    number, and what reads the message whole."""

    message: Any
    tags: bytes
    vector: str
    one_number: bytes
    read: Callable[[Any, ScoreOf], Search]
    heads: dict[bytes, _Head] = field(default_factory=dict)  # by the name and the tag behind it; bounded


_NUMBER: Final = b"\x0a\x04\0\0\0\0"
_FORMS: Final = {
    QUERY: _Form(proto.QueryPoints, b"\x1a\x0a\x12\x0a", "query", b"\x1a\x0a\x0a\x08\x12\x06" + _NUMBER, ask.query),
    SEARCH: _Form(proto.SearchPoints, b"\x12", "vector", b"\x12" + _NUMBER[1:], ask.search),
}


def cut(path: str, body: bytes) -> tuple[bytes, int, int] | None:
    """Of a message to that method: all of it but the field of the vector (which may be anything), and from where to
    where the vector's numbers go. None if it is not of the plain form."""
    form = _FORMS.get(path)
    if form is None or len(body) <= _FLOAT_BYTES:
        return None
    begins = body[: body[1] + 3]
    head = form.heads.get(begins)
    if head is None or not body.startswith(head.prefix):
        head = _head(body, form.tags)
        if head is None:
            return None
        if len(form.heads) >= _HEADS:
            form.heads.clear()
        form.heads[begins] = head
    prefix, name_end, end = head
    if len(body) < end:
        return None
    return body[:name_end] + body[end:], len(prefix), end


def asked(path: str, body: bytes, score_of_collection: Callable[[str], ScoreOf]) -> Search | None:
    """What a search asks; None if it has to be parsed whole, be it to say what is wrong with it. Raises InvalidRequest
    for NaN and infinity in its vector."""
    found = cut(path, body)
    if found is None:
        return None
    rest, start, end = found
    if len(rest) > SHORT_BYTES or (beside := _read(path, rest)) is None:
        return None
    threshold = beside.score_threshold
    if threshold is not None:
        try:
            threshold = score_of_collection(beside.collection)(beside.using, threshold)
        except Undecodable:
            return None
    return Search(  # dataclasses.replace takes thrice as long
        collection=beside.collection,
        vector=finite(body[start:end]),
        limit=beside.limit,
        using=beside.using,
        offset=beside.offset,
        filter=beside.filter,
        score_threshold=threshold,
        selection=beside.selection,
        exact=beside.exact,
        params=beside.params,
    )


@lru_cache(256)
def _read(path: str, beside: bytes) -> Search | None:
    """What is asked beside the vector, with a threshold as the client has it; None if there is another vector, or what
    cannot be read. (Several searches share it, and nobody may write into it.)"""
    form = _FORMS[path]
    try:
        if any(known.name == form.vector for known, _ in form.message.FromString(beside).ListFields()):
            return None
        return form.read(form.message.FromString(beside + form.one_number), lambda using, threshold: threshold)
    except (DecodeError, Undecodable, InvalidRequest):
        return None


def _head(body: bytes, tags: bytes) -> _Head | None:
    """Of a message whose name is shorter than 128 bytes, by walking through it."""
    if body[0] != _NAME or body[1] >= MORE:
        return None
    at = name_end = body[1] + 2
    end = None
    try:
        for tag in tags:
            if body[at] != tag:
                return None
            length, at = varint_at(body, at + 1)
            if end is not None and at + length != end:
                return None
            end = at + length
    except (IndexError, ValueError):
        return None
    if end is None or (end - at) % _FLOAT_BYTES:
        return None
    return _Head(body[:at], name_end, end)
