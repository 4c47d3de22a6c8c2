"""Forwarders against real sockets: what goes up and comes back is compared with the bytes themselves, and
every way in which a store can fail is told apart by whether the request can have reached it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from proxy.dialects.qdrant.access import with_key
from proxy.errors import InvalidRequest, Unavailable, Unclear
from proxy.protocols.grpc import timeout_block
from proxy.stores import Forwarder, forward_grpc
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.forward_http import HttpForwarder
from proxy.stores.http_upstream import HttpUpstream
from proxy.stores.own_key import OwnKeyForwarder
from proxy.wire import Headers, Request, Response, close_body
from tests.support.event_loops import on_each_loop
from tests.support.sockets import RawServer, Received, Script, raw_server, relay, reset, saying, unused_port

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
event_loop_policy = on_each_loop()
MEBIBYTE = 1024 * 1024


@asynccontextmanager
async def forwarding(script: Script, path: str = "", **options: Any) -> AsyncIterator[tuple[HttpForwarder, RawServer]]:
    async with raw_server(script) as server:
        forwarder = HttpForwarder(f"http://127.0.0.1:{server.port}{path}", **options)
        try:
            yield forwarder, server
        finally:
            await forwarder.close()


def http(method: str, path: str, **more: Any) -> Request:
    return Request("http", method, path, **more)


async def content(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


# --- HTTP: what goes up ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/collections/a%2Fb/points", "", b"/collections/a%2Fb/points"),
        ("/c/%7e%41/x", "wait=true&ordering=strong", b"/c/%7e%41/x?wait=true&ordering=strong"),
        ("//double//slash/../up/./here", "", b"//double//slash/../up/./here"),
        ("/c", "q=a+b%20c&&=&x=%2B;y", b"/c?q=a+b%20c&&=&x=%2B;y"),
        ("/%", "%zz", b"/%?%zz"),
    ],
)
async def test_path_and_query_travel_unchanged(path: str, query: str, target: bytes) -> None:
    async with forwarding(saying(OK)) as (forwarder, server):
        await forwarder.forward(http("GET", path, query=query))
    assert server.received[0].target == target


async def test_a_prefix_of_the_store_comes_first() -> None:
    async with forwarding(saying(OK), "/base/") as (forwarder, server):
        await forwarder.forward(http("GET", "/x%2Fy", query="a=1"))
    assert server.received[0].target == b"/base/x%2Fy?a=1"


async def test_only_headers_of_this_hop_are_dropped_and_none_added() -> None:
    sent = (
        ("host", "client-facing:1"),
        ("api-key", "secret"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("x-text", "caf\u00e9 \u4e2d"),
        ("x-empty", ""),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "for the proxy only"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("expect", "100-continue"),
        ("accept-encoding", "gzip"),
        ("cookie", "a=b"),
    )
    async with forwarding(saying(OK)) as (forwarder, server):
        await forwarder.forward(http("GET", "/", headers=sent))
    assert server.received[0].headers == [
        (b"host", f"127.0.0.1:{server.port}".encode()),
        (b"api-key", b"secret"),
        (b"x-twice", b"1"),
        (b"x-twice", b"2"),
        (b"x-text", "café 中".encode()),
        (b"x-empty", b""),
        (b"accept-encoding", b"gzip"),
        (b"cookie", b"a=b"),
    ]


SHOWN: Headers = (("api-key", "client's"), ("authorization", "Bearer client's"), ("x-other", "kept"))


async def test_a_key_of_the_store_replaces_one_that_the_proxy_has_checked_and_no_other() -> None:
    async with forwarding(saying(OK)) as (forwarder, server):
        keyed = OwnKeyForwarder(forwarder, "own", with_key)
        for access in ("checked", "unchecked", "open"):
            await keyed.forward(http("GET", "/", headers=SHOWN, access=access))
    carried = [[entry for entry in each.headers if entry[0] != b"host"] for each in server.received]
    as_sent = [(name.encode(), value.encode()) for name, value in SHOWN if isinstance(value, str)]
    assert carried == [[(b"x-other", b"kept"), (b"api-key", b"own")], as_sent, as_sent]


@pytest.mark.parametrize("size_bytes", [1, 70_000, 3 * MEBIBYTE + 7])
async def test_a_body_in_memory_arrives_with_its_length(size_bytes: int) -> None:
    body = bytes(range(256)) * (size_bytes // 256 + 1)
    body = body[:size_bytes]
    headers = (("content-type", "application/json"), ("content-length", "99"))
    async with forwarding(saying(OK)) as (forwarder, server):
        await forwarder.forward(http("PUT", "/p", headers=headers, body=body))
    assert server.received[0].body == body
    assert (b"content-length", str(size_bytes).encode()) in server.received[0].headers
    assert (b"content-type", b"application/json") in server.received[0].headers


async def test_a_stream_keeps_the_length_that_the_client_stated() -> None:
    async with forwarding(saying(OK)) as (forwarder, server):
        await forwarder.forward(
            http("POST", "/p", headers=(("content-length", "6"),), body=stream(b"abc", b"", b"def"))
        )
    assert server.received[0].body == b"abcdef"
    assert (b"content-length", b"6") in server.received[0].headers


async def test_a_stream_of_unknown_length_goes_up_chunked() -> None:
    async with forwarding(saying(OK)) as (forwarder, server):
        await forwarder.forward(http("POST", "/p", body=stream(b"abc", b"def")))
    assert server.received[0].body == b"abcdef"
    assert (b"transfer-encoding", b"chunked") in server.received[0].headers


async def test_a_compressed_body_stays_compressed() -> None:
    body = gzip.compress(b"x" * 1000)
    async with forwarding(saying(OK)) as (forwarder, server):
        await forwarder.forward(http("POST", "/p", headers=(("content-encoding", "gzip"),), body=body))
    assert server.received[0].body == body
    assert (b"content-encoding", b"gzip") in server.received[0].headers


@pytest.mark.parametrize(("path", "why"), [("*", "must begin with '/'"), ("/caf\u00e9", "visible ASCII")])
async def test_a_path_that_is_none_is_refused(path: str, why: str) -> None:
    async with forwarding(saying(OK)) as (forwarder, server):
        with pytest.raises(InvalidRequest, match=why):
            await forwarder.forward(http("OPTIONS", path))
    assert server.received == []


# --- HTTP: what comes back ------------------------------------------------------------------


async def test_status_headers_and_body_come_back_unchanged() -> None:
    packed = gzip.compress(b'{"result":1}')
    answer = (
        b"HTTP/1.1 429 Slow Down Please\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
        b"Retry-After: 3\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-T: caf\xc3\xa9\r\nKeep-Alive: timeout=5\r\n"
        b"Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nContent-Length: %d\r\n\r\n" % len(packed)
    ) + packed
    async with forwarding(saying(answer)) as (forwarder, _):
        response = await forwarder.forward(http("GET", "/"))
    assert response == Response(
        429,
        (
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
            ("retry-after", "3"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-t", "café"),
            ("content-length", str(len(packed))),
        ),
        packed,
        message="Slow Down Please",
    )


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\n\r\n"),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_leave_the_connection_usable(method: str, answer: bytes) -> None:
    async with forwarding(saying(answer)) as (forwarder, server):
        first = await forwarder.forward(http(method, "/"))
        second = await forwarder.forward(http(method, "/"))
    assert first.body == second.body == b""
    assert first.headers == ((("content-length", "1234"),) if method != "DELETE" else ())
    assert server.connections == 1


async def test_redirects_are_the_clients_business() -> None:
    answer = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with forwarding(saying(answer)) as (forwarder, server):
        response = await forwarder.forward(http("GET", "/"))
    assert (response.status, response.headers[0]) == (307, ("location", "/elsewhere"))
    assert len(server.received) == 1


async def test_cookies_of_the_store_are_not_kept() -> None:
    answer = b"HTTP/1.1 200 OK\r\nset-cookie: session=1\r\ncontent-length: 0\r\n\r\n"
    async with raw_server(saying(answer)) as server:
        forwarder = HttpForwarder(f"http://localhost:{server.port}")  # a name: cookies are not kept for addresses
        await forwarder.forward(http("GET", "/"))
        await forwarder.forward(http("GET", "/"))
        await forwarder.close()
    assert b"cookie" not in dict(server.received[1].headers)


@pytest.mark.parametrize("head", [b"content-length: 6", b"transfer-encoding: chunked"])
async def test_a_large_answer_is_passed_on_while_it_arrives(head: bytes) -> None:
    finish = asyncio.Event()
    chunked = b"chunked" in head

    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + (b"3\r\nabc\r\n" if chunked else b"abc"))
        await finish.wait()
        writer.write(b"3\r\ndef\r\n0\r\n\r\n" if chunked else b"def")

    async with forwarding(script, collect_bytes=2) as (forwarder, server):
        response = await forwarder.forward(http("GET", "/"))
        assert not isinstance(response.body, bytes)
        assert await anext(response.body) == b"abc"  # although the server has not finished
        finish.set()
        assert await content(response) == b"def"
        await forwarder.forward(http("GET", "/"))
        assert server.connections == 1  # read to its end, the connection is free again


async def test_a_small_answer_is_bytes_even_if_its_length_was_not_stated() -> None:
    """Servers that compress on the fly state none, and what answers a write has to be looked into."""

    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.write(b"3\r\ndef\r\n0\r\n\r\n")

    async with forwarding(script) as (forwarder, server):
        response = await forwarder.forward(http("GET", "/"))
        assert (response.headers, response.body) == ((), b"abcdef")
        await forwarder.forward(http("GET", "/"))
        assert server.connections == 1


@pytest.mark.parametrize("size_bytes", [MEBIBYTE // 2, MEBIBYTE])
async def test_an_answer_that_is_more_than_a_connection_holds_is_bytes_all_the_same(size_bytes: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size_bytes + b"x" * size_bytes
    async with forwarding(saying(answer), timeout_seconds=5) as (forwarder, server):
        for _ in range(2):
            assert (await forwarder.forward(http("GET", "/"))).body == b"x" * size_bytes
        assert server.connections == 1


@pytest.mark.parametrize("collect_bytes", [1, 100])
async def test_an_answer_that_falls_silent_is_unclear_and_its_connection_closed(collect_bytes: int) -> None:
    forever = asyncio.Event()

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == b"/fast":
            await saying(OK)(request, writer)
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            await forever.wait()

    async with forwarding(script, collect_bytes=collect_bytes, timeout_seconds=0.5) as (forwarder, server):
        with pytest.raises(Unclear, match=r"silent"):
            await content(await forwarder.forward(http("GET", "/slow")))
        await forwarder.forward(http("GET", "/fast"))
        assert server.connections == 2


async def test_an_answer_that_is_left_early_costs_its_connection() -> None:
    hanging = asyncio.Event()

    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\nabc")
        await hanging.wait()

    async with forwarding(script) as (forwarder, server):
        response = await forwarder.forward(http("GET", "/"))
        assert not isinstance(response.body, bytes)
        assert await anext(response.body) == b"abc"
        close_body(response.body)
        server.arrival.clear()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forwarder.forward(http("GET", "/")))
            await server.arrival.wait()
            assert server.connections == 2
            hanging.set()


async def test_an_answer_that_breaks_off_is_unclear() -> None:
    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        writer.close()

    async with forwarding(script) as (forwarder, _):
        with pytest.raises(Unclear, match="broke off"):
            await forwarder.forward(http("GET", "/"))
    async with forwarding(script, collect_bytes=1) as (forwarder, _):
        response = await forwarder.forward(http("GET", "/"))
        with pytest.raises(Unclear, match="broke off"):
            await content(response)


# --- HTTP: failures -------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable() -> None:
    forwarder = HttpForwarder(f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(Unavailable, match="takes no connections"):
        await forwarder.forward(http("PUT", "/", body=b"x"))
    await forwarder.close()


async def test_a_connection_that_is_lost_as_soon_as_it_is_made_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the server dies just then: nothing has been sent."""
    made = HttpUpstream.connection_made

    def lost(connection: HttpUpstream, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        connection.connection_lost(ConnectionResetError("reset by peer"))

    async with forwarding(saying(OK), max_connections=1) as (forwarder, server):
        with monkeypatch.context() as patched:
            patched.setattr(HttpUpstream, "connection_made", lost)
            with pytest.raises(Unavailable, match=r"takes no connections \(reset by peer\)"):
                await forwarder.forward(http("PUT", "/", body=b"x"))
        assert not server.received
        assert (await forwarder.forward(http("PUT", "/", body=b"x"))).status == 200  # in its place


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".invalid"])
async def test_an_unknown_name_is_unavailable(host: str) -> None:
    forwarder = HttpForwarder(f"http://{host}:6333")
    with pytest.raises(Unavailable, match="takes no connections"):
        await forwarder.forward(http("PUT", "/", body=b"x"))
    await forwarder.close()


