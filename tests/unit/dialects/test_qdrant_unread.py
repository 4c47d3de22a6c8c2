"""Upserts that are left unread: what they write is what the whole decoder says, and the plain ones are left so."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from proxy.dialects.proto_bytes import varint_of
from proxy.dialects.qdrant import grpc_upserts, rest_upserts
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.grpc_writes import point_bytes, sent_again, upsert_call
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import InvalidRequest
from proxy.model import Point, Unread, UnreadVector, Upsert, look_into
from proxy.wire import Request
from tests.unit.dialects.unread_oracle import grpc_disagreement, rest_disagreement

IDS: list[Any] = [0, 1, 127, 128, 2**63, 2**64 - 1, "5c56c793-69f3-4fbf-87e6-c4bf54c28c26"]
IDS.append("5C56C79369F34FBF87E6C4BF54C28C27")
PAYLOADS: list[Any] = [
    {},
    {"n": 1, "x": 0.5, "big": 2**62, "t": True, "none": None, "text": 'ü ] } " , [ { \\ '},
    {"nested": {"list": [1, "two", {"three": [3.5]}], "object": {}}},
    {"vector": [1.0, 2.0]},
    {"vector": "text"},
    {"says": '"vector":[1,2]', 'a"vector': [9]},
]


def body_of(points: list[Any], **more: Any) -> bytes:
    return json.dumps({"points": points, **more}).encode()


def points(payload: Any, size: int = 8) -> list[Any]:
    numbers = np.random.default_rng(7).normal(size=(len(IDS), size)) * np.tile([1e-6, 1.0], size // 2)
    return [{"id": i, "vector": list(row), "payload": payload} for i, row in zip(IDS, numbers.tolist(), strict=True)]


# --- REST ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS)
def test_rest_it_means_the_same(payload: Any) -> None:
    assert not rest_disagreement(body_of(points(payload)))


def unread(body: bytes) -> Upsert | None:
    return rest_upserts.unread_upsert("c", body, small_bytes=0)


@pytest.mark.parametrize("payload", [PAYLOADS[0], PAYLOADS[1], PAYLOADS[2], None])
def test_rest_plain_points_are_left_unread(payload: Any) -> None:
    found = unread(body_of(points(payload)))
    assert found is not None
    vectors = [point.vectors for point in found.points]
    assert all(isinstance(each, UnreadVector) and type(each.wire) is memoryview for each in vectors)  # not copied


@pytest.mark.parametrize(
    "body",
    [
        body_of([{"id": 1, "vector": [1, 2]}]),
        body_of([{"id": 1, "vector": []}]),
        body_of([{"payload": None, "vector": [1, 2], "id": 1}]),
        b'\n{ "points" : [ { "id" : 1 , "vector" :\t[ 1 ,\r2.5e-3 ] } ] } ',
        body_of([{"id": 1, "vector": [1]}, {"id": 1, "vector": [2]}]),  # the same point twice
    ],
)
def test_rest_forms_that_are_plain(body: bytes) -> None:
    assert unread(body) is not None
    assert not rest_disagreement(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"points":{"vector":[1]}}',
        b'{"points":[{"id":1,"vector":[1,2',
        body_of([{"id": 1, "vector": {"a": [1, 2]}}]),
        body_of([{"id": 1, "vector": [[1, 2], [3, 4]]}]),
        body_of([{"id": 1, "vector": {"indices": [1], "values": [2]}}]),
        body_of([{"id": 1, "vectors": [1, 2]}]),
        body_of([{"id": 1, "vector": [1, 2], "new": 1}]),
        body_of([{"id": 1, "vector": [1, 2]}], update_filter={"must": []}),
        body_of([{"id": 1, "vector": [1, 2]}], shard_key="a"),
        body_of([{"id": -1, "vector": [1, 2]}]),
        body_of([{"vector": [1, 2]}]),
        body_of([{"id": 1, "vector": [1, 2], "payload": [1]}]),
        body_of([{"id": 1, "vector": [1, 2], "payload": {"vector": [1]}}, {"id": 2}]),
        body_of([{"id": 1, "vector": ["1"]}]),
        body_of([{"id": 1, "vector": [1e39]}]),
        b'{"points":[{"id":1,"vector":[1E5]}]}',
        body_of([{"id": 1, "vector": [1, [2]]}]),
        body_of([{"id": 1, "vector": [1, [2], 3]}, {"id": 2, "vector": [1]}]),
        b'{"points":[{"id":1,"vector":[1],"vector":[2]}]}',
        b'{"points":[{"id":1,"v\\u0065ctor":[1]},{"id":2,"vector":[2]}]}',
        b'{"points":[{"id":1,"v\\u0065ctor":[1],"payload":{"vector":[2]}}]}',
        b'{"points":[{"id":1,"vector":["]",{"vector":[0]}]}]}',
        b'{"points":[{"id":1,"\\u0076ector":[0],"payload":{"vector":[7]}}]}',
    ],
)
def test_rest_whatever_else_is_read_whole(body: bytes) -> None:
    assert unread(body) is None
    assert not rest_disagreement(body)


@pytest.mark.parametrize("numbers", [b"1 2", b"1,,2", b"null", b"{}", b"NaN", b"-Infinity", b"abc", b"1" + b"0" * 39])
def test_rest_what_is_no_vector_shows_when_it_is_read(numbers: bytes) -> None:
    """No server takes it, so nothing is lost; and a target that is the primary is not asked."""
    body = b'{"points":[{"id":1,"vector":[%s]}]}' % numbers
    found = unread(body)
    assert found is not None
    with pytest.raises(InvalidRequest):
        look_into(found)
    assert not rest_disagreement(body)


def test_rest_the_dialect_uses_it_for_what_is_large() -> None:
    def decoded(size: int) -> Any:
        sent = body_of(points({}, size))
        return QdrantRest().decode(Request("http", "PUT", "/collections/c/points", body=sent)).operation

    assert isinstance(decoded(200).points[0].vectors, UnreadVector)
    assert not isinstance(decoded(2).points[0].vectors, UnreadVector)


def test_rest_it_can_be_sent_on_as_it_came() -> None:
    payload = {"b": 2**64, "text": "ü", "x": 1.0}
    found = unread(body_of(points(payload)))
    assert found is not None
    assert found.native == body_of(points(payload))
    put_together = rest_upserts.in_json("c", found.points)
    assert unread(put_together.native) == found == put_together
    wires = [point.vectors.wire for point in found.points if isinstance(point.vectors, UnreadVector)]
    assert all(wire in put_together.native for wire in wires)


# --- gRPC ------------------------------------------------------------------------------------------------


def message_of(payload: Any, *, dense: bool = True, size: int = 8) -> Any:
    message = proto.UpsertPoints(collection_name="c", wait=True)
    message.ordering.type = 2
    for point in points({}, size):
        one = message.points.add(id={"uuid": point["id"]} if isinstance(point["id"], str) else {"num": point["id"]})
        numbers = one.vectors.vector.dense.data if dense else one.vectors.vector.data
        numbers.extend(point["vector"])
        for key, value in payload.items():
            one.payload[key].CopyFrom(value)
    return message


VALUES = {
    "n": proto.Value(integer_value=-1),
    "x": proto.Value(double_value=0.1),
    "none": proto.Value(null_value=0),
    "unset": proto.Value(),
    "text": proto.Value(string_value="\x11ü" * 300),
    "list": proto.Value(list_value={"values": [proto.Value(double_value=1e300), proto.Value(bool_value=True)]}),
    "struct": proto.Value(struct_value={"fields": {"a": proto.Value(double_value=-0.0)}}),
}


@pytest.mark.parametrize("size", [1, 8, 40, 5000])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("payload", [{}, VALUES])
def test_grpc_it_means_the_same_and_is_left_unread(payload: Any, dense: bool, size: int) -> None:
    body = message_of(payload, dense=dense, size=size * 2).SerializeToString()
    found = grpc_upserts.unread_upsert(body)
    assert found is not None
    assert all(isinstance(point.payload, Unread) and point.native for point in found.points)
    assert not grpc_disagreement(body)


def _change(change: Callable[[Any], object]) -> bytes:
    message = message_of({})
    change(message)
    wire: bytes = message.SerializeToString()
    return wire


def _named(message: Any) -> None:
    message.points[1].vectors.vectors.vectors["a"].dense.data.extend([1.0])


def _twice() -> bytes:
    """A point whose id has two numbers, of which the last one counts, beside one whose id has none."""
    message = message_of({})
    message.points[1].id.MergeFromString(b"\x08\x07")
    one, other = (message.points[n].SerializeToString() for n in (1, 2))
    twice = b"\x0a\x04\x08\x01\x08\x07" + one[one.index(b"\x22") :]
    none = b"\x0a\x00" + other[other.index(b"\x22") :]
    del message.points[:]
    return bytes(message.SerializeToString()) + b"".join(b"\x1a" + varint_of(len(p)) + p for p in (twice, none))


def _unknown(message: Any) -> None:
    message.points[1].MergeFromString(b"\xf8\x07\x01")


@pytest.mark.parametrize(
    "body",
    [
        _change(_named),
        _change(_unknown),
        _change(lambda message: message.MergeFromString(b"\xf8\x07\x01")),
        _change(lambda message: message.points[1].ClearField("vectors")),
        _change(lambda message: message.points[1].ClearField("id")),
        _change(lambda message: message.points[1].id.ClearField("num")),
        _change(lambda message: message.points[1].vectors.vector.dense.data.append(1.0)),
        _twice(),
        _change(lambda message: message.points[1].vectors.vector.indices.data.append(1)),
        _change(lambda message: message.points[1].vectors.vector.sparse.values.append(1)),
        _change(lambda message: message.points[1].vectors.vector.document.SetInParent()),
        _change(lambda message: setattr(message.points[1].id, "uuid", "no")),
        _change(lambda message: message.points[1].payload["x"].CopyFrom(proto.Value(double_value=float("inf")))),
        _change(lambda message: message.shard_key_selector.SetInParent()),
        _change(lambda message: message.update_filter.SetInParent()),
        _change(lambda message: setattr(message, "update_mode", 1)),
        message_of({}).SerializeToString()[:-1],
    ],
)
def test_grpc_whatever_else_is_read_whole(body: bytes) -> None:
    assert grpc_upserts.unread_upsert(body) is None
    assert not grpc_disagreement(body)


@pytest.mark.parametrize(
    "point",
    [
        b"\x0a" + b"\xff" * 2_000_000,  # a number without end: it would take as long as the square of its length
        b"\x1a\x00" * 5_000_000,
        bytes(10_000_000),
    ],
)
def test_grpc_what_goes_on_and_on_is_not_followed(point: bytes) -> None:
    message = b"\x0a\x01c\x1a" + varint_of(len(point)) + point
    began = time.process_time()
    assert grpc_upserts.unread_upsert(message) is None
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_grpc_what_is_no_number_is_refused(number: float) -> None:
    body = _change(lambda message: message.points[2].vectors.vector.dense.data.__setitem__(-1, number))
    with pytest.raises(InvalidRequest, match="NaN or an infinite number"):
        grpc_upserts.unread_upsert(body)
    assert not grpc_disagreement(body)


def test_grpc_it_is_sent_on_as_it_came() -> None:
    """Beside a point that is only known by what it holds."""
    message = message_of(VALUES)
    operation = QdrantGrpc().decode(Request("grpc", "", "/qdrant.Points/Upsert", body=message.SerializeToString()))
    assert isinstance(operation.operation, Upsert)
    known = Point(UUID(int=5), {"": np.ones(8, "<f4").tobytes()}, {"n": 1})
    path, wire = upsert_call("other", list(map(point_bytes, (*operation.operation.points, known))))
    sent = proto.UpsertPoints.FromString(wire)
    assert (path, sent.collection_name, sent.wait, sent.ordering.type) == ("/qdrant.Points/Upsert", "other", True, 2)
    assert list(sent.points)[:-1] == list(message.points)
    assert sent.points[-1].id.uuid == str(known.id)
    assert len(sent.points) == len(message.points) + 1


def test_grpc_the_whole_request_is_sent_on_with_another_collection_and_order() -> None:
    message = message_of(VALUES)
    message.wait, message.ordering.type = False, 1
    operation = grpc_upserts.unread_upsert(message.SerializeToString())
    assert operation is not None
    path, wire = sent_again("other", operation.native)
    sent = proto.UpsertPoints.FromString(wire)
    assert (path, sent.collection_name, sent.wait, sent.ordering.type) == ("/qdrant.Points/Upsert", "other", True, 2)
    assert list(sent.points) == list(message.points)


# --- whatever comes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "disagreement"),
    [
        (body_of(points(PAYLOADS[5], 2)), rest_disagreement),
        (body_of(points(PAYLOADS[1], 2)), rest_disagreement),
        (message_of(VALUES, size=2).SerializeToString(deterministic=True), grpc_disagreement),
        (message_of({}, size=2, dense=False).SerializeToString(), grpc_disagreement),
    ],
    ids=["rest keys", "rest values", "grpc values", "grpc flat"],
)
def test_bytes_that_were_changed(wire: bytes, disagreement: Callable[[bytes], str]) -> None:
    chance = random.Random(7)
    marks = b'"[]{},:\\ 01eEN' if disagreement is rest_disagreement else bytes(range(0x30)) + b"\x80\xaa\xff"
    for _ in range(4000):
        changed = bytearray(wire)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(changed))
            match chance.randrange(4):
                case 0:
                    changed[at] = chance.choice(marks)
                case 1:
                    changed.insert(at, chance.choice(marks))
                case 2:
                    del changed[at]
                case _:
                    end = at + chance.randrange(40)
                    changed[at:at] = changed[at:end]
        why = disagreement(bytes(changed))
        assert not why, (bytes(changed), why)
