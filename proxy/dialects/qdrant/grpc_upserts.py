"""An upsert over gRPC of which only the ids are read.

A store of the same vendor gets every point as the client sent it, so only what is looked at is decoded. As in
rest_upserts.py: sure or not at all, and whatever is not the plain form (each point an id, a payload, and at its end one
dense vector without a name, as long as that of all others) is None here, and decoded whole by grpc_requests.py. That
both say the same is tested (tests/unit/dialects/test_qdrant_unread.py).

That takes no loop over bytes: points come out of their message as bytes; what stands before their vectors is made one
message, which protobuf reads, and which has to be just as long when it is written again: then it has no field that is
not known here, none twice and no number in an odd form.

Tags are those of protos/qdrant/points.proto: one byte each but for `Vector.dense`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

from proxy.dialects.descriptors import classes_of
from proxy.dialects.proto_bytes import MORE, Field, varint_at
from proxy.dialects.qdrant.ids import uuid_of
from proxy.dialects.qdrant.messages import known, proto
from proxy.dialects.qdrant.payload_wire import payload_in
from proxy.dialects.qdrant.payloads import payload_of_proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import finite
from proxy.errors import InvalidRequest
from proxy.model import Json, Point, PointId, Reader, Unread, UnreadVector, Upsert, Vector

# Tags of PointStruct.
_ID: Final = 0x0A
_PAYLOAD: Final = 0x1A
_VECTORS: Final = 0x22
_VECTORS_TAG: Final = bytes([_VECTORS])
# Of Vectors, of Vector, of DenseVector (and of Vector, before).
_VECTOR: Final = b"\x0a"
_DENSE: Final = b"\xaa\x06"
_DATA: Final = b"\x0a"
_MOST_FIELDS: Final = 1024  # before the vector; one with more is no plain point
_NOT_FINITE: Final = re.compile(rb"\x11[\x00-\xff]{6}[\xf0-\xff][\x7f\xff]")  # what a double that is none looks like


def _message(name: str, *fields: tuple[str, int, int | str], repeated: str = "", one_of: str = "") -> DescriptorProto:
    """A message with these fields: name, number, and a type of FieldDescriptorProto or the name of a message. One of
    them may be repeated. `one_of`: the name of what all of them are the choices of."""
    message = DescriptorProto(name=name)
    if one_of:
        message.oneof_decl.add(name=one_of)
    for field, number, kind in fields:
        label = FieldDescriptorProto.LABEL_REPEATED if field == repeated else FieldDescriptorProto.LABEL_OPTIONAL
        made = message.field.add(name=field, number=number, label=label)
        if isinstance(kind, str):
            made.type, made.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".crossfade.{kind}"
        else:
            made.type = FieldDescriptorProto.Type.ValueType(kind)
        if one_of:
            made.oneof_index = 0
    return message


def _classes() -> tuple[Any, ...]:
    """UpsertPoints with its points as bytes, and nothing that changes what they mean; what stands before the vectors of
    some points; ids that are numbers, all in one; and `wait` of any message. (proto2: what is set is written, whatever
    it is.)"""
    kind = FieldDescriptorProto
    described = proto.UpsertPoints.DESCRIPTOR.fields_by_name
    kinds = {"collection_name": kind.TYPE_BYTES, "wait": kind.TYPE_BOOL}
    names = ("collection_name", "wait", "points", "ordering")
    fields = [(name, described[name].number, kinds.get(name, kind.TYPE_BYTES)) for name in names]
    file = FileDescriptorProto(name="crossfade/upsert.proto", package="crossfade", syntax="proto2")
    file.message_type.extend(
        [
            _message("Upsert", *fields, repeated="points"),
            _message("Id", ("num", 1, kind.TYPE_UINT64), ("uuid", 2, kind.TYPE_BYTES), one_of="kind"),
            _message("Entry", ("key", 1, kind.TYPE_BYTES), ("value", 2, kind.TYPE_BYTES)),
            _message("Head", ("id", 1, "Id"), ("payload", 3, "Entry"), repeated="payload"),
            _message("Heads", ("points", 1, "Head"), repeated="points"),
            _message("Numbers", ("num", 1, kind.TYPE_UINT64), repeated="num"),
            _message("Waiting", ("wait", described["wait"].number, kind.TYPE_BOOL)),
        ]
    )
    return classes_of(file, "Upsert", "Heads", "Numbers", "Waiting")


_CLASSES: Final = _classes()
_Envelope: Final = _CLASSES[0]
_Heads: Final = _CLASSES[1]
_Numbers: Final = _CLASSES[2]
_Waiting: Final = _CLASSES[3]
_HEAD: Final = Field(_Heads, "points")
_POINT: Final = Field(proto.UpsertPoints, "points")


def unread_upsert(body: bytes) -> Upsert | None:
    """What `body` asks, or None if that takes reading it whole. Raises InvalidRequest for NaN and infinity."""
    try:
        envelope = known(_Envelope.FromString(body))
        collection = envelope.collection_name.decode()
        points = list(envelope.points)
        if not points:
            return None
        tail = _tail(points[0])
        vectors = [point[-tail.vector_bytes :] for point in points]
        heads = [point[: -tail.field_bytes] for point in points]
        before_numbers = [point[-tail.field_bytes : -tail.vector_bytes] for point in points]
        if before_numbers.count(tail.before_numbers) != len(points):
            return None
        ids = _ids(heads)
    except (DecodeError, Undecodable, IndexError, ValueError):
        return None
    finite(b"".join(vectors))
    read_vector = _Vectors(tail.vector_bytes)
    return Upsert(
        collection,
        tuple(
            [
                Point(point_id, UnreadVector(point, read_vector), Unread(head, _read_payload), point)
                for point_id, point, head in zip(ids, points, heads, strict=True)
            ]
        ),
        native=body,
    )


def waits(body: bytes) -> bool:
    """Whether a message that changes points or an index is to be answered once that is done. Of any such message, since
    all have one number for it; like the upserts of this file it is not read further."""
    return bool(_Waiting.FromString(body).wait)


def _ids(heads: Sequence[bytes]) -> list[PointId]:
    """Of points, by what stands before their vectors. Raises Undecodable or DecodeError unless that is an id and
    entries of a payload."""
    joined = b"".join(_HEAD.each(heads))
    if _NOT_FINITE.search(joined):
        raise Undecodable
    read = _Heads.FromString(joined)
    read.DiscardUnknownFields()
    if read.ByteSize() != len(joined):
        raise Undecodable
    # A number is one field of its id; behind each other they are one message. (Of two in one id the first was not
    # written again, and a UUID is no number.)
    alone = [head[2 : 2 + head[1]] for head in heads if head[0] == _ID and head[1] < MORE]
    numbers = list(_Numbers.FromString(b"".join(alone)).num)
    if len(numbers) == len(heads):
        return numbers
    return [_id(head.id) for head in read.points]


def _id(message: Any) -> PointId:
    match message.WhichOneof("kind"):
        case "num":
            return int(message.num)
        case "uuid":
            return uuid_of(message.uuid.decode())
        case _:
            raise Undecodable


class _Tail(NamedTuple):
    """The end of a PointStruct, which is its field `vectors`, whose end are the vector's numbers."""

    field_bytes: int
    vector_bytes: int
    before_numbers: bytes  # what is not numbers of the field