async def test_a_server_that_speaks_no_tls_is_unavailable() -> None:
    async with raw_server(saying(OK)) as server:
        forwarder = HttpForwarder(f"https://127.0.0.1:{server.port}", timeout_seconds=5)

        async def plain(_: Received, writer: asyncio.StreamWriter) -> None:
            writer.close()

        server.script = plain
        with pytest.raises(Unavailable):
            await forwarder.forward(http("PUT", "/", body=b"x"))
        await forwarder.close()


def _closing(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.close()


def _resetting(_: Received, writer: asyncio.StreamWriter) -> None:
    reset(writer)


def _babbling(_: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"EHLO there\r\n\r\n")


@pytest.mark.parametrize("ending", [_closing, _resetting, _babbling])
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("PUT", b"point"), ("DELETE", b"")])
async def test_no_answer_on_a_used_connection_is_unclear_and_sent_once(
    ending: Callable[[Received, asyncio.StreamWriter], None], method: str, body: bytes
) -> None:
    """The trap: the library repeats these methods by itself when a kept-alive connection fails."""

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == b"/first":
            await saying(OK)(request, writer)
        else:
            ending(request, writer)

    async with forwarding(script) as (forwarder, server):
        await forwarder.forward(http("GET", "/first"))
        with pytest.raises(Unclear, match="gave no answer"):
            await forwarder.forward(http(method, "/second", body=body))
        # The next one needs a new connection; had the second been repeated, it would show here.
        await forwarder.forward(http("GET", "/first"))
    assert [request.target for request in server.received] == [b"/first", b"/second", b"/first"]
    assert [request.connection for request in server.received] == [1, 1, 2]


