"""The HTTP listener: aiohttp's low-level server, without its application layer.

Rules of the file:

- The path and the query reach the handler as the client sent them, percent-encoding included.
- A body that has arrived whole with its head is handed over as bytes, any other as a stream; nothing is
  decompressed. Limits on size are the pipeline's, but for `max_body_bytes`, which also bounds streams.
- A client that disconnects ends the stream of its body with `InvalidRequest`; the handler runs on.
- `Expect: 100-continue` is granted when the handler first reads the body.
- To stop is to answer what has come by then, and the first request of a connection that has just come; a client that
  sends a later one at that instant is hung up on, as HTTP/1.1 has no word for "no more here" before an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from proxy.errors import BodyTooLarge, InvalidRequest
from proxy.listeners.acceptor import Acceptor
from proxy.listeners.http_reply import HttpReply, neutral
from proxy.sockets import listening
from proxy.wire import Handler, Request, Response

_log = logging.getLogger("crossfade.listeners.http")

_HEAD_LIMIT_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024
_IDLE_SECONDS = 3600.0  # longer than clients keep idle connections, so that they close them, not we
_COMING_SECONDS = 1.0  # for a request that has begun, or is the first of its connection
_FORCED_CLOSE_SECONDS = 0.1


class HttpListener:
    """A `Listener` for HTTP/1.1 (and 1.0).

    host, port: where to listen; port 0 lets the system choose (see `port`).
    max_body_bytes: a longer body makes its stream raise BodyTooLarge; None leaves that to the handler.
    backlog: connections waiting to be accepted. sock: a listening socket to use instead, of a process before this one.
    """

    def __init__(
        self,
        handler: Handler,
        host: str,
        port: int,
        *,
        max_body_bytes: int | None = None,
        backlog: int = 4096,
        sock: socket.socket | None = None,
    ) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._max_body_bytes = max_body_bytes
        self._backlog = backlog
        self._socket = sock
        self._acceptor: Acceptor | None = None
        self._http: web.Server | None = None
        self._busy: set[web.RequestHandler] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._open: set[_Connection] = set()  # aiohttp's own list has some that are gone
        self._changed = asyncio.Event()  # a request has begun, or a connection has gone
        self._stopping = False

    @property
    def port(self) -> int:
        return self._port

    @property
    def socket(self) -> socket.socket | None:
        return self._socket

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        http = web.Server(self._exchange, handler_cancellation=False)
        options: dict[str, Any] = {
            "keepalive_timeout": _IDLE_SECONDS,
            "access_log": None,
            "auto_decompress": False,
            "max_line_size": _HEAD_LIMIT_BYTES,
            "max_field_size": _HEAD_LIMIT_BYTES,
            "read_bufsize": _READ_BYTES,
        }
        if self._socket is None:
            self._socket = listening(self._host, self._port, self._backlog)
        self._port = self._socket.getsockname()[1]
        self._http = http
        self._acceptor = Acceptor(self._socket, lambda: _Connection(http, self, loop=loop, **options))
        self._acceptor.start()

    async def stop(self, drain_seconds: float, linger_seconds: float = 0.0) -> None:
        if self._acceptor is None or self._http is None:
            return
        self._stopping = True
        await self._acceptor.stop(leaves_the_rest=linger_seconds > 0)
        await self._while(lambda: bool(self._open), linger_seconds)
        for _ in range(2):  # what has come is read
            await asyncio.sleep(0)
        self._close(lambda connection: not connection.awaits_request)
        await self._while(lambda: any(each.awaits_request for each in self._open), _COMING_SECONDS)
        self._close(lambda _: True)
        try:
            async with asyncio.timeout(drain_seconds):
                await self._quiet.wait()
        except TimeoutError:
            _log.warning("requests cut off at the end of the drain", extra={"count": len(self._busy)})
        await self._http.shutdown(_FORCED_CLOSE_SECONDS)

    def made(self, connection: _Connection) -> None:
        self._open.add(connection)

    def lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._changed.set()

    def _close(self, unwanted: Callable[[_Connection], bool]) -> None:
        """Only idle ones: closing a busy one would also stop reading the body that its handler waits for."""
        for connection in tuple(self._open):
            if connection not in self._busy and unwanted(connection):
                connection.force_close()

    async def _while(self, condition: Callable[[], bool], at_most_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_seconds):
                while condition():
                    self._changed.clear()
                    await self._changed.wait()

    async def _exchange(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """One request and its answer, from its head to the last byte written."""
        connection = incoming.protocol
        assert isinstance(connection, _Connection)
        connection.begin(incoming.content)
        self._busy.add(connection)
        self._quiet.clear()
        self._changed.set()
        try:
            response = await self._answer(incoming)
            reply = HttpReply(response, closing=self._stopping or connection.broken)
            await reply.send(incoming)
            return reply
        finally:
            connection.end()
            self._busy.discard(connection)
            if not self._busy:
                self._quiet.set()

    async def _answer(self, incoming: web.BaseRequest) -> Response:
        try:
            request = self._request(incoming)
        except UnicodeEncodeError:
            return neutral(HTTPStatus.BAD_REQUEST, "the request's path and headers must be UTF-8")
        try:
            return await self._handler(request)
        except Exception:  # noqa: BLE001 - a defect (handlers answer errors themselves): logged, and the client told
            _log.exception("handler failed", extra={"method": request.method})
            return neutral(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the proxy's log has the details")

    def _request(self, incoming: web.BaseRequest) -> Request:
        path, _, query = _origin_form(_utf8(incoming.raw_path)).partition("?")
        return Request(
            transport="http",
            method=incoming.method,
            path=path,
            query=query,
            headers=tuple((name.lower(), _utf8(value)) for name, value in incoming.headers.items()),
            body=self._body(incoming),
            client=incoming.remote or "",
        )

    def _body(self, incoming: web.BaseRequest) -> bytes | AsyncIterator[bytes]:
        if not incoming.body_exists:
            return b""
        content = incoming.content
        if content.is_eof() and content.exception() is None:
            return content.read_nowait(-1)
        return self._stream(incoming)

    async def _stream(self, incoming: web.BaseRequest) -> AsyncIterator[bytes]:
        if incoming.headers.get("expect", "").lower() == "100-continue" and incoming.transport is not None:
            incoming.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = 0
        while True:
            try:
                chunk = await incoming.content.readany()
            except (OSError, web.RequestPayloadError) as error:
                raise InvalidRequest(f"the request ended before its body was complete ({error})") from error
            if not chunk:
                return
            size += len(chunk)
            if self._max_body_bytes is not None and size > self._max_body_bytes:
                raise BodyTooLarge(self._max_body_bytes)
            yield chunk


class _Connection(web.RequestHandler):
    """aiohttp's protocol object, but for what it does with bytes that are not HTTP.

    `body` is that of the request being answered. `awaits_request`: one has begun to come, or the first is still to
    come. aiohttp queues a parser's error as if it were the next request, and leaves whoever reads a malformed body
    waiting for ever; here the body ends, and so does the connection.
    """

    __slots__ = ("awaits_request", "body", "broken", "listener")

    def __init__(self, server: web.Server, listener: HttpListener, **options: Any) -> None:
        super().__init__(server, **options)
        self.listener = listener
        self.body: StreamReader | None = None
        self.broken = False
        self.awaits_request = True

    def begin(self, body: StreamReader) -> None:
        """To answer a request."""
        self.body = body
        self.awaits_request = False

    def end(self) -> None:
        self.body = None
        self.awaits_request = bool(self._messages)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.listener.made(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.listener.lost(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.awaits_request = self.awaits_request or self.body is None
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            self.broken = True
            for body in (self.body, *(body for _, body in self._messages)):
                if body is not None and not body.is_eof():
                    body.set_exception(web.RequestPayloadError("it is not valid HTTP"))
                    body.feed_eof()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        _log.info("bytes that are not HTTP refused", extra={"status": status, "kind": type(exc).__name__})
        return HttpReply(neutral(HTTPStatus(status), message or HTTPStatus(status).phrase), closing=True)


def _utf8(text: str) -> str:
    """`text` itself. Raises UnicodeEncodeError if its bytes were not UTF-8, and could not be passed on unchanged."""
    if not text.isascii():
        text.encode("utf-8")
    return text


def _origin_form(target: str) -> str:
    """The path and query of a request target, which a client may also send in absolute form (RFC 9112, 3.2.2)."""
    if target.startswith("/") or "://" not in target:
        return target
    authority_and_path = target.partition("://")[2]
    _, slash, rest = authority_and_path.partition("/")
    return slash + rest if slash else "/"
