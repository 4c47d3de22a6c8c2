"""What a frame, or the fields of a message, may not say (RFC 9113, 6 and 8). Faults of a connection are raised, those
of a message returned: what is wrong, or "".
"""

from __future__ import annotations

from typing import Final

from proxy.protocols.field_block import FieldBlock
from proxy.protocols.http2_frames import Code, Http2Error
from proxy.protocols.http2_sending import Stream

_REQUIRED: Final = frozenset({b":method", b":scheme", b":path"})
_ALLOWED: Final = _REQUIRED | {b":authority"}


def check_size(kind: str, payload: bytes, size_bytes: int) -> None:
    if len(payload) != size_bytes:
        raise Http2Error(Code.FRAME_SIZE_ERROR, f"{kind} of {len(payload)} bytes (expected {size_bytes})")


def check_of_connection(kind: str, stream_id: int) -> None:
    if stream_id:
        raise Http2Error(Code.PROTOCOL_ERROR, f"{kind} of stream {stream_id} (expected 0)")


def problem_of_request(block: FieldBlock) -> str:
    pseudo = block.pseudo
    if not _REQUIRED <= pseudo.keys() <= _ALLOWED:
        return f"a request with the pseudo-fields {sorted(pseudo)} (expected :method, :scheme and :path, and no others)"
    return "" if block.authority is not None else "a request without :authority and host"


def problem_of_answer(block: FieldBlock, status: bytes, ends_too_early: bool) -> str:
    if block.pseudo.keys() != {b":status"} or len(status) != 3 or not status.isdigit():
        return f"an answer with the pseudo-fields {sorted(block.pseudo)} and the status {status[:10]!r}"
    return f"an interim answer ({status.decode()}) that is the last" if ends_too_early else ""


def wrong_length(stream: Stream, size_bytes: int, ends: bool) -> str:
    """What is wrong with the length of the body so far, if content-length says one."""
    if stream.expected_bytes is None:
        return ""
    stream.expected_bytes -= size_bytes
    if stream.expected_bytes < 0 or (ends and stream.expected_bytes):
        return f"its body has {'more' if stream.expected_bytes < 0 else 'less'} bytes than content-length says"
    return ""
