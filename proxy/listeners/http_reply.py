"""How a `wire.Response` is written to an HTTP connection.

Rules of the file:

- Status, headers and body are written as given. Only what frames the message (`connection`, `transfer-encoding`,
  `content-length` of a body in memory) is this file's.
- A streamed answer that fails half way breaks the connection, so that no client takes it for complete.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from proxy.wire import Headers, Response

_log = logging.getLogger("crossfade.listeners.http")

_FRAMING = frozenset({"connection", "keep-alive", "transfer-encoding"})


class HttpReply(web.StreamResponse):
    """A `wire.Response` on its way out, written without the defaults that aiohttp adds to its own responses."""

    def __init__(self, response: Response, *, closing: bool) -> None:
        super().__init__(status=response.status)
        self._response = response
        self._begun = False
        self._stays_open = not closing

    @property
    def keep_alive(self) -> bool:
        return self._stays_open

    async def send(self, request: web.BaseRequest) -> None:
        """Write everything. A connection that breaks meanwhile is only noted: nobody is left to be told."""
        try:
            await self.prepare(request)
        except ConnectionError:
            self._stays_open = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write head and body (aiohttp calls this, too, and finds it done)."""
        if self._begun:
            return None
        self._begun = True
        self._stays_open = self._stays_open and request.keep_alive
        body = self._response.body
        try:
            if isinstance(body, bytes):
                await self._write(request, body)
            else:
                await self._write_stream(request, body)
        except ConnectionError:
            raise
        except Exception as error:
            # Not ours to repair: whatever broke the answer, the client must not take it for complete.
            _log.warning("answer broken off", extra={"kind": type(error).__name__})
            _break(request.transport)
            raise ConnectionResetError("the answer was broken off") from error
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to do: `prepare` has written the end."""

    async def _write(self, request: web.BaseRequest, body: bytes) -> None:
        headers = self._headers_for(request)
        if self._may_have_body(request):
            headers["content-length"] = str(len(body))
        await request.writer.write_headers(self._status_line(request), headers)
        await request.writer.write_eof(body if self._may_have_body(request) else b"")

    async def _write_stream(self, request: web.BaseRequest, body: AsyncIterator[bytes]) -> None:
        try:
            headers = self._headers_for(request)
            if "content-length" not in headers and self._may_have_body(request):
                if request.version >= (1, 1):
                    headers["transfer-encoding"] = "chunked"
                    request.writer.enable_chunking()
                else:
                    self._stays_open = False
                    headers["connection"] = "close"
            await request.writer.write_headers(self._status_line(request), headers)
            if self._may_have_body(request):
                async for chunk in body:
                    await request.writer.write(chunk)
            await request.writer.write_eof()
        finally:
            if (close := getattr(body, "aclose", None)) is not None:
                await close()

    def _headers_for(self, request: web.BaseRequest) -> CIMultiDict[str]:
        headers = CIMultiDict(_text_headers(self._response.headers))
        if not self._stays_open:
            headers["connection"] = "close"
        elif request.version < (1, 1):
            headers["connection"] = "keep-alive"
        return headers

    def _may_have_body(self, request: web.BaseRequest) -> bool:
        return request.method != "HEAD" and self.status not in (204, 304)

    def _status_line(self, request: web.BaseRequest) -> str:
        phrase = self._response.message or self.reason
        return f"HTTP/{request.version.major}.{request.version.minor} {self.status} {phrase}"


def _break(transport: asyncio.Transport | None) -> None:
    """End a connection by RST: a plain end is how an HTTP/1.0 answer without a length says that it is complete."""
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def neutral(status: HTTPStatus, text: str) -> Response:
    return Response(status.value, (("content-type", "text/plain; charset=utf-8"),), f"{text}\n".encode())


def _text_headers(headers: Headers) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else value.decode("latin-1"))
        for name, value in headers
        if name not in _FRAMING
    ]