async def test_a_silent_server_is_unclear_and_its_connection_closed() -> None:
    gone = asyncio.Event()
    forever = asyncio.Event()

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == b"/slow":
            try:
                await forever.wait()
            finally:
                gone.set()
        await saying(OK)(request, writer)

    async with forwarding(script, timeout_seconds=0.5) as (forwarder, server):
        with pytest.raises(Unclear, match=r"silent for 0\.5 s"):
            await forwarder.forward(http("PUT", "/slow", body=b"x"))
        await forwarder.forward(http("GET", "/fast"))
        assert [request.connection for request in server.received] == [1, 2]
    assert gone.is_set()


async def test_a_slow_client_is_no_silence_of_the_store() -> None:
    """The client pauses for longer than the store may be silent. (Time is the subject, hence a timer.)"""
    loop = asyncio.get_running_loop()

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        pause = loop.create_future()
        loop.call_later(0.4, pause.set_result, None)
        await pause
        yield b"b"

    async with forwarding(saying(OK), timeout_seconds=0.2) as (forwarder, server):
        response = await forwarder.forward(http("PUT", "/", body=slow()))
    assert response.status == 200
    assert server.received[0].body == b"ab"


async def test_a_body_that_fails_is_the_clients_error_not_the_stores() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        raise InvalidRequest("the request ended before its body was complete")

    async with forwarding(saying(OK)) as (forwarder, server):
        with pytest.raises(InvalidRequest, match="ended before"):
            await forwarder.forward(http("PUT", "/", headers=(("content-length", "5000"),), body=failing()))
    assert server.received == []  # never a whole request


