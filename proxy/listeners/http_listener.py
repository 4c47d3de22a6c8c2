"""The HTTP listener: our own HTTP/1.1 (protocols/http1.py) on asyncio; http_connection.py has what is said on one
connection.

Rules of the file:

- The path and the query reach the handler as the client sent them, percent-encoding included; nothing is decompressed.
  Limits on size are the pipeline's, but for `max_body_bytes`, which also bounds streams.
- To stop is to answer what has come by then, and the first request of a connection that has just come; a client that
  sends a later one at that instant is hung up on, as HTTP/1.1 has no word for "no more here" before an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus

from proxy.listeners.admission import Admission
from proxy.listeners.http_connection import HttpConnection
from proxy.listeners.http_reply import neutral
from proxy.listeners.socket_listener import SocketListener
from proxy.listeners.tls import Certificate
from proxy.wire import Handler, PassThrough, Request, Response

_COMING_SECONDS = 1.0  # for a request that has begun, or is the first of its connection
_log = logging.getLogger("crossfade.listeners.http")


class HttpListener(SocketListener):
    """For HTTP/1.1 (and 1.0).

    max_body_bytes: a longer body makes its stream raise BodyTooLarge; None leaves that to the handler.
    fast: asked before the handler. admission: None takes any number of requests.
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
        certificate: Certificate | None = None,
        fast: PassThrough | None = None,
        admission: Admission | None = None,
    ) -> None:
        super().__init__(host, port, backlog=backlog, sock=sock, certificate=certificate)
        self.max_body_bytes = max_body_bytes
        self.stopping = False
        self._handler = handler
        self.fast = fast
        self.admission = admission
        self._open: set[HttpConnection] = set()
        self._changed = asyncio.Event()  # an exchange has begun or ended, or a connection has gone

    def connection(self) -> HttpConnection:
        return HttpConnection(self)

    def will_drain(self) -> None:
        self.stopping = True

    async def drain(self, drain_seconds: float, linger_seconds: float) -> None:
        await self._while(lambda: bool(self._open), linger_seconds)
        for _ in range(2):  # what has come is read
            await asyncio.sleep(0)
        self._close(lambda connection: not connection.awaits_request)
        await self._while(lambda: any(each.awaits_request for each in self._open), _COMING_SECONDS)
        self._close(lambda _: True)
        await self._while(lambda: any(each.busy for each in self._open), drain_seconds)
        if busy := [connection for connection in self._open if connection.busy]:
            _log.warning("requests cut off at the end of the drain", extra={"count": len(busy)})
        for connection in tuple(self._open):
            connection.abort()

    def _close(self, unwanted: Callable[[HttpConnection], bool]) -> None:
        """Only idle ones: a busy one still reads its body."""
        for connection in tuple(self._open):
            if not connection.busy and unwanted(connection):
                connection.close()

    async def _while(self, condition: Callable[[], bool], at_most_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(at_most_seconds):
                while condition():
                    self._changed.clear()
                    await self._changed.wait()

    # --- what connections tell and ask -------------------------------------------------------------

    def made(self, connection: HttpConnection) -> None:
        self._open.add(connection)

    def changed(self, connection: HttpConnection) -> None:
        self._changed.set()

    def lost(self, connection: HttpConnection) -> None:
        self._open.discard(connection)
        self._changed.set()

    async def answer(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception:  # noqa: BLE001 - a defect (handlers answer errors themselves): logged, and the client told
            _log.exception("handler failed", extra={"method": request.method})
            return neutral(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error; the proxy's log has the details")
