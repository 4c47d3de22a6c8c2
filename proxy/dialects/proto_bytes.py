"""Protobuf messages put together from bytes. What stands behind each other is one message, so a part that is there as
bytes (a client's points, a column of vectors) is put behind the rest instead of being read and written again. Nothing
here knows a vendor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final

_LENGTHS_KEPT: Final = 1024
_OF_A_LENGTH: Final = 2  # the wire type of strings, bytes, messages and packed numbers
MORE: Final = 0x80  # a varint goes on
_LAST_SHIFT: Final = 56  # of ten bytes, which is all that there may be


class Field(dict[int, bytes]):
    """What stands before a field of a message that has a length, by that length. (Kept, since many are of one.)"""

    def __init__(self, message: Any, name: str) -> None:
        """`message`: the class."""
        self._tag = varint_of(message.DESCRIPTOR.fields_by_name[name].number << 3 | _OF_A_LENGTH)

    def __missing__(self, length: int) -> bytes:
        found = self._tag + varint_of(length)
        if len(self) < _LENGTHS_KEPT:
            self[length] = found
        return found

    def each(self, contents: Sequence[bytes]) -> Iterator[bytes]:
        """A field for each of `contents`, in parts."""
        return chain.from_iterable(zip(map(self.__getitem__, map(len, contents)), contents, strict=True))


def varint_of(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x200000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def varint_at(wire: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where it ends. Raises IndexError if it is cut short, ValueError if it is too
    long."""
    value = shift = 0
    while (byte := wire[position]) >= MORE:
        if shift > _LAST_SHIFT:
            raise ValueError("a number has more than ten bytes")
        value |= (byte - MORE) << shift
        shift += 7
        position += 1
    return value | byte << shift, position + 1
