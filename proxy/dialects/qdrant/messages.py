"""The proto messages of protos/qdrant, as attributes of `proto`: `proto.PointStruct(...)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from google.protobuf.unknown_fields import UnknownFieldSet

from proxy.dialects.descriptors import message_set
from proxy.dialects.qdrant.undecodable import Undecodable

proto = message_set("qdrant", "qdrant")
_LENGTHS_KEPT = 1024


def known(message: Any) -> Any:
    """The message itself. Raises Undecodable if it carries a field that protos/qdrant does not describe: a newer client
    asks for something whose meaning is not known here."""
    if len(UnknownFieldSet(message)):
        raise Undecodable("unknown field")
    return message


class Field(dict[int, bytes]):
    """Of messages that are put together from bytes: what stands before one of these fields, by its length. (Kept, since
    many are of one length.)"""

    def __init__(self, tag: bytes) -> None:
        self._tag = tag

    def __missing__(self, length: int) -> bytes:
        found = self._tag + varint_of(length)
        if len(self) < _LENGTHS_KEPT:
            self[length] = found
        return found

    def each(self, contents: Sequence[bytes]) -> Iterator[bytes]:
        """A field for each of `contents`, in parts."""
        return chain.from_iterable(zip(map(self.__getitem__, map(len, contents)), contents, strict=True))


def varint_of(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
