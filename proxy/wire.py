"""The seam between listeners and everything behind them: a request value and a response value.

A listener makes a `Request` out of what its transport read and gets a `Response` back; no
object of a web or gRPC framework crosses this line, so a listener can be replaced without
anybody noticing.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import Any, Literal, Protocol

import msgspec
from msgspec import structs

from proxy.errors import BodyTooLarge

Headers = tuple[tuple[str, str | bytes], ...]  # lower-case names in order; values are bytes for "-bin" metadata
Body = bytes | AsyncIterator[bytes]
Transport = Literal["http", "grpc"]
Access = Literal["unchecked", "checked", "open"]


@dataclass(slots=True, eq=False)
class Caller:
    """Whoever waits for an answer. The listener says when it has left; whoever works for it says whether the work may
    be given up then: a read may, a write never is, half way."""

    has_left: bool = False
    _work: asyncio.Task[Any] | None = None

    def may_leave(self) -> None:
        """From here on the task that calls this is cancelled when the caller leaves."""
        self._work = asyncio.current_task()
        if self.has_left:
            self.leave()

    def leave(self) -> None:
        self.has_left = True
        work, self._work = self._work, None  # or the task, by what it ended with, would hold itself
        if work is not None:
            work.cancel()


class Request(msgspec.Struct, frozen=True, eq=False):
    """One request of a client.

    `path` is as sent, percent-encoding included (HTTP), or the full method "/package.Service/Method"
    (gRPC). `query` has no "?". `timeout_seconds` is what the client still grants (grpc-timeout), if it said.
    `access` is how the client's key stood when the request was admitted, whatever a reload says since: the proxy has
    `checked` it, it is `unchecked` (only the source can tell), or the door is `open` to anybody. `draw` is a chance in
    [0, 1) by which all is decided that is left to chance, so that it is decided once. `caller` is None where nobody
    tells whether it still waits.
    """

    transport: Transport
    method: str  # HTTP verb in upper case; "" for gRPC
    path: str
    headers: Headers = ()
    body: Body = b""
    query: str = ""
    client: str = ""  # the peer's address
    timeout_seconds: float | None = None
    access: Access = "unchecked"
    draw: float = msgspec.field(default_factory=random)
    caller: Caller | None = None

    def __eq__(self, other: object) -> bool:
        """Whether they ask the same, whatever was drawn for them and whoever waits."""
        if not isinstance(other, Request):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _ASKED)

    def header(self, name: str) -> str | None:
        """The first value of a header or metadata entry, `name` in lower case."""
        for key, value in self.headers:
            if key == name:
                return value if isinstance(value, str) else value.decode("latin-1")
        return None

    @property
    def bytes(self) -> bytes:
        """The collected body; only after `collected`."""
        if not isinstance(self.body, bytes):
            raise TypeError("the body is still a stream; collect it first")
        return self.body


_ASKED = tuple(name for name in Request.__struct_fields__ if name not in ("draw", "caller"))


class Response(msgspec.Struct, frozen=True):
    """`status` is the HTTP status, or the gRPC status code (0 is OK) with `message` and `trailers`."""

    status: int
    headers: Headers = ()
    body: Body = b""
    message: str = ""
    trailers: Headers = ()

    def with_headers(self, *more: tuple[str, str | bytes]) -> Response:
        return structs.replace(self, headers=self.headers + more)


Handler = Callable[[Request], Awaitable[Response]]


# --- the fast path: requests that pass without a task of their own -------------------------


@dataclass(slots=True, eq=False)
class AnswerHead:
    """A `Response` without its body; one object for all answers that begin with the same bytes. `written` is what the
    listener has made of it, if that is of use for the next one."""

    status: int
    headers: Headers
    message: str = ""
    trailers: Headers = ()
    written: bytes = b""

    def with_body(self, body: Body) -> Response:
        return Response(self.status, self.headers, body, self.message, self.trailers)


Answer = Callable[[AnswerHead, Body], None]
GiveUp = Callable[[], None]


class PassThrough(Protocol):
    """Stands beside a `Handler`, and is asked first."""

    def begin(
        self, key: bytes | None, body: bytes, draw: float, request: Callable[[], Request], answer: Answer
    ) -> GiveUp | None:
        """Begin to answer the request that `request` makes (with that body and draw), and tell `answer` in a later turn
        of the loop, once; the call that comes back gives it up: nobody waits any more. None: it is the handler's.

        `key`: the same for all requests of the same head, None if the listener knows none."""
        ...


def close_body(body: AsyncIterator[bytes]) -> None:
    """Nobody reads it any more: one that holds a connection gives it back. (Not `aclose`: what has to be awaited in a
    `finally` is not safe once it is compiled, see tests/unit/test_compiled.py.)"""
    close = getattr(body, "close", None)
    if close is not None:
        close()


async def collected(request: Request, limit_bytes: int) -> Request:
    """The same request with its body in memory. Raises BodyTooLarge past `limit_bytes`."""
    if isinstance(request.body, bytes):
        if len(request.body) > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return request
    if (whole := getattr(request.body, "collected", None)) is not None:
        return structs.replace(request, body=await whole(limit_bytes))
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.body:
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        chunks.append(chunk)
    return structs.replace(request, body=b"".join(chunks))


# --- bodies that this program reads on their way through -----------------------------------
# Servers compress if clients let them (RFC 9110, 8.4 and 12.5.3). What is passed on stays as it is; whoever looks into
# an answer asks for it in a coding that `plain` can undo.

_UNDONE = frozenset({"gzip", "x-gzip", "deflate", "identity"})


def readable(request: Request) -> Request:
    """The same request, asking for no coding of the answer that `plain` cannot undo."""
    if request.header("accept-encoding") is None:
        return request
    headers = tuple(
        (name, _only_undone(value) if name == "accept-encoding" and isinstance(value, str) else value)
        for name, value in request.headers
    )
    return request if headers == request.headers else structs.replace(request, headers=headers)


def plain(response: Response) -> Response:
    """The same answer with its body uncompressed, to read and not to pass on. A body that cannot be undone is empty;
    one that is still a stream stays one."""
    codings = [
        coding.strip().lower()
        for name, value in response.headers
        if name == "content-encoding" and isinstance(value, str)
        for coding in value.split(",")
    ]
    if not codings or not isinstance(response.body, bytes):
        return response
    body = response.body
    for coding in reversed(codings):
        body = _undo(coding, body)
    headers = tuple(entry for entry in response.headers if entry[0] not in ("content-encoding", "content-length"))
    return structs.replace(response, headers=headers, body=body)


def _only_undone(accepted: str) -> str:
    kept = [item.strip() for item in accepted.split(",") if item.partition(";")[0].strip().lower() in _UNDONE]
    return ", ".join(kept) or "identity"


def _undo(coding: str, body: bytes) -> bytes:
    try:
        match coding:
            case "identity":
                return body
            case "gzip" | "x-gzip":
                return zlib.decompress(body, wbits=31)
            case "deflate":  # as specified, or without its frame, as some servers send it
                return zlib.decompress(body, wbits=15 if body[:1] and body[0] & 0x0F == 8 else -15)
            case _:
                return b""
    except zlib.error:
        return b""
