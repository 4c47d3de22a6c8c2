"""gRPC over HTTP/2, for unary calls: fields to metadata, bytes to messages, and back.

Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and doc/compression.md.

The protocol's own fields (`te`, `content-type`, `grpc-timeout`, `grpc-encoding`, ...) are no metadata. Values of keys
that end in "-bin" are base64 on the way and bytes here. A compressed message is given uncompressed; none is sent
compressed.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from proxy.errors import BodyTooLarge
from proxy.protocols.field_block import Field, FieldBlock
from proxy.protocols.hpack import encode

Metadata = tuple[tuple[str, str | bytes], ...]

OK: Final = 0
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
PERMISSION_DENIED: Final = 7
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
UNAVAILABLE: Final = 14
UNAUTHENTICATED: Final = 16
ACCEPTED_CODINGS: Final = b"identity, deflate, gzip"

_CONTENT_TYPE: Final = b"application/grpc"
_PREFIX: Final = Struct(">BI")  # whether it is compressed, and its size
PREFIX_BYTES: Final = _PREFIX.size
_LARGE_PIECE_BYTES: Final = 1024
_REMEMBERED_BYTES: Final = 2048  # of fields
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST_TIMEOUT: Final = 9  # eight digits and a unit
_MOST_MILLISECONDS: Final = 99_999_999
_LONGEST_STATUS: Final = 3  # digits
_MOST_VALUES: Final = 32  # in one field; more are left as they are
_NO_METADATA: Final = frozenset(
    {b"te", b"content-type", b"content-length", b"host", b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"}
)
_WINDOW_BITS: Final = {b"gzip": 31, b"deflate": 15}
_UNESCAPED: Final = "".join(chr(byte) for byte in range(0x20, 0x7F) if byte != ord("%"))


class MessageError(Exception):
    """What came is no message of a unary call. `status`: of gRPC."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Asked(NamedTuple):
    """What the head of a call says. `timeout_seconds`: as of `timeout_in`; `coding`: as of `coding_in`."""

    path: str
    is_grpc: bool
    metadata: Metadata
    coding: bytes
    timeout_seconds: float | None


def asked_in(block: FieldBlock) -> Asked:
    """Remembered, if it is not long: a client's calls differ in little but how long it waits."""
    return _remembered(block) if block.size_bytes <= _REMEMBERED_BYTES else _asked_in(block)


def _asked_in(block: FieldBlock) -> Asked:
    fields = block.fields
    content_type = next((value for name, value in fields if name == b"content-type"), b"")
    path = block.pseudo[b":path"].decode("latin-1")
    return Asked(path, is_grpc(content_type), metadata_in(fields), coding_in(fields), timeout_in(fields))


_remembered: Final = lru_cache(2048)(_asked_in)


def coding_in(fields: Iterable[Field]) -> bytes:
    """How messages may be compressed that are said to be."""
    return next((value for name, value in fields if name == b"grpc-encoding"), b"identity")