async def test_an_answer_before_the_end_of_the_body_is_an_answer() -> None:
    endless = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await endless.wait()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(early, "127.0.0.1", 0)
    forwarder = HttpForwarder(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    response = await forwarder.forward(http("PUT", "/", headers=(("content-length", "5000"),), body=body()))
    assert (response.status, response.body) == (413, b"big")
    await forwarder.close()
    listening.close()
    await listening.wait_closed()


async def test_a_connection_that_the_server_has_closed_is_not_used_again() -> None:
    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        await saying(OK)(request, writer)
        writer.close()

    async with forwarding(script) as (forwarder, server):
        for _ in range(20):
            assert (await forwarder.forward(http("PUT", "/", body=b"x"))).body == b"ok"
            await asyncio.sleep(0.01)
        assert server.connections == 20


async def test_an_idle_connection_is_closed_before_the_server_would() -> None:
    async with forwarding(saying(OK), keepalive_seconds=0.1) as (forwarder, server):
        await forwarder.forward(http("GET", "/"))
        await forwarder.forward(http("GET", "/"))
        assert server.connections == 1
        async with asyncio.timeout(10):
            await asyncio.gather(*server.served)
        await forwarder.forward(http("GET", "/"))
        assert server.connections == 2


async def test_requests_beyond_the_last_connection_wait_for_one_and_not_for_ever() -> None:
    proceed = asyncio.Event()

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        await proceed.wait()
        await saying(OK)(request, writer)

    async with forwarding(script, max_connections=1, connect_seconds=0.3) as (forwarder, server):
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(forwarder.forward(http("GET", "/1")))
            await server.arrival.wait()
            with pytest.raises(Unavailable, match="all connections are in use"):
                await forwarder.forward(http("PUT", "/2", body=b"x"))
            third = tasks.create_task(forwarder.forward(http("GET", "/3")))
            proceed.set()
        assert first.result().body == third.result().body == b"ok"
    assert [request.target for request in server.received] == [b"/1", b"/3"]
    assert server.connections == 1


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_answers_are_read_however_their_bytes_come(step: int) -> None:
    answer = (
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3;ext=1\r\nabc\r\n3\r\ndef\r\n0\r\nx-trailer: 1\r\n\r\n"
    )

    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(answer), step):
            writer.write(answer[at : at + step])
            await asyncio.sleep(0)

    async with forwarding(script) as (forwarder, server):
        for _ in range(3):
            response = await forwarder.forward(http("GET", "/"))
            assert (response.status, response.body) == (200, b"abcdef")
        assert server.connections == 1


