"""Frames of HTTP/2 and their numbers (RFC 9113, 4, 6, 7 and 11)."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
LARGEST_ID = 2**31 - 1
LARGEST_WINDOW = 2**31 - 1
LEAST_FRAME_BYTES = 16_384  # that everybody takes
LARGEST_FRAME_BYTES = 2**24 - 1
DEFAULT_WINDOW_BYTES = 65_535
PRIORITY_BYTES = 5
PING_BYTES = 8
NUMBER_BYTES = 4
SETTING_BYTES = 6
GOAWAY_BYTES = 8

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
REQUEST, ANSWER = 0x100, 0x101  # none of the wire's: see FrameReader

END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
WITH_PRIORITY = 0x20


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Http2Error(Exception):
    """A fault of the peer that ends the connection."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


HEAD = Struct(">IBI")  # its size and kind, flags, stream
_SETTING = Struct(">HI")
_NUMBER = Struct(">I")
_TWO_NUMBERS = Struct(">II")


def head(kind: int, flags: int, stream_id: int, size_bytes: int) -> bytes:
    return HEAD.pack(size_bytes << 8 | kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return head(kind, flags, stream_id, len(payload)) + payload


def settings(values: dict[Setting, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(key, value) for key, value in values.items()))


def settings_in(payload: bytes) -> list[tuple[int, int]]:
    """`payload` has a multiple of six bytes."""
    return list(_SETTING.iter_unpack(payload))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _NUMBER.pack(code))


def window_update(stream_id: int, bytes_more: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, _NUMBER.pack(bytes_more))


def goaway(last_id: int, code: int, why: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_id, code) + why)


def goaway_in(payload: bytes) -> tuple[int, int, bytes]:
    """The last stream, the code, and what else is said; `payload` has eight bytes at least."""
    last_id, code = _TWO_NUMBERS.unpack_from(payload)
    return last_id & LARGEST_ID, code, payload[8:]


def number_in(payload: bytes) -> int:
    """Of four bytes."""
    number: int = _NUMBER.unpack(payload)[0]
    return number
