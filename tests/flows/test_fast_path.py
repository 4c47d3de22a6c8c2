"""Requests that pass without a task of their own: over real sockets, between a raw client and a raw server; and reads
through a whole proxy, whose weights and configuration change meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from qdrant_client import QdrantClient, models

from examples.engines import poll
from proxy.dialects.qdrant.messages import proto
from proxy.errors import CrossfadeError, Unclear
from proxy.listeners.http_listener import HttpListener
from proxy.serving.fast_path import LOOKED_INTO
from proxy.serving.ways import Way
from proxy.stores.forward_http import HttpForwarder
from proxy.wire import Answer, AnswerHead, Body, GiveUp, Request, Response
from tests.support.event_loops import on_each_loop
from tests.support.migration import PATIENCE_SECONDS, Migration, Migrations

event_loop_policy = on_each_loop()
REQUEST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
ANSWER = b"HTTP/1.1 200 OK\r\nx-from: server\r\ncontent-length: 2\r\n\r\nok"
DIM = 4

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Straight:
    """The fast path without routing. What fails goes to the test's `failures`, and the client gets 502."""

    def __init__(self, forwarder: HttpForwarder) -> None:
        self.forwarder = forwarder
        self.passed = self.given_up = 0
        self.failures: list[CrossfadeError] = []
        self.keys: list[bytes | None] = []

    def begin(
        self, key: bytes | None, body: bytes, draw: float, request: Callable[[], Request], answer: Answer
    ) -> GiveUp | None:
        self.keys.append(key)
        passage = self.forwarder.passage(request())
        give_up = passage.send(body, None, _Told(self, answer)) if passage is not None else None
        if give_up is None:
            return None
        self.passed += 1

        def leave() -> None:
            self.given_up += 1
            give_up()

        return leave


class _Told:
    def __init__(self, path: Straight, answer: Answer) -> None:
        self.path = path
        self.answer = answer

    def answered(self, head: AnswerHead, body: Body) -> None:
        self.answer(head, body)

    def failed(self, error: CrossfadeError) -> None:
        self.path.failures.append(error)
        self.answer(AnswerHead(502, ()), b"")


class Between:
    """A listener with a fast path to a raw server."""

    def __init__(self, port: int, fast: Straight, asked: list[bytes]) -> None:
        self.port = port
        self.fast = fast
        self.asked = asked  # what the server was sent

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


async def one_request(reader: asyncio.StreamReader) -> bytes:
    """Raises IncompleteReadError at the end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return head + await reader.readexactly(int(length.partition(b":")[2]))


@asynccontextmanager
async def between(answers: Serve | bytes = ANSWER, timeout_seconds: float = 20.0) -> AsyncIterator[Between]:
    """`answers`: what the server does after each request."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked.append(await one_request(reader))
                if isinstance(answers, bytes):
                    writer.write(answers)
                else:
                    await answers(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    forwarder = HttpForwarder(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_seconds=timeout_seconds)
    fast = Straight(forwarder)

    async def slow(request: Request) -> Response:
        return await forwarder.forward(request)

    listener = HttpListener(slow, "127.0.0.1", 0, fast=fast)
    await listener.start()
    try:
        yield Between(listener.port, fast, asked)
    finally:
        await listener.stop(drain_seconds=5)
        await forwarder.close()
        server.close()
        await server.wait_closed()


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        return await one_request(reader)


# --- one connection ------------------------------------------------------------------------------------


async def test_from_the_second_request_on_they_pass_without_a_task() -> None:
    async with between() as there:
        reader, writer = await there.connect()
        answers = []
        for _ in range(5):
            writer.write(REQUEST)
            answers.append(await one_answer(reader))
        writer.close()
    assert set(answers) == {ANSWER}
    assert there.fast.passed == 4  # the first found no connection that was free
    assert len(set(there.asked)) == 1
    assert there.asked[0].endswith(b"\r\n\r\nhello")
    assert there.fast.keys == [REQUEST.partition(b"\r\n\r\n")[0]] * 5


async def test_a_request_may_come_in_any_pieces() -> None:
    async with between() as there:
        reader, writer = await there.connect()
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.write(REQUEST)
        await one_answer(reader)
        for cut in range(1, len(REQUEST)):
            writer.write(REQUEST[:cut])
            await asyncio.sleep(0.001)
            writer.write(REQUEST[cut:])
            assert await one_answer(reader) == ANSWER
        writer.close()
    assert there.fast.passed == len(REQUEST) - 1
    assert len(set(there.asked)) == 1


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async def echo(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + there.asked[-1][-1:])

    async with between(echo) as there:
        reader, writer = await there.connect()
        for _ in range(3):
            writer.write(b"".join(REQUEST[:-1] + b"%d" % number for number in range(5)))
            got = [(await one_answer(reader))[-1:] for _ in range(5)]
            assert got == [b"0", b"1", b"2", b"3", b"4"]
        writer.write(REQUEST)  # alone, and the next while it is under way
        writer.write(REQUEST[:-1] + b"!")
        assert [(await one_answer(reader))[-1:] for _ in range(2)] == [b"o", b"!"]
        writer.close()
    assert there.fast.passed == 16


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nx-from: server\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER,
    ],
)
async def test_every_kind_of_answer_is_the_same_as_on_the_slow_path(answer: bytes) -> None:
    async with between(answer) as there:
        reader, writer = await there.connect()
        got = []
        for _ in range(4):
            writer.write(REQUEST)
            got.append(await one_answer(reader))
        writer.close()
    assert there.fast.passed == 3
    assert len(set(got)) == 1


