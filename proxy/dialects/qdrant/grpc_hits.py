"""Hits of a search as the bytes of an answer: their payloads have many values, and a message for each of them takes
three times as long."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct, pack
from typing import Any, Final

import numpy as np

from proxy.dialects.proto_bytes import Field, varint_of
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payloads import INT64, value_bytes
from proxy.dialects.qdrant.scores import vendor_scores
from proxy.dialects.qdrant.vectors import fill_vectors
from proxy.model import Hits, Json, PointId, Selection

_RESULT: Final = Field(proto.QueryResponse, "result")  # and of SearchResponse and BatchResult
_BATCH_RESULT: Final = Field(proto.QueryBatchResponse, "result")  # and of SearchBatchResponse
_ID: Final = Field(proto.ScoredPoint, "id")
_PAYLOAD: Final = Field(proto.ScoredPoint, "payload")
_VECTORS: Final = Field(proto.ScoredPoint, "vectors")
_UUID: Final = Field(proto.PointId, "uuid")
_STRING: Final = Field(proto.Value, "string_value")
_KEY: Final = Field(proto.ScoredPoint.PayloadEntry, "key")
_VALUE: Final = Field(proto.ScoredPoint.PayloadEntry, "value")
# Wire types.
_VARINT: Final = 0
_EIGHT_BYTES: Final = 1
_FOUR_BYTES: Final = 5
_SIXTY_FOUR_BITS: Final = 2**64 - 1
_KEYS_KEPT: Final = 1024
_SHORT_KEY_BYTES: Final = 64
_LENGTHS_KEPT: Final = 1024
_double: Final = Struct("<d").pack


def _tag(message: Any, name: str, wire_type: int) -> bytes:
    return varint_of(message.DESCRIPTOR.fields_by_name[name].number << 3 | wire_type)


_SCORE: Final = _tag(proto.ScoredPoint, "score", _FOUR_BYTES)
_NUMBER: Final = _tag(proto.PointId, "num", _VARINT)
_TIME: Final = _tag(proto.QueryResponse, "time", _EIGHT_BYTES)  # and of the others


class _Values(dict[int, bytes]):
    """What stands before the value of an entry in a payload, its tags and lengths, by the length of the value itself.
    (Kept, as those of a `Field`.)"""

    def __init__(self, tag: Callable[[int], bytes]) -> None:
        self._tag = tag

    def __missing__(self, length: int) -> bytes:
        tag = self._tag(length)
        found = _VALUE[len(tag) + length] + tag
        if len(self) < _LENGTHS_KEPT:
            self[length] = found
        return found


_integer: Final = _tag(proto.Value, "integer_value", _VARINT)
_TEXT: Final = _Values(_STRING.__getitem__)
_INTEGER: Final = _Values(lambda _: _integer)
_DOUBLE: Final = _Values(lambda _: _tag(proto.Value, "double_value", _EIGHT_BYTES))[8]


def answer_bytes(results: Iterable[bytes], seconds: float) -> bytes:
    """An answer to one search or several, and how long it took."""
    return b"".join((_TIME, _double(seconds), *results))


def hits_bytes(hits: Hits, selection: Selection) -> bytes:
    """The hits as they stand in an answer to one search."""
    written: list[bytes] = []
    scores = _floats(vendor_scores(hits.metric, [hit.score for hit in hits.hits]))
    for number, hit in enumerate(hits.hits):
        point = hit.point
        named = _id(point.id)
        parts = [_ID[len(named)], named, _SCORE, scores[4 * number : 4 * number + 4]]
        if selection.payload:
            _add_payload(parts, point.payload)
        if selection.vectors:
            vectors = proto.VectorsOutput()
            fill_vectors(vectors, point.vectors)
            shown = vectors.SerializeToString()
            parts += (_VECTORS[len(shown)], shown)
        scored = b"".join(parts)
        written += (_RESULT[len(scored)], scored)
    return b"".join(written)


def batch_bytes(hits: bytes) -> bytes:
    """The answer to one of several searches, whose hits these are, as it stands in the answer to all of them."""
    return bytes(_BATCH_RESULT[len(hits)] + hits)


def _floats(numbers: Sequence[float]) -> bytes:
    """As 32-bit floats, one behind the other; what is too large for one is infinite."""
    try:
        return pack(f"<{len(numbers)}f", *numbers)
    except OverflowError:
        with np.errstate(over="ignore"):
            return np.array(numbers, "<f4").tobytes()


def _id(point_id: PointId) -> bytes:
    if isinstance(point_id, int):
        return _NUMBER + varint_of(point_id)
    text = str(point_id).encode()
    return bytes(_UUID[len(text)] + text)


def _add_payload(parts: list[bytes], payload: Mapping[str, Json]) -> None:
    """(In one piece, since a call for each value has a price.)"""
    value: Any
    for name, value in payload.items():
        kind = type(value)
        if kind is str:
            text = value.encode()
            entry = _keys[name] + _TEXT[len(text)] + text
        elif kind is int and value in INT64:
            number = varint_of(value & _SIXTY_FOUR_BITS)
            entry = _keys[name] + _INTEGER[len(number)] + number
        elif kind is float and math.isfinite(value):
            entry = _keys[name] + _DOUBLE + _double(value)
        else:
            said = value_bytes(value)
            entry = _keys[name] + _VALUE[len(said)] + said
        parts += (_PAYLOAD[len(entry)], entry)


class _Keys(dict[str, bytes]):
    """Keys of payloads as they stand in an entry. (Kept, since all points of a collection have much the same.)"""

    def __missing__(self, name: str) -> bytes:
        text = name.encode()
        found = _KEY[len(text)] + text
        if len(self) < _KEYS_KEPT and len(text) <= _SHORT_KEY_BYTES:
            self[name] = found
        return found


_keys: Final = _Keys()
