"""Whether two Qdrants' answers to one search say the same, told without the model; and what to ask the second one.

A server's answer has more in it than what was asked for: the time it took, what it used, its own count of writes
(`version` of a hit). Two answers are alike if everything else that is known here is the same, to the bit. Alike means
that the model would find them to agree; unlike means nothing but that the model has to look.

Cheapest first: the bytes with the time at their end cut off; then (of gRPC) hits whose payloads may come in any order,
as servers' do, with all values as bytes; then the messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

import orjson
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from proxy.dialects import Likeness
from proxy.dialects.descriptors import classes_of
from proxy.dialects.qdrant.grpc_searches import QUERY, SEARCH, cut
from proxy.dialects.qdrant.messages import proto
from proxy.wire import Request

_REPEATED: Final = FieldDescriptorProto.LABEL_REPEATED
_OPTIONAL: Final = FieldDescriptorProto.LABEL_OPTIONAL
_JSON: Final[tuple[tuple[str, str], ...]] = (("content-type", "application/json"),)
_TIME_JSON: Final = b'"status":"ok","time":'  # as servers end an answer
_LONGEST_NUMBER: Final = 32  # characters of a time
_NUMBER: Final = b"0123456789.eE+-"
_ALONE: Final = frozenset({QUERY, SEARCH})  # gRPC: of one search
_NO_FIELD: Final = b"\0"  # begins no message
_TIME_PROTO: Final = 0x11  # field 2, eight bytes
_TIME_BYTES: Final = 9  # with its tag
_HITS_PROTO: Final = 0x0A  # field 1, of a length
_REPLIES: Final[dict[str, tuple[Any, bool]]] = {  # (message, whether it is a batch)
    QUERY: (proto.QueryResponse, False),
    SEARCH: (proto.SearchResponse, False),
    "/qdrant.Points/QueryBatch": (proto.QueryBatchResponse, True),
    "/qdrant.Points/SearchBatch": (proto.SearchBatchResponse, True),
}


# --- REST ------------------------------------------------------------------------------------------------


def rest_alone(request: Request, collection: str) -> Request | None:
    """As of Dialect. A query may say anything, so there is none."""
    if request.query:
        return None
    words = [word for word in request.path.split("/") if word]
    words[1] = quote(collection, safe="")
    return Request("http", request.method, "/" + "/".join(words), _JSON, request.body)


def rest_outline(body: bytes) -> bytes:
    """The body without what stands between the innermost brackets, as long as there is no string in it."""
    parts, at = [], 0
    while (start := body.find(b"[", at)) >= 0:
        end = body.find(b"]", start)
        if end < 0:
            break
        inner = body.find(b"[", start + 1, end)
        if inner >= 0:
            parts.append(body[at:inner])
            at = inner
            continue
        parts.append(body[at : end if body.find(b'"', start, end) >= 0 else start + 1])
        at = end
    parts.append(body[at:])
    return b"".join(parts)


def likeness_of_json(one: bytes, other: bytes) -> Likeness:
    """Of the bodies of two answers to a search, or several in one."""
    size = _before_time(one)
    if size is not None and size == _before_time(other) and one[:size] == other[:size]:
        return Likeness.ALIKE if b'"score":' in one else Likeness.EMPTY
    found, there = _essence(one), _essence(other)
    if found is None or found != there:
        return Likeness.UNLIKE
    return Likeness.ALIKE if b'"score":' in found else Likeness.EMPTY


def _before_time(body: bytes) -> int | None:
    """How long the body is before the time that it ends with; None if it does not. What stands before the last brace
    of JSON, and is a key with a number, belongs to the outermost object: no string holds such quotes."""
    start = body.rfind(_TIME_JSON, -_LONGEST_NUMBER - len(_TIME_JSON))
    if start < 0 or body[-1:] != b"}" or body[start + len(_TIME_JSON) : -1].strip(_NUMBER):
        return None
    return start


def _essence(body: bytes) -> bytes | None:
    """The result without versions, keys in order; None of what is no such answer."""
    try:
        result = orjson.loads(body)["result"]
        for hit in _hits_of_json(result):
            hit.pop("version", None)
        return orjson.dumps(result, option=orjson.OPT_SORT_KEYS)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _hits_of_json(result: Any) -> Iterable[dict[str, Any]]:
    """Of one search or several, as either endpoint gives them. Raises LookupError, TypeError."""
    for each in result["points"] if isinstance(result, dict) else result:
        if isinstance(each, dict) and "score" in each:
            yield each
        else:
            yield from each["points"] if isinstance(each, dict) else each


# --- gRPC ------------------------------------------------------------------------------------------------


def grpc_alone(request: Request, collection: str, called: str) -> Request | None:
    """As of Dialect. The collection's name stands in the message, so it has to be the same. Not of several searches in
    one message, of which there is no outline."""
    if collection != called or request.path not in _ALONE:
        return None
    return Request("grpc", "", request.path, (), request.body)


def grpc_outline(path: str, body: bytes) -> bytes | None:
    """The message without the numbers of its vector; None if it is none, or one of several searches."""
    if (plain := cut(path, body)) is not None:
        return _NO_FIELD + plain[0]
    try:
        if path == QUERY:
            message = proto.QueryPoints.FromString(body)
            if message.query.nearest.dense.data:
                del message.query.nearest.dense.data[:]
        elif path == SEARCH:
            message = proto.SearchPoints.FromString(body)
            del message.vector[:]
        else:
            return None
        return bytes(message.SerializeToString())
    except DecodeError:
        return None


def likeness_of_proto(path: str, one: bytes, other: bytes) -> Likeness:
    """Of two answers to that method, which is one of searches."""
    reply, is_batch = _REPLIES[path]
    try:
        if not is_batch:
            if one[:1] == b"\x0a" and _same_but_for_time(one, other):
                return Likeness.ALIKE
            hits = _hits(one)
            if hits == _hits(other):
                return Likeness.ALIKE if hits.result else Likeness.EMPTY
        found, there = reply.FromString(one), reply.FromString(other)
    except DecodeError:
        return Likeness.UNLIKE
    hits = _without_own_words(found, is_batch)
    _without_own_words(there, is_batch)
    if found != there:
        return Likeness.UNLIKE
    return Likeness.ALIKE if hits else Likeness.EMPTY


def _hits(body: bytes) -> Any:
    """Raises DecodeError."""
    message = _Hits.FromString(body)
    message.DiscardUnknownFields()
    return message


def _hits_classes() -> tuple[Any, ...]:
    """An answer to one search with nothing but its hits, and these without what the server says of itself. What is a
    message in them is bytes, and a payload a map of bytes: one that is an object within may be unlike itself.
    (Repeated, since of a message that comes twice both would count, which no server sends.)"""
    kind = FieldDescriptorProto
    file = FileDescriptorProto(name="crossfade/hits.proto", package="crossfade", syntax="proto2")
    hits = file.message_type.add(name="Hits")
    hits.field.add(name="result", number=1, type=kind.TYPE_MESSAGE, type_name=".crossfade.Hit", label=_REPEATED)
    hit = file.message_type.add(name="Hit")
    for field in proto.ScoredPoint.DESCRIPTOR.fields:
        if field.name not in ("version", "payload"):
            of = kind.TYPE_BYTES if field.type == kind.TYPE_MESSAGE else field.type
            hit.field.add(name=field.name, number=field.number, type=of, label=_REPEATED)
    number = proto.ScoredPoint.DESCRIPTOR.fields_by_name["payload"].number
    hit.field.add(
        name="payload", number=number, type=kind.TYPE_MESSAGE, type_name=".crossfade.Hit.PayloadEntry", label=_REPEATED
    )
    entry = hit.nested_type.add(name="PayloadEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=kind.TYPE_STRING, label=_OPTIONAL)
    entry.field.add(name="value", number=2, type=kind.TYPE_BYTES, label=_OPTIONAL)
    return classes_of(file, "Hits")


(_Hits,) = _hits_classes()


def _same_but_for_time(one: bytes, other: bytes) -> bool:
    if one == other:
        return True
    start = len(one) - _TIME_BYTES
    same = len(one) == len(other) and one[:start] == other[:start]
    return same and one[start] == other[start] == _TIME_PROTO and _is_behind_hits(one, start)


def _is_behind_hits(body: bytes, at: int) -> bool:
    """Whether a field begins there, and all before it are hits."""
    place = 0
    while place < at:
        if body[place] != _HITS_PROTO:
            return False
        place, size, shift = place + 1, 0, 0
        while place < at:
            byte = body[place]
            place, size, shift = place + 1, size | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                break
        place += size
    return place == at


def _without_own_words(message: Any, is_batch: bool) -> list[Any]:
    """Takes away what the server says of itself. The hits that are left."""
    message.ClearField("time")
    message.ClearField("usage")
    hits = [hit for batch in message.result for hit in batch.result] if is_batch else list(message.result)
    for hit in hits:
        hit.ClearField("version")
    return hits
