"""The head of an HTTP/1.1 answer, for a `wire.Response`.

Status, headers and body are written as given. Only what frames the message (`connection`, `transfer-encoding`,
`content-length` of a body in memory) is this file's.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from proxy.protocols.http1_fields import Field
from proxy.protocols.http1_head import RequestHead
from proxy.protocols.http1_write import response_bytes
from proxy.wire import Response

_FRAMING: Final = frozenset({"connection", "keep-alive", "transfer-encoding"})
_BODILESS: Final = frozenset({204, 304})


class Framing(NamedTuple):
    """`head`: its bytes. `chunked`: how a stream is written; one that is neither chunked nor of a stated length
    `ends_with_connection`."""

    head: bytes
    has_body: bool
    chunked: bool = False
    ends_with_connection: bool = False


def head_of(response: Response, request: RequestHead | None, *, closing: bool) -> Framing:
    """`request` is what it answers; None if that could not be read. Raises Http1Error for what cannot be written."""
    modern = request is None or request.version != b"1.0"
    has_body = response.status not in _BODILESS and (request is None or request.method != b"HEAD")
    sized = chunked = False
    fields: list[Field] = []
    for name, value in response.headers:
        if name in _FRAMING:
            continue
        if name == "content-length":
            if has_body and isinstance(response.body, bytes):
                continue
            sized = True
        fields.append((name.encode(), value if isinstance(value, bytes) else value.encode()))
    stream = has_body and not isinstance(response.body, bytes)
    unsized = stream and not sized
    if closing or (unsized and not modern):
        fields.append((b"connection", b"close"))
    elif not modern:
        fields.append((b"connection", b"keep-alive"))
    if unsized and modern:
        chunked = True
        fields.append((b"transfer-encoding", b"chunked"))
    if has_body and isinstance(response.body, bytes):
        fields.append((b"content-length", b"%d" % len(response.body)))
    reason = response.message.encode() if response.message else _phrase(response.status)
    head = response_bytes(response.status, reason, fields)
    return Framing(head, has_body, chunked, unsized and not modern)


def neutral(status: HTTPStatus, text: str) -> Response:
    return Response(status.value, (("content-type", "text/plain; charset=utf-8"),), f"{text}\n".encode())


@lru_cache(64)
def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
