"""Peers that show and say exactly the bytes of a test: a scripted HTTP server, a raw HTTP client, a cut-off line.

The server records what arrived before any library has looked at it; that is what "byte for byte" is held to.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from proxy.telemetry.tasks import spawn


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came over the wire. `body` is without chunked framing; `connection` numbers the socket."""

    head: bytes
    body: bytes
    connection: int

    @property
    def target(self) -> bytes:
        return self.head.split(b" ", 2)[1]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        lines = self.head.split(b"\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines if line)]


Script = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawServer:
    """Answers each request by its script; keeps connections open unless the script closes them."""

    script: Script
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    arrival: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def served(self) -> tuple[asyncio.Task[None], ...]:
        """One for each connection that is open."""
        return tuple(self._tasks)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while head := await _head(reader):
                request = Received(head, await _body(head, reader), number)
                self.received.append(request)
                self.arrival.set()
                await self.script(request, writer)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = spawn(self.serve(reader, writer), name="raw server")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def raw_server(script: Script) -> AsyncIterator[RawServer]:
    """An HTTP server on a free port of 127.0.0.1 that does what `script` does."""
    server = RawServer(script)
    listening = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.end()
        await listening.wait_closed()


def saying(answer: bytes) -> Script:
    """A script that answers every request with these bytes."""

    async def script(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return script


def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection with a RST instead of closing it."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


def unused_port() -> int:
    """A port of 127.0.0.1 that refuses connections now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def converse(port: int, *sent: bytes) -> bytes:
    """Send bytes to a server and return everything it says until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        return await reader.read()
    finally:
        writer.close()


@asynccontextmanager
async def relay(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A TCP line to `port`: the port to use instead, and the call that cuts every connection through it."""
    ends: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        ends.extend((writer, far_writer))
        tasks.append(spawn(pump(reader, far_writer), name="relay up"))
        tasks.append(spawn(pump(far_reader, writer), name="relay down"))

    def cut() -> None:
        for end in ends:
            end.transport.abort()

    listening = await asyncio.start_server(join, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1], cut
    finally:
        listening.close()
        cut()
        if tasks:
            await asyncio.wait(tasks)
        await listening.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return await reader.readexactly(int(line.partition(b":")[2]))
        if line.startswith(b"transfer-encoding:"):
            return await _chunks(reader)
    return b""


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    while (await reader.readline()).strip():
        pass  # trailers
    return b"".join(parts)


def is_refused(port: int) -> bool:
    """Whether a client that connects to `port` is told at once that nobody is there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    except ConnectionRefusedError:
        return True
    return False
