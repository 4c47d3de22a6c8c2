"""Vendor messages from a compiled descriptor set, in a pool of their own.

The official client packages register their messages in protobuf's default pool, and registering a second copy there
raises. So each vendor's subset (protos/<vendor>, compiled into <vendor>/messages.binpb) is loaded into a private pool,
and the program can share a process with any client. Nothing here knows a vendor.

A `MessageSet` gives the message classes and enum numbers of one package as attributes. Their type is `Any`: what they
hold is described in protos/, and a test compares that with the vendor's own. All classes are made at once and kept:
protobuf keeps none of its own accord, and would make that of each field's message again (0.1 ms) whenever the garbage
collector has been there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass


class MessageSet:
    """The messages and enums of one proto package: `messages.PointId(num=1)`, `messages.Distance.Value("Cosine")`."""

    def __init__(self, pool: DescriptorPool, package: str) -> None:
        self._pool = pool
        self._package = package

    def __getattr__(self, name: str) -> Any:
        """A message class, or for an enum its descriptor's name and number tables. Raises AttributeError."""
        if name.startswith("_"):
            raise AttributeError(name)
        full_name = f"{self._package}.{name}"
        found: Any
        try:
            found = GetMessageClass(self._pool.FindMessageTypeByName(full_name))
        except KeyError:
            try:
                found = EnumNames(self._pool.FindEnumTypeByName(full_name))
            except KeyError:
                raise AttributeError(f"protos/ describes no {full_name}") from None
        setattr(self, name, found)
        return found


class EnumNames:
    """Names and numbers of an enum. A number that our description lacks has no name (None)."""

    def __init__(self, descriptor: Any) -> None:
        self.number_of: dict[str, int] = {value.name: value.number for value in descriptor.values}
        self.name_of: dict[int, str] = {value.number: value.name for value in descriptor.values}

    def Value(self, name: str) -> int:
        return self.number_of[name]

    def Name(self, number: int) -> str | None:
        return self.name_of.get(number)


_classes: list[Any] = []  # so that they are kept


@cache
def pool_of(vendor: str) -> DescriptorPool:
    """The private pool with every file of a vendor's descriptor set. Raises FileNotFoundError for an unknown vendor."""
    described = FileDescriptorSet.FromString(files(f"proxy.dialects.{vendor}").joinpath("messages.binpb").read_bytes())
    pool = DescriptorPool()
    for file in described.file:
        pool.AddSerializedFile(file.SerializeToString())
    for file in described.file:
        keep_classes(pool, file.name)
    return pool


def classes_of(file: FileDescriptorProto, *names: str) -> tuple[Any, ...]:
    """Those of messages that are described here, in a pool of their own."""
    pool = DescriptorPool()
    pool.Add(file)
    keep_classes(pool, file.name)
    return tuple(GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}")) for name in names)


def keep_classes(pool: DescriptorPool, file: str) -> None:
    """Those of all messages of a file."""
    for message in pool.FindFileByName(file).message_types_by_name.values():
        _classes.extend(_with_nested(message))


def _with_nested(message: Descriptor) -> Iterator[Any]:
    """Its class, and those of the messages within (the entries of its maps)."""
    yield GetMessageClass(message)
    for nested in message.nested_types:
        yield from _with_nested(nested)


def message_set(vendor: str, package: str) -> MessageSet:
    """The messages of `package` in the pool of `vendor`."""
    return MessageSet(pool_of(vendor), package)
