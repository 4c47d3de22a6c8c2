"""Clients that do not wait for their answer: a read is given up, down to the store that was asked; a write never is."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
from qdrant_client import models

from examples.engines import poll
from proxy.dialects.qdrant.messages import proto
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_connection import HttpConnection
from proxy.listeners.http_listener import HttpListener
from proxy.telemetry.tasks import spawn
from proxy.wire import Request, Response
from tests.support.event_loops import on_each_loop
from tests.support.migration import PATIENCE_SECONDS, Migration, Migrations
from tests.support.relay import Relay

event_loop_policy = on_each_loop()
RESETS = struct.pack("ii", 1, 0)  # what SO_LINGER takes to close by RST: a plain end may be that of one who still waits
REQUEST = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


class Slow:
    """A handler that may be given up, or may not, and waits."""

    def __init__(self, *, may_leave: bool) -> None:
        self.may_leave = may_leave
        self.began, self.go_on = asyncio.Event(), asyncio.Event()
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self, request: Request) -> Response:
        assert request.caller is not None
        if self.may_leave:
            request.caller.may_leave()
        self.began.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.ended.set_result("given up")
            raise
        self.ended.set_result("carried out")
        return Response(200 if request.transport == "http" else 0, (), b"done")

    async def end(self) -> str:
        """How it ended, once its client has left."""
        await asyncio.sleep(0.1)  # to be given up
        self.go_on.set()
        async with asyncio.timeout(10):
            return await self.ended


ENDS = [(True, "given up"), (False, "carried out")]


@pytest.mark.parametrize(("may_leave", "end"), ENDS)
async def test_over_http(may_leave: bool, end: str) -> None:
    handler = Slow(may_leave=may_leave)
    listener = HttpListener(handler, "127.0.0.1", 0)
    await listener.start()
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(REQUEST)
    await handler.began.wait()
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    writer.transport.abort()
    assert await handler.end() == end
    await listener.stop(drain_seconds=5)


async def test_over_http_who_has_said_all_still_waits() -> None:
    handler = Slow(may_leave=True)
    listener = HttpListener(handler, "127.0.0.1", 0)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(REQUEST)
    writer.write_eof()
    await handler.began.wait()
    assert await handler.end() == "carried out"
    assert (await reader.read()).endswith(b"done")
    writer.close()
    await listener.stop(drain_seconds=5)


@pytest.mark.parametrize("said", [REQUEST, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhi"])
async def test_nothing_is_left_of_a_connection_that_broke_off(said: bytes) -> None:
    """At once: the garbage collector may be long in coming, and a body can be large."""
    handler = Slow(may_leave=True)
    listener = HttpListener(handler, "127.0.0.1", 0)
    await listener.start()
    gc.collect()
    gc.disable()
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(said)
        async with asyncio.timeout(10):
            while not any(connection.busy for connection in listener._open):  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(0.01)
            if said is REQUEST:
                await handler.began.wait()
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            writer.transport.abort()
            while any(isinstance(each, HttpConnection) for each in gc.get_objects()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        gc.enable()
        await listener.stop(drain_seconds=5)


_PIECES, _PIECE = 256, b"x" * 65_536  # more than the system holds between two ends


async def test_who_leaves_amid_an_answer_costs_nobody_else_a_connection() -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(_PIECES):
            yield _PIECE

    async def handler(_: Request) -> Response:
        return Response(200, (("content-length", str(_PIECES * len(_PIECE))),), large())

    listener = HttpListener(handler, "127.0.0.1", 0)
    await listener.start()
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port, limit=1024)  # which reads no more than that
    writer.write(REQUEST)
    async with asyncio.timeout(10):
        while not any(connection._is_behind() for connection in listener._open):  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.01)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        writer.transport.abort()
        while listener._open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    for _ in range(3):
        writer.write(REQUEST)
        assert b"connection: close" not in (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(_PIECES * len(_PIECE))
    writer.close()
    await listener.stop(drain_seconds=5)


@pytest.mark.parametrize(("may_leave", "end"), ENDS)
@pytest.mark.parametrize("how", ["cancels", "hangs up"])
async def test_over_grpc(may_leave: bool, end: str, how: str) -> None:
    handler = Slow(may_leave=may_leave)
    listener = GrpcListener(handler, "127.0.0.1", 0)
    await listener.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        call = channel.unary_unary("/a.B/C")(b"x")
        waiting = spawn(_outcome(call), name="a call that ends badly")
        await handler.began.wait()
        if how == "cancels":
            call.cancel()
            await waiting
            assert await handler.end() == end
    if how == "hangs up":
        await waiting
        assert await handler.end() == end
    await listener.stop(drain_seconds=5)


async def _outcome(call: Any) -> None:
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call


# --- through a proxy -------------------------------------------------------------------------------------

_PATIENT_SECONDS = 0.3


@pytest.fixture(params=["http", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_through_a_proxy(migrations: Migrations, transport: str) -> None:
    """What only the source can answer, too. A write lands, and is journalled, although nobody waits."""
    source = migrations.own_source()
    with Relay(source.grpc_port if transport == "grpc" else source.rest_port) as relay:

        def through(config: dict[str, Any]) -> None:
            way = {"http": "url", "grpc": "grpc_url"}[transport]
            config["stores"]["old"] |= {way: f"http://127.0.0.1:{relay.port}", "longest_request_seconds": 8}

        migration = migrations(source=source, change=through)
        name = migration.name("c")
        migration.direct().create_collection(
            name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT)
        )
        migration.mirror()
        leave = {"http": _leave_http, "grpc": _leave_grpc}[transport]
        relay.keep()
        leave(migration, name, "count")
        leave(migration, name, "count")  # on the fast path, if there is a connection
        leave(migration, name, "facet")
        assert poll(lambda: _counted(migration, "given up") == 3, PATIENCE_SECONDS)
        leave(migration, name, "upsert")
        relay.let_go()
        assert poll(lambda: _counted(migration, "upsert") == 1, PATIENCE_SECONDS)
        assert migration.direct().count(name).count == 1
        assert _counted(migration, "given up") == 3
        migration.until(lambda route: route.keys.dirty == route.keys.held == 0, "clean")


def _leave_http(migration: Migration, name: str, what: str) -> None:
    method, path, body = {
        "count": ("POST", "/points/count", {}),
        "facet": ("POST", "/facet", {"key": "k"}),
        "upsert": ("PUT", "/points?wait=true", {"points": [{"id": 1, "vector": [1, 2]}]}),
    }[what]
    sent = httpx.Request(method, f"{migration.url}/collections/{name}{path}", json=body)
    head = f"{method} {sent.url.raw_path.decode()} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in sent.headers.items())
    with socket.create_connection(("127.0.0.1", migration.rest_port)) as client:
        client.sendall(head.encode() + b"\r\n" + sent.content)
        time.sleep(_PATIENT_SECONDS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)


def _leave_grpc(migration: Migration, name: str, what: str) -> None:
    path, message = {
        "count": ("Count", proto.CountPoints(collection_name=name)),
        "facet": ("Facet", proto.CountPoints(collection_name=name)),  # as far as the proxy reads it
        "upsert": ("Upsert", proto.UpsertPoints(collection_name=name, wait=True, points=[_point()])),
    }[what]
    with grpc.insecure_channel(f"127.0.0.1:{migration.grpc_port}") as channel:
        call = channel.unary_unary(f"/qdrant.Points/{path}").future(message.SerializeToString())
        time.sleep(_PATIENT_SECONDS)
        assert call.cancel()


def _point() -> Any:
    point = proto.PointStruct(id={"num": 1})
    point.vectors.vector.dense.data.extend([1.0, 2.0])
    return point


def _counted(migration: Migration, what: str) -> int:
    """Requests that were counted with this among their labels."""
    return sum(number for labels, number in migration.counts("requests").items() if what in labels)
