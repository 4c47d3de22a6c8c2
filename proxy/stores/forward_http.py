"""Passes HTTP requests on to a server of the client's own vendor, byte for byte.

Kept as they are: method, raw path and query (percent-encoding included), body, status, and every header
that is not hop-by-hop (RFC 9110, section 7.6.1). `Host` becomes the store's. Nothing is decompressed, no
redirect is followed, no cookie is kept, and the key travels as the request has it (`own_key.py` may have put another
one there than the client's).

Rules of the file:

- **A request is sent once**, whatever becomes of it. Whether to try again is the pipeline's decision.
- **Certainly not sent** (no address, refused, no connection in time) is `Unavailable`; everything after that without an
  answer is `Unclear`, and its connection is closed, never used again.
- Time counts as silence of the store: it starts when the request is handed over, and stands still while the client is
  slow to send its own body.
- A server may answer before it has read the request: then no more of it is sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import structs

from proxy.errors import InvalidRequest, RequestError, Unavailable, Unclear
from proxy.protocols import http1_write
from proxy.protocols.http1_fields import Field, Fields, Http1Error, end_to_end
from proxy.protocols.http1_head import ResponseHead
from proxy.stores.awaited import Awaited
from proxy.stores.forward_http_bodies import Download, Silence
from proxy.stores.forward_http_passage import HttpPassage, Server, Silences, Watch
from proxy.stores.http_pool import HttpPool, NoConnection
from proxy.stores.http_upstream import BrokenOff, HttpUpstream
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead, Headers, Request, Response

_NOT_FORWARDED: Final = frozenset({b"host", b"expect", b"http2-settings"})  # `expect` is answered by the listener
_MEMO_BYTES: Final = 256


class HttpForwarder:
    """A `Forwarder` to one HTTP server. Make it inside the running event loop.

    url: "http://host:port" or "https://...", with or without a path prefix.
    timeout_seconds: longest silence of the store, before and within its answer.
    connect_seconds: longest wait for a connection (at most half of `timeout_seconds`).
    keepalive_seconds: how long an idle connection is kept; Qdrant's server closes it after 5 s (actix-web's default).
    collect_bytes: an answer up to this arrives as `bytes`, a longer one as a stream.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = 60.0,
        connect_seconds: float = 5.0,
        max_connections: int = 4096,
        keepalive_seconds: float = 4.0,
        collect_bytes: int = 1024 * 1024,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        encrypted = parts.scheme == "https"
        self._origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._host: Field = (b"host", parts.netloc.rpartition("@")[2].encode())
        self._prefix = parts.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._collect_bytes = collect_bytes
        self._silences = Silences(timeout_seconds)
        self._pool = HttpPool(
            parts.hostname or "",
            parts.port or (443 if encrypted else 80),
            tls=(tls or ssl.create_default_context()) if encrypted else None,
            connect_seconds=min(connect_seconds, timeout_seconds / 2),
            keepalive_seconds=keepalive_seconds,
            max_connections=max_connections,
        )
        self._server = Server(self._pool, self._silences, self._origin, _answer_head)

    async def forward(self, request: Request) -> Response:
        """The server's own answer. Raises Unavailable or Unclear; InvalidRequest for a path that is none; and
        whatever RequestError the body's stream raised, in which case the server got only part of the request."""
        chunked, head = self._head(request)
        method = request.method.encode()
        try:
            if isinstance(request.body, bytes):
                connection = self._pool.take_idle() or await self._pool.take()
                answer = Awaited()
                watch = Watch(self._server, connection, answer, self._collect_bytes)
                response = await answer.whole(watch.begin(method, head, request.body))
            else:
                response = await self._as_it_comes(method, head, request.body, chunked)
        except NoConnection as error:
            raise Unavailable(
                f"{self._origin} takes no connections ({error}); check that the store runs and is reachable"
            ) from error
        return await self._collected(response, response.body) if isinstance(response.body, Download) else response

    def passage(self, request: Request) -> HttpPassage | None:
        """As of Forwarder."""
        if not isinstance(request.body, bytes) or request.method == "HEAD":
            return None
        try:
            _, head = self._head(request)
        except InvalidRequest:
            return None
        method, size = request.method.encode(), len(request.body)
        return HttpPassage(self._server, method, head, size)

    async def close(self) -> None:
        """Close every connection; requests under way end as Unclear."""
        self._silences.close()
        await self._pool.close()

    # --- what goes up ------------------------------------------------------------------------------------

    def _head(self, request: Request) -> tuple[bool, bytes]:
        """Whether the body goes up in chunks, and the head."""
        if not request.path.startswith("/"):
            raise InvalidRequest(f"request target {request.path!r} is not a path; it must begin with '/'")
        fields, length = self._fields(request.headers)
        body = request.body
        chunked = not isinstance(body, bytes) and length is None
        if isinstance(body, bytes):
            if body or length is not None:
                fields.append((b"content-length", b"%d" % len(body)))  # it may have been rewritten on its way here
        elif length is not None:
            fields.append((b"content-length", length))
        else:
            fields.append((b"transfer-encoding", b"chunked"))
        target = f"{self._prefix}{request.path}" + (f"?{request.query}" if request.query else "")
        try:
            return chunked, http1_write.request_bytes(request.method.encode(), target.encode(), fields)
        except Http1Error as error:
            raise InvalidRequest(f"the request cannot be passed on: {error}") from error

    def _fields(self, headers: Headers) -> tuple[list[Field], bytes | None]:
        """Those that are passed on, less the length, and the length."""
        own = [
            _known_field(name, value) if isinstance(value, str) and len(value) <= _MEMO_BYTES else _field(name, value)
            for name, value in headers
        ]
        options = frozenset(
            word.strip().lower() for name, value in own if name == b"connection" for word in value.split(b",")
        )
        kept, length = [self._host], None
        for field in end_to_end(own, options):
            if field[0] == b"content-length":
                length = field[1]
            elif field[0] not in _NOT_FORWARDED:
                kept.append(field)
        return kept, length

    async def _as_it_comes(self, method: bytes, head: bytes, body: AsyncIterator[bytes], chunked: bool) -> Response:
        """The answer to a request whose body comes while it is sent. Raises NoConnection, and as `forward`."""
        silence = Silence(self._timeout_seconds)
        try:
            async with asyncio.timeout(self._timeout_seconds) as silence.timeout:
                connection = await self._pool.take()
                try:
                    answer = await self._while_sending(connection, method, head, body, chunked, silence)
                except BaseException:
                    connection.close()
                    self._pool.give_back(connection)
                    raise
        except BrokenOff as error:
            raise Unclear(f"{self._origin} gave no answer ({error}); it may have done the work") from error
        except TimeoutError as error:
            raise Unclear(
                f"{self._origin} was silent for {self._timeout_seconds} s; it may still do the work"
            ) from error
        finally:
            silence.timeout = None
        return _answer_head(answer).with_body(self._server.download(connection))

    async def _while_sending(
        self,
        connection: HttpUpstream,
        method: bytes,
        head: bytes,
        body: AsyncIterator[bytes],
        chunked: bool,
        silence: Silence,
    ) -> ResponseHead:
        answer = connection.send(method, head)
        upload = spawn(_upload(connection, body, chunked, silence), name="upload")
        try:
            both: set[asyncio.Future[Any]] = {answer, upload}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and (failure := upload.result()) is not None:
                raise failure
            if not upload.done():  # it has answered, or broken off
                connection.give_up()
            silence.begin()
            return await answer
        finally:
            upload.cancel()
            if not answer.cancel() and not answer.cancelled():
                answer.exception()  # nobody may have asked

    # --- what comes back -----------------------------------------------------------------------------------

    async def _collected(self, response: Response, body: Download) -> Response:
        """With its body as bytes, unless that is too long."""
        if body.stated_bytes is not None and body.stated_bytes > self._collect_bytes:
            return response
        start: list[bytes] = []
        size = 0
        while size <= self._collect_bytes:
            payload = await body.read()
            if not payload:
                return structs.replace(response, body=start[0] if len(start) == 1 else b"".join(start))
            start.append(payload)
            size += len(payload)
        body.put_back(start)
        return response


