"""Ids: a point's id <-> the primary key of its row, by a mapping that is fixed when the collection is made.

`integer`: INT64, the id itself; UUIDs, strings and integers over 2**63-1 have no key there.
`text`: VARCHAR, the decimal digits of an integer, the canonical text of a UUID, or the string itself (behind "str:"
if it could be mistaken for one of the others). Any id has one, but rows are ordered by this text.

Beside it the id stands once more, with its type, in a reserved dynamic field ("u64:7", "uuid:...", "str:..."). Ids are
read from there; in a row that somebody else wrote, from the key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final
from uuid import UUID

from proxy.dialects.milvus.limits import INT64, TEXT_ID_BYTES, UnrepresentableError
from proxy.model import PointId

PrimaryKey = int | str

_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,19}")
_UINT64: Final = range(2**64)


class IdMapping(Enum):
    INTEGER = "integer"
    TEXT = "text"


def primary_key(point_id: PointId, mapping: IdMapping, max_bytes: int = TEXT_ID_BYTES) -> PrimaryKey:
    """The key of the row. Raises UnrepresentableError."""
    if mapping is IdMapping.INTEGER:
        if not isinstance(point_id, int):
            raise UnrepresentableError(f"the id is not an integer, and the collection's primary key is: {point_id}")
        if point_id not in INT64:
            raise UnrepresentableError(f"the id is larger than the collection's integer primary key takes: {point_id}")
        return point_id
    text = _text_of(point_id)
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        raise UnrepresentableError("the id is not valid Unicode") from error
    if size_bytes > max_bytes:
        raise UnrepresentableError(f"the id has {size_bytes} bytes, the primary key takes {max_bytes}")
    return text


def primary_keys(ids: Sequence[Any], mapping: IdMapping, max_bytes: int = TEXT_ID_BYTES) -> list[PrimaryKey]:
    """The key of each row. Raises UnrepresentableError."""
    if mapping is IdMapping.INTEGER and set(map(type, ids)) == {int} and min(ids) in INT64 and max(ids) in INT64:
        return list(ids)
    return [primary_key(point_id, mapping, max_bytes) for point_id in ids]


def point_id_of(key: PrimaryKey) -> PointId:
    """The inverse of `primary_key`."""
    return key if isinstance(key, int) else _id_of(key)


def _text_of(point_id: PointId) -> str:
    if isinstance(point_id, str):
        return f"str:{point_id}" if _could_be_mistaken(point_id) else point_id
    return str(point_id)


def _id_of(text: str) -> PointId:
    rest = text.removeprefix("str:")
    return rest if rest != text and _could_be_mistaken(rest) else _plain_id(text)


def _could_be_mistaken(text: str) -> bool:
    """Whether a string, as a key, would be read as an integer or UUID, or as such a string behind its prefix."""
    while text.startswith("str:"):
        text = text.removeprefix("str:")
    return not isinstance(_plain_id(text), str)


def _plain_id(text: str) -> PointId:
    """The integer or UUID whose canonical text this is, else the text."""
    if _DIGITS.fullmatch(text) and int(text) in _UINT64:
        return int(text)
    if len(text) == 36:
        try:
            found = UUID(text)
        except ValueError:
            return text
        return found if str(found) == text else text
    return text


def tagged(point_id: PointId) -> str:
    """The id with its type, for the reserved field."""
    match point_id:
        case int():
            return f"u64:{point_id}"
        case UUID():
            return f"uuid:{point_id}"
        case _:
            return f"str:{point_id}"


def untagged(text: object) -> PointId | None:
    """The inverse of `tagged`; None for anything that it never gives."""
    if not isinstance(text, str):
        return None
    tag, _, rest = text.partition(":")
    match tag:
        case "str":
            return rest
        case "u64" if isinstance(found := _plain_id(rest), int):
            return found
        case "uuid" if isinstance(found := _plain_id(rest), UUID):
            return found
        case _:
            return None
