"""Clients that are connected when a listener stops, however little of that it has seen by then."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from typing import Any

import pytest

from proxy import sockets
from proxy.listeners import acceptor
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.protocols import http2_frames as f
from proxy.wire import Request, Response
from tests.support.event_loops import on_each_loop

REQUEST = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"


event_loop_policy = on_each_loop()


async def echo(request: Request) -> Response:
    return Response(200 if request.transport == "http" else 0, body=request.path.encode())


async def started() -> HttpListener:
    listener = HttpListener(echo, "127.0.0.1", 0)
    await listener.start()
    return listener


def connected(listener: HttpListener | GrpcListener) -> socket.socket:
    """A connection that the listener knows nothing of yet."""
    return socket.create_connection(("127.0.0.1", listener.port), timeout=10)


async def said(client: socket.socket) -> bytes:
    """All that it hears, to the end."""

    def read() -> bytes:
        with client:
            return b"".join(iter(lambda: client.recv(65_536), b""))

    return await asyncio.to_thread(read)


def stopping(tasks: asyncio.TaskGroup, listener: Any, **options: float) -> asyncio.Task[float]:
    """How long it takes."""

    async def stop() -> float:
        began = time.monotonic()
        await listener.stop(drain_seconds=20, **options)
        return time.monotonic() - began

    return tasks.create_task(stop())


@pytest.mark.parametrize("turns", range(5))
async def test_a_request_that_came_before_is_answered(turns: int) -> None:
    listener = await started()
    clients = [connected(listener) for _ in range(100)]
    for number, client in enumerate(clients):
        client.sendall(REQUEST % number)
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.TaskGroup() as tasks:
        stopping(tasks, listener)
        answers = await asyncio.gather(*map(said, clients))
    assert [answer.rpartition(b"\r\n\r\n")[2] for answer in answers] == [b"/%d" % number for number in range(100)]


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("cut", [0, 10])
async def test_a_request_that_a_new_connection_is_about_to_send_is_answered(turns: int, cut: int) -> None:
    listener = await started()
    client = connected(listener)
    client.sendall((REQUEST % 1)[:cut])
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.TaskGroup() as tasks:
        took = stopping(tasks, listener)
        await asyncio.sleep(0.1)
        client.sendall((REQUEST % 1)[cut:])
        assert (await said(client)).endswith(b"/1")
    assert took.result() < 1  # it waits for nobody else


@pytest.mark.parametrize("cut", [10, None])
async def test_a_request_that_an_old_connection_has_sent_is_answered(cut: int | None) -> None:
    listener = await started()
    client = connected(listener)
    client.sendall(REQUEST % 1)
    assert (await asyncio.to_thread(client.recv, 65_536)).endswith(b"/1")
    client.sendall((REQUEST % 2)[:cut])
    async with asyncio.TaskGroup() as tasks:
        stopping(tasks, listener)
        await asyncio.sleep(0.1)
        if cut is not None:
            client.sendall((REQUEST % 2)[cut:])
        assert (await said(client)).endswith(b"/2")


async def test_who_only_stays_connected_is_not_waited_for() -> None:
    listener = await started()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(REQUEST % 1)
    await reader.readuntil(b"\r\n\r\n/1")
    async with asyncio.TaskGroup() as tasks:
        took = stopping(tasks, listener)
        assert await reader.read() == b""
    assert took.result() < 1
    writer.close()


async def test_who_connects_and_says_nothing_is_waited_for_a_moment() -> None:
    listener = await started()
    client = connected(listener)
    async with asyncio.TaskGroup() as tasks:
        took = stopping(tasks, listener)
        assert await said(client) == b""
    assert took.result() < 10


@pytest.mark.parametrize("requests", [0, 1])
async def test_a_listener_that_lingers_ends_when_its_last_client_goes(requests: int) -> None:
    listener = await started()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    if requests:
        writer.write(REQUEST % 1)
        await reader.readuntil(b"\r\n\r\n/1")
    await asyncio.sleep(0.1)
    async with asyncio.TaskGroup() as tasks:
        took = stopping(tasks, listener, linger_seconds=20)
        await asyncio.sleep(0.1)
        assert not took.done()
        writer.close()
    assert took.result() < 5


@pytest.mark.parametrize("turns", range(5))
async def test_a_grpc_client_is_told_to_go_and_not_hung_up_on(turns: int) -> None:
    listener = GrpcListener(echo, "127.0.0.1", 0)
    await listener.start()
    clients = [connected(listener) for _ in range(20)]
    for client in clients:
        client.sendall(f.PREFACE + f.settings({}))
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.TaskGroup() as tasks:
        stopping(tasks, listener)
        heard = await asyncio.gather(*map(said, clients))
    assert all(f.goaway(0, 0) in each for each in heard)


async def test_what_waits_in_a_socket_that_another_takes_over_is_left_to_it() -> None:
    listener = await started()
    assert listener.socket is not None
    successor = HttpListener(echo, "127.0.0.1", 0, sock=listener.socket.dup())
    client = connected(listener)
    await listener.stop(drain_seconds=5, linger_seconds=5)
    client.sendall(REQUEST % 1)
    await successor.start()
    async with asyncio.TaskGroup() as tasks:
        await asyncio.sleep(0.1)
        stopping(tasks, successor)
        assert (await said(client)).endswith(b"/1")


class Exhausted(socket.socket):
    """A listening socket of a process that has no descriptor left for a while."""

    refusals = 2

    def accept(self) -> Any:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


async def test_who_cannot_be_accepted_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_SECONDS", 0.05)
    sock = Exhausted(fileno=sockets.listening("127.0.0.1", 0).detach())
    sock.setblocking(False)
    listener = HttpListener(echo, "127.0.0.1", 0, sock=sock)
    await listener.start()
    client = connected(listener)
    client.sendall(REQUEST % 1)
    with client:
        assert (await asyncio.to_thread(client.recv, 65_536)).endswith(b"/1")
    assert not sock.refusals
    await listener.stop(drain_seconds=5)
