"""Frames to bytes: what may be sent now, and what waits for the peer's windows.

A stream sends in the order of its calls: once data waits, so do its trailers. What only the connection's window keeps
back goes out in turn, a frame for each stream, so that a large message does not keep the small ones waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import NO_TABLE
from proxy.protocols.http2_allowance import Allowance
from proxy.protocols.http2_frames import Code, Http2Error

_head: Final = f.HEAD.pack


class Stream:
    """`remote_open`: the peer may still send; `local_open`: so may we. `queue`: what waits for a window: data with
    whether it ends the stream, or whole HEADERS frames. `expected_bytes`: of the body, if content-length says so."""

    __slots__ = (
        "expected_bytes",
        "headed",
        "id",
        "local_open",
        "owed_bytes",
        "queue",
        "receive_window",
        "remote_open",
        "send_window",
        "waiting_bytes",
    )

    def __init__(self, stream_id: int, send_window: int, receive_window: int) -> None:
        self.id = stream_id
        self.send_window = send_window
        self.receive_window = receive_window
        self.remote_open = True
        self.local_open = True
        self.headed = False
        self.expected_bytes: int | None = None
        self.owed_bytes = 0
        self.waiting_bytes = 0
        self.queue: deque[tuple[memoryview, bool] | bytes] = deque()


class FrameSender:
    """`ended` is called with a stream whose last frame has been put out, `emptied` with one for which nothing waits any
    more."""

    def __init__(
        self, allowance: Allowance, ended: Callable[[Stream], None], emptied: Callable[[Stream], None]
    ) -> None:
        self.frame_bytes = f.LEAST_FRAME_BYTES  # that the peer takes
        self._allowance = allowance
        self._ended = ended
        self._emptied = emptied
        self._window = f.DEFAULT_WINDOW_BYTES
        self._waiting: dict[int, Stream] = {}  # for the connection's window, in turn
        self._out: list[bytes | memoryview] = []
        self._prefix = NO_TABLE  # of the next block

    def take(self) -> list[bytes | memoryview]:
        """What is to be written now, in parts."""
        out, self._out = self._out, []
        return out

    def put(self, frame: bytes) -> None:
        """Out of turn: a frame that no window holds back, and no data that waits."""
        self._out.append(frame)

    def whole(self, stream: Stream, head: bytes, data: bytes, trailers: bytes | None = None) -> None:
        """All that is ever sent of a stream: `block`, `data` and, if there are trailers, `block`. Most of it goes out
        as it is, in one part."""
        if self._prefix:
            head, self._prefix = self._prefix + head, b""
        size, room = len(data), self.frame_bytes
        fits = size <= min(room, stream.send_window, self._window) and len(head) <= room
        if not fits or (trailers is not None and len(trailers) > room):
            self.block(stream, head, ends=False)
            self.data(stream, data, ends=trailers is None)
            if trailers is not None:
                self.block(stream, trailers, ends=True)
            return
        last = f.END_STREAM if trailers is None else 0
        parts = [_head(len(head) << 8 | f.HEADERS, f.END_HEADERS, stream.id), head]
        parts += (_head(size << 8 | f.DATA, last, stream.id), data)
        if trailers is not None:
            parts += (_head(len(trailers) << 8 | f.HEADERS, f.END_HEADERS | f.END_STREAM, stream.id), trailers)
        self._out.append(b"".join(parts))
        self._window -= size
        stream.send_window -= size  # which the peer may still widen
        self._allowance.sent(size)
        stream.local_open = False
        self._ended(stream)

    def block(self, stream: Stream, block: bytes, ends: bool) -> None:
        frames = self._block_frames(stream.id, self._prefix + block, ends)
        self._prefix = b""
        if ends:
            stream.local_open = False
        if stream.queue:
            stream.queue.append(frames)
        else:
            self._out.append(frames)
            if ends:
                self._ended(stream)

    def data(self, stream: Stream, data: bytes, ends: bool) -> None:
        size = len(data)
        if ends:
            stream.local_open = False
        if stream.queue or size > min(self.frame_bytes, max(0, stream.send_window), max(0, self._window)):
            stream.queue.append((memoryview(data), ends))
            stream.waiting_bytes += size
            self.pump(stream)
        else:
            self._put_data(stream, data, size, ends)

    def pump(self, stream: Stream) -> None:
        """Put out what the windows allow."""
        while stream.queue and self._put_next(stream):
            pass
        self._wait_in_turn(stream)

    def widen(self, more_bytes: int) -> None:
        """The connection's window has grown. Raises Http2Error."""
        self._window += more_bytes
        if self._window > f.LARGEST_WINDOW:
            raise Http2Error(Code.FLOW_CONTROL_ERROR, "a window of more than 2 GiB")
        while self._waiting and self._window > 0:
            stream = self._waiting.pop(next(iter(self._waiting)))
            self._put_next(stream)
            while stream.queue and _needs_no_window(stream.queue[0]):
                self._put_next(stream)
            self._wait_in_turn(stream)
            if not stream.queue:
                self._emptied(stream)

    def forget(self, stream: Stream) -> None:
        """What waits is not sent."""
        self._waiting.pop(stream.id, None)
        stream.queue.clear()
        stream.waiting_bytes = 0

    def _wait_in_turn(self, stream: Stream) -> None:
        if stream.queue and stream.send_window > 0:
            self._waiting[stream.id] = stream

    def _put_next(self, stream: Stream) -> bool:
        """A frame of what waits; whether it could be put out."""
        item = stream.queue[0]
        if isinstance(item, bytes):
            stream.queue.popleft()
            self._out.append(item)
            if not stream.local_open and not stream.queue:
                self._ended(stream)
            return True
        data, ends = item
        size = max(0, min(len(data), self.frame_bytes, stream.send_window, self._window))
        if not size and data:
            return False
        stream.waiting_bytes -= size
        if size == len(data):
            stream.queue.popleft()
            self._put_data(stream, data, size, ends)
        else:
            stream.queue[0] = (data[size:], ends)
            self._put_data(stream, data[:size], size, ends=False)
        return True

    def _put_data(self, stream: Stream, data: bytes | memoryview, size: int, ends: bool) -> None:
        self._out.append(f.head(f.DATA, f.END_STREAM if ends else 0, stream.id, size))
        if size:
            self._out.append(data)
            self._window -= size
            stream.send_window -= size
            self._allowance.sent(size)
        if ends:
            self._ended(stream)

    def _block_frames(self, stream_id: int, block: bytes, ends: bool) -> bytes:
        size = self.frame_bytes
        flags = f.END_STREAM if ends else 0
        if len(block) <= size:
            return f.frame(f.HEADERS, flags | f.END_HEADERS, stream_id, block)
        parts = [f.frame(f.HEADERS, flags, stream_id, block[:size])]
        for start in range(size, len(block), size):
            last = f.END_HEADERS if start + size >= len(block) else 0
            parts.append(f.frame(f.CONTINUATION, last, stream_id, block[start : start + size]))
        return b"".join(parts)


def _needs_no_window(item: tuple[memoryview, bool] | bytes) -> bool:
    return isinstance(item, bytes) or not item[0]
