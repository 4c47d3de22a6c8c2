"""Passes HTTP requests on to a server of the client's own vendor, byte for byte.

Kept as they are: method, raw path and query (percent-encoding included), body, status, and every header
that is not hop-by-hop (RFC 9110, section 7.6.1). `Host` becomes the store's. Nothing is decompressed, no
redirect is followed, no cookie is kept, and the key travels as the request has it (`own_key.py` may have put another
one there than the client's).

Rules of the file:

- **A request is sent once.** The HTTP library would repeat PUT, DELETE and GET on a kept-alive connection
  that turns out to be closed; the server may have done the first one. `_once` turns every failure into our
  own error below the library's retry loop, which therefore never sees one that it knows how to repeat.
- **Certainly not sent** (no address, refused, no connection in time) is `Unavailable`; everything after
  that without an answer is `Unclear`, and its connection is closed, never used again.
- Time counts as silence of the store: it starts when the request is handed over, and stands still while
  the client is slow to send its own body.
- Idle connections are dropped before the server would drop them (Qdrant's HTTP server does so after 5 s,
  actix-web's default), so that a write rarely meets a connection that is being closed.

Whether to try again is the pipeline's decision, not made here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable

import aiohttp
from aiohttp.client_middlewares import ClientHandlerType
from yarl import URL

from proxy.errors import InvalidRequest, Unavailable, Unclear
from proxy.stores.forward_http_bodies import SLICE_BYTES, Download, Silence, Upload, told
from proxy.wire import Headers, Request, Response

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# `expect` is answered by the listener, before the body is read.
_NOT_FORWARDED = HOP_BY_HOP | {"host", "expect", "http2-settings"}
_NO_ADDED_HEADERS = ("user-agent", "accept", "accept-encoding", "content-type")
_BODILESS_STATUS = frozenset({204, 304})
_HEADER_LIMIT_BYTES = 64 * 1024


class HttpForwarder:
    """A `Forwarder` to one HTTP server. Make it inside the running event loop.

    url: "http://host:port" or "https://...", with or without a path prefix.
    timeout_seconds: longest silence of the store, before and within its answer.
    connect_seconds: longest wait for a connection (at most half of `timeout_seconds`).
    keepalive_seconds: how long an idle connection is kept.
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
        self._base = URL(url)
        self._prefix = self._base.raw_path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._collect_bytes = collect_bytes
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=max_connections, keepalive_timeout=keepalive_seconds, ssl=tls if tls is not None else True
            ),
            timeout=aiohttp.ClientTimeout(total=None, connect=min(connect_seconds, timeout_seconds / 2)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NO_ADDED_HEADERS,
            read_bufsize=SLICE_BYTES,
            max_line_size=_HEADER_LIMIT_BYTES,
            max_field_size=_HEADER_LIMIT_BYTES,
            middlewares=(self._once,),
        )

    async def forward(self, request: Request) -> Response:
        """The server's own answer. Raises Unavailable or Unclear; InvalidRequest for a path that is none; and
        whatever RequestError the body's stream raised, in which case the server got only part of the request."""
        target = self._target(request)
        silence = Silence(self._timeout_seconds)
        upload = Upload(request.body, silence)
        try:
            async with asyncio.timeout(self._timeout_seconds) as silence.timeout:
                answer = await self._session.request(
                    request.method, target, headers=self._headers(request), data=upload.data, allow_redirects=False
                )
                return await self._response(request, answer, silence)
        except TimeoutError as error:
            raise Unclear(
                f"{self._base.origin()} was silent for {self._timeout_seconds} s; it may still do the work"
            ) from error
        except Unclear:
            if upload.failure is not None:
                raise upload.failure from None
            raise
        finally:
            silence.timeout = None

    async def close(self) -> None:
        """Close every connection; requests under way end as Unclear."""
        await self._session.close()

    def _target(self, request: Request) -> URL:
        if not request.path.startswith("/"):
            raise InvalidRequest(f"request target {request.path!r} is not a path; it must begin with '/'")
        return URL.build(
            scheme=self._base.scheme,
            host=self._base.raw_host or "",
            port=self._base.port,
            path=self._prefix + request.path,
            query_string=request.query,
            encoded=True,
        )

    def _headers(self, request: Request) -> list[tuple[str, str]]:
        dropped = _NOT_FORWARDED | _named_by_connection(request.headers)
        if isinstance(request.body, bytes):
            dropped |= {"content-length"}  # stated anew: the body may have been rewritten on its way here
        kept = [(name, _text(value)) for name, value in request.headers if name not in dropped]
        if isinstance(request.body, bytes) and len(request.body) > SLICE_BYTES:
            kept.append(("content-length", str(len(request.body))))
        return kept

    async def _once(self, request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        try:
            return await send(request)
        except (
            aiohttp.ClientConnectorError,
            aiohttp.ClientConnectorCertificateError,
            aiohttp.ConnectionTimeoutError,
        ) as error:
            raise Unavailable(
                f"{self._base.origin()} takes no connections ({error}); check that the store runs and is reachable"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unclear(f"{self._base.origin()} gave no answer ({told(error)}); it may have done the work") from error

    async def _response(self, request: Request, answer: aiohttp.ClientResponse, silence: Silence) -> Response:
        headers = _received(answer.raw_headers)
        body: bytes | AsyncIterator[bytes]
        if request.method == "HEAD" or answer.status in _BODILESS_STATUS:
            answer.release()
            body = b""
        else:
            body = await self._download(answer, _length(headers), silence)
        return Response(answer.status, headers, body, message=answer.reason or "")

    async def _download(
        self, answer: aiohttp.ClientResponse, length: int | None, silence: Silence
    ) -> bytes | AsyncIterator[bytes]:
        body = Download(answer, self._timeout_seconds)
        if length is not None and length > self._collect_bytes:
            return body
        start: list[bytes] = []
        size = 0
        silence.begin()
        while size <= self._collect_bytes:
            chunk = await body.read()
            if not chunk:
                return b"".join(start)
            silence.begin()
            start.append(chunk)
            size += len(chunk)
        body.put_back(start)
        return body


def _named_by_connection(headers: Iterable[tuple[str, str | bytes]]) -> frozenset[str]:
    """Headers that the `Connection` header declares to be for this hop only."""
    return frozenset(
        word.strip().lower() for name, value in headers if name == "connection" for word in _text(value).split(",")
    )


def _received(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    headers = tuple((name.decode("latin-1").lower(), _header_text(value)) for name, value in raw)
    dropped = HOP_BY_HOP | _named_by_connection(headers)
    return tuple(entry for entry in headers if entry[0] not in dropped)


def _header_text(value: bytes) -> str:
    """A header's value. The library writes text as UTF-8, so only what is UTF-8 comes out as it went in."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == "content-length" and isinstance(value, str) and value.isdigit():
            return int(value)
    return None


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