async def _upload(
    connection: HttpUpstream, body: AsyncIterator[bytes], chunked: bool, silence: Silence
) -> RequestError | None:
    """Send a body while it comes; why the client's side of it failed, if it did."""
    try:
        silence.suspend()
        async for payload in body:
            silence.begin()
            connection.write(*(http1_write.chunk(payload) if chunked else (payload,)))
            await connection.drain()
            silence.suspend()
        silence.begin()
    except RequestError as error:
        return error
    if chunked:
        connection.write(http1_write.last_chunk())
    return None


def _answer_head(head: ResponseHead) -> AnswerHead:
    return AnswerHead(head.status, _received(head.fields, head.options), _text(head.reason))


def _received(fields: Fields, options: frozenset[bytes]) -> Headers:
    return tuple(
        [
            _known_header(field) if len(field[1]) <= _MEMO_BYTES else _header(field)
            for field in end_to_end(fields, options)
        ]
    )


def _field(name: str, value: str | bytes) -> Field:
    return name.encode(), value if isinstance(value, bytes) else value.encode()


def _header(field: Field) -> tuple[str, str]:
    return field[0].decode(), _text(field[1])


def _text(value: bytes) -> str:
    """As text; what is not UTF-8 goes on as Latin-1, in other bytes than it came."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


_known_field: Final = lru_cache(2048)(_field)
_known_header: Final = lru_cache(2048)(_header)
