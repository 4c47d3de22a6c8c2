"""One connection to a gRPC server: unary calls over our own HTTP/2 (protocols/http2.py), bytes in and bytes out.

Rules of the file:

- A call that never left, or that the server says it has done nothing of (REFUSED_STREAM, a stream behind its GOAWAY),
  is `NotSent`; any other end without an answer is `BrokenOff`.
- Whoever gives up waiting has its stream reset; its answer is not heard any more.
- Answers are collected whole: everybody here looks into them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from proxy.errors import CrossfadeError
from proxy.protocols.grpc import framed
from proxy.protocols.hpack import Field, FieldBlock
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Data, Event, Going, Head, Ready, Reset, Role, Trailers
from proxy.protocols.http2_frames import Code

_PING = b"are you?"
_PONG_SECONDS = 5.0


class NotSent(CrossfadeError):
    """The server has done nothing of the call, for certain."""


class BrokenOff(CrossfadeError):
    """There is no answer; the server may have done the work."""


Ended = Callable[["Call", CrossfadeError | None], None]


@dataclass(slots=True)
class Call:
    """An answer while it comes. `head` and `trailers` are the same block where the server said all at once. `ended`
    hears, once, that it is whole, or why it will never be."""

    ended: Ended
    head: FieldBlock | None = None
    body: bytearray = field(default_factory=bytearray)
    trailers: FieldBlock | None = None


class GrpcUpstream(asyncio.Protocol):
    """`ready` ends once the server has said that it speaks HTTP/2. `ping_seconds`: after so much silence it is asked
    whether it is there."""

    def __init__(self, ping_seconds: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._http2 = Connection(Role.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._room: asyncio.Event = asyncio.Event()  # set when a stream may have become free
        self._will_write = False
        self._lost = ""
        self._ping_seconds = ping_seconds
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()

    # --- asyncio's ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._write()
        if self._ping_seconds is not None:
            self._timer = self._loop.call_later(self._ping_seconds, self._ping, self._ping_seconds)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        for event in self._http2.receive(data, self._loop.time()):
            self._heed(event)
        self._write()
        if self._http2.is_drained and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> None:
        self._lose("the server closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._lose(str(exc) if exc else "the connection is gone")

    # --- calls ---------------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """Whether a call can go out on it, now or when another has ended."""
        transport = self._transport
        return not self._lost and transport is not None and not transport.is_closing() and not self._http2.is_going

    async def room(self) -> None:
        """Wait until the server takes one more call. Raises NotSent if it never will."""
        while not self._http2.can_open:
            if not self.is_usable:
                raise NotSent(self._lost or "the server takes no more calls on this connection")
            self._room.clear()
            await self._room.wait()

    @property
    def has_room(self) -> bool:
        """Whether the server takes one more call now."""
        return self._http2.can_open and self.is_usable

    def begin(self, fields: Sequence[Field], message: bytes, ended: Ended) -> int:
        """Send a call, where there is room; its stream. Raises NotSent, and ValueError for fields that HTTP/2 does not
        allow."""
        if not self.is_usable:
            raise NotSent(self._lost or "the connection is being closed")
        stream_id = self._http2.open(fields)
        self._http2.send_data(stream_id, framed(message), ends=True)
        self._calls[stream_id] = Call(ended)
        self._write_soon()
        return stream_id

    def give_up(self, stream_id: int) -> None:
        """Nothing more is heard of that call."""
        if self._calls.pop(stream_id, None) is not None:
            self._http2.reset(stream_id, Code.CANCEL)
            self._write_soon()
            self._room.set()

    async def call(self, fields: Sequence[Field], message: bytes) -> Call:
        """The whole answer; right after `room`. Raises NotSent, BrokenOff, and ValueError as `begin`."""
        whole: asyncio.Future[Call] = self._loop.create_future()

        def ended(call: Call, error: CrossfadeError | None) -> None:
            if whole.done():  # cancelled in this turn
                return
            if error is None:
                whole.set_result(call)
            else:
                whole.set_exception(error)

        stream_id = self.begin(fields, message, ended)
        try:
            return await whole
        except asyncio.CancelledError:
            self.give_up(stream_id)
            raise

    def close(self) -> None:
        """Calls under way break off."""
        self._lose("the connection was closed here")
        if self._transport is not None:
            self._transport.abort()

    # --- what comes ------------------------------------------------------------------------------------

    def _heed(self, event: Event) -> None:
        match event:
            case Head(stream_id=stream_id, block=block, ends=ends):
                if (call := self._calls.get(stream_id)) is not None:
                    call.head = block
                    if ends:
                        call.trailers = block
                        self._end(stream_id, None)
            case Data(stream_id=stream_id, data=data, size_bytes=size_bytes, ends=ends):
                self._http2.consume(stream_id, size_bytes)
                if (call := self._calls.get(stream_id)) is not None:
                    call.body += data
                    if ends:
                        self._end(stream_id, BrokenOff("the answer has no status"))
            case Trailers(stream_id=stream_id, block=block):
                if (call := self._calls.get(stream_id)) is not None:
                    call.trailers = block
                    self._end(stream_id, None)
            case Reset(stream_id=stream_id, code=code, refused=refused, why=why):
                said = why or f"the server reset the stream, code {code}"
                self._end(stream_id, NotSent(said) if refused else BrokenOff(said))
            case Ready():
                if not self.ready.done():
                    self.ready.set_result(None)
                self._room.set()
            case Going():
                self._room.set()
            case Broken(why=why):
                self._lose(f"what the server sent is no HTTP/2: {why}")

    def _end(self, stream_id: int, error: CrossfadeError | None) -> None:
        if (call := self._calls.pop(stream_id, None)) is not None:
            self._room.set()
            call.ended(call, error)

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        for stream_id in tuple(self._calls):
            self._end(stream_id, BrokenOff(self._lost))
        if not self.ready.done():
            self.ready.set_exception(NotSent(self._lost))
            self.ready.exception()  # nobody may be waiting
        self._room.set()

    # --- whether the server is there ---------------------------------------------------------------------

    def _ping(self, silence_seconds: float) -> None:
        """Once it has been silent for so long; look again then."""
        left = self._heard_at + silence_seconds - self._loop.time()
        if left <= 0:
            self._http2.ping(_PING)
            self._write()
            self._timer = self._loop.call_later(_PONG_SECONDS, self._expect, silence_seconds, self._heard_at)
        else:
            self._timer = self._loop.call_later(left, self._ping, silence_seconds)

    def _expect(self, silence_seconds: float, heard_at: float) -> None:
        if self._heard_at == heard_at:
            self.close()
        else:
            self._timer = self._loop.call_later(silence_seconds, self._ping, silence_seconds)

    # --- writing -----------------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if not self._will_write:
            self._will_write = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._will_write = False
        written = self._http2.take()
        if written and self._transport is not None and not self._transport.is_closing():
            self._transport.write(written)
