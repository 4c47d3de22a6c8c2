"""One client's HTTP/1.1 connection: bytes into requests, responses into bytes, one exchange after the other.

Rules of the file:

- One request at a time: what comes behind it is held (protocols/http1.py), and the socket is not read while something
  is held, or while the handler is slower than its body.
- A short body is waited for, and then bytes; any other is a stream (`BodyStream`).
- A request whose body is there is offered to the fast path first; its answer comes by a call, without a task.
- Whoever answers before it has read the body ends the connection with the answer: the rest is read past for a while,
  so that the client gets to see the answer.
- A client that leaves ends its body's stream with InvalidRequest, and a handler that may be given up (`Caller`); any
  other runs on, and its answer goes nowhere. One that only says that it sends no more (a half-closed connection) still
  gets its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache, partial
from http import HTTPStatus
from random import random
from typing import Final, Protocol, cast

from proxy.listeners import http_body
from proxy.listeners.admission import Admission
from proxy.listeners.http_body import BodyStream
from proxy.listeners.http_reply import Framing, head_of, neutral
from proxy.protocols import http1_write
from proxy.protocols.http1 import End, Malformed, RequestEvent, RequestReader
from proxy.protocols.http1_fields import Field, Http1Error
from proxy.protocols.http1_head import RequestHead
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead, Body, Caller, GiveUp, PassThrough, Request, Response, close_body

_JOINED_BYTES: Final = 64 * 1024  # a body up to this is copied behind its head: one write
_HEAD_SECONDS = 30.0  # for a head that has begun
_LINGER_SECONDS = 2.0  # for a client to read its last answer, while what it still sends is read past
_MEMO_BYTES: Final = 256
_log = logging.getLogger("crossfade.listeners.http")


class Owner(Protocol):
    """What a connection asks of its listener."""

    max_body_bytes: int | None
    fast: PassThrough | None
    admission: Admission | None

    @property
    def stopping(self) -> bool:
        """Whether no connection is to be kept for another request."""
        ...

    def made(self, connection: HttpConnection) -> None: ...

    def changed(self, connection: HttpConnection) -> None:
        """An exchange has begun or ended. Told while it is `stopping`; before that nobody asks."""
        ...

    def lost(self, connection: HttpConnection) -> None: ...

    def answer(self, request: Request) -> Awaitable[Response]:
        """Never raises but CancelledError."""
        ...


class HttpConnection(asyncio.Protocol):
    __slots__ = (
        "_admitted",
        "_body",
        "_caller",
        "_closing",
        "_drained",
        "_exchange",
        "_head",
        "_owner",
        "_passing",
        "_paused",
        "_reader",
        "_requests",
        "_timer",
        "_transport",
        "client",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = RequestReader()
        self._transport: asyncio.Transport | None = None
        self._head: RequestHead | None = None  # of a request that is not begun yet
        self._body: BodyStream | None = None  # of the request that is read
        self._exchange: asyncio.Task[None] | None = None
        self._passing: GiveUp | None = None  # an exchange on the fast path
        self._caller: Caller | None = None  # of the exchange, where that has a task
        self._drained: asyncio.Future[None] | None = None  # while the client does not read
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._closing = False  # no more requests
        self._requests = 0
        self._admitted: int | None = None  # bytes that were counted for the request that is taken; None: none is
        self.client = ""

    # --- asyncio's ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if peer else ""
        self._owner.made(self)

    def data_received(self, data: bytes) -> None:
        if self._closing and self._body is None:
            return  # read past
        is_idle = self._exchange is None and self._passing is None and self._head is None  # as `busy`, without a call
        if is_idle and (whole := self._reader.whole(data)) is not None:
            self._begin_whole(*whole)
        else:
            self._heed(self._reader.feed(data))

    def eof_received(self) -> bool:
        """Whether the connection stays open for the answer."""
        if self._closing and self._body is None:
            return False  # it has had its last answer
        self._closing = True
        self._heed(self._reader.eof())
        return self.busy

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closing = True
        self._after(0.0, None)
        if self._body is not None and not self._body.ended:
            self._body.fail("the connection is gone")
        self._head = self._body = None  # of which whoever reads it has hold; here it would hold the connection
        self._give_up_passing()
        if self._caller is not None:
            self._caller.leave()
        if self._exchange is None:  # which leaves at its own end
            self._leave()
        self.resume_writing()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._drained = self._drained or asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _is_behind(self) -> bool:
        """Whether the client does not read what is written."""
        return self._drained is not None

    # --- the listener's ------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its body waited for."""
        return self._exchange is not None or self._passing is not None or self._head is not None

    @property
    def awaits_request(self) -> bool:
        """Whether one has begun to come, or the first is still to come."""
        return not self._closing and not self.busy and (not self._requests or self._reader.held_bytes > 0)

    def close(self) -> None:
        """What has been written still goes out."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cancel what is under way."""
        if self._exchange is not None:
            self._exchange.cancel()
        self._give_up_passing()
        if self._transport is not None:
            self._transport.abort()

    # --- requests --------------------------------------------------------------------------------------

    def _heed(self, events: list[RequestEvent]) -> None:
        for event in events:
            match event:
                case RequestHead():
                    self._head = event
                    self._enter(event.body_bytes)
                    self._body = BodyStream(self._flow, self._continue_of(event), self._owner.max_body_bytes)
                case bytes() if self._body is not None:
                    self._body.feed(event)
                case End() if self._body is not None:
                    self._body.end()
                case Malformed():
                    self._refuse(event)
        if self._head is not None:
            self._begin_if_there(self._head)
        elif not self.busy and not self._closing and self._reader.held_bytes and self._timer is None:
            self._after(_HEAD_SECONDS, self._give_up)
        self._flow()

    def _begin_if_there(self, head: RequestHead) -> None:
        """Begin the exchange, unless its body is short and still to come."""
        body = self._body
        assert body is not None
        size = head.body_bytes
        is_awaited = size is not None and size <= http_body.WAITING_BYTES and not head.expects_continue
        if body.ended or body.is_broken or not is_awaited or self._is_too_many():
            self._begin(head, body)
        else:
            self._after(http_body.SILENCE_SECONDS, self._miss_body)

    def _miss_body(self) -> None:
        if self._head is not None and self._body is not None:
            self._body.fail(f"nothing of it came for {http_body.SILENCE_SECONDS:g} s")
            self._begin(self._head, self._body)

    def _begin_whole(self, key: bytes, head: RequestHead, payload: bytes) -> None:
        """A request that has come all at once, and whose head is known by its bytes."""
        self._take_up()
        self._enter(len(payload))
        if not self._pass(key, head, payload, draw := random()):
            self._body = BodyStream.of(payload)
            self._begin_slowly(head, self._body, draw)
        if self._owner.stopping:
            self._owner.changed(self)

    def _begin(self, head: RequestHead, body: BodyStream) -> None:
        self._head = None
        self._take_up()
        draw = random()
        if not body.ended or not self._pass(self._reader.key, head, body.whole(), draw):
            self._begin_slowly(head, body, draw)
        if self._owner.stopping:
            self._owner.changed(self)

    def _enter(self, body_bytes: int | None) -> None:
        """A request has come."""
        if (admission := self._owner.admission) is not None:
            self._admitted = admission.enter(self.client, body_bytes)

    def _leave(self) -> None:
        if self._admitted is not None and (admission := self._owner.admission) is not None:
            admission.leave(self.client, self._admitted)
            self._admitted = None

    def _is_too_many(self) -> bool:
        return self._admitted is None and self._owner.admission is not None

    def _take_up(self) -> None:
        self._requests += 1
        if self._timer is not None:
            self._after(0.0, None)

    def _pass(self, key: bytes | None, head: RequestHead, payload: bytes, draw: float) -> bool:
        """Whether the fast path answers it."""
        if (fast := self._owner.fast) is None or (self._admitted is None and self._owner.admission is not None):
            return False  # or it is one too many
        made = lambda: _request(head, payload, self.client, draw)  # noqa: E731
        self._passing = fast.begin(key, payload, draw, made, partial(self._passed, head))
        return self._passing is not None

    def _begin_slowly(self, head: RequestHead, body: BodyStream, draw: float) -> None:
        self._caller = Caller()
        try:
            request = _request(head, body.whole() if body.ended else body, self.client, draw, self._caller)
        except UnicodeDecodeError:
            request = None
        rest = partial(self._answer, head, body, request)
        self._exchange = spawn(self._carry_out(rest, body), name="http exchange")

    def _passed(self, head: RequestHead, answer: AnswerHead, payload: Body) -> None:
        """The answer that the fast path gives."""
        self._passing = None
        body = _NO_BODY
        if not isinstance(payload, bytes) or self._is_behind():
            rest = partial(self._reply, head, answer.with_body(payload), body)
            self._exchange = spawn(self._carry_out(rest, body), name="http answer")
            return
        usual = head.keep_alive and head.version == b"1.1" and not (self._closing or self._owner.stopping)
        if usual and answer.written:
            self._write(answer.written, payload)
        else:
            framing = self._write_framed(head, answer.with_body(payload), body)
            if usual and framing is not None and framing.has_body:
                answer.written = framing.head
        if self._is_behind():
            self._exchange = spawn(self._carry_out(self._drain, body), name="http answer")
        else:
            self._end_exchange(body)

    def _give_up_passing(self) -> None:
        if self._passing is not None:
            self._passing()
            self._passing = None
            self._leave()

    def _continue_of(self, head: RequestHead) -> Callable[[], None] | None:
        return (lambda: self._write(http1_write.CONTINUE)) if head.expects_continue else None

    def _refuse(self, malformed: Malformed) -> None:
        self._closing = True
        if self._body is not None and not self._body.ended:  # whoever reads it answers
            self._body.fail("it is not valid HTTP")
            return
        _log.info("bytes that are not HTTP refused", extra={"status": malformed.status, "reason": malformed.reason})
        self._head = None
        self._write_neutral(None, HTTPStatus(malformed.status), malformed.reason)
        self._linger()

    def _give_up(self) -> None:
        self._refuse(Malformed(408, "the request's head did not come in time"))

    # --- the exchange ------------------------------------------------------------------------------------

    async def _answer(self, head: RequestHead, body: BodyStream, request: Request | None) -> None:
        if request is not None and self._is_too_many():
            assert self._owner.admission is not None
            response = self._owner.admission.refuse(request)
        elif request is not None:
            response = await self._owner.answer(request)
        else:
            response = neutral(HTTPStatus.BAD_REQUEST, "the request's path and headers must be UTF-8")
        body.cancel_continue()
        await self._reply(head, response, body)

    async def _carry_out(self, rest: Callable[[], Awaitable[None]], body: BodyStream) -> None:
        """What is left of an exchange, and its end."""
        try:
            await rest()
        except ConnectionError:  # nobody is left to be told
            self._closing = True
        finally:
            self._exchange = self._caller = None
            self._end_exchange(body)

    async def _reply(self, head: RequestHead, response: Response, body: BodyStream) -> None:
        framing = self._write_framed(head, response, body)
        if isinstance(response.body, bytes):
            await self._drain()
            return
        try:
            if framing is not None:
                await self._stream(framing, response.body)
            else:
                await self._drain()
        except ConnectionError:
            raise
        except Exception as error:
            # Not ours to repair: whatever broke the answer, the client must not take it for complete.
            _log.warning("answer broken off", extra={"kind": type(error).__name__})
            self._break()
            raise ConnectionResetError("the answer was broken off") from error
        finally:
            close_body(response.body)

    def _write_framed(self, head: RequestHead, response: Response, body: BodyStream) -> Framing | None:
        """Write an answer's head, and its body if that is in memory. None: something else was said in its place."""
        self._closing = self._closing or self._owner.stopping or not head.keep_alive or not body.ended
        try:
            framing = head_of(response, head, closing=self._closing)
        except Http1Error as error:  # a store's answer has what HTTP/1.1 does not allow
            _log.warning("an answer cannot be written", extra={"error": error})
            self._write_neutral(head, HTTPStatus.BAD_GATEWAY, "the answer cannot be written as HTTP/1.1")
            return None
        self._closing = self._closing or framing.ends_with_connection
        self._write(framing.head, response.body if framing.has_body and isinstance(response.body, bytes) else b"")
        return framing

    def _write_neutral(self, head: RequestHead | None, status: HTTPStatus, text: str) -> None:
        """An answer of our own."""
        answer = neutral(status, text)
        assert isinstance(answer.body, bytes)
        framing = head_of(answer, head, closing=self._closing)
        self._write(framing.head, answer.body if framing.has_body else b"")

    async def _stream(self, framing: Framing, body: AsyncIterator[bytes]) -> None:
        if framing.has_body:
            async for payload in body:
                self._write(*(http1_write.chunk(payload) if framing.chunked else (payload,)))
                await self._drain()
        if framing.chunked:
            self._write(http1_write.last_chunk())

    def _end_exchange(self, body: BodyStream) -> None:
        self._leave()
        if self._transport is not None:
            self._go_on(body)
        if self._owner.stopping:
            self._owner.changed(self)

    def _go_on(self, body: BodyStream) -> None:
        """With what has come behind a request that is answered, or with nothing more."""
        if not self._closing:
            self._body = None
            events = self._reader.resume()
            if events or self._paused or self._reader.held_bytes:
                self._heed(events)
        elif body.ended:
            self.close()
        else:
            self._linger()

    def _linger(self) -> None:
        """Say no more, and read past what the client still sends: to close at once would cut the answer off."""
        self._body = None
        if self._transport is None or self._transport.is_closing():
            return
        self._flow()
        with contextlib.suppress(OSError):  # the client has gone
            if self._transport.can_write_eof():
                self._transport.write_eof()
        self._after(_LINGER_SECONDS, self.close)

    # --- reading and writing -------------------------------------------------------------------------------

    def _flow(self) -> None:
        """Read the socket if somebody has room for what comes."""
        held = self._reader.at_end and self._reader.held_bytes > 0
        full = self._body is not None and self._body.is_full
        if self._transport is None or self._transport.is_closing() or (held or full) is self._paused:
            return
        self._paused = held or full
        if self._paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _write(self, *parts: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if sum(map(len, parts)) <= _JOINED_BYTES:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    async def _drain(self) -> None:
        """Wait while the client does not read. Raises ConnectionResetError if it is gone."""
        if self._drained is not None:
            await asyncio.shield(self._drained)
        if self._transport is None:
            raise ConnectionResetError("the client is gone")

    def _break(self) -> None:
        """End by RST: a plain end is how an HTTP/1.0 answer without a length says that it is complete."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _after(self, seconds: float, act: Callable[[], None] | None) -> None:
        """In place of what was to be done before; None: of nothing."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, act) if act is not None else None


def _request(head: RequestHead, body: Body, client: str, draw: float, caller: Caller | None = None) -> Request:
    """Raises UnicodeDecodeError for what could not be passed on unchanged."""
    path, _, query = head.origin_form.decode().partition("?")
    return Request(
        transport="http",
        method=head.method.decode(),
        path=path,
        query=query,
        headers=tuple([_known_text(field) if len(field[1]) <= _MEMO_BYTES else _text(field) for field in head.fields]),
        body=body,
        client=client,
        draw=draw,
        caller=caller,
    )


def _text(field: Field) -> tuple[str, str]:
    return field[0].decode(), field[1].decode()


_known_text: Final = lru_cache(2048)(_text)
_NO_BODY: Final = BodyStream.of(b"")
