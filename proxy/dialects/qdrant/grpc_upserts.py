"""An upsert over gRPC whose payloads are left unread.

A store of the same vendor gets every point as the client sent it, so only what is looked at is decoded (a vector is a
part of the bytes as it is). As in rest_upserts.py: sure or not at all, and whatever is not the plain form (one dense
vector without a name) is None here, and decoded whole by grpc_requests.py. That both say the same is tested
(tests/unit/dialects/test_qdrant_unread.py).

Tags are those of protos/qdrant/points.proto: one byte each but for `Vector.dense`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from proxy.dialects.qdrant.ids import uuid_of
from proxy.dialects.qdrant.messages import known, proto
from proxy.dialects.qdrant.payloads import payload_of_proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import finite
from proxy.errors import InvalidRequest
from proxy.model import Json, Point, PointId, Unread, Upsert

_ID, _PAYLOAD, _VECTORS = 0x0A, 0x1A, 0x22  # of PointStruct
_NUM, _UUID = 0x08, 0x12  # of PointId
_VECTOR, _DENSE, _DATA = b"\x0a", b"\xaa\x06", b"\x0a"  # of Vectors, of Vector, of DenseVector (and of Vector, before)
_KEY, _VALUE = b"\x0a", b"\x12"  # of an entry of a payload
_VECTORS_TAG = bytes([_VECTORS])
_UUID_BYTES = 36
_MORE = 0x80  # a varint goes on
_LAST_SHIFT = 56  # of ten bytes, which is all that there may be
_NOT_FINITE = re.compile(rb"\x11[\x00-\xff]{6}[\xf0-\xff][\x7f\xff]")  # what a double that is none looks like


def _envelope() -> Any:
    """UpsertPoints with its points as bytes, and nothing that changes what they mean."""
    described = proto.UpsertPoints.DESCRIPTOR.fields_by_name
    file = FileDescriptorProto(name="crossfade/upsert.proto", package="crossfade", syntax="proto3")
    message = file.message_type.add(name="Upsert")
    for name, kind in (
        ("collection_name", FieldDescriptorProto.TYPE_BYTES),
        ("wait", FieldDescriptorProto.TYPE_BOOL),
        ("points", FieldDescriptorProto.TYPE_BYTES),
        ("ordering", FieldDescriptorProto.TYPE_BYTES),
    ):
        repeated = name == "points"
        label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
        message.field.add(name=name, number=described[name].number, type=kind, label=label)
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("crossfade.Upsert"))


_Envelope = _envelope()


def unread_upsert(body: bytes) -> Upsert | None:
    """What `body` asks, or None if that takes reading it whole. Raises InvalidRequest for NaN and infinity."""
    scan = _Scan()
    try:
        envelope = known(_Envelope.FromString(body))
        collection = envelope.collection_name.decode()
        found = [(*scan.point(wire), wire) for wire in envelope.points]
    except (DecodeError, Undecodable, IndexError, ValueError):
        return None
    vectors = [wire[start:] for _, start, wire in found]
    finite(b"".join(vectors))
    points = [
        Point(point_id, {"": vector}, Unread(wire, _payload), wire)
        for vector, (point_id, _, wire) in zip(vectors, found, strict=True)
    ]
    return Upsert(collection, tuple(points))


class _Scan:
    """Of PointStructs one after the other, which are mostly alike."""

    __slots__ = ("_head", "_tail_bytes")

    def __init__(self) -> None:
        self._head = b""  # of the last one's vector: all before its numbers
        self._tail_bytes = 0  # of its vector with its head

    def point(self, wire: bytes) -> tuple[PointId, int]:
        """Its id, and where its numbers begin. Raises Undecodable unless it is the plain form, with the vector at the
        end; IndexError for one that is cut short."""
        position = 0
        found: PointId | None = None
        while (tag := wire[position]) != _VECTORS:
            start = position + 2
            length = wire[position + 1]
            if length >= _MORE:
                length, start = _varint(wire, position + 1)
            if tag == _ID and found is None:
                found = _id(wire, start, start + length)
            elif tag != _PAYLOAD or _entry_end(wire, start) != start + length:
                raise Undecodable
            position = start + length
        if found is None or _NOT_FINITE.search(wire, 0, position):
            raise Undecodable
        if len(wire) - position != self._tail_bytes or not wire.startswith(self._head, position):
            numbers = _numbers(wire, position)
            self._head, self._tail_bytes = wire[position:numbers], len(wire) - position
        return found, position + len(self._head)


def _entry_end(wire: bytes, start: int) -> int:
    """Where the value of a payload's entry ends, which begins with its key."""
    if not wire.startswith(_KEY, start):
        raise Undecodable
    length, start = _varint(wire, start + 1)
    if not wire.startswith(_VALUE, start + length):
        raise Undecodable
    length, start = _varint(wire, start + length + 1)
    return start + length


def _id(wire: bytes, start: int, end: int) -> PointId:
    kind = wire[start]
    if kind == _NUM and end - start == 2 and wire[start + 1] < _MORE:
        return wire[start + 1]
    if kind == _NUM:
        number, after = _varint(wire, start + 1)
        if after == end and number < 1 << 64:
            return number
    if kind == _UUID and wire[start + 1] == _UUID_BYTES and end - start == _UUID_BYTES + 2:
        return uuid_of(wire[start + 2 : end].decode())
    raise Undecodable


def _numbers(wire: bytes, position: int) -> int:
    """Where the numbers begin that are all of a Vectors field, which goes from `position` to the end."""
    end = len(wire)
    for tag in (_VECTORS_TAG, _VECTOR, _DENSE, _DATA):
        if not wire.startswith(tag, position):
            if tag is _DENSE:
                continue  # the form before Qdrant 1.16
            raise Undecodable
        length, position = _varint(wire, position + len(tag))
        if position + length != end:
            raise Undecodable
    if (end - position) % 4:
        raise Undecodable
    return position


def _varint(wire: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where it ends."""
    value = shift = 0
    while (byte := wire[position]) >= _MORE:
        if shift > _LAST_SHIFT:
            raise Undecodable
        value |= (byte - _MORE) << shift
        shift += 7
        position += 1
    return value | byte << shift, position + 1


def _payload(wire: bytes) -> Mapping[str, Json]:
    """Raises InvalidRequest."""
    try:
        return payload_of_proto(proto.PointStruct.FromString(wire).payload)
    except DecodeError as problem:
        raise InvalidRequest(f"Wrong input: a payload cannot be read ({problem})") from None
