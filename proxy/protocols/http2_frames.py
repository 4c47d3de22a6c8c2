"""Frames of HTTP/2 and their numbers (RFC 9113, 4, 6, 7 and 11)."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
LARGEST_ID: Final = 2**31 - 1
LARGEST_WINDOW: Final = 2**31 - 1
LEAST_FRAME_BYTES: Final = 16_384  # that everybody takes
LARGEST_FRAME_BYTES: Final = 2**24 - 1
DEFAULT_WINDOW_BYTES: Final = 65_535
PRIORITY_BYTES: Final = 5
PING_BYTES: Final = 8
NUMBER_BYTES: Final = 4
SETTING_BYTES: Final = 6
GOAWAY_BYTES: Final = 8

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
# None of the wire's: see FrameReader.
REQUEST: Final = 0x100
ANSWER: Final = 0x101

END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
WITH_PRIORITY: Final = 0x20


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


HEAD: Final = Struct(">IBI")  # its size and kind, flags, stream
_SETTING: Final = Struct(">HI")
_NUMBER: Final = Struct(">I")
_TWO_NUMBERS: Final = Struct(">II")


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
