"""More requests than a listener answers at once: who is too many is told so, and nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest

from examples.engines import poll
from proxy.listeners.admission import Admission
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.wire import Request, Response, collected
from tests.support.event_loops import on_each_loop
from tests.support.migration import PATIENCE_SECONDS, Migrations

event_loop_policy = on_each_loop()
REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


class Door:
    """A handler that answers once it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        self.came = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.waiting += 1
        self.came.set()
        await self.opened.wait()
        await collected(request, 10_000_000)
        return Response(200 if request.transport == "http" else 0, (), b"done")

    async def until(self, waiting: int) -> None:
        while self.waiting < waiting:
            self.came.clear()
            await self.came.wait()


def refuse(request: Request) -> Response:
    if request.transport == "grpc":
        return Response(8, message="too many", trailers=(("retry-after", "1"),))
    return Response(429, (("retry-after", "1"),), b"too many")


@asynccontextmanager
async def http(door: Door, requests: int = 2, size_bytes: int = 1_000_000) -> AsyncIterator[HttpListener]:
    admission = Admission(requests, size_bytes, 600_000, refuse)
    listener = HttpListener(door, "127.0.0.1", 0, admission=admission, max_body_bytes=600_000)
    await listener.start()
    try:
        yield listener
    finally:
        door.opened.set()
        await listener.stop(drain_seconds=5)
    assert (admission.requests, admission.bytes) == (0, 0)


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await reader.readexactly(length)


async def test_who_is_too_many_is_told_and_keeps_its_connection() -> None:
    async with http(door := Door()) as listener:
        open_ = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(3)]
        for _, writer in open_[:2]:
            writer.write(REQUEST)
        await door.until(2)
        reader, writer = open_[2]
        for _ in range(3):
            writer.write(REQUEST)
            told = await answer(reader)
            assert told.startswith(b"HTTP/1.1 429 ")
            assert b"retry-after: 1" in told
        door.opened.set()
        for other, _ in open_[:2]:
            assert (await answer(other)).endswith(b"done")
        writer.write(REQUEST)
        assert (await answer(reader)).endswith(b"done")
        for _, each in open_:
            each.close()


async def test_a_body_counts_as_soon_as_its_length_is_known() -> None:
    async with http(door := Door(), requests=10) as listener:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 599990\r\n\r\n")
        await door.until(1)
        chunked_reader, chunked = await asyncio.open_connection("127.0.0.1", listener.port)
        chunked.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")  # as long as any may be
        assert (await answer(chunked_reader)).startswith(b"HTTP/1.1 429 ")
        for each in (writer, chunked):
            each.close()


@pytest.mark.parametrize("sent", [REQUEST, REQUEST[:-1], REQUEST[:-3].replace(b": 2", b": 999")])
async def test_who_leaves_makes_room(sent: bytes) -> None:
    """In the middle of its request, or while it is answered."""
    async with http(door := Door(), requests=1) as listener:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(sent)
            await asyncio.sleep(0.05)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            await asyncio.sleep(0.05)
            door.opened.set()


async def test_of_calls_too() -> None:
    door = Door()
    admission = Admission(2, 1_000_000, 600_000, refuse)
    listener = GrpcListener(door, "127.0.0.1", 0, admission=admission)
    await listener.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        call = channel.unary_unary("/a.B/C")
        running = [call(b"x") for _ in range(2)]
        await door.until(2)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await call(b"x" * 100_000)
            assert told.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert told.value.details() == "too many"
        running[0].cancel()  # its handler runs on, and it counts as long as that does
        with pytest.raises(grpc.aio.AioRpcError):
            await call(b"x")
        door.opened.set()
        assert await running[1] == b"done"
        assert await call(b"x") == b"done"
        big = call(b"x" * 2_000_000)  # alone
        assert await big == b"done"
        door.opened.clear()
        running = [call(b"x")]
        await door.until(5)
        with pytest.raises(grpc.aio.AioRpcError, match="too many"):
            await call(b"x" * 2_000_000)  # beside another one
        door.opened.set()
        await running[0]
    await listener.stop(drain_seconds=5)
    assert (admission.requests, admission.bytes) == (0, 0)


def test_through_a_proxy_it_is_said_in_the_vendors_words(migrations: Migrations) -> None:
    def few(config: dict[str, Any]) -> None:
        for listener in config["listeners"]:
            listener["max_in_flight"] = 1

    migration = migrations(source=(source := migrations.own_source()), change=few)
    path = f"{migration.url}/collections/{migration.name('c')}/points/count"

    def status(timeout_seconds: float) -> int:
        try:
            return httpx.post(path, json={}, timeout=timeout_seconds).status_code
        except httpx.TimeoutException:
            return 0

    source.pause()
    waiting = threading.Thread(target=lambda: httpx.post(path, json={}, timeout=30))
    waiting.start()
    try:
        assert poll(lambda: status(0.5) == 429, PATIENCE_SECONDS)
        told = httpx.post(path, json={})
        assert told.status_code == 429
        assert told.headers["retry-after"] == "1"
        assert "Rate limiting exceeded" in told.json()["status"]["error"]
    finally:
        source.resume()
        waiting.join()
    assert poll(lambda: status(5) == 404, PATIENCE_SECONDS)
