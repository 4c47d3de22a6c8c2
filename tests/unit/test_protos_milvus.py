"""protos/milvus says what the vendor's own descriptors say, and what is committed is what it compiles to."""

from __future__ import annotations

from collections.abc import Iterator

import pymilvus.grpc_gen.milvus_pb2  # noqa: F401 - registers the vendor's descriptors in the default pool
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import Default

from proxy.dialects.descriptors import pool_of
from tests.support.compile_protos import compiled, descriptor_set_path

OURS = FileDescriptorSet.FromString(descriptor_set_path("milvus").read_bytes())


def messages() -> Iterator[str]:
    for file in OURS.file:
        for message in file.message_type:
            yield f"{file.package}.{message.name}"


def fields(message: Descriptor) -> dict[int, tuple[object, ...]]:
    """number -> everything that decides what a field means on the wire."""
    described: dict[int, tuple[object, ...]] = {}
    proto = DescriptorProto()
    message.CopyToProto(proto)
    for field in proto.field:
        oneof = proto.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
        described[field.number] = (field.name, field.type, field.label, field.type_name, field.proto3_optional, oneof)
    return described


@pytest.mark.parametrize("name", sorted(messages()))
def test_every_field_is_the_vendors(name: str) -> None:
    ours = fields(pool_of("milvus").FindMessageTypeByName(name))
    theirs = fields(Default().FindMessageTypeByName(name))
    assert ours == {number: theirs.get(number) for number in ours}


def test_every_enum_value_is_the_vendors() -> None:
    checked = 0
    for file in OURS.file:
        for enum in file.enum_type:
            theirs = Default().FindEnumTypeByName(f"{file.package}.{enum.name}").values_by_name
            assert {value.name: value.number for value in enum.value} == {
                value.name: theirs[value.name].number for value in enum.value
            }
            checked += 1
    assert checked == 7


def test_the_committed_descriptor_set_is_current() -> None:
    assert descriptor_set_path("milvus").read_bytes() == compiled("milvus"), (
        "run python -m tests.support.compile_protos"
    )
