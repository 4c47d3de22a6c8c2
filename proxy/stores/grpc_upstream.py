"""One connection to a gRPC server: calls over our own HTTP/2 (protocols/http2.py), bytes in and bytes out.

Rules of the file:

- A call that never left, or that the server says it has done nothing of (REFUSED_STREAM, a stream behind its GOAWAY),
  is `NotSent`; any other end without an answer is `BrokenOff`.
- Whoever gives up waiting has its stream reset; its answer is not heard any more.
- The answer of a unary call is collected whole, unless it is large and its caller takes it as it comes. A call that
  streams (`open`) is passed on as it comes, both ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from proxy.errors import CrossfadeError
from proxy.frames import LARGE_BYTES, Frames, write_parts
from proxy.protocols.field_block import FieldBlock
from proxy.protocols.grpc import Pieces, coding_in, framed, prefix
from proxy.protocols.http2 import Connection, Fields
from proxy.protocols.http2_events import (
    Broken,
    Data,
    Event,
    Going,
    Head,
    Ready,
    Reset,
    Role,
    Sent,
    Trailers,
    WholeAnswer,
)
from proxy.protocols.http2_frames import Code
from proxy.stores.grpc_exchange import BrokenOff, Exchange, NotSent, meaning_of
from proxy.stores.waiting import Queue

_PING: Final = b"are you?"
_PONG_SECONDS = 5.0
_LARGE_BYTES: Final = 1024 * 1024


Flows = Callable[[FieldBlock, Frames], Callable[[], None]]
Ended = Callable[["Call", CrossfadeError | None], None]


@dataclass(slots=True)
class Call:
    """An answer while it comes. `head` and `trailers` are the same block where the server said all at once. `ended`
    hears, once, that it is whole, or why it will never be. `flows` hears in its place of an answer that is large, with
    its head and the rest of it as it comes; it gives back what is to hear the end of that. `silence_seconds`: how long
    a part of such an answer is waited for."""

    ended: Ended
    flows: Flows | None = None
    silence_seconds: float | None = None
    head: FieldBlock | None = None
    body: Pieces = field(default_factory=Pieces)
    trailers: FieldBlock | None = None


class GrpcUpstream(asyncio.Protocol):
    """`ready` ends once the server has said that it speaks HTTP/2. `ping_seconds`: after so much silence it is asked
    whether it is there."""

    def __init__(self, ping_seconds: float | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._http2 = Connection(Role.CLIENT, gathers=True)
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._exchanges: dict[int, Exchange] = {}
        self._queue = Queue()  # for a stream that becomes free
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
        now = self._heard_at = self._loop.time()
        for event in self._http2.receive(data, now):
            if not (self._exchanges and self._is_of_exchange(event)):
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
        again = False
        while not self._http2.can_open or (self._queue.due and not again):
            if not self.is_usable:
                raise NotSent(self._lost or "the server takes no more calls on this connection")
            if self._http2.can_open:
                await asyncio.sleep(0)  # those who have waited go first
                continue
            await self._queue.wait(again=again)
            again = True

    @property
    def has_room(self) -> bool:
        """Whether the server takes one more call now, and nobody has waited for that."""
        return self._http2.can_open and not self._queue.due and self.is_usable

    def begin(
        self,
        fields: Fields,
        message: bytes,
        ended: Ended,
        flows: Flows | None = None,
        silence_seconds: float | None = None,
    ) -> int:
        """Send a call, where there is room; its stream. Raises NotSent, and ValueError for fields that HTTP/2 does not
        allow."""
        if not self.is_usable:
            raise NotSent(self._lost or "the connection is being closed")
        if len(message) <= LARGE_BYTES:
            stream_id = self._http2.ask(fields, framed(message))
        else:  # not copied
            stream_id = self._http2.open(fields)
            self._http2.send_data(stream_id, prefix(message))
            self._http2.send_data(stream_id, message, ends=True)
        self._calls[stream_id] = Call(ended, flows, silence_seconds)
        if self._queue.waiting:
            self._wake_next()
        self._write_soon()
        return stream_id

    def _wake_next(self) -> None:
        """The server may take more by now than it did."""
        if self._queue.waiting and self._http2.can_open:
            self._queue.wake()

    def give_up(self, stream_id: int) -> None:
        """Nothing more is heard of that call."""
        if self._exchanges.get(stream_id) is not None:
            self.leave(stream_id)
        if self._calls.pop(stream_id, None) is not None:
            self._http2.reset(stream_id, Code.CANCEL)
            self._write_soon()
            self._queue.wake()

    # --- calls that stream -----------------------------------------------------------------------------

    def open(self, fields: Fields, ended: Callable[[], None]) -> tuple[int, Exchange]:
        """Begin a call that streams; right after `room`. Raises as `begin`."""
        if not self.is_usable:
            raise NotSent(self._lost or "the connection is being closed")
        stream_id = self._http2.open(fields)
        exchange = Exchange(partial(self._consume, stream_id), partial(self.leave, stream_id), ended)
        self._exchanges[stream_id] = exchange
        self._wake_next()
        self._write_soon()
        return stream_id, exchange

    async def send(self, stream_id: int, data: bytes, *, ends: bool = False) -> None:
        """Send more of it, and wait until the server has room for it."""
        exchange = self._exchanges.get(stream_id)
        if exchange is None:
            return  # over
        exchange.sent.clear()
        self._http2.send_data(stream_id, data, ends)
        self._write_soon()
        if self._http2.waiting_bytes(stream_id):
            await exchange.sent.wait()

    def leave(self, stream_id: int) -> None:
        """Nothing more is said or heard of it."""
        if (exchange := self._exchanges.pop(stream_id, None)) is not None:
            self._http2.reset(stream_id, Code.CANCEL)
            self._write_soon()
            self._queue.wake()
            exchange.end(BrokenOff("the call was left"))

    def _is_of_exchange(self, event: Event) -> bool:
        """And then it has been heeded."""
        if not isinstance(event, WholeAnswer | Head | Data | Trailers | Reset | Sent):
            return False
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None:
            return False
        if isinstance(event, Data):
            self._http2.received(event.size_bytes)  # whoever reads slowly keeps only its own stream back
        elif isinstance(event, WholeAnswer):
            self._http2.received(len(event.data))
        exchange.heed(event)
        if exchange.is_over:
            self._exchanges.pop(event.stream_id, None)
            self._queue.wake()
        return True

    def _consume(self, stream_id: int, size_bytes: int) -> None:
        self._http2.taken(stream_id, size_bytes)
        self._write_soon()

    def close(self) -> None:
        """Calls under way break off."""
        self._lose("the connection was closed here")
        if self._transport is not None:
            self._transport.abort()

    # --- what comes ------------------------------------------------------------------------------------

    def _heed(self, event: Event) -> None:
        match event:
            case WholeAnswer(stream_id=stream_id):
                self._http2.received(len(event.data))
                if (call := self._calls.get(stream_id)) is not None:
                    call.head, call.trailers = event.head, event.trailers
                    call.body.add(event.data)
                    self._end(stream_id, None)
            case Head(stream_id=stream_id, block=block, ends=ends):
                if (call := self._calls.get(stream_id)) is not None:
                    call.head = block
                    if ends:
                        call.trailers = block
                        self._end(stream_id, None)
            case Data():
                self._add(event)
            case Trailers(stream_id=stream_id, block=block):
                if (call := self._calls.get(stream_id)) is not None:
                    call.trailers = block
                    self._end(stream_id, None)
            case Reset(stream_id=stream_id):
                self._end(stream_id, meaning_of(event))
            case Ready():
                if not self.ready.done():
                    self.ready.set_result(None)
                self._queue.wake_all()
            case Going():
                self._queue.wake_all()
            case Broken(why=why):
                self._lose(f"what the server sent is no HTTP/2: {why}")

    def _add(self, event: Data) -> None:
        self._http2.consume(event.stream_id, event.size_bytes)
        call = self._calls.get(event.stream_id)
        if call is None:
            return
        call.body.add(event.data)
        if event.ends:
            self._end(event.stream_id, BrokenOff("the answer has no status"))
        elif call.body.size_bytes > _LARGE_BYTES:
            self._flow(event.stream_id, call)

    def _flow(self, stream_id: int, call: Call) -> None:
        """What comes from here on is passed on as it comes, if its caller takes it. Not what is compressed, which the
        client may not know how to read."""
        flows, call.flows = call.flows, None
        if flows is None or call.head is None or coding_in(call.head.fields) != b"identity":
            return
        left = partial(self.leave, stream_id)
        exchange = Exchange(partial(self._consume, stream_id), left, lambda: None, call.silence_seconds)
        exchange.heed(Head(stream_id, call.head, ends=False))
        assert exchange.answer is not None
        exchange.answer.feed(call.body.joined(), 0)  # which was made good already
        del self._calls[stream_id]
        self._exchanges[stream_id] = exchange
        exchange.on_end(flows(call.head, exchange.answer))

    def _end(self, stream_id: int, error: CrossfadeError | None) -> None:
        if (call := self._calls.pop(stream_id, None)) is not None:
            if self._queue.waiting:
                self._queue.wake()
            call.ended(call, error)

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why
        for stream_id in tuple(self._calls):
            self._end(stream_id, BrokenOff(self._lost))
        for stream_id in tuple(self._exchanges):
            if (exchange := self._exchanges.pop(stream_id, None)) is not None:
                exchange.end(BrokenOff(self._lost))
        if not self.ready.done():
            self.ready.set_exception(NotSent(self._lost))
            self.ready.exception()  # nobody may be waiting
        self._queue.wake_all()

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
        written = self._http2.take_parts()
        if written and self._transport is not None and not self._transport.is_closing():
            write_parts(self._transport, written)
