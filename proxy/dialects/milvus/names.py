"""Names: any name of a collection or vector <-> a Milvus name ([A-Za-z_][A-Za-z0-9_]*, at most 255 characters).

A name that is one already stays as it is. In others, each character that may not stand there becomes `_x<hex>_` (its
code point), and so does an underscore that could be mistaken for the start of such an escape: "my-docs" is
`my_x2d_docs`. Reversible, and no two collections share one.

Vectors: the unnamed one is the field `vector`. A vector that is called like one of our own fields has its first
character escaped.
"""

from __future__ import annotations

import re

from proxy.dialects.milvus.limits import MAX_NAME_CHARACTERS
from proxy.errors import Untranslatable

PRIMARY_FIELD = "id"
UNNAMED_VECTOR_FIELD = "vector"
DYNAMIC_FIELD = "$meta"
RESERVED_PREFIX = "_crossfade_"

# Names that Milvus or Milvus Lite keep for themselves, whatever the case.
_VENDOR_FIELDS = frozenset({"_seq", "_partition", "iso", "interval"})

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ESCAPE = re.compile(r"_x([0-9a-f]{1,6})_")
_LIKE_AN_ESCAPE = re.compile(r"_x[0-9a-f]")


def collection_name(name: str) -> str:
    """The Milvus name of a collection. Raises Untranslatable if it would be empty or too long."""
    return _measured(name if _stays(name) else _escaped(name))


def name_of_collection(milvus_name: str) -> str:
    """The inverse of `collection_name`; a name that it never gives stands for itself."""
    if _stays(milvus_name):
        return milvus_name
    name = _unescaped(milvus_name)
    return name if name is not None and _escaped(name) == milvus_name else milvus_name


def vector_field(name: str) -> str:
    """The field of a vector. Raises Untranslatable if its name is too long."""
    if name == "":
        return UNNAMED_VECTOR_FIELD
    taken = name in (PRIMARY_FIELD, UNNAMED_VECTOR_FIELD) or name.casefold() in _VENDOR_FIELDS
    if taken or name.startswith(RESERVED_PREFIX):
        return _measured(_escape(name[0]) + _escaped(" " + name[1:])[len(_escape(" ")) :])
    return collection_name(name)


def vector_of_field(field: str) -> str:
    """The inverse of `vector_field`; a field that it never gives stands for itself."""
    if field == UNNAMED_VECTOR_FIELD:
        return ""
    name = _unescaped(field)
    return name if name and vector_field(name) == field else field


def _stays(name: str) -> bool:
    """Whether it is one that Milvus takes, and no other name is escaped to it."""
    if not _IDENTIFIER.fullmatch(name):
        return False
    other = _unescaped(name)
    return other in (None, name) or _escaped(other) != name or _stays(other)


def _escaped(name: str) -> str:
    return "".join(
        character if _may_stand(name, position) else _escape(character) for position, character in enumerate(name)
    )


def _may_stand(name: str, position: int) -> bool:
    character = name[position]
    if character == "_":
        return _LIKE_AN_ESCAPE.match(name, position) is None
    return character.isascii() and (character.isalpha() or (character.isdigit() and position > 0))


def _escape(character: str) -> str:
    return f"_x{ord(character):x}_"


def _unescaped(milvus_name: str) -> str | None:
    try:
        return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), milvus_name)
    except ValueError:  # beyond Unicode: not one of ours
        return None


def _measured(milvus_name: str) -> str:
    if not 0 < len(milvus_name) <= MAX_NAME_CHARACTERS:
        raise Untranslatable("name of collection or vector: empty or too long")
    return milvus_name