async def test_what_comes_behind_an_answer_costs_its_connection() -> None:
    """It would be taken for the answer to the next request."""
    async with forwarding(saying(OK + OK)) as (forwarder, server):
        for _ in range(3):
            assert (await forwarder.forward(http("GET", "/"))).body == b"ok"
        assert server.connections == 3


async def test_closing_ends_what_is_under_way_as_unclear() -> None:
    working, forever = asyncio.Event(), asyncio.Event()

    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        working.set()
        await forever.wait()

    async with forwarding(script) as (forwarder, _):
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_raised(forwarder, http("PUT", "/", body=b"x")))
            await working.wait()
            await forwarder.close()
        assert isinstance(call.result(), Unclear)


@pytest.mark.parametrize("requests_before", [0, 1])
async def test_what_waits_for_a_connection_when_it_is_closed_is_not_sent(
    monkeypatch: pytest.MonkeyPatch, requests_before: int
) -> None:
    loop, connecting = asyncio.get_running_loop(), asyncio.Event()
    connect = loop.create_connection

    async def slowly(*arguments: Any, **options: Any) -> Any:
        connecting.set()
        await asyncio.sleep(0.05)
        return await connect(*arguments, **options)

    async with forwarding(saying(OK), keepalive_seconds=0) as (forwarder, server):
        for _ in range(requests_before):
            await forwarder.forward(http("GET", "/before"))
        monkeypatch.setattr(loop, "create_connection", slowly)
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_raised(forwarder, http("PUT", "/", body=b"x")))
            await connecting.wait()
            await forwarder.close()
        assert isinstance(call.result(), Unavailable)
    assert len(server.received) == requests_before


