"""Chunked bodies of HTTP/1.1 (RFC 9112, section 7.1), decoded as they come.

Contract: `ChunkedBody.take` is given bytes and where to begin, and says how far they belong to the body; it adds the
payload that they hold to a list, a slice for each chunk. Bytes that do not make a whole line yet are kept, never more
than a limit allows, and trailers are not searched twice.

Rules of the file:

- A chunk line is 1 to 15 hexadecimal digits and extensions that follow the grammar, ended by CRLF. No sign, prefix,
  underscore or white space, which `int(x, 16)` would take; no bare LF, which a peer may take for the end of the line.
- Extensions are read past, and limited per line and in sum, so that a body is not mostly made of them.
- After the chunk's data stands CRLF and nothing else.
- Trailers are fields, less those that framing, routing or a connection hang on (RFC 9110, 6.5.1). They are never
  merged with the fields of the head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy.protocols.http1_fields import NOT_IN_TRAILERS, Field, Fields, Http1Error, shown
from proxy.protocols.http1_head import field_lines

_HEX: Final = b"0123456789abcdefABCDEF"
_SIZE_DIGITS: Final = 15  # so that it fits 63 bits everywhere
_WORD: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSIONS: Final = re.compile(rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_WORD, _WORD, _QUOTED))


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a message is taken before it is refused.

    start_line_bytes: the first line (414). head_bytes: it and all fields (431). fields: how many (431), also of
    trailers. trailer_bytes: all trailers (431). chunk_line_bytes: a chunk's size and extensions (400).
    extension_bytes: all chunk extensions of a body (400).
    """

    start_line_bytes: int = 16 * 1024
    head_bytes: int = 64 * 1024
    fields: int = 128
    trailer_bytes: int = 8 * 1024
    chunk_line_bytes: int = 1024
    extension_bytes: int = 16 * 1024


def check_trailers(trailers: Iterable[Field]) -> None:
    """Raises Http1Error (400) for a field that cannot come after a body."""
    for name, _ in trailers:
        if name in NOT_IN_TRAILERS:
            raise Http1Error(400, f"the trailers have {shown(name)}; expected it in the head only")


class ChunkedBody:
    """One body. After `done`, `trailers` are what followed the last chunk."""

    __slots__ = (
        "_extension_bytes",
        "_left",
        "_limits",
        "_line",
        "_prefix",
        "_scanned",
        "_trailing",
        "done",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line = bytearray()  # the beginning of a chunk line, or of the trailers
        self._scanned = 0  # how far it was searched for its end
        self._left = 0  # of the current chunk's data
        self._prefix = b""  # what stands before the next chunk line: CRLF, but for the first
        self._trailing = False  # behind the last chunk's size
        self._extension_bytes = 0
        self.done = False
        self.trailers: Fields = ()

    def take(self, data: bytes | bytearray, at: int, payload: list[bytes | bytearray]) -> int:
        """How far `data` belongs to this body, from `at` on; what it carries is added to `payload`, also if what comes
        behind is bad. Raises Http1Error (400, 431)."""
        size = len(data)
        while at < size and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                payload.append(piece)
            elif self._trailing:
                at = self._take_trailers(data, at)
            else:
                at = self._take_line(data, at)
        return at

    def _take_line(self, data: bytes | bytearray, at: int) -> int:
        """A chunk line, with the CRLF of the chunk before; what there is of it."""
        before = len(self._prefix)
        if not self._line:  # the usual case: the line is there as a whole
            end = data.find(b"\r\n", at + before, at + before + self._limits.chunk_line_bytes + 2)
            if end >= 0:
                return self._begin_chunk(bytes(data[at:end]), end)
        held = len(self._line)
        most = before + self._limits.chunk_line_bytes + 2
        self._line += data[at : at + most - held]
        end = self._line.find(b"\r\n", max(before, self._scanned - 1))
        if end >= 0:
            line = bytes(self._line[:end])
            self._line.clear()
            self._scanned = 0
            return self._begin_chunk(line, at + end - held)
        self._check_incomplete(before, most)
        self._scanned = len(self._line)
        return len(data)

    def _check_incomplete(self, before: int, most: int) -> None:
        line = self._line
        if not self._prefix.startswith(line[:before]):
            raise Http1Error(400, f"{shown(bytes(line[:before]))} follows a chunk's data; expected CRLF")
        if len(line) >= most:
            raise Http1Error(
                400, f"a chunk line has over {self._limits.chunk_line_bytes} bytes; expected a size and CRLF"
            )
        if b"\n" in line[max(before, self._scanned) :]:
            raise Http1Error(400, "a chunk line ends with a bare LF; expected CRLF")

    def _begin_chunk(self, line: bytes, end: int) -> int:
        """`line` is a chunk line without its CRLF, which begins at `end`. Returns where to go on."""
        if self._prefix:
            if line[:2] != self._prefix:
                raise Http1Error(400, f"{shown(line[:2])} follows a chunk's data; expected CRLF")
            line = line[2:]
        self._left = self._size(line)
        self._prefix = b"\r\n"
        if self._left:
            return end + 2
        # The CRLF is left to the trailers: an empty section is then CRLF CRLF like any other.
        self._trailing = True
        self._line += b"\r\n"
        return end + 2

    def _size(self, line: bytes) -> int:
        if line.strip(_HEX):  # something else than digits, somewhere: `strip` stops there
            size, semicolon, _ = line.partition(b";")
            extensions = line[len(size) :]
            if not semicolon or size.strip(_HEX):
                raise Http1Error(400, f"a chunk's size is {shown(size)}; expected hexadecimal digits")
            if not _EXTENSIONS.fullmatch(extensions):
                raise Http1Error(400, f"chunk extensions are {shown(extensions)}; expected `;name=value`")
            self._extension_bytes += len(extensions)
            if self._extension_bytes > self._limits.extension_bytes:
                raise Http1Error(400, f"the body has over {self._limits.extension_bytes} bytes of chunk extensions")
            line = size
        if not 0 < len(line) <= _SIZE_DIGITS:
            raise Http1Error(400, f"a chunk's size has {len(line)} digits; expected 1 to {_SIZE_DIGITS}")
        return int(line, 16)

    def _take_trailers(self, data: bytes | bytearray, at: int) -> int:
        """The trailers up to their empty line; what there is of them."""
        held = len(self._line)
        most = self._limits.trailer_bytes + 4  # with the CRLF before them and the one after
        self._line += data[at : at + most - held]
        end = self._line.find(b"\r\n\r\n", max(0, self._scanned - 3))
        if end < 0:
            if len(self._line) >= most:
                raise Http1Error(431, f"the trailers have over {self._limits.trailer_bytes} bytes")
            check_line_ends(self._line, self._scanned)
            self._scanned = len(self._line)
            return len(data)
        if end:
            self.trailers = field_lines(bytes(self._line[2:end]).split(b"\r\n"), self._limits.fields)
            check_trailers(self.trailers)
        self._line.clear()
        self.done = True
        return at + end + 4 - held


def check_line_ends(text: bytes | bytearray, scanned: int) -> None:
    """Raises Http1Error (400) for a bare LF from `scanned` on: a peer that ends lines so would wait for ever."""
    if text.count(b"\n", scanned) != text.count(b"\r\n", max(0, scanned - 1)):
        raise Http1Error(400, "a line ends with a bare LF; expected CRLF")