def _tail(point: bytes) -> _Tail:
    """Raises Undecodable unless it ends with one dense vector without a name; as `varint_at` does if it is damaged."""
    position = fields = 0
    while (tag := point[position]) != _VECTORS:
        fields += 1
        if tag not in (_ID, _PAYLOAD) or fields > _MOST_FIELDS:
            raise Undecodable
        length, start = varint_at(point, position + 1)
        position = start + length
    numbers = _numbers(point, position)
    if numbers == len(point):
        raise Undecodable
    return _Tail(len(point) - position, len(point) - numbers, point[position:numbers])


def _numbers(wire: bytes, position: int) -> int:
    """Where the numbers begin that are all of a Vectors field, which goes from `position` to the end."""
    end = len(wire)
    for tag in (_VECTORS_TAG, _VECTOR, _DENSE, _DATA):
        if not wire.startswith(tag, position):
            if tag is _DENSE:
                continue  # the form before Qdrant 1.16
            raise Undecodable
        length, position = varint_at(wire, position + len(tag))
        if position + length != end:
            raise Undecodable
    if (end - position) % 4:
        raise Undecodable
    return position


class _Vectors(Reader[Vector]):
    """Of points, at whose ends they stand."""

    def __init__(self, vector_bytes: int) -> None:
        self._bytes = vector_bytes

    def all(self, wires: Sequence[bytes]) -> Iterable[Mapping[str, Vector]]:
        return [{"": wire[-self._bytes :]} for wire in wires]


class _Payloads(Reader[Json]):
    """Of points, by what stands before their vectors."""

    def all(self, wires: Sequence[bytes]) -> Iterable[Mapping[str, Json]]:
        return [_payload_of(wire) for wire in wires]


def _payload_of(wire: bytes) -> Mapping[str, Json]:
    """Raises InvalidRequest."""
    if (found := payload_in(wire)) is not None:
        return found
    try:
        return payload_of_proto(proto.UpsertPoints.FromString(_POINT[len(wire)] + wire).points[0].payload)
    except DecodeError as problem:
        raise InvalidRequest(f"Wrong input: a payload cannot be read ({problem})") from None


_read_payload: Final = _Payloads()
