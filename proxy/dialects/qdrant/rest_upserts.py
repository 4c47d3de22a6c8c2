"""An upsert over REST whose vectors are left unread.

Nine tenths of its bytes are numbers that nobody may ever look at: a store of the same vendor gets the client's own, and
of a key that is written again before it is copied only the last ones count. So lists of numbers are cut out of the
JSON, which a search for brackets and quotes can do; what is left is decoded as ever; and a vector is read when somebody
looks at it.

Sure or not at all: whatever is not the plain form (a vector for each point, one list of numbers) is None here, and
decoded whole by rest_writes.py. That both say the same is tested (tests/unit/dialects/test_qdrant_unread.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import orjson

from proxy.dialects.qdrant.ids import id_of_json, json_of_id
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import dense_of_json
from proxy.errors import InvalidRequest
from proxy.model import Point, UnreadVector, Upsert, Vector

SMALL_BYTES = 4096
_KEY = b'"vector"'
_ESCAPED = re.compile(rb"\\u00[4-7]")  # a letter: a key may be "vector" and not look like it
_FIELDS = frozenset({"id", "vector", "payload"})


def unread_upsert(collection: str, body: bytes, small_bytes: int = SMALL_BYTES) -> Upsert | None:
    """What `body` asks, or None if that takes reading it whole, or is as quickly done."""
    if len(body) < small_bytes or (cut := _cut(body)) is None:
        return None
    rest, lists = cut
    if not lists:
        return None
    try:
        asked = orjson.loads(rest)
        if not isinstance(asked, dict) or asked.keys() != {"points"} or len(asked["points"]) != len(lists):
            return None
        points = tuple([_point(number, value, lists) for number, value in enumerate(asked["points"])])
    except (ValueError, TypeError, Undecodable):
        return None
    return Upsert(collection, points, native=body)


class JsonVector(UnreadVector, gc=False):
    """`wire` is a JSON list of its numbers, of which a thousand take longer to read than a search to pass."""

    is_slow: ClassVar[bool] = True


def is_spliceable(point: Point) -> bool:
    """Whether `in_json` takes it, and the request that it came in is JSON."""
    return isinstance(point.vectors, JsonVector)


def in_json(collection: str, points: Sequence[Point]) -> Upsert:
    """An upsert of points that came as JSON, as a client could send it, their vectors as they came."""
    parts: list[bytes | memoryview] = []
    for point in points:
        assert isinstance(point.vectors, JsonVector)
        fields = orjson.dumps({"id": json_of_id(point.id), "payload": point.payload})
        parts += (b",", fields[:-1], b',"vector":', point.vectors.wire, b"}")
    return Upsert(collection, tuple(points), native=b"".join((b'{"points":[', *parts[1:], b"]}")))


def _cut(body: bytes) -> tuple[bytes, list[memoryview]] | None:
    """The body with a number in place of what each list called "vector" holds, and views of the lists by that number.

    No string can be taken for such a list: a quote inside of one has a backslash before it, so what the key's two
    quotes enclose is the end of a key, and a list without quotes ends with the first bracket. (If another one begins
    in it, more brackets close than open in the rest, which is no JSON then. What else is no number shows when the list
    is read; no server takes it.)"""
    find = body.find
    view = memoryview(body)
    parts: list[bytes] = []
    lists: list[memoryview] = []
    done = 0
    while (key := find(_KEY, done)) >= 0:
        start = find(b"[", key + len(_KEY))
        end = find(b"]", start)
        if start < 0 or end < 0 or body[key + len(_KEY) : start].strip(b" \t\r\n") != b":":
            return None
        if find(b'"', start, end) >= 0 or _may_be_too_large(body, start, end):
            return None
        parts += (body[done : start + 1], b"%d" % len(lists))
        lists.append(view[start : end + 1])
        done = end
    parts.append(body[done:])
    rest = b"".join(parts)
    if _ESCAPED.search(rest):
        return None
    return rest, lists


def _may_be_too_large(body: bytes, start: int, end: int) -> bool:
    """Whether a number there has an exponent that is not negative: it may be more than a 32-bit float holds."""
    for letter in (b"e", b"E"):
        at = body.find(letter, start, end)
        while at >= 0:
            if body[at + 1] != 0x2D:
                return True
            at = body.find(letter, at + 1, end)
    return False


def _point(number: int, value: object, lists: list[memoryview]) -> Point:
    """Raises Undecodable, and TypeError for what is no object."""
    if not isinstance(value, dict) or not value.keys() <= _FIELDS or value.get("vector") != [number]:
        raise Undecodable
    payload = value.get("payload")
    if payload is None:
        payload = {}
    elif not isinstance(payload, dict):
        raise Undecodable
    return Point(id_of_json(value.get("id")), JsonVector(lists[number], _read), payload)


def _read(numbers: bytes | memoryview) -> dict[str, Vector]:
    try:
        return {"": dense_of_json(orjson.loads(numbers))}
    except (ValueError, Undecodable) as problem:
        raise InvalidRequest(f"Wrong input: a vector is no list of numbers ({problem})") from None
