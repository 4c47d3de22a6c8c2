"""A connection to an HTTP/1.1 server: one exchange at a time.

Rules of the file:

- It is used again only if its last answer has come whole, says that it may be, and nothing came behind it.
- Whatever ends an exchange before its answer is whole closes the connection.
- The socket is not read while an answer waits for its reader.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, cast

from proxy.errors import CrossfadeError
from proxy.protocols.http1 import End, Malformed, ResponseEvent, ResponseReader
from proxy.protocols.http1_head import ResponseHead

_BODY_BYTES: Final = 256 * 1024  # that wait for their reader
_JOINED_BYTES: Final = 64 * 1024  # a body up to this is copied behind its head: one write


class Watcher(Protocol):
    """Who waits for an answer without a task."""

    def whole(self, key: bytes, head: ResponseHead, body: bytes) -> None:
        """It has come all at once, and its head, of which `key` are the bytes, came before. The connection tells no
        more."""
        ...

    def changed(self) -> None:
        """Something has happened: look at `head`, `whole_body`, `lost` and `is_full`."""
        ...

    def fell_silent(self) -> None:
        """Nothing has happened for too long."""
        ...


class BrokenOff(CrossfadeError):
    """The connection, or what came on it, is no good."""


class HttpUpstream(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_answer",
        "_drained",
        "_ended",
        "_keep",
        "_lost",
        "_moved",
        "_parts",
        "_paused",
        "_reader",
        "_transport",
        "_waiting",
        "_watcher",
        "head",
        "idle_since",
    )

    def __init__(self) -> None:
        self._reader = ResponseReader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[ResponseHead] | None = None  # until the head has come
        self._parts: deque[bytes] = deque()
        self._waiting = 0  # bytes of them
        self._moved: asyncio.Future[None] | None = None
        self._watcher: Watcher | None = None
        self._drained: asyncio.Future[None] | None = None
        self._ended = True  # the answer has come whole
        self._keep = True
        self._lost = ""  # why it is no good
        self._paused = False
        self.head: ResponseHead | None = None  # of the last answer
        self.idle_since = 0.0

    # --- asyncio's ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        watcher = self._watcher
        if watcher is not None and (whole := self._reader.whole(data)) is not None:
            self._ended = True
            self._watcher = None
            self._keep = self._keep and whole[1].keep_alive
            watcher.whole(*whole)
        else:
            self._heed(self._reader.feed(data))

    def eof_received(self) -> None:
        self._heed(self._reader.eof())
        self._lose("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lose(str(exc) if exc else "the connection is gone")

    def pause_writing(self) -> None:
        self._drained = self._drained or asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # --- an exchange -----------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """For a request: the last answer has been read, and the server has not closed."""
        transport = self._transport
        return (
            self._ended
            and self._keep
            and not (self._lost or self._parts)
            and transport is not None
            and not transport.is_closing()
        )

    def send(self, method: bytes, head: bytes) -> asyncio.Future[ResponseHead]:
        """Begin an exchange whose body is still to be written. The future gives the answer's head; BrokenOff if none
        comes."""
        assert self.is_usable
        self._reader.expect(method)
        self._ended = False
        self._answer = asyncio.get_running_loop().create_future()
        self.write(head)
        return self._answer

    def send_watched(self, method: bytes, head: bytes, body: bytes, watcher: Watcher) -> None:
        """Begin an exchange. `watcher` is told."""
        assert self._transport is not None
        self._reader.expect(method)
        self._ended = False
        self.head = None
        self._watcher = watcher
        if len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def unwatch(self) -> None:
        """Go on without: `read` gives what has come and will come."""
        self._watcher = None

    @property
    def whole_body(self) -> bytes | None:
        """The answer's body, once all of it has come; it can be taken once. None before."""
        if not self._ended:
            return None
        parts = self._parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._waiting = 0
        self._flow()
        return body

    @property
    def is_sending(self) -> bool:
        """Whether a part of the last request is still here: its answer came before the server had read it, which it may
        never do."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    @property
    def held_bytes(self) -> int:
        """How much of an answer's body waits here."""
        return self._waiting

    @property
    def is_full(self) -> bool:
        """Whether more of an answer has come than is to wait here."""
        return self._waiting > _BODY_BYTES

    @property
    def lost(self) -> str:
        """Why it is no good; empty while it is."""
        return self._lost

    def write(self, *parts: bytes) -> None:
        """More of the request's body."""
        if self._transport is None or self._transport.is_closing():
            return  # whoever waits for the answer hears of it
        if sum(map(len, parts)) <= _JOINED_BYTES:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines([part for part in parts if part])

    async def drain(self) -> None:
        """Wait while the server does not read."""
        if self._drained is not None:
            await asyncio.shield(self._drained)

    async def read(self) -> bytes:
        """What has come of the answer's body, waiting for it if need be; empty at the end. Raises BrokenOff."""
        while not self._parts:
            if self._ended:
                return b""
            if self._lost:
                raise BrokenOff(self._lost)
            self._moved = asyncio.get_running_loop().create_future()
            await self._moved
        payload = self._parts.popleft()
        self._waiting -= len(payload)
        self._flow()
        return payload

    def give_up(self) -> None:
        """It is not to be used again."""
        self._keep = False

    def close(self) -> None:
        self._keep = False
        self._lose("the connection was closed")
        if self._transport is not None:
            self._transport.abort()

    # --- what comes --------------------------------------------------------------------------------------

    def _heed(self, events: list[ResponseEvent]) -> None:
        for event in events:
            match event:
                case ResponseHead(status=101):
                    self._lose("the server changed the protocol unasked")
                case ResponseHead():
                    self._begin(event)
                case bytes():
                    self._parts.append(event)
                    self._waiting += len(event)
                case End():
                    self._ended = True
                case Malformed(reason=reason):
                    self._lose(f"what it sent is no HTTP: {reason}")
        self._flow()
        self._wake()

    def _begin(self, head: ResponseHead) -> None:
        if head.interim:
            return
        self._keep = self._keep and head.keep_alive
        self.head = head
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(head)
        self._answer = None

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        self._keep = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BrokenOff(self._lost))
        self._answer = None
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
        if self._watcher is not None:
            self._watcher.changed()

    def _flow(self) -> None:
        full = self.is_full
        if full is self._paused or self._transport is None or self._transport.is_closing():
            return
        self._paused = full
        if full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