async def test_an_answer_in_pieces_and_one_that_is_longer_than_is_held() -> None:
    long = b"x" * 3_000_000
    pieces = [ANSWER[:10], ANSWER[10:-1], ANSWER[-1:]]

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(there.asked) % 2:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(long) + long)
        else:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)

    async with between(serve) as there:
        reader, writer = await there.connect()
        for number in range(6):
            writer.write(REQUEST)
            got = await one_answer(reader)
            assert got.endswith(b"\r\n\r\n" + (b"ok" if number % 2 else long))
        writer.close()
    assert there.fast.passed == 5
    assert not there.fast.failures


async def test_who_does_not_read_is_not_read_ahead_of() -> None:
    """Answers that nobody takes do not pile up: the next request waits for the client to read."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n" + b"x" * 200_000
    async with between(answer) as there:
        reader, writer = await there.connect()
        writer.write(REQUEST)
        await one_answer(reader)
        writer.write(REQUEST * 200)
        await asyncio.sleep(0.5)
        held = len(there.asked)
        assert held < 100
        for _ in range(200):
            assert await one_answer(reader) == answer
        writer.close()


async def test_a_closing_client_is_answered_and_hung_up_on() -> None:
    async with between() as there:
        reader, writer = await there.connect()
        writer.write(REQUEST)
        await one_answer(reader)
        writer.write(REQUEST.replace(b"Host: h", b"Host: h\r\nConnection: close"))
        assert b"connection: close" in await one_answer(reader)
        assert await reader.read() == b""
        writer.close()
        reader, writer = await there.connect()
        writer.write(REQUEST)
        writer.write_eof()  # it says no more, and still reads
        assert (await one_answer(reader)).endswith(b"ok")
        assert await reader.read() == b""
        writer.close()
    assert there.fast.passed == 2


@pytest.mark.parametrize("second", [b"{}GET /secret HTTP/1.1\r\nHost: h\r\n\r\n", b"{", b""])
async def test_a_body_never_goes_up_behind_a_head_that_states_another_length(second: bytes) -> None:
    """A passage is for one head, and that states a length: a chunked body of the same head may have any."""
    async with between() as there:
        passage = there.fast.forwarder.passage(
            Request("http", "POST", "/x", (("transfer-encoding", "chunked"),), b"{}")
        )
        assert passage is not None
        reader, writer = await there.connect()
        writer.write(REQUEST)  # so that a connection is idle
        await one_answer(reader)
        told = _Told(there.fast, lambda head, body: None)
        assert passage.send(second, None, told) is None
        assert passage.send(b"[]", None, told) is not None
        writer.close()


# --- what goes wrong -------------------------------------------------------------------------------------


async def test_a_client_that_leaves_has_its_request_given_up() -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(there.asked) == 1:
            writer.write(ANSWER)
            return
        begun.set()
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""  # the connection is closed, for an answer could still come on it
        gone.set()

    async with between(never) as there:
        reader, writer = await there.connect()
        writer.write(REQUEST)
        await one_answer(reader)
        writer.write(REQUEST)
        await begun.wait()
        linger = struct.pack("ii", 1, 0)  # by RST: who only says that it sends no more still gets its answer
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        async with asyncio.timeout(10):
            await gone.wait()
    assert (there.fast.passed, there.fast.given_up) == (1, 1)
    assert not there.fast.failures


async def test_a_server_that_hangs_up_or_falls_silent() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match len(there.asked):
            case 2:
                writer.close()
            case 4:
                writer.write(ANSWER[:-1])
                await reader.read()  # until it is hung up on
            case _:
                writer.write(ANSWER)

    async with between(serve, timeout_seconds=0.3) as there:
        reader, writer = await there.connect()
        statuses = []
        for _ in range(5):
            writer.write(REQUEST)
            statuses.append((await one_answer(reader))[9:12])
        writer.close()
    assert statuses == [b"200", b"502", b"200", b"502", b"200"]
    assert [type(failure) for failure in there.fast.failures] == [Unclear, Unclear]
    assert "silent for 0.3 s" in str(there.fast.failures[1])


async def test_to_stop_is_to_answer_what_is_under_way() -> None:
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def later(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(there.asked) > 1:
            begun.set()
            await proceed.wait()
        writer.write(ANSWER)

    async with between(later) as there:
        reader, writer = await there.connect()
        writer.write(REQUEST)
        await one_answer(reader)
        writer.write(REQUEST)
        await begun.wait()
        asyncio.get_running_loop().call_later(0.3, proceed.set)
    assert b"connection: close" in await one_answer(reader)
    assert await reader.read() == b""
    writer.close()


# --- through a proxy ---------------------------------------------------------------------------------------


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


def filled(client: QdrantClient, name: str) -> str:
    client.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    client.upsert(name, [models.PointStruct(id=i, vector=vector(i), payload={"n": i}) for i in range(50)])
    return name


def unread(migration: Migration) -> int:
    return migration.counts("reads_passed_unread").total()


@pytest.mark.parametrize("over_grpc", [False, True])
def test_reads_of_the_source_pass_unread_and_most_are_counted_so(migrations: Migrations, over_grpc: bool) -> None:
    migration = migrations()
    direct, client = migration.direct(grpc=over_grpc), migration.client(grpc=over_grpc)
    name = filled(direct, migration.name("c"))
    reads = 2 * LOOKED_INTO
    for seed in range(reads):
        assert client.query_points(name, query=vector(seed), limit=5) == direct.query_points(
            name, query=vector(seed), limit=5
        )
    assert reads - 8 <= unread(migration) <= reads - 2
    assert migration.counts("reads").total() == reads


def test_kinds_of_reads_that_only_the_source_answers_are_still_found(migrations: Migrations) -> None:
    migration = migrations()
    name = filled(migration.direct(), migration.name("c"))
    body = {"prefetch": [{"query": vector(1)}], "query": {"fusion": "rrf"}}
    with httpx.Client(base_url=migration.url) as http:
        for _ in range(2 * LOOKED_INTO):
            http.post(f"/collections/{name}/points/query", json=body)
    assert migration.counts("primary_only_reads").total() >= 2


def test_a_share_of_the_reads_is_that_share_whichever_path_decides(migrations: Migrations) -> None:
    """Who is sent to the slow path because of a draw is not drawn for again: that would make 9 % out of 30."""
    migration = migrations()
    name = filled(migration.direct(), migration.name("c"))
    migration.backfill()
    migration.weight(30)
    before = migration.counts("reads")
    with httpx.Client(base_url=migration.url) as http:
        for _ in range(600):
            http.post(f"/collections/{name}/points/query", json={"query": vector(1)}).raise_for_status()
    by_store = {store: number for (_, store), number in (migration.counts("reads") - before).items()}
    assert 120 < by_store["secondary"] < 240  # five standard deviations
    assert unread(migration) > 300


def test_what_was_found_out_for_a_head_holds_until_something_changes(migrations: Migrations) -> None:
    migration = migrations(as_process=True)
    name = filled(migration.direct(), migration.name("c"))
    migration.backfill()
    with httpx.Client(base_url=migration.url) as http:

        def read() -> str:
            """Who answers, asked often enough."""
            path, body = f"/collections/{name}/points/query", {"query": vector(1)}
            return " / ".join(sorted({http.post(path, json=body).headers["x-crossfade-route"] for _ in range(5)}))

        assert read() == "primary; weight 0"
        migration.weight(100)
        assert read() == "secondary; weight 100 (operator)"
        migration.weight(0)
        assert read() == "primary; weight 0 (operator)"
        migration.route["rules"] = [{"when": {"headers": {"x-canary": "1"}}, "read": "target"}]
        migration.weight(1)
        migration.save()
        http.headers["x-canary"] = "1"
        assert poll(lambda: read() == "secondary; rule 1", PATIENCE_SECONDS)


@pytest.mark.parametrize("over_grpc", [False, True])
def test_heads_that_never_come_again_are_not_kept(migrations: Migrations, over_grpc: bool) -> None:
    """Of a client that traces: they pass unread all the same."""
    migration = migrations()
    name = filled(migration.direct(), migration.name("c"))
    message = proto.QueryPoints(
        collection_name=name, query=proto.Query(nearest=proto.VectorInput(dense={"data": [1.0] * DIM}))
    )
    before = kept_ways()
    with (
        httpx.Client(base_url=migration.url) as http,
        grpc.insecure_channel(f"127.0.0.1:{migration.grpc_port}") as channel,
    ):
        query = channel.unary_unary("/qdrant.Points/Query", proto.QueryPoints.SerializeToString)

        def ask(trace: dict[str, str]) -> None:
            if over_grpc:
                query(message, metadata=tuple(trace.items()), timeout=PATIENCE_SECONDS)
            else:
                body = {"query": vector(1)}
                http.post(f"/collections/{name}/points/query", json=body, headers=trace).raise_for_status()

        for number in range(60):
            ask({"traceparent": f"00-{number}"})
        assert unread(migration) >= 58
        assert kept_ways() == before
        for _ in range(3):
            ask({})
        assert kept_ways() == before + 1


def test_a_rule_asks_each_head_whatever_was_found_out_for_others(migrations: Migrations) -> None:
    migration = migrations(rules=[{"when": {"headers": {"x-canary": "1"}}, "read": "target"}])
    name = filled(migration.direct(), migration.name("c"))
    migration.backfill()
    with httpx.Client(base_url=migration.url) as http:
        for number in range(12):
            headers = {"x-canary": str(number % 2), "traceparent": f"00-{number}"}
            answer = http.post(f"/collections/{name}/points/query", json={"query": vector(1)}, headers=headers)
            expected = "secondary; rule 1" if number % 2 else "primary; weight 0"
            assert answer.headers["x-crossfade-route"] == expected
    assert unread(migration) >= 5


def test_a_key_is_asked_of_each_head_whatever_was_found_out_for_others(migrations: Migrations) -> None:
    def guarded(config: dict[str, Any]) -> None:
        config["auth"] = {"mode": "keys", "keys": ["right"]}

    migration = migrations(change=guarded)
    name = filled(migration.direct(), migration.name("c"))
    with httpx.Client(base_url=migration.url) as http:
        for number in range(12):
            headers = {"api-key": "wrong" if number % 2 else "right", "traceparent": f"00-{number}"}
            answer = http.post(f"/collections/{name}/points/query", json={"query": vector(1)}, headers=headers)
            assert answer.status_code == (401 if number % 2 else 200)
    assert unread(migration) >= 5


def kept_ways() -> int:
    gc.collect()
    return sum(type(each) is Way for each in gc.get_objects())
