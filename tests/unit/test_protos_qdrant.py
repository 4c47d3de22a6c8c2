"""protos/qdrant says what the vendor's own descriptors say, and what is committed is what it compiles to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import qdrant_client.grpc  # noqa: F401 - registers the vendor's descriptors in the default pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import Default

from proxy.dialects.descriptors import pool_of
from tests.support.compile_protos import compiled, descriptor_set_path

OURS = FileDescriptorSet.FromString(descriptor_set_path("qdrant").read_bytes())


def messages() -> Iterator[str]:
    def below(prefix: str, nested: Iterable[DescriptorProto]) -> Iterator[str]:
        for message in nested:
            name = f"{prefix}.{message.name}"
            yield name
            yield from below(name, (inner for inner in message.nested_type if not inner.options.map_entry))

    for file in OURS.file:
        if file.package == "qdrant":
            yield from below(file.package, file.message_type)


def fields(message: Descriptor) -> dict[int, tuple[object, ...]]:
    """number -> everything that decides what a field means on the wire and in JSON."""
    described: dict[int, tuple[object, ...]] = {}
    proto = DescriptorProto()
    message.CopyToProto(proto)
    for field in proto.field:
        oneof = proto.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        described[field.number] = (field.name, field.type, field.label, field.type_name, field.proto3_optional, oneof)
    return described


@pytest.mark.parametrize("name", sorted(messages()))
def test_every_field_is_the_vendors(name: str) -> None:
    ours = fields(pool_of("qdrant").FindMessageTypeByName(name))
    theirs = fields(Default().FindMessageTypeByName(name))
    assert ours == {number: theirs.get(number) for number in ours}


def test_every_enum_is_the_vendors() -> None:
    def numbers(enum: EnumDescriptor) -> dict[str, int]:
        return {value.name: value.number for value in enum.values}

    checked = 0
    for file in OURS.file:
        if file.package != "qdrant":
            continue
        names = [f"qdrant.{enum.name}" for enum in file.enum_type]
        names += [f"qdrant.{outer.name}.{enum.name}" for outer in file.message_type for enum in outer.enum_type]
        for name in names:
            ours = numbers(pool_of("qdrant").FindEnumTypeByName(name))
            assert ours == numbers(Default().FindEnumTypeByName(name)), name
            checked += 1
    assert checked > 20


def test_the_committed_descriptor_set_is_current() -> None:
    assert descriptor_set_path("qdrant").read_bytes() == compiled("qdrant"), (
        "run python -m tests.support.compile_protos"
    )


def test_the_vendors_messages_and_ours_live_side_by_side() -> None:
    """Ours are not in the default pool, where a second copy would raise."""
    ours = pool_of("qdrant").FindMessageTypeByName("qdrant.PointStruct")
    theirs = Default().FindMessageTypeByName("qdrant.PointStruct")
    assert ours is not theirs
    proto = FileDescriptorProto()
    ours.file.CopyToProto(proto)
    assert proto.package == "qdrant"