async def test_a_connection_whose_server_has_not_read_the_request_is_not_used_again() -> None:
    """It answered before: what was sent next would stand behind what it may never read."""
    forever = asyncio.Event()
    heads: list[bytes] = []

    async def answer_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await forever.wait()

    listening = await asyncio.start_server(answer_at_once, "127.0.0.1", 0)
    forwarder = HttpForwarder(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout_seconds=5)
    try:
        for path in ("/large", "/next"):
            body = b"x" * 30 * MEBIBYTE if path == "/large" else b"x"
            assert (await forwarder.forward(http("PUT", path, body=body))).status == 413
        assert heads == [b"/large", b"/next"]
    finally:
        await forwarder.close()
        listening.close()
        forever.set()


async def test_a_body_that_is_read_again_after_its_end_disturbs_nobody() -> None:
    proceed, size = asyncio.Event(), 2 * MEBIBYTE

    async def script(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.target == b"/large":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        else:
            await proceed.wait()
            await saying(OK)(request, writer)

    async with forwarding(script) as (forwarder, server):
        large = await forwarder.forward(http("GET", "/large"))
        assert len(await content(large)) == size
        async with asyncio.TaskGroup() as tasks:
            server.arrival.clear()
            call = tasks.create_task(forwarder.forward(http("GET", "/next")))
            await server.arrival.wait()
            assert await content(large) == b""
            proceed.set()
        assert call.result().body == b"ok"
        assert server.connections == 1


# --- gRPC -----------------------------------------------------------------------------------

Behaviour = Callable[[bytes, Any], Coroutine[Any, Any, bytes]]


class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]
    """A gRPC server's only handler: does what the test says, on the test's loop, with the bytes of any method."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.methods: list[str] = []
        self.metadata: list[tuple[tuple[str, str | bytes], ...]] = []
        self._loop = asyncio.get_running_loop()

    def service(self, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        self.metadata.append(tuple((key, value) for key, value in handler_call_details.invocation_metadata))
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, message: bytes, context: Any) -> bytes:
        call = asyncio.run_coroutine_threadsafe(self.behaviour(message, context), self._loop)
        if not context.add_callback(call.cancel):  # when the client goes, or the server stops; false if it has
            call.cancel()
        try:
            return call.result()
        except Refused as error:
            context.set_trailing_metadata(error.trailers)
            context.abort(error.code, error.message)
            raise


@dataclass
class Refused(Exception):
    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str], ...]


@asynccontextmanager
async def grpc_server(behaviour: Behaviour) -> AsyncIterator[tuple[int, AnyMethod]]:
    """Of the library's own threads: its asyncio form crashes now and then in a process with many event loops."""
    handler = AnyMethod(behaviour)
    options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0))
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, handlers=(handler,), options=options)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port, handler
        finally:
            await asyncio.to_thread(server.stop(0).wait)