def metadata_in(fields: Iterable[Field]) -> Metadata:
    """What the client said beyond the protocol's own, in its order."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name in _NO_METADATA or name[:1] == b":":
            continue
        if name.endswith(b"-bin"):
            values = value.split(b",") if value.count(b",") < _MOST_VALUES else [value]
            found += ((name.decode("ascii"), _unpacked(each)) for each in values)
        else:
            found.append((name.decode("ascii"), _text(value)))
    return tuple(found)


def fields_of(metadata: Iterable[tuple[str, str | bytes]]) -> list[Field]:
    return [
        (name.encode(), base64.b64encode(value).rstrip(b"=") if isinstance(value, bytes) else value.encode())
        for name, value in metadata
    ]


def status_fields(status: int, message: str) -> list[Field]:
    fields = [(b"grpc-status", b"%d" % status)]
    if message:
        fields.append((b"grpc-message", quote_from_bytes(message.encode(), safe=_UNESCAPED).encode()))
    return fields


def status_in(fields: Iterable[Field]) -> tuple[int, str] | None:
    """Status and message at the end of an answer; None if it has none that can be read."""
    found = dict(fields)
    status = found.get(b"grpc-status", b"")
    if not (status.isdigit() and len(status) <= _LONGEST_STATUS):
        return None
    return int(status), _text(unquote_to_bytes(found.get(b"grpc-message", b"")))


def timeout_field(seconds: float) -> Field:
    """What tells the server how long it is waited for; not more than it can say (27 hours)."""
    return b"grpc-timeout", b"%dm" % max(1, min(round(seconds * 1000), _MOST_MILLISECONDS))


@lru_cache(2048)
def timeout_block(milliseconds: int) -> bytes:
    """The same of as many milliseconds, encoded."""
    return encode((timeout_field(milliseconds / 1000),))


def timeout_in(fields: Iterable[Field]) -> float | None:
    """Seconds that the client still grants; None if it does not say, or not so that it can be read."""
    for name, value in fields:
        if name == b"grpc-timeout":
            text = value.decode("latin-1")
            if 1 < len(text) <= _LONGEST_TIMEOUT and text[:-1].isascii() and text[:-1].isdigit():
                unit = _UNITS.get(text[-1])
                return int(text[:-1]) * unit if unit is not None else None
    return None


def is_grpc(content_type: bytes) -> bool:
    """Whether it names gRPC itself, with any coding of its messages ("application/grpc+proto"), and not gRPC-Web."""
    return content_type.startswith(_CONTENT_TYPE) and content_type[len(_CONTENT_TYPE) :][:1] in (b"", b"+", b";", b" ")


class Pieces:
    """The bytes of a call while they come. Each copy of a large message costs as much as anything else that is done
    with it, so large pieces stay as they are until they are joined; small ones are put together, so that they take as
    many bytes of memory, however small they are."""

    __slots__ = ("_all", "size_bytes")

    def __init__(self, *pieces: bytes) -> None:
        self.size_bytes = sum(map(len, pieces)) if pieces else 0
        self._all: list[bytes | bytearray] = list(pieces)

    def add(self, piece: bytes) -> None:
        self.size_bytes += len(piece)
        pieces = self._all
        if len(piece) >= _LARGE_PIECE_BYTES or not pieces:
            pieces.append(piece)
        elif isinstance(last := pieces[-1], bytearray):
            last += piece
        else:
            pieces.append(bytearray(piece))

    def beginning(self, size_bytes: int) -> bytes | bytearray:
        """So many of the first bytes, which are there, or more."""
        pieces = self._all
        return pieces[0] if len(pieces[0]) >= size_bytes else b"".join(pieces)

    def joined(self, start: int = 0) -> bytes:
        """From `start` on, which lies in the first few bytes."""
        pieces = self._all
        if len(pieces) == 1:
            return bytes(pieces[0][start:])
        if not pieces or len(pieces[0]) < start:
            return b"".join(pieces)[start:]
        return b"".join((memoryview(pieces[0])[start:], *pieces[1:]))


def message_in(body: Pieces, coding: bytes, limit_bytes: int | None = None) -> bytes:
    """The one message of `body`, uncompressed; `coding` is what `grpc-encoding` says. Raises MessageError; BodyTooLarge
    if it has more than `limit_bytes`."""
    if body.size_bytes < _PREFIX.size:
        raise MessageError(INTERNAL, f"a unary call has one message; this one has {body.size_bytes} bytes of one")
    beginning = body.beginning(_PREFIX.size)
    compressed, size = _PREFIX.unpack_from(beginning)
    if size != body.size_bytes - _PREFIX.size:
        raise MessageError(
            INTERNAL, f"a unary call has one message; the first has {size} bytes of {body.size_bytes - _PREFIX.size}"
        )
    message = bytes(beginning[_PREFIX.size :]) if len(beginning) == body.size_bytes else body.joined(_PREFIX.size)
    if compressed not in (0, 1):
        raise MessageError(INTERNAL, f"a message begins with {compressed} (expected 0 or 1: is it compressed)")
    if compressed:
        message = _uncompressed(message, coding, limit_bytes)
    if limit_bytes is not None and len(message) > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    return message


def framed(message: bytes) -> bytes:
    return _PREFIX.pack(0, len(message)) + message


def prefix(message: bytes) -> bytes:
    """What stands before a message that is not compressed."""
    return _PREFIX.pack(0, len(message))


def _uncompressed(message: bytes, coding: bytes, limit_bytes: int | None) -> bytes:
    """At most a byte more than `limit_bytes`."""
    if coding == b"identity":
        return message
    if coding not in _WINDOW_BITS:
        raise MessageError(
            UNIMPLEMENTED,
            f"a message is compressed with {coding.decode('latin-1')[:40]!r} (accepted: {ACCEPTED_CODINGS.decode()})",
        )
    stream = zlib.decompressobj(_WINDOW_BITS[coding])
    try:
        found = stream.decompress(message, 0 if limit_bytes is None else limit_bytes + 1)
    except zlib.error as error:
        raise MessageError(INTERNAL, f"a message cannot be uncompressed: {error}") from None
    if not stream.eof and (limit_bytes is None or len(found) <= limit_bytes):
        raise MessageError(INTERNAL, "a message cannot be uncompressed: it ends too early")
    return found


def _unpacked(value: bytes) -> bytes:
    value = value.strip()
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return value


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
