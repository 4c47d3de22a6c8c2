"""What a field block of HTTP/2 says, decoded. Apart from hpack.py, which can be compiled: these classes cannot."""

from __future__ import annotations

import msgspec

Field = tuple[bytes, bytes]  # name, value


class FieldBlock(msgspec.Struct, frozen=True, gc=False, eq=False):
    """One object for all blocks of the same bytes while they are remembered (see hpack.py). `fields` in their
    order, of which `pseudo` are those that begin with a colon. `size_bytes` as SETTINGS_MAX_HEADER_LIST_SIZE counts it.
    `problem`: what makes it malformed first, or "". `authority`: what `:authority` or `host` says, if there is either.
    """

    fields: tuple[Field, ...]
    size_bytes: int
    problem: str
    pseudo: dict[bytes, bytes]
    authority: bytes | None
    content_length: int | None


class Judged(msgspec.Struct, frozen=True, gc=False):
    field: Field
    size_bytes: int
    problem: str
