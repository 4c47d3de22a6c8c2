"""Bytes to frames: the preface, frames that arrive in pieces, padding, fields that go on in CONTINUATION frames.

A frame is given once it is whole, a HEADERS frame once its last CONTINUATION is, as if it had been one. Nothing is
kept beyond one frame, or one block of fields; pieces are joined once, however small they are, and only those of the
frame that they belong to.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy.protocols import http2_allowance as cost
from proxy.protocols import http2_frames as f
from proxy.protocols.http2_allowance import Allowance
from proxy.protocols.http2_frames import Code, Http2Error

# Flags that tell whether a HEADERS is the block alone.
_FIELDS_IN_FULL: Final = f.END_HEADERS | f.PADDED | f.WITH_PRIORITY
_ENDS: Final = f.END_HEADERS | f.END_STREAM
_head_at: Final = f.HEAD.unpack_from
Frame = tuple[int, int, int, bytes]  # kind, flags, stream, payload without padding; of HEADERS the block of fields


class FrameReader:
    """`has_preface`: the peer begins with HTTP/2's preface. `block_bytes`: the most that a block of fields may take.
    While it `gathers`, frames of a stream that come in full, in one piece and right behind each other are given as one,
    with the first block of fields as its payload, and `rest` gives the others: of kind REQUEST are a HEADERS and the
    DATA that ends the stream, perhaps with a WINDOW_UPDATE between (grpcio's clients send one), of kind ANSWER a
    HEADERS, a DATA, and the HEADERS that ends it."""

    def __init__(self, allowance: Allowance, has_preface: bool, frame_bytes: int, block_bytes: int) -> None:
        self.gathers = False
        self._rest = (b"", b"")
        self._allowance = allowance
        self._frame_bytes = frame_bytes
        self._block_limit_bytes = block_bytes
        self._awaits_preface = has_preface
        self._start = b""  # of a frame's head, or of the preface
        self._begun: tuple[int, int, int] | None = None  # a frame whose payload is not whole: kind, flags, stream
        self._pieces: list[bytes] = []  # of its payload
        self._missing_bytes = 0
        self._block: list[bytes] = []  # of a HEADERS that goes on
        self._block_bytes = 0
        self._block_stream = 0
        self._block_flags = 0

    def frames(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises Http2Error."""
        at = 0
        if self._begun is not None:
            at = self._missing_bytes
            self._pieces.append(data[:at])
            if at > len(data):
                self._missing_bytes -= len(data)
                return
            (kind, flags, stream_id), payload = self._begun, b"".join(self._pieces)
            self._begun, self._pieces = None, []
            frame = self._frame(kind, flags, stream_id, payload)
            if frame is not None:
                yield frame
        elif self._start:
            data, self._start = self._start + data, b""
        end = len(data)
        if self._awaits_preface:
            if not self._preface_is_whole(data):
                self._start = data
                return
            self._awaits_preface, at = False, len(f.PREFACE)
        while end - at >= f.HEAD_BYTES:
            size, flags, stream_id = _head_at(data, at)
            size, kind, stream_id = size >> 8, size & 0xFF, stream_id & f.LARGEST_ID
            if size > self._frame_bytes:
                raise Http2Error(
                    Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes, where {self._frame_bytes} are allowed"
                )
            at += f.HEAD_BYTES
            stop = at + size
            if stop > end:
                self._begun, self._missing_bytes = (kind, flags, stream_id), stop - end
                self._pieces = [data[at:]]
                return
            payload, at = data[at:stop], stop
            in_full = kind == f.DATA or (kind == f.HEADERS and flags & _FIELDS_IN_FULL == f.END_HEADERS and stream_id)
            if in_full and not self._block_stream:  # as most are: as `_frame` would say
                if kind == f.HEADERS and flags == f.END_HEADERS and self.gathers:
                    kind, at = self._gathered(data, at, end, stream_id)
                yield kind, flags, stream_id, payload
            elif (frame := self._frame(kind, flags, stream_id, payload)) is not None:
                yield frame
        self._start = data[at:]

    def rest(self) -> tuple[bytes, bytes]:
        """The data of the last frame that was gathered, and of an ANSWER the second block of fields, of a REQUEST the
        window's payload or nothing; once."""
        rest, self._rest = self._rest, (b"", b"")
        return rest

    def _gathered(self, data: bytes, at: int, end: int, stream_id: int) -> tuple[int, int]:
        """The kind of what begins with fields that end at `at`, and where it ends; what comes after the fields is the
        `rest` then."""
        alone = f.HEADERS, at
        start = at + f.HEAD_BYTES
        if start > end:
            return alone
        size, flags, stream = _head_at(data, at)
        kind, size = size & 0xFF, size >> 8
        middle = start + size
        window = b""
        if kind == f.WINDOW_UPDATE and size == f.NUMBER_BYTES and stream & f.LARGEST_ID == stream_id:
            window, start = data[start:middle], middle + f.HEAD_BYTES
            if start > end:
                return alone
            size, flags, stream = _head_at(data, middle)
            kind, size = size & 0xFF, size >> 8
            middle = start + size
        if kind != f.DATA or stream & f.LARGEST_ID != stream_id or size > self._frame_bytes or middle > end:
            return alone
        if flags == f.END_STREAM:
            self._rest = data[start:middle], window
            return f.REQUEST, middle
        fields = middle + f.HEAD_BYTES
        if flags or window or fields > end:
            return alone
        size, flags, stream = _head_at(data, middle)
        kind, size = size & 0xFF, size >> 8
        after = fields + size
        if kind != f.HEADERS or stream & f.LARGEST_ID != stream_id or size > self._frame_bytes or after > end:
            return alone
        if flags != _ENDS:
            return alone
        self._rest = data[start:middle], data[fields:after]
        return f.ANSWER, after

    def _preface_is_whole(self, data: bytes) -> bool:
        start = data[: len(f.PREFACE)]
        if not f.PREFACE.startswith(start):
            # No more of it: what follows may be nobody's business.
            raise Http2Error(Code.PROTOCOL_ERROR, f"a connection that begins with {start[:4]!r}, which is not HTTP/2")
        return len(start) == len(f.PREFACE)

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        if self._block_stream:
            if kind != f.CONTINUATION or stream_id != self._block_stream:
                raise Http2Error(Code.PROTOCOL_ERROR, f"a frame of kind {kind} within the fields of a stream")
            return self._continuation(flags, stream_id, payload)
        if kind == f.DATA:
            return kind, flags, stream_id, payload
        if kind == f.HEADERS:
            return self._headers(flags, stream_id, payload)
        if kind == f.CONTINUATION:
            raise Http2Error(Code.PROTOCOL_ERROR, f"fields of stream {stream_id} go on that have not begun")
        return kind, flags, stream_id, payload

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        if not stream_id:
            raise Http2Error(Code.PROTOCOL_ERROR, "fields of stream 0")
        block = unpadded(flags, payload)
        if flags & f.WITH_PRIORITY:
            if len(block) < f.PRIORITY_BYTES:
                raise Http2Error(Code.FRAME_SIZE_ERROR, f"a priority of {len(block)} bytes")
            check_priority(stream_id, block)
            block = block[f.PRIORITY_BYTES :]
        if flags & f.END_HEADERS:
            return f.HEADERS, flags, stream_id, block
        self._block, self._block_bytes = [block], len(block)
        self._block_stream, self._block_flags = stream_id, flags
        return None

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> Frame | None:
        self._allowance.spend(cost.FRAME)
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self._block_limit_bytes:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, f"fields of more than {self._block_limit_bytes} bytes")
        if not flags & f.END_HEADERS:
            return None
        block = b"".join(self._block)
        self._block, self._block_stream = [], 0
        return f.HEADERS, self._block_flags, stream_id, block


def unpadded(flags: int, payload: bytes) -> bytes:
    """Raises Http2Error."""
    if not flags & f.PADDED:
        return payload
    if not payload:
        raise Http2Error(Code.FRAME_SIZE_ERROR, "padding without its length")
    if payload[0] >= len(payload):
        raise Http2Error(Code.PROTOCOL_ERROR, f"{payload[0]} bytes of padding in a frame of {len(payload)}")
    return payload[1 : len(payload) - payload[0]]


def check_priority(stream_id: int, priority: bytes) -> None:
    """Raises Http2Error. Otherwise priorities are not heeded (RFC 9113, 5.3.2)."""
    if f.number_in(priority[:4]) & f.LARGEST_ID == stream_id:
        raise Http2Error(Code.PROTOCOL_ERROR, f"stream {stream_id} depends on itself")
