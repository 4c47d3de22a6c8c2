"""Listeners over real sockets: raw bytes in, a handler that records the request value, raw bytes out.

The last part joins both ends, listener -> forwarder -> recording server, and compares byte for byte.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest

from proxy.errors import BodyTooLarge, InvalidRequest, RequestError
from proxy.listeners import http_body, http_connection
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.listeners.shared_listener import SharedListener
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.forward_http import HttpForwarder
from proxy.wire import Handler, Request, Response, collected
from tests.support.event_loops import on_each_loop
from tests.support.sockets import converse, raw_server, reset, saying, unused_port

event_loop_policy = on_each_loop()
MEBIBYTE = 1024 * 1024
CLOSE = b"Connection: close\r\n\r\n"


class Recorder:
    """A handler that keeps each request, its body collected, and answers as the test says."""

    def __init__(self, response: Response | None = None) -> None:
        self.response = response or Response(200, (("content-type", "text/plain"),), b"ok")
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(await collected(request, limit_bytes=100 * MEBIBYTE))
        return self.response


@asynccontextmanager
async def listening(handler: Handler, **options: Any) -> AsyncIterator[HttpListener]:
    listener = HttpListener(handler, "127.0.0.1", 0, **options)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(drain_seconds=5)


@asynccontextmanager
async def calling(handler: Handler) -> AsyncIterator[tuple[GrpcListener, Any]]:
    """A gRPC listener, and a raw client's channel to it."""
    listener = GrpcListener(handler, "127.0.0.1", 0)
    await listener.start()
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=options)
    try:
        yield listener, channel
    finally:
        await channel.close()
        await listener.stop(drain_seconds=5)


def head_and_body(answer: bytes) -> tuple[bytes, bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


# --- HTTP: the request value ----------------------------------------------------------------


async def test_the_request_is_given_as_it_was_sent() -> None:
    recorder = Recorder()
    async with listening(recorder) as listener:
        await converse(
            listener.port,
            b"PUT /collections/a%2Fb/%7epoints//x?wait=true&q=%20+ HTTP/1.1\r\nHost: h:1\r\nAPI-Key: s3cret\r\n"
            b"X-Twice: 1\r\nX-Twice: 2\r\nX-Empty:\r\nX-Text: caf\xc3\xa9\r\nContent-Length: 5\r\n"
            + CLOSE
            + b"\x00\xff[]}",
        )
    assert recorder.requests == [
        Request(
            transport="http",
            method="PUT",
            path="/collections/a%2Fb/%7epoints//x",
            query="wait=true&q=%20+",
            headers=(
                ("host", "h:1"),
                ("api-key", "s3cret"),
                ("x-twice", "1"),
                ("x-twice", "2"),
                ("x-empty", ""),
                ("x-text", "café"),
                ("content-length", "5"),
                ("connection", "close"),
            ),
            body=b"\x00\xff[]}",
            client="127.0.0.1",
        )
    ]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a?b?c=/d", "/a", "b?c=/d"),
        (b"/a/http://b", "/a/http://b", ""),
        (b"http://elsewhere:1/a%2Fb?q=1", "/a%2Fb", "q=1"),
        (b"http://elsewhere", "/", ""),
    ],
)
async def test_targets(target: bytes, path: str, query: str) -> None:
    recorder = Recorder()
    async with listening(recorder) as listener:
        await converse(listener.port, b"GET " + target + b" HTTP/1.1\r\nHost: h\r\n" + CLOSE)
    assert [(request.path, request.query) for request in recorder.requests] == [(path, query)]


