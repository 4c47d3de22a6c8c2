"""One client's gRPC connection: streams of our own HTTP/2 (protocols/http2.py) into calls, answers into streams.

Rules of the file:

- What it has to say is written once a turn of the loop.
- Messages may have any size, and a client may send any number of pings with its work; what costs more than it brings is
  cut off (protocols/http2_allowance.py).
- A client that hangs up, or whose deadline passes, ends its stream; what becomes of the call then, the listener says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from random import uniform
from typing import Final, Protocol, cast

from proxy.errors import BodyTooLarge
from proxy.frames import Frames, write_parts
from proxy.listeners.admission import Admission
from proxy.listeners.grpc_stream import GrpcStream
from proxy.protocols import grpc
from proxy.protocols.field_block import Field
from proxy.protocols.grpc import Asked, Pieces, asked_in, fields_of, framed, message_in, status_fields
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Data, Event, Head, Ready, Reset, Role, Sent, Trailers, WholeRequest
from proxy.protocols.http2_frames import Code
from proxy.wire import AnswerHead, Body, Caller, GiveUp, Headers, Request, Response

_GREETING_SECONDS = 20.0  # for a client to send its first settings
_HEEDING_SECONDS = 1.0  # for one to answer, before it is left alone
_CLOSING_SECONDS = 2.0
_HEAD: Final[tuple[Field, ...]] = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", grpc.ACCEPTED_CODINGS),
)
# Of most answers.
_PLAIN_HEAD: Final = encode(_HEAD)
_PLAIN_TRAILERS: Final = encode(status_fields(grpc.OK, ""))
_log = logging.getLogger("crossfade.listeners.grpc")


class Owner(Protocol):
    """What a connection asks of its listener."""

    max_body_bytes: int | None
    streams: Callable[[str], bool]
    admission: Admission | None
    max_age_seconds: float | None

    def made(self, connection: GrpcConnection) -> None: ...

    def lost(self, connection: GrpcConnection) -> None: ...

    def called(self, connection: GrpcConnection, stream_id: int, call: GrpcCall) -> GiveUp | None:
        """The request of a stream is whole. What to do when its client leaves; None if it has been answered."""
        ...

    def streaming(self, connection: GrpcConnection, stream_id: int, call: GrpcCall, body: Frames) -> GiveUp:
        """The request of a stream begins. What to do when its client leaves."""
        ...

    def flowing(self, connection: GrpcConnection, stream_id: int, response: Response, body: Frames) -> GiveUp:
        """An answer of the fast path begins. What to do when its client leaves."""
        ...


@dataclass(slots=True)
class GrpcCall:
    """A request that comes in."""

    asked: Asked
    began: float  # on the loop's clock
    body: Pieces = field(default_factory=Pieces)

    def is_too_large(self, limit_bytes: int | None) -> bool:
        return limit_bytes is not None and self.body.size_bytes > limit_bytes + grpc.PREFIX_BYTES

    def request(self, client: str, limit_bytes: int | None, caller: Caller) -> Request:
        """Raises MessageError."""
        asked, timeout_seconds = self.asked, self.asked.timeout_seconds
        if timeout_seconds is not None:
            timeout_seconds = max(0.0, timeout_seconds - (asyncio.get_running_loop().time() - self.began))
        return Request(
            transport="grpc",
            method="",
            path=asked.path,
            headers=asked.metadata,
            body=self._message(limit_bytes),
            client=client,
            timeout_seconds=timeout_seconds,
            caller=caller,
        )

    def streaming(self, client: str, body: Frames) -> Request:
        asked = self.asked
        return Request(
            "grpc", "", asked.path, asked.metadata, body, client=client, timeout_seconds=asked.timeout_seconds
        )

    def _message(self, limit_bytes: int | None) -> Body:
        try:
            if limit_bytes is not None and self.is_too_large(limit_bytes):
                raise BodyTooLarge(limit_bytes)
            return message_in(self.body, self.asked.coding, limit_bytes)
        except BodyTooLarge as error:
            return _Raising(error)


class GrpcConnection(asyncio.Protocol):
    """See the file's head."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._http2 = Connection(Role.SERVER, gathers=True)
        self._calls: dict[int, GrpcCall] = {}  # that are not whole yet
        self._streams: dict[int, GrpcStream] = {}  # calls that are passed on as they come
        self._left: dict[int, GiveUp] = {}  # what to do when the client leaves a call that is being answered
        self._held: dict[int, int] = {}  # bytes that were counted, by stream
        self._admitted: set[int] = set()  # streams
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None  # for what a client has to do in time
        self._will_write = False
        self._age: asyncio.TimerHandle | None = None
        self._drains = False
        self._has_said_all = False
        self.client = ""

    # --- asyncio's ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else ""
        self._after(_GREETING_SECONDS, self.abort)
        if (age := self._owner.max_age_seconds) is not None:  # not all at once that came together
            self._age = self._loop.call_later(age * uniform(0.9, 1.1), self.drain)
        self._owner.made(self)
        self._write()

    def data_received(self, data: bytes) -> None:
        for event in self._http2.receive(data, self._loop.time()):
            if not (self._streams and self._is_of_stream(event)):
                self._heed(event)
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for stream_id in self._calls:
            self._leave(stream_id)
        self._calls.clear()
        for stream_id in tuple(self._left):
            self._give_up(stream_id)
        self._after(0.0, None)
        if self._age is not None:
            self._age.cancel()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read either."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # --- the listener's ------------------------------------------------------------------------------

    def answer(self, stream_id: int, response: Response | AnswerHead, body: bytes) -> None:
        http2 = self._http2
        stream = self._streams.get(stream_id)
        try:
            trailers = _trailers(response.status, response.message, response.trailers)
            if stream is not None and stream.has_begun:
                http2.send_trailers(stream_id, trailers)
            elif response.status == grpc.OK:
                http2.answer(stream_id, _head_of(response), framed(body), trailers)
            elif not response.headers:
                http2.send_head(stream_id, _head(()) + trailers, ends=True)
            else:
                http2.send_head(stream_id, _head(response.headers))
                http2.send_trailers(stream_id, trailers)
        except ValueError as error:  # metadata of a store that HTTP/2 does not allow
            _log.warning("an answer cannot be sent", extra={"error": error})
            http2.reset(stream_id, Code.INTERNAL_ERROR)
        self._write_soon()

    async def stream(self, stream_id: int, response: Response, body: Frames) -> None:
        """Pass an answer on while it comes."""
        stream = self._streams.get(stream_id)
        if stream is None:  # the call was unary, and its answer is large
            stream = self._streams[stream_id] = GrpcStream(self._http2, stream_id, self._write_soon)
        await stream.answer(_HEAD, response, body)

    def passed(self, stream_id: int, head: AnswerHead, body: Body) -> None:
        """The fast path has an answer; the client may be gone."""
        if isinstance(body, Frames):
            self._left[stream_id] = self._owner.flowing(self, stream_id, head.with_body(body), body)
            return
        assert isinstance(body, bytes)
        self.answer(stream_id, head, body)
        self.ended(stream_id)

    def ended(self, stream_id: int) -> None:
        """Its handler has."""
        self._left.pop(stream_id, None)
        if (stream := self._streams.pop(stream_id, None)) is not None:
            stream.close()
        self._leave(stream_id)
        self._http2.release(stream_id)

    def drain(self, linger_seconds: float = 0.0) -> None:
        """Tell the client to go elsewhere, and go on until it has, for a moment or at most so long beyond its calls."""
        if self._has_said_all:
            return
        self._drains = True
        self._http2.drain()
        self._after(max(_HEEDING_SECONDS, linger_seconds), self._finish_draining)
        self._write()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- what happens ----------------------------------------------------------------------------------

    def _heed(self, event: Event) -> None:
        match event:
            case WholeRequest():
                self._asked(event)
            case Head():
                self._begin(event)
            case Data():
                self._http2.consume(event.stream_id, event.size_bytes)
                call = self._calls.get(event.stream_id)
                if call is not None:
                    call.body.add(event.data)
                    if not self._grow(event.stream_id, len(event.data)):
                        self._refuse(event.stream_id, self._calls.pop(event.stream_id))
                    elif event.ends or call.is_too_large(self._owner.max_body_bytes):
                        self._call(event.stream_id, call)
            case Trailers():
                if (call := self._calls.get(event.stream_id)) is not None:
                    self._call(event.stream_id, call)
            case Reset():
                if self._calls.pop(event.stream_id, None) is not None:
                    self._leave(event.stream_id)
                self._give_up(event.stream_id)
            case Ready() if not self._drains:
                self._after(0.0, None)
            case Broken():
                _log.info("a connection was broken off", extra={"reason": event.why})
                self._say_all()

    def _is_of_stream(self, event: Event) -> bool:
        """And then it has been heeded."""
        if not isinstance(event, Data | Trailers | Sent) or (stream := self._streams.get(event.stream_id)) is None:
            return False
        stream.heed(event)
        return True

    def _asked(self, event: WholeRequest) -> None:
        """A request that has come in one piece."""
        stream_id, data, asked = event.stream_id, event.data, asked_in(event.block)
        is_plain = asked.is_grpc and event.block.pseudo[b":method"] == b"POST"
        if not is_plain or self._owner.streams(asked.path):
            self._heed(Head(stream_id, event.block, ends=False))
            body = Data(stream_id, data, len(data), ends=True)
            if not self._is_of_stream(body):
                self._heed(body)
            return
        self._http2.received(len(data))
        call = self._calls[stream_id] = GrpcCall(asked, self._loop.time(), Pieces(data))
        if self._grow(stream_id, len(data)):
            self._call(stream_id, call)
        else:
            self._refuse(stream_id, self._calls.pop(stream_id))

    def _begin(self, head: Head) -> None:
        block, asked = head.block, asked_in(head.block)
        if block.pseudo[b":method"] != b"POST":
            self._http2.send_head(head.stream_id, ((b":status", b"405"), (b"allow", b"POST")), ends=True)
        elif not asked.is_grpc:
            self._http2.send_head(head.stream_id, ((b":status", b"415"),), ends=True)
        else:
            call = GrpcCall(asked, self._loop.time())
            if self._owner.streams(asked.path):
                self._stream(head, call)
                return
            self._calls[head.stream_id] = call
            if head.ends:
                self._call(head.stream_id, call)

    def _stream(self, head: Head, call: GrpcCall) -> None:
        """A call whose messages are passed on as they come."""
        stream_id = head.stream_id
        if not self._enter(stream_id):
            self._refuse(stream_id, call)
            return
        self._http2.hold(stream_id)
        stream = self._streams[stream_id] = GrpcStream(self._http2, stream_id, self._write_soon)
        self._left[stream_id] = self._owner.streaming(self, stream_id, call, stream.begin(head))

    def _call(self, stream_id: int, call: GrpcCall) -> None:
        """Its request is whole, or will be no good."""
        del self._calls[stream_id]
        if not self._enter(stream_id):
            self._refuse(stream_id, call)
            return
        self._http2.hold(stream_id)
        if (left := self._owner.called(self, stream_id, call)) is not None:
            self._left[stream_id] = left

    def _give_up(self, stream_id: int) -> None:
        """Its client has left."""
        if (left := self._left.pop(stream_id, None)) is not None:
            left()

    # --- how many ------------------------------------------------------------------------------------------

    def _enter(self, stream_id: int) -> bool:
        """A call is whole: it takes a place. Before, only its bytes count, so that nobody takes places by waiting."""
        admission = self._owner.admission
        if admission is None:
            return True
        if admission.enter(self.client) is None:
            return False
        self._admitted.add(stream_id)
        return True

    def _grow(self, stream_id: int, size_bytes: int) -> bool:
        admission = self._owner.admission
        if admission is None:
            return True
        held = self._held[stream_id] = self._held.get(stream_id, 0) + size_bytes
        return admission.grow(size_bytes, held)

    def _leave(self, stream_id: int) -> None:
        admission = self._owner.admission
        if admission is None:
            return
        admission.shrink(self._held.pop(stream_id, 0))
        if stream_id in self._admitted:
            self._admitted.discard(stream_id)
            admission.leave(self.client, 0)

    def _refuse(self, stream_id: int, call: GrpcCall) -> None:
        """Too many. What still comes of it is skipped."""
        assert self._owner.admission is not None
        request = Request("grpc", "", call.asked.path, call.asked.metadata, client=self.client)
        self.answer(stream_id, self._owner.admission.refuse(request), b"")
        self._leave(stream_id)

    # --- writing, and the end ----------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if not self._will_write:
            self._will_write = True
            self._loop.call_soon(self._write)

    def _write(self) -> None:
        self._will_write = False
        written = self._http2.take_parts()
        if self._transport is None or self._transport.is_closing() or self._has_said_all:
            return
        if written:
            write_parts(self._transport, written)
        if self._http2.is_drained:
            self._http2.finish_draining()  # also if it is the client that goes: nobody could answer what it sends now
            self._say_all()

    def _say_all(self) -> None:
        """The last that is written. The client closes when it has read it; who closes first may cut it off."""
        written = self._http2.take()
        if self._transport is None or self._transport.is_closing() or self._has_said_all:
            return
        self._has_said_all = True
        self._transport.write(written)
        if self._transport.can_write_eof():  # not where it is encrypted
            self._transport.write_eof()
        self._after(_CLOSING_SECONDS, self._close)

    def _close(self) -> None:
        """All has been said. What the client has not read yet is not cut off."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._after(_CLOSING_SECONDS, self._close)
        else:
            self.abort()

    def _finish_draining(self) -> None:
        self._http2.finish_draining()
        self._write()

    def _after(self, seconds: float, act: Callable[[], None] | None) -> None:
        """In place of what was to be done before; None: of nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, act) if act is not None else None


def _head(headers: Headers) -> bytes:
    """Encoded. Raises ValueError for what HTTP/2 does not allow."""
    return encode((*_HEAD, *fields_of(headers))) if headers else _PLAIN_HEAD


def _head_of(response: Response | AnswerHead) -> bytes:
    """As of `_head`. What many answers begin with is encoded once."""
    if isinstance(response, Response):
        return _head(response.headers)
    if not response.written:
        response.written = _head(response.headers)
    return response.written


def _trailers(status: int, message: str, trailers: Headers) -> bytes:
    """As of `_head`."""
    if status == grpc.OK and not message and not trailers:
        return _PLAIN_TRAILERS
    return encode((*fields_of(trailers), *status_fields(status, message)))


class _Raising:
    """A body that cannot be had."""

    def __init__(self, error: BodyTooLarge) -> None:
        self._error = error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise self._error