@asynccontextmanager
async def grpc_forwarder(port: int, **options: Any) -> AsyncIterator[GrpcForwarder]:
    forwarder = GrpcForwarder(f"127.0.0.1:{port}", **options)
    try:
        yield forwarder
    finally:
        await forwarder.close()


def rpc(body: bytes = b"", **more: Any) -> Request:
    return Request("grpc", "", "/some.Service/Method", body=body, **more)


async def echo(message: bytes, context: Any) -> bytes:
    context.send_initial_metadata((("x-initial", "i"), ("raw-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-trailing", "t"), ("more-bin", b"\xfe")))
    return message


async def test_grpc_bytes_and_metadata_travel_both_ways() -> None:
    sent = (
        ("user-agent", "client/1"),
        ("te", "trailers"),
        ("grpc-accept-encoding", "gzip"),
        ("api-key", "secret"),
        ("x-twice", "1"),
        ("x-twice", "2"),
        ("trace-bin", b"\x00\x01\xff"),
    )
    async with grpc_server(echo) as (port, server), grpc_forwarder(port) as forwarder:
        response = await forwarder.forward(rpc(b"\x00\x80not protobuf", headers=sent))
    assert response == Response(
        0,
        (("x-initial", "i"), ("raw-bin", b"\x00\xff")),
        b"\x00\x80not protobuf",
        trailers=(("x-trailing", "t"), ("more-bin", b"\xfe")),
    )
    assert server.methods == ["/some.Service/Method"]
    own = [entry for entry in server.metadata[0] if entry[0] != "user-agent"]
    assert own == [("api-key", "secret"), ("x-twice", "1"), ("x-twice", "2"), ("trace-bin", b"\x00\x01\xff")]
    assert ("user-agent", "client/1") not in server.metadata[0]


async def test_grpc_a_key_of_the_store_replaces_one_that_the_proxy_has_checked_and_no_other() -> None:
    async with grpc_server(echo) as (port, server), grpc_forwarder(port) as forwarder:
        keyed = OwnKeyForwarder(forwarder, "own", with_key)
        for access in ("checked", "unchecked", "open"):
            await keyed.forward(rpc(headers=SHOWN, access=access))
    carried = [[entry for entry in each if entry[0] != "user-agent"] for each in server.metadata]
    assert carried == [[("x-other", "kept"), ("api-key", "own")], list(SHOWN), list(SHOWN)]


async def test_grpc_large_messages() -> None:
    body = bytes(20 * MEBIBYTE)
    async with grpc_server(echo) as (port, _), grpc_forwarder(port) as forwarder:
        response = await forwarder.forward(rpc(body))
    assert response.body == body


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
@pytest.mark.parametrize("initial", [True, False])
async def test_grpc_a_status_of_the_server_is_an_answer(code: Any, initial: bool) -> None:
    """Whatever its code: UNAVAILABLE and DEADLINE_EXCEEDED too, which the transport also makes up by itself."""

    async def refuse(_: bytes, context: Any) -> bytes:
        if initial:
            context.send_initial_metadata((("x-initial", "i"),))
        raise Refused(code, "failed to connect to all addresses, says the server: ü", (("retry-after", "3"),))

    async with grpc_server(refuse) as (port, _), grpc_forwarder(port) as forwarder:
        response = await forwarder.forward(rpc())
    assert (response.status, response.message) == (
        code.value[0],
        "failed to connect to all addresses, says the server: ü",
    )
    assert response.headers == ((("x-initial", "i"),) if initial else ())
    assert response.trailers == (("retry-after", "3"),)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "no-such-host.invalid:6334", "a..b:6334"])
async def test_grpc_no_connection_is_unavailable(address: str) -> None:
    forwarder = GrpcForwarder(address.format(port=unused_port()))
    with pytest.raises(Unavailable, match="takes no connections"):
        await forwarder.forward(rpc())
    await forwarder.close()