async def test_a_body_that_came_with_its_head_is_bytes_and_none_is_empty() -> None:
    bodies: list[object] = []

    async def handler(request: Request) -> Response:
        bodies.append(request.body)
        return Response(200)

    async with listening(handler) as listener:
        await converse(listener.port, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n" + CLOSE + b"abc")
        await converse(listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
        await converse(listener.port, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n" + CLOSE)
    assert bodies == [b"abc", b"", b""]


async def test_chunked_bodies_with_extensions_and_trailers() -> None:
    recorder = Recorder()
    async with listening(recorder) as listener:
        await converse(
            listener.port,
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + CLOSE,
            b"3;ext=1\r\nabc\r\n",
            b"00004\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n",
        )
    assert recorder.requests[0].body == b"abcdefg"


async def test_a_compressed_body_is_not_unpacked() -> None:
    recorder = Recorder()
    async with listening(recorder) as listener:
        await converse(
            listener.port,
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n" + CLOSE + b"gzip",
        )
    assert recorder.requests[0].body == b"gzip"


async def test_a_large_body_streams_without_being_collected() -> None:
    """40 MB go through while the handler never holds more than a few of the listener's buffers."""
    largest = total = 0

    async def handler(request: Request) -> Response:
        nonlocal largest, total
        assert not isinstance(request.body, bytes)
        async for chunk in request.body:
            largest, total = max(largest, len(chunk)), total + len(chunk)
        return Response(200, (), str(total).encode())

    async with listening(handler) as listener:
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (40 * MEBIBYTE)
        answer = await converse(listener.port, head + CLOSE, *[bytes(MEBIBYTE)] * 40)
    assert head_and_body(answer)[1] == str(40 * MEBIBYTE).encode()
    assert largest <= 2 * MEBIBYTE


async def test_a_client_is_not_read_ahead_of_the_handler() -> None:
    """A handler that does not read holds the client back instead of filling memory."""
    proceed = asyncio.Event()

    async def handler(request: Request) -> Response:
        await proceed.wait()
        return Response(200, (), str(len((await collected(request, 100 * MEBIBYTE)).bytes)).encode())

    async with listening(handler) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (40 * MEBIBYTE) + CLOSE)
        writer.write(bytes(40 * MEBIBYTE))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await writer.drain()
        proceed.set()
        assert head_and_body(await reader.read())[1] == str(40 * MEBIBYTE).encode()
        writer.close()


async def test_a_body_that_nobody_reads_keeps_no_later_request_out() -> None:
    """Its end comes with what fills the room for what waits, so that it is whole, and the socket is not read."""
    bodies: list[Request] = []

    async def handler(request: Request) -> Response:
        bodies.append(request)
        if len(bodies) == 1:
            await asyncio.wait_for(whole.wait(), 5)
        return Response(200, (), b"ok")

    whole = asyncio.Event()
    size, last = http_body.WAITING_BYTES + 1000, 2000
    async with listening(handler) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + bytes(size - last))
        await writer.drain()
        [connection] = listener._open
        await _until(lambda: connection._body is not None and connection._body._waiting == size - last)
        writer.write(bytes(last))
        await _until(lambda: connection._body is not None and connection._body.ended)
        assert connection._paused
        whole.set()
        for _ in range(2):
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 5)).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.close()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.005)


async def test_expect_continue_is_granted_when_the_body_is_read() -> None:
    recorder = Recorder()
    async with listening(recorder) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" + CLOSE)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
    assert recorder.requests[0].body == b"abc"


async def test_a_body_over_the_limit_of_the_listener_stops_its_stream() -> None:
    async def handler(request: Request) -> Response:
        try:
            await collected(request, limit_bytes=100 * MEBIBYTE)
        except BodyTooLarge as error:
            return Response(413, (), str(error.limit_bytes).encode())
        return Response(200)

    async with listening(handler, max_body_bytes=MEBIBYTE) as listener:
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (2 * MEBIBYTE)
        answer = await converse(listener.port, head + CLOSE, bytes(2 * MEBIBYTE))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert head_and_body(answer)[1] == str(MEBIBYTE).encode()


# --- HTTP: the response ---------------------------------------------------------------------


async def test_the_answer_is_written_as_given() -> None:
    response = Response(
        418,
        (("x-b", "2"), ("content-type", "application/json"), ("x-b", "1"), ("x-text", "café"), ("server", "theirs")),
        b'{"a":1}',
        message="Short and Stout",
    )
    async with listening(Recorder(response)) as listener:
        answer = await converse(
            listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n" + CLOSE
        )
    lines = (
        b"HTTP/1.1 418 Short and Stout\r\nx-b: 2\r\ncontent-type: application/json\r\nx-b: 1\r\nx-text: caf\xc3\xa9\r\n"
        b"server: theirs\r\n"
    )
    end = b'content-length: 7\r\n\r\n{"a":1}'
    assert answer == lines + end + lines + b"connection: close\r\n" + end


