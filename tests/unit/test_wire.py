"""The seam's values: headers, collected bodies, and reading an answer that is passed on compressed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from proxy.errors import BodyTooLarge
from proxy.wire import Request, Response, collected, plain, readable

TEXT = b'{"result":{"status":"completed"}}' * 10


def compressed(body: bytes, coding: str) -> Response:
    return Response(200, (("content-type", "application/json"), ("content-encoding", coding)), body)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_a_header_is_found_by_its_first_value() -> None:
    request = Request("grpc", "", "/a/B", headers=(("x", "1"), ("x", "2"), ("t-bin", b"\xff")))
    assert (request.header("x"), request.header("t-bin"), request.header("y")) == ("1", "ÿ", None)


async def test_collecting_a_body() -> None:
    request = await collected(Request("http", "PUT", "/", body=stream(b"ab", b"", b"c")), limit_bytes=3)
    assert request.bytes == b"abc"
    for body in (b"abcd", stream(b"ab", b"cd")):
        with pytest.raises(BodyTooLarge, match="larger than 3 bytes"):
            await collected(Request("http", "PUT", "/", body=body), limit_bytes=3)
    with pytest.raises(TypeError, match="collect it first"):
        _ = Request("http", "PUT", "/", body=stream()).bytes


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("X-GZIP", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT, wbits=-15)),
        ("identity", TEXT),
        ("deflate, gzip", gzip.compress(zlib.compress(TEXT), mtime=0)),
    ],
)
def test_plain_undoes_the_coding(coding: str, body: bytes) -> None:
    response = compressed(body, coding)
    assert plain(response) == Response(200, (("content-type", "application/json"),), TEXT)
    assert response.body == body  # what is passed on stays as it is


def test_plain_leaves_alone_what_is_not_compressed_or_not_there() -> None:
    as_it_is = Response(200, (("content-length", str(len(TEXT))),), TEXT)
    assert plain(as_it_is) is as_it_is
    streamed = Response(200, (("content-encoding", "gzip"),), stream(b"x"))
    assert plain(streamed) is streamed


@pytest.mark.parametrize(
    ("coding", "body"), [("br", b"\x0b\x02"), ("gzip", b"no gzip"), ("deflate", b"\xff\xff"), ("deflate", b"")]
)
def test_plain_gives_nothing_where_it_cannot_read(coding: str, body: bytes) -> None:
    assert plain(compressed(body, coding)).body == b""


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip;q=0.8"),
        ("br", "identity"),
        ("", "identity"),
        ("gzip, deflate", "gzip, deflate"),
    ],
)
def test_readable_asks_for_what_plain_undoes(accepted: str, asked: str) -> None:
    request = Request("http", "GET", "/", headers=(("a", "b"), ("accept-encoding", accepted)))
    assert readable(request).headers == (("a", "b"), ("accept-encoding", asked))
    assert (readable(request) is request) is (accepted == asked)


def test_readable_adds_nothing() -> None:
    request = Request("http", "GET", "/", headers=(("a", "b"),))
    assert readable(request) is request