@pytest.mark.parametrize("initial", [True, False])
async def test_grpc_a_line_cut_while_the_server_works_is_unclear(initial: bool) -> None:
    forever = asyncio.Event()
    calls = 0

    async def hang(_: bytes, context: Any) -> bytes:
        nonlocal calls
        calls += 1
        if initial:
            context.send_initial_metadata((("x-initial", "i"),))
        working.set()
        await forever.wait()
        return b""

    working = asyncio.Event()
    async with grpc_server(hang) as (port, _), relay(port) as (line, cut), grpc_forwarder(line) as forwarder:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_raised(forwarder, rpc(b"write")))
            await working.wait()
            cut()
        assert isinstance(call.result(), Unclear)
        assert calls == 1  # no retry of the library's own


async def _raised(forwarder: Forwarder, request: Request) -> BaseException | None:
    try:
        await forwarder.forward(request)
    except (Unclear, Unavailable) as error:
        return error
    return None


async def test_grpc_closing_ends_what_is_under_way_as_unclear() -> None:
    working, forever = asyncio.Event(), asyncio.Event()

    async def hang(_: bytes, context: Any) -> bytes:
        working.set()
        await forever.wait()
        return b""

    async with grpc_server(hang) as (port, _), grpc_forwarder(port) as forwarder:
        async with asyncio.TaskGroup() as tasks:
            call = tasks.create_task(_raised(forwarder, rpc(b"write")))
            await working.wait()
            await forwarder.close()
        assert isinstance(call.result(), Unclear)


async def test_grpc_a_caller_that_is_cancelled_is_cancelled() -> None:
    working, forever = asyncio.Event(), asyncio.Event()

    async def hang(_: bytes, context: Any) -> bytes:
        working.set()
        await forever.wait()
        return b""

    async with grpc_server(hang) as (port, _), grpc_forwarder(port) as forwarder, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(_raised(forwarder, rpc()))
        await working.wait()
        call.cancel()
        await asyncio.wait({call})
        assert call.cancelled()


async def test_grpc_a_time_out_gives_the_connection_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server that does not keep to what it is granted: one that does may answer first."""
    monkeypatch.setattr(forward_grpc, "timeout_block", lambda milliseconds: timeout_block(20_000))
    forever = asyncio.Event()
    peers: list[str] = []
    slow = asyncio.Event()

    async def behave(message: bytes, context: Any) -> bytes:
        peers.append(context.peer())
        if message == b"slow":
            await forever.wait()
        if message == b"beside":
            slow.set()
            await proceed.wait()
        return message

    proceed = asyncio.Event()
    async with grpc_server(behave) as (port, _), grpc_forwarder(port, timeout_seconds=20) as forwarder:
        async with asyncio.TaskGroup() as tasks:
            beside = tasks.create_task(forwarder.forward(rpc(b"beside")))
            await slow.wait()
            with pytest.raises(Unclear, match=r"within 1\.000 s"):
                await forwarder.forward(rpc(b"slow", timeout_seconds=1.0))
            after = await forwarder.forward(rpc(b"after"))
            proceed.set()
        assert beside.result().body == b"beside"  # what shared the old connection is let finish
        assert after.body == b"after"
    assert peers[0] == peers[1] != peers[2]


async def test_grpc_the_client_s_deadline_reaches_the_server() -> None:
    granted: list[float] = []

    async def behave(message: bytes, context: Any) -> bytes:
        granted.append(context.time_remaining())
        return message

    async with grpc_server(behave) as (port, _), grpc_forwarder(port, timeout_seconds=30) as forwarder:
        await forwarder.forward(rpc(timeout_seconds=7))
        await forwarder.forward(rpc())
    assert 5 < granted[0] <= 8
    assert 25 < granted[1] <= 31
