"""What tests say to an HTTP/2 connection, and hear from it."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.protocols import http2_frames as f
from proxy.protocols.field_block import Field
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Event, Limits, Ready, Role
from proxy.protocols.http2_frames import Code

REQUEST: tuple[Field, ...] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"a"),
    (b"te", b"trailers"),
)
ANSWER: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS: tuple[Field, ...] = ((b"grpc-status", b"0"),)
HELLO = f.PREFACE + f.settings({})
ACK = f.frame(f.SETTINGS, f.ACK, 0, b"")


def server(limits: Limits | None = None) -> Connection:
    """One that has greeted, and was greeted."""
    connection = Connection(Role.SERVER, limits or Limits())
    assert connection.receive(HELLO + ACK, 0.0) == [Ready()]
    connection.take()
    return connection


def client(limits: Limits | None = None, **settings: int) -> Connection:
    connection = Connection(Role.CLIENT, limits or Limits())
    said = f.settings({f.Setting[name.upper()]: value for name, value in settings.items()})
    assert connection.receive(said + ACK, 0.0) == [Ready()]
    connection.take()
    return connection


def headers(
    stream_id: int, fields: Sequence[Field] = REQUEST, *, ends: bool = False, flags: int = f.END_HEADERS
) -> bytes:
    block, most = encode(fields), f.LEAST_FRAME_BYTES
    if len(block) <= most:
        return f.frame(f.HEADERS, flags | (f.END_STREAM if ends else 0), stream_id, block)
    parts = [block[start : start + most] for start in range(most, len(block), most)]
    return b"".join(
        (
            f.frame(f.HEADERS, f.END_STREAM if ends else 0, stream_id, block[:most]),
            *(f.frame(f.CONTINUATION, 0, stream_id, part) for part in parts[:-1]),
            f.frame(f.CONTINUATION, f.END_HEADERS, stream_id, parts[-1]),
        )
    )


def data(stream_id: int, payload: bytes = b"", *, ends: bool = False) -> bytes:
    return f.frame(f.DATA, f.END_STREAM if ends else 0, stream_id, payload)


def said(connection: Connection, *frames: bytes, at_seconds: float = 0.0) -> list[Event]:
    """The events of `frames`, fed whole."""
    return connection.receive(b"".join(frames), at_seconds)


def frames(written: bytes) -> list[tuple[int, int, int, bytes]]:
    """(kind, flags, stream, payload) of what a connection has written."""
    found = []
    at = len(f.PREFACE) if written.startswith(f.PREFACE) else 0
    while at < len(written):
        size = int.from_bytes(written[at : at + 3])
        stream_id = int.from_bytes(written[at + 5 : at + 9])
        found.append((written[at + 3], written[at + 4], stream_id, written[at + 9 : at + 9 + size]))
        at += 9 + size
    return found


def resets(written: bytes) -> list[tuple[int, Code]]:
    return [(frame[2], Code(f.number_in(frame[3]))) for frame in frames(written) if frame[0] == f.RST_STREAM]


def payload(written: bytes, stream_id: int) -> bytes:
    """Of the DATA frames of a stream."""
    return b"".join(frame[3] for frame in frames(written) if frame[0] == f.DATA and frame[2] == stream_id)