async def test_an_answer_of_no_headers_gets_none() -> None:
    async with listening(Recorder(Response(200, (), b"x"))) as listener:
        answer = await converse(listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
    assert answer == b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"


@pytest.mark.parametrize(
    ("method", "response", "expected"),
    [
        (b"HEAD", Response(200, (("content-length", "99"),)), b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"),
        (
            b"GET",
            Response(304, (("content-length", "99"),)),
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\n\r\n",
        ),
        (b"DELETE", Response(204), b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_answers_without_a_body(method: bytes, response: Response, expected: bytes) -> None:
    async with listening(Recorder(response)) as listener:
        request = method + b" / HTTP/1.1\r\nHost: h\r\n"
        answer = await converse(listener.port, request + b"\r\n", request + CLOSE)
    closing = expected.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    status, _, rest = expected.partition(b"\r\n")
    assert answer in (expected + closing, expected + status + b"\r\n" + rest[:-2] + b"connection: close\r\n\r\n")


async def test_a_stream_is_chunked_or_of_the_length_it_states() -> None:
    async def handler(request: Request) -> Response:
        headers = (("content-length", "6"),) if request.path == "/known" else ()
        return Response(200, headers, stream(b"abc", b"", b"def"))

    async with listening(handler) as listener:
        known = await converse(listener.port, b"GET /known HTTP/1.1\r\nHost: h\r\n" + CLOSE)
        unknown = await converse(listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
        old = await converse(listener.port, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert head_and_body(known)[1] == b"abcdef"
    assert b"chunked" not in known
    assert b"transfer-encoding: chunked" in unknown
    assert head_and_body(unknown)[1] == b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    assert head_and_body(old)[1] == b"abcdef"  # ends with the connection


@pytest.mark.parametrize("headers", [(), (("content-length", "10"),)])
async def test_a_stream_that_fails_is_never_taken_for_complete(headers: tuple[tuple[str, str], ...]) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise RuntimeError("the store broke off")

    async def handler(_: Request) -> Response:
        return Response(200, headers, failing())

    async with listening(handler) as listener, httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://127.0.0.1:{listener.port}/")


async def test_a_stream_that_fails_resets_a_connection_whose_end_would_mean_success() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise RuntimeError("the store broke off")

    async def handler(_: Request) -> Response:
        return Response(200, (), failing())

    async with listening(handler) as listener:
        with pytest.raises(ConnectionResetError):
            await converse(listener.port, b"GET / HTTP/1.0\r\n\r\n")


async def test_a_stream_is_closed_when_the_client_leaves() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(MEBIBYTE)
        finally:
            closed.set()

    async def handler(_: Request) -> Response:
        return Response(200, (), endless())

    async with listening(handler) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readexactly(1000)
        reset(writer)
        await asyncio.wait_for(closed.wait(), 10)


async def test_a_handler_that_raises_is_answered_neutrally_and_the_connection_lives() -> None:
    async def handler(request: Request) -> Response:
        if request.path == "/bad":
            raise RuntimeError("secret detail")
        return Response(200, (), b"fine")

    async with (
        listening(handler) as listener,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.port}") as client,
    ):
        bad = await client.get("/bad")
        assert (bad.status_code, bad.headers["content-type"]) == (500, "text/plain; charset=utf-8")
        assert "secret" not in bad.text
        assert (await client.get("/")).text == "fine"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"NOT HTTP AT ALL\r\n\r\n", b"400 Bad Request"),
        ("GET /中 HTTP/1.1\r\nHost: h\r\n\r\n".encode(), b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX-Latin: caf\xe9\r\n" + CLOSE, b"400 Bad Request"),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nX-Long: " + b"x" * 100_000 + b"\r\n" + CLOSE,
            b"431 Request Header Fields Too Large",
        ),
    ],
    ids=["no HTTP", "target", "length", "Latin-1", "long"],
)
async def test_what_cannot_be_passed_on_is_refused_neutrally(sent: bytes, status: bytes) -> None:
    recorder = Recorder()
    async with listening(recorder) as listener:
        answer = await converse(listener.port, sent)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"server:" not in answer.lower()
    assert recorder.requests == []


async def test_an_answer_that_http_cannot_carry_is_not_sent() -> None:
    """A value with a line end would become a header of its own."""
    async with listening(Recorder(Response(200, (("x-a", "1\r\nx-b: 2"),), b"ok"))) as listener:
        answer = await converse(listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"x-b" not in answer


# --- HTTP: what comes when, and who waits for whom -------------------------------------------


async def said(request: Request) -> Response:
    body = (await collected(request, limit_bytes=100 * MEBIBYTE)).bytes
    return Response(200, (), request.path.encode() + b" " + body)


@pytest.mark.parametrize("step", [1, 2, 7, 64])
async def test_requests_are_answered_in_their_order_however_their_bytes_come(step: int) -> None:
    sent = (
        b"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
        b"PUT /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"
        b"GET /3 HTTP/1.1\r\nHost: h\r\n" + CLOSE
    )
    async with listening(said) as listener:
        answer = await converse(listener.port, *(sent[at : at + step] for at in range(0, len(sent), step)))
    assert [part.partition(b"HTTP/1.1")[0] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/1 abc", b"/2 def", b"/3 "]


async def test_what_comes_behind_a_request_waits_outside_until_that_is_answered() -> None:
    proceed, seen = asyncio.Event(), list[str]()

    async def handler(request: Request) -> Response:
        seen.append(request.path)
        await proceed.wait()
        return await said(request)

    async with listening(handler) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n")
        writer.write(b"PUT /2 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (20 * MEBIBYTE) + CLOSE)
        writer.write(bytes(20 * MEBIBYTE))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await writer.drain()
        assert seen == ["/1"]
        proceed.set()
        answer = await reader.read()
        writer.close()
    assert seen == ["/1", "/2"]
    assert answer.endswith(bytes(20 * MEBIBYTE))


async def test_a_client_that_sends_no_more_gets_its_answer() -> None:
    async def slow(request: Request) -> Response:
        await asyncio.sleep(0.2)
        return await said(request)

    async with listening(slow) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        writer.write_eof()
        assert (await reader.read()).endswith(b"connection: close\r\ncontent-length: 6\r\n\r\n/1 abc")
        writer.close()


@pytest.mark.parametrize("expecting", [b"", b"Expect: 100-continue\r\n"])
async def test_an_answer_before_the_body_is_read_gets_to_the_client(expecting: bytes) -> None:
    """Closed at once, the connection would be reset under it, for what the client still sends."""

    async def handler(_: Request) -> Response:
        return Response(401, (), b"who are you?")

    async with listening(handler) as listener:
        head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % (20 * MEBIBYTE) + expecting + b"\r\n"
        answer = await converse(listener.port, head, *([] if expecting else [bytes(MEBIBYTE)] * 20))
    assert answer == b"HTTP/1.1 401 Unauthorized\r\nconnection: close\r\ncontent-length: 12\r\n\r\nwho are you?"


async def test_an_answer_is_not_read_ahead_of_a_client_that_is_slow_to_take_it() -> None:
    given = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(100):
            given += 1
            yield bytes(MEBIBYTE)

    async def handler(_: Request) -> Response:
        return Response(200, (), large())

    async with listening(handler) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.5)
        assert given < 20  # what the system's own buffers take
        assert len(await reader.read()) > 100 * MEBIBYTE
        writer.close()


async def test_a_head_that_does_not_come_to_its_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "_HEAD_SECONDS", 0.2)
    async with listening(said) as listener:
        assert (await converse(listener.port, b"GET / HTTP/1.1\r\nHo")).startswith(b"HTTP/1.1 408 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        await asyncio.sleep(0.4)  # one that says nothing is left alone
        writer.write(b"GET /1 HTTP/1.1\r\nHost: h\r\n" + CLOSE)
        assert (await reader.read()).endswith(b"/1 ")
        writer.close()


async def test_a_body_that_does_not_come_to_its_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "SILENCE_SECONDS", 0.2)

    async def handler(request: Request) -> Response:
        try:
            return await said(request)
        except InvalidRequest as error:
            return Response(400, (), str(error).encode())

    async with listening(handler) as listener:
        answer = await converse(listener.port, b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
    assert b"connection: close" in answer
    assert b"nothing of it came for 0.2 s" in answer


# --- HTTP: clients that go, listeners that stop ---------------------------------------------


@pytest.mark.parametrize("leave", [lambda writer: writer.close(), reset])
async def test_a_client_that_leaves_does_not_cancel_its_handler(leave: Callable[[asyncio.StreamWriter], None]) -> None:
    begun, proceed, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/write":
            begun.set()
            await proceed.wait()
            ended.set()
        return Response(200)

    async with listening(handler) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT /write HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
        await begun.wait()
        leave(writer)
        await writer.wait_closed()
        # A whole exchange later the listener has long seen the other connection end.
        await converse(listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
        assert not ended.is_set()
        proceed.set()
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_client_that_leaves_in_its_body_ends_the_stream() -> None:
    outcome: asyncio.Future[RequestError] = asyncio.get_running_loop().create_future()
    begun = asyncio.Event()

    async def handler(request: Request) -> Response:
        begun.set()
        try:
            await collected(request, limit_bytes=MEBIBYTE)
        except RequestError as error:
            outcome.set_result(error)
        return Response(400)

    async with listening(handler) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc")  # a short one is awaited
        await asyncio.wait_for(begun.wait(), 10)
        writer.close()
        assert isinstance(await asyncio.wait_for(outcome, 10), InvalidRequest)


async def test_a_malformed_chunk_ends_the_stream_and_gets_one_answer() -> None:
    begun = asyncio.Event()

    async def handler(request: Request) -> Response:
        begun.set()
        try:
            await collected(request, limit_bytes=MEBIBYTE)
        except InvalidRequest:
            return Response(400, (("x-by", "handler"),), b"bad body")
        return Response(200)

    async with listening(handler) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await begun.wait()
        writer.write(b"not-a-size\r\nzzz\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.") == 1
    assert b"x-by: handler" in answer


async def test_stop_lets_requests_finish_and_accepts_no_more() -> None:
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        begun.set()
        await proceed.wait()
        body = (await collected(request, limit_bytes=MEBIBYTE)).bytes
        return Response(200, (), body)

    listener = HttpListener(handler, "127.0.0.1", 0)
    await listener.start()
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", listener.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await begun.wait()
    async with asyncio.TaskGroup() as tasks:
        stopping = tasks.create_task(listener.stop(drain_seconds=30))
        assert await idle_reader.read() == b""  # idle connections are closed at once
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"3\r\ndef\r\n0\r\n\r\n")  # the rest of a body under way is still read
        proceed.set()
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nconnection: close\r\n")
    assert head_and_body(answer)[1] == b"abcdef"
    assert stopping.done()
    writer.close()
    idle_writer.close()


async def test_stop_cuts_off_what_outlasts_the_drain() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(_: Request) -> Response:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    listener = HttpListener(handler, "127.0.0.1", 0)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await begun.wait()
    await listener.stop(drain_seconds=0.1)
    assert await reader.read() == b""
    await asyncio.wait_for(cancelled.wait(), 10)
    writer.close()


# --- HTTP and gRPC on one port ----------------------------------------------------------------


async def told_apart(request: Request) -> Response:
    return Response(200 if request.transport == "http" else 0, body=request.transport.encode())


def shared(handler: Handler) -> SharedListener:
    here = ("127.0.0.1", 0)
    return SharedListener(HttpListener(handler, *here), GrpcListener(handler, *here), *here)


async def test_http_and_grpc_are_told_apart_on_one_port() -> None:
    listener = shared(told_apart)
    await listener.start()
    address = f"127.0.0.1:{listener.port}"
    async with httpx.AsyncClient() as client, grpc.aio.insecure_channel(address) as channel:
        for _ in range(2):
            assert (await client.get(f"http://{address}/")).text == "http"
            assert await channel.unary_unary("/a.B/C")(b"") == b"grpc"
    await listener.stop(drain_seconds=5)


@pytest.mark.parametrize("first", [b"G", b"P", b"PR", b"PA"])
async def test_they_are_told_apart_however_few_bytes_come(first: bytes) -> None:
    rest = {b"G": b"ET", b"P": b"UT", b"PR": b"OPFIND", b"PA": b"TCH"}[first]
    listener = shared(told_apart)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(first)
    await asyncio.sleep(0.05)
    writer.write(rest + b" / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
    assert (await reader.read()).endswith(b"http")
    writer.close()
    await listener.stop(drain_seconds=5)


async def test_who_has_said_nothing_when_both_stop_may_still_send_a_request() -> None:
    listener = shared(told_apart)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    await asyncio.sleep(0.05)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.stop(drain_seconds=20))
        await asyncio.sleep(0.1)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.read()).endswith(b"http")
    writer.close()


async def test_a_port_in_use_is_an_error() -> None:
    async with listening(Recorder()) as listener:
        second = HttpListener(Recorder(), "127.0.0.1", listener.port)
        with pytest.raises(OSError):
            await second.start()
        third = GrpcListener(Recorder(), "127.0.0.1", listener.port)
        with pytest.raises(OSError):
            await third.start()


async def test_a_socket_is_taken_over_with_the_connections_that_wait_in_it() -> None:
    first, second = Recorder(), Recorder()
    async with listening(first) as old:
        assert old.socket is not None
        new = HttpListener(second, "127.0.0.1", old.port, sock=old.socket.dup())
        async with httpx.AsyncClient() as kept:
            assert (await kept.get(f"http://127.0.0.1:{old.port}/before")).text == "ok"
            waiting = socket.create_connection(("127.0.0.1", old.port))  # whoever accepts it answers
            stopping = asyncio.ensure_future(old.stop(drain_seconds=5, linger_seconds=5))  # noqa: TID251
            await new.start()
            answer = await kept.get(f"http://127.0.0.1:{old.port}/lingering")  # on the connection that it has
            assert answer.headers["connection"] == "close"
            waiting.sendall(b"GET /waiting HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            await stopping
        answered = await asyncio.to_thread(waiting.recv, 4096)
        assert answered.startswith(b"HTTP/1.1 200")
        waiting.close()
        await new.stop(drain_seconds=1)
    assert {request.path for request in first.requests} >= {"/before", "/lingering"}
    assert len(first.requests) + len(second.requests) == 3


async def test_a_grpc_socket_is_taken_over_while_it_listens() -> None:
    first, second = Recorder(Response(0, (), b"1")), Recorder(Response(0, (), b"2"))
    old = GrpcListener(first, "127.0.0.1", 0)
    await old.start()
    assert old.socket is not None
    new = GrpcListener(second, "127.0.0.1", 0, sock=old.socket.dup())
    await new.start()
    assert new.port == old.port
    await old.stop(drain_seconds=1)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{new.port}") as channel:
        assert await channel.unary_unary("/a/B")(b"") == b"2"
    await new.stop(drain_seconds=1)


async def test_clients_without_keep_alive() -> None:
    """qdrant-client does not keep connections to localhost: every call is a new one."""
    recorder = Recorder()
    limits = httpx.Limits(max_keepalive_connections=0)
    async with listening(recorder) as listener, httpx.AsyncClient(limits=limits) as client:
        for _ in range(20):
            assert (await client.get(f"http://127.0.0.1:{listener.port}/")).text == "ok"
    assert len(recorder.requests) == 20


# --- gRPC -----------------------------------------------------------------------------------


async def test_grpc_a_call_becomes_a_request_and_the_response_its_answer() -> None:
    recorder = Recorder(
        Response(
            0,
            (("x-initial", "i"), ("raw-bin", b"\x00\xff")),
            b"\x80reply",
            message="fine",
            trailers=(("x-trailing", "t"), ("more-bin", b"\xfe")),
        )
    )
    async with calling(recorder) as (_, channel):
        metadata = (("api-key", "secret"), ("x-twice", "1"), ("x-twice", "2"), ("trace-bin", b"\x01\xff"))
        call = channel.unary_unary("/any.Package/AnyMethod")(b"\x00message", metadata=metadata, timeout=30)
        assert await call == b"\x80reply"
        assert list(await call.initial_metadata()) == [("x-initial", "i"), ("raw-bin", b"\x00\xff")]
        assert list(await call.trailing_metadata()) == [("x-trailing", "t"), ("more-bin", b"\xfe")]
        assert await call.details() == "fine"
    (request,) = recorder.requests
    assert (request.transport, request.method, request.path) == ("grpc", "", "/any.Package/AnyMethod")
    assert request.body == b"\x00message"
    assert [entry for entry in request.headers if entry[0] != "user-agent"] == list(metadata)
    assert request.client == "127.0.0.1"
    assert request.timeout_seconds is not None
    assert 25 < request.timeout_seconds <= 31


async def test_grpc_no_deadline_is_none_and_health_is_a_method_like_any() -> None:
    recorder = Recorder(Response(0, (), b"\x08\x01"))
    async with calling(recorder) as (_, channel):
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
    assert recorder.requests[0].path == "/grpc.health.v1.Health/Check"
    assert recorder.requests[0].timeout_seconds is None


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_grpc_errors_carry_code_details_and_trailers(code: Any) -> None:
    response = Response(code.value[0], (("x-initial", "i"),), b"", "dimension ü wrong", (("retry-after", "1"),))
    async with calling(Recorder(response)) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/a/B")(b"")
    assert caught.value.code() is code
    assert caught.value.details() == "dimension ü wrong"
    assert tuple(caught.value.initial_metadata()) == (("x-initial", "i"),)
    assert tuple(caught.value.trailing_metadata()) == (("retry-after", "1"),)


async def test_grpc_large_messages_and_streamed_bodies() -> None:
    async def handler(request: Request) -> Response:
        assert isinstance(request.body, bytes)
        return Response(0, (), stream(request.body[:10], request.body[10:]))

    message = bytes(range(256)) * (20 * MEBIBYTE // 256)
    async with calling(handler) as (_, channel):
        assert await channel.unary_unary("/a/B")(message) == message


async def test_grpc_a_handler_that_raises_is_answered_neutrally() -> None:
    async def handler(_: Request) -> Response:
        raise RuntimeError("secret detail")

    async with calling(handler) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/a/B")(b"")
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in caught.value.details()


async def hang_up(call: Any) -> None:
    call.cancel()


async def run_out(call: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize(("leave", "timeout"), [(hang_up, None), (run_out, 0.5)])
async def test_grpc_a_client_that_leaves_does_not_cancel_its_handler(
    leave: Callable[[Any], Awaitable[None]], timeout: float | None
) -> None:
    begun, proceed, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/a/Write":
            begun.set()
            await proceed.wait()
            ended.set()
        return Response(0, (), b"")

    async with calling(handler) as (_, channel):
        call = channel.unary_unary("/a/Write")(b"", timeout=timeout)
        await begun.wait()
        await leave(call)
        await channel.unary_unary("/a/Read")(b"")  # on the same connection: the cancellation has arrived by now
        assert not ended.is_set()
        proceed.set()
        await asyncio.wait_for(ended.wait(), 10)


async def test_grpc_stop_waits_for_handlers_whose_clients_have_gone() -> None:
    begun, proceed, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(_: Request) -> Response:
        begun.set()
        await proceed.wait()
        ended.set()
        return Response(0)

    async with calling(handler) as (listener, channel):
        call = channel.unary_unary("/a/Write")(b"")
        await begun.wait()
        call.cancel()
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(listener.stop(drain_seconds=30))
            assert (await asyncio.wait({stopping}, timeout=0.3))[1], "stopped before the handler ended"
            proceed.set()
        assert ended.is_set()


async def test_grpc_stop_finishes_calls_under_way_and_cuts_off_the_rest() -> None:
    begun, proceed, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        begun.set()
        try:
            await (proceed if request.body == b"finish" else asyncio.Event()).wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response(0, (), b"done")

    async with calling(handler) as (listener, channel):
        call = channel.unary_unary("/a/B")(b"finish")
        await begun.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.stop(drain_seconds=30))
            proceed.set()
            assert await call == b"done"
    begun.clear()
    async with calling(handler) as (listener, channel):
        call = channel.unary_unary("/a/B")(b"never")
        await begun.wait()
        await listener.stop(drain_seconds=0.1)
        assert cancelled.is_set()


# --- both ends ------------------------------------------------------------------------------


async def test_http_round_trip_is_the_same_bytes() -> None:
    body = bytes(range(256)) * 300
    reply_body = bytes(reversed(range(256))) * 5000
    reply = (
        b'HTTP/1.1 207 Odd but Fine\r\ncontent-type: application/json\r\nx-odd: a,b;c="d"\r\nserver: actix\r\n'
        b"content-length: %d\r\n\r\n" % len(reply_body)
    ) + reply_body
    async with raw_server(saying(reply)) as server:
        forwarder = HttpForwarder(f"http://127.0.0.1:{server.port}")
        async with listening(forwarder.forward) as listener:
            head = (
                b"POST /c/%%2F%%7E/points?wait=true&x=%%20 HTTP/1.1\r\nhost: proxy\r\napi-key: k\r\n"
                b"accept-encoding: gzip\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            ) % len(body)
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(head + body)
            answer = await reader.readexactly(len(reply))
            writer.close()
        await forwarder.close()
    assert answer == reply
    (received,) = server.received
    assert received.target == b"/c/%2F%7E/points?wait=true&x=%20"
    assert received.headers == [
        (b"host", b"127.0.0.1:%d" % server.port),
        (b"api-key", b"k"),
        (b"accept-encoding", b"gzip"),
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
    ]
    assert received.body == body


async def test_http_round_trip_to_a_store_that_is_down_is_the_handlers_to_answer() -> None:
    forwarder = HttpForwarder(f"http://127.0.0.1:{unused_port()}")
    async with listening(forwarder.forward) as listener:
        answer = await converse(listener.port, b"GET / HTTP/1.1\r\nHost: h\r\n" + CLOSE)
    await forwarder.close()
    assert answer.startswith(b"HTTP/1.1 500 ")


async def test_http_round_trip_of_40_megabytes_both_ways() -> None:
    size = 40 * MEBIBYTE
    reply = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    async with raw_server(saying(reply + bytes(size))) as server:
        forwarder = HttpForwarder(f"http://127.0.0.1:{server.port}")
        async with listening(forwarder.forward) as listener:
            head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % size
            answer = await converse(listener.port, head + CLOSE, *[bytes(MEBIBYTE)] * 40)
        await forwarder.close()
    assert len(server.received[0].body) == size
    assert len(head_and_body(answer)[1]) == size


async def test_grpc_round_trip() -> None:
    upstream = Recorder(
        Response(0, (("x-initial", "i"),), b"\x80reply", "said", (("x-trailing", "t"), ("m-bin", b"\xfe")))
    )
    async with calling(upstream) as (far, _):
        forwarder = GrpcForwarder(f"127.0.0.1:{far.port}")
        async with calling(forwarder.forward) as (_, channel):
            call = channel.unary_unary("/a.B/C")(b"\x00", metadata=(("api-key", "k"), ("t-bin", b"\xff")), timeout=20)
            assert await call == b"\x80reply"
            assert list(await call.initial_metadata()) == [("x-initial", "i")]
            assert list(await call.trailing_metadata()) == [("x-trailing", "t"), ("m-bin", b"\xfe")]
        await forwarder.close()
    (request,) = upstream.requests
    assert (request.path, request.body) == ("/a.B/C", b"\x00")
    assert [entry for entry in request.headers if entry[0] != "user-agent"] == [("api-key", "k"), ("t-bin", b"\xff")]
    assert request.timeout_seconds is not None
    assert request.timeout_seconds <= 21


async def test_a_large_answer_that_is_being_written_when_the_listener_stops_arrives_whole() -> None:
    """Nothing may be written between its parts, however slowly the client reads."""
    answer = bytes(24 * MEBIBYTE)
    asked = asyncio.Semaphore(0)

    async def handler(_: Request) -> Response:
        asked.release()
        return Response(0, (), answer)

    options = (
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", -1),
    )
    for round_ in range(6):
        listener = GrpcListener(handler, "127.0.0.1", 0)
        await listener.start()
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", options=options) for _ in range(4)]
        async with asyncio.TaskGroup() as tasks:
            calling = [tasks.create_task(_called(channel)) for channel in channels]
            for _ in channels:
                await asked.acquire()
            await asyncio.sleep(0.01 * round_)
            stopping = tasks.create_task(listener.stop(drain_seconds=30))
        stopping.result()
        assert [each.result() for each in calling] == [len(answer)] * len(channels)
        await asyncio.gather(*(channel.close() for channel in channels))


async def _called(channel: Any) -> int:
    return len(await channel.unary_unary("/a/B")(b""))
