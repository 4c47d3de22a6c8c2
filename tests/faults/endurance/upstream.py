"""`python -m tests.faults.endurance.upstream`: canned answers in the shape of a Qdrant server's over REST and gRPC,
each with its request's number, and from SIGUSR1 on a connection that is reset every now and then.

A connection is reset (SO_LINGER 0, so that its peer reads RST) when it has brought part of a request's body, a whole
request, when part of the answer is out, or while nobody uses it between two. (A request that nobody has read and one
that was read but for its answer look alike from the other end; here it is read, so that its number is known.) The
numbers of all requests that were under way on it go to the log first, a line of JSON a reset, and of those answered in
the second before; what is still unread is read before, so that none is missed that had arrived. With SIGTERM it writes
which numbers have ever arrived, a byte each, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import click
import msgspec
import uvloop
from qdrant_client import grpc as qdrant

from bench.stub import CANNED
from proxy.protocols.grpc import framed
from proxy.protocols.hpack import Field
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Data, Head, Reset, Role
from tests.faults.endurance.matching import ResetConnection
from tests.faults.endurance.messages import (
    FIRST_ID,
    HEADER,
    KINDS,
    LAST_ID,
    METHODS,
    Kind,
    grpc_message,
    http_body,
    number_in_json,
    number_in_message,
    points,
)

_EVERY_SECONDS = {"http": 0.8, "grpc": 2.5, "idle": 1.0, "body": 5.0}  # a reset, on average; body: a large one
_LATE_SHARE, _LATE_SECONDS = 0.005, 0.04  # answers that take up to so long, so that several are under way at once
_PART_SECONDS = 0.003  # at most, between part of an answer and the reset
_READ_BYTES = 1 << 18
_LARGE_BYTES = 100_000
_LATELY_SECONDS = 1.0
_OTHER = b'{"result":true,"status":"ok","time":0.0}'
_HTTP_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_GRPC_HEAD: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_KIND_OF = {METHODS[kind].encode(): kind for kind in KINDS}
_ID_LINE = f"\r\n{HEADER}: ".encode()


class Served(Protocol):
    """A connection."""

    way: str

    def under_way(self) -> list[int]:
        """The numbers of its requests that are not answered."""
        ...

    def is_idle(self) -> bool:
        """Between two requests."""
        ...

    def take(self, data: bytes) -> None:
        """Only read."""
        ...

    def heed(self) -> None:
        """Answer what has been read, or reset the connection if that is its turn."""
        ...

    transport: asyncio.Transport
    answered: Answered


class Answered:
    """The numbers of requests that were answered on a connection lately."""

    def __init__(self) -> None:
        self._latest: deque[tuple[float, int]] = deque()
        self.any = False

    def add(self, number: int) -> None:
        self.any = True
        now = time.monotonic()
        self._latest.append((now, number))
        while self._latest[0][0] < now - _LATELY_SECONDS:
            self._latest.popleft()

    def numbers(self) -> list[int]:
        latest = time.monotonic() - _LATELY_SECONDS
        return [number for at, number in self._latest if at >= latest and number]


class Resets:
    """When a connection is to be reset, and the log of it."""

    def __init__(self, log: Path, store: str, chance: random.Random) -> None:
        self.chance = chance
        self._log = log.open("a")
        self._store = store
        self._due: dict[str, float] = {}
        self.connections: set[Served] = set()
        self.arrived = bytearray(LAST_ID - FIRST_ID + 1)

    def begin(self) -> None:
        now = time.monotonic()
        self._due = {what: now + self.chance.expovariate(1 / seconds) for what, seconds in _EVERY_SECONDS.items()}
        self._strike_idle()

    def drawn(self, number: int, way: str, missing_bytes: int = 0) -> str:
        """A request with this number (0: of the proxy's own) has come, but for so much of its body: "" to answer it, or
        when the connection is to be reset."""
        if number:
            self.arrived[number - FIRST_ID] = 1
        if missing_bytes > _LARGE_BYTES and self._is_due("body"):
            return "request"
        return self.chance.choice(("request", "answer")) if self._is_due(way) else ""

    def _is_due(self, what: str) -> bool:
        if not self._due or time.monotonic() < self._due[what]:
            return False
        self._due[what] = time.monotonic() + self.chance.expovariate(1 / _EVERY_SECONDS[what])
        return True

    def strike(self, connection: Served, kind: str) -> None:
        """Reset it. An idle one that turns out not to be is left alone."""
        transport = connection.transport
        if transport.is_closing() or connection not in self.connections:
            return
        end = transport.get_extra_info("socket")
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := os.read(end.fileno(), _READ_BYTES):
                connection.take(data)
        if kind == "idle" and not connection.is_idle():
            connection.heed()
            return
        self.connections.discard(connection)
        at, way, answered = time.monotonic(), connection.way, connection.answered.numbers()
        cut = ResetConnection(at, self._store, way, kind, connection.under_way(), answered)
        self._log.write(msgspec.json.encode(cut).decode() + "\n")
        self._log.flush()
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def soon(self, call: Callable[[], Any]) -> None:
        asyncio.get_running_loop().call_later(self.chance.uniform(0, _PART_SECONDS), call)

    def late_seconds(self) -> float:
        return self.chance.uniform(0, _LATE_SECONDS) if self.chance.random() < _LATE_SHARE else 0.0

    def _strike_idle(self) -> None:
        idle = [one for one in self.connections if one.is_idle() and one.answered.any]
        if idle:
            self.strike(self.chance.choice(idle), "idle")
        asyncio.get_running_loop().call_later(self.chance.expovariate(1 / _EVERY_SECONDS["idle"]), self._strike_idle)


class HttpServed(asyncio.Protocol):
    """HTTP/1.1, one request at a time, with bodies of stated length."""

    way = "http"

    def __init__(self, resets: Resets) -> None:
        self._resets = resets
        self.answered = Answered()
        self.transport: asyncio.Transport
        self._head = b""  # part of one
        self._start = b""  # of a body that may hold the number
        self._missing_bytes = 0
        self._kind: Kind | None = None
        self._number = 0
        self._answering = False
        self._plan = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # of uvloop, which derives from nothing
        self._resets.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._resets.connections.discard(self)

    def under_way(self) -> list[int]:
        return [self._number] if self._number else []

    def is_idle(self) -> bool:
        return not (self._answering or self._missing_bytes or self._head)

    def data_received(self, data: bytes) -> None:
        self.take(data)
        self.heed()

    def heed(self) -> None:
        if self._plan == "request":
            self._resets.strike(self, "body" if self._missing_bytes else "request")
        elif self._answering and self._plan == "":
            if seconds := self._resets.late_seconds():
                asyncio.get_running_loop().call_later(seconds, self._answer)
            else:
                self._answer()
        elif self._answering:
            whole = self._answer_bytes()
            self.transport.write(whole[: self._resets.chance.randrange(1, len(whole))])
            self._resets.soon(lambda: self._resets.strike(self, "answer"))

    def take(self, data: bytes) -> None:
        while data:
            if not self._missing_bytes:
                head, end, data = (self._head + data).partition(b"\r\n\r\n")
                self._head = b"" if end else head
                if not end:
                    return
                self._begin(head)
            taken = data[: self._missing_bytes]
            if not self._number and self._kind == "search":
                self._start += taken[:64]
                self._know(number_in_json(self._start))
            self._missing_bytes -= len(taken)
            data = data[len(taken) :]
            self._answering = not self._missing_bytes

    def _begin(self, head: bytes) -> None:
        self._start, self._plan, self._number = b"", "", 0
        line, _, fields = head.partition(b"\r\n")
        self._kind = _http_kind(line)
        lower = (b"\r\n" + fields).lower()
        _, named, length = lower.partition(b"\r\ncontent-length:")
        self._missing_bytes = int(length.partition(b"\r\n")[0]) if named else 0
        _, named, number = lower.partition(_ID_LINE)
        if named:
            self._know(int(number.partition(b"\r\n")[0]))
        self._answering = not self._missing_bytes

    def _know(self, number: int) -> None:
        if number:
            self._number = number
            self._plan = self._resets.drawn(number, self.way, self._missing_bytes)

    def _answer_bytes(self) -> bytes:
        body = http_body(self._kind, self._number) if self._kind else _OTHER
        return _HTTP_HEAD % len(body) + body

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._answer_bytes())
        self.answered.add(self._number)
        self._answering, self._number = False, 0


def _http_kind(line: bytes) -> Kind | None:
    if b"/points/query " in line:
        return "search"
    if b"/points/scroll " in line:
        return "large"
    if b"/points?" in line:
        return "write"
    return "fetch" if line.startswith(b"GET") and b"/points/" in line else None


class _Call:
    __slots__ = ("body", "method", "number", "plan")

    def __init__(self, fields: tuple[Field, ...]) -> None:
        named = dict(fields)
        self.method = named[b":path"]
        self.number = int(named.get(HEADER.encode(), b"0"))
        self.body = bytearray()
        self.plan = ""


class GrpcServed(asyncio.Protocol):
    """gRPC on the program's own HTTP/2. A call without a number is the proxy's own."""

    way = "grpc"

    def __init__(self, resets: Resets) -> None:
        self._resets = resets
        self.answered = Answered()
        self.transport: asyncio.Transport
        self._http2 = Connection(Role.SERVER)
        self._calls: dict[int, _Call] = {}
        self._whole: list[int] = []  # streams whose request has come
        self._plan = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._resets.connections.add(self)
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        self._resets.connections.discard(self)

    def under_way(self) -> list[int]:
        return [call.number for call in self._calls.values() if call.number]

    def is_idle(self) -> bool:
        return not self._calls

    def data_received(self, data: bytes) -> None:
        self.take(data)
        self.heed()

    def heed(self) -> None:
        if self._plan:
            kind, self._plan = self._plan, ""
            self._resets.strike(self, kind)
            return
        whole, self._whole = self._whole, []
        for stream_id in whole:
            if seconds := self._resets.late_seconds():
                asyncio.get_running_loop().call_later(seconds, self._answer_late, stream_id)
            else:
                self._answer(stream_id)
        self._write()

    def take(self, data: bytes) -> None:
        for event in self._http2.receive(data, time.monotonic()):
            match event:
                case Head(stream_id=stream_id, block=block):
                    call = self._calls[stream_id] = _Call(block.fields)
                    if call.number:
                        call.plan = self._resets.drawn(call.number, self.way)
                case Data():
                    self._http2.consume(event.stream_id, event.size_bytes)
                    if (known := self._calls.get(event.stream_id)) is not None:
                        self._read(event, known)
                case Reset(stream_id=stream_id):
                    self._calls.pop(stream_id, None)
                case Broken():
                    self.transport.close()

    def _read(self, event: Data, call: _Call) -> None:
        call.body += event.data
        if not call.number and (number := number_in_message(bytes(call.body[:64]))):
            call.number = number
            call.plan = self._resets.drawn(number, self.way)
        elif not call.number and event.ends:
            call.plan = self._resets.drawn(0, self.way)
        if call.plan == "request":
            self._plan = "request" if event.ends else "body"
        elif event.ends:
            self._whole.append(event.stream_id)

    def _answer_late(self, stream_id: int) -> None:
        self._answer(stream_id)
        self._write()

    def _answer(self, stream_id: int) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        message = framed(_message(call))
        self._http2.send_head(stream_id, _GRPC_HEAD)
        if call.plan == "answer":
            self._http2.send_data(stream_id, message[: self._resets.chance.randrange(1, len(message))])
            self._resets.soon(lambda: self._resets.strike(self, "answer"))
        else:
            self._http2.send_data(stream_id, message)
            self._http2.send_trailers(stream_id, ((b"grpc-status", b"0"),))
            self.answered.add(call.number)
            del self._calls[stream_id]

    def _write(self) -> None:
        if (written := self._http2.take()) and not self.transport.is_closing():
            self.transport.write(written)


def _message(call: _Call) -> bytes:
    kind = _KIND_OF.get(call.method)
    if kind == "fetch" and not call.number:
        asked = qdrant.GetPoints.FromString(bytes(call.body[5:]))
        found = [points()[one.num] for one in asked.ids if one.num in points()]
        return bytes(qdrant.GetResponse(result=found, time=0.0).SerializeToString())
    if kind is not None:
        return grpc_message(kind, call.number)
    return CANNED.get(call.method.decode(), b"")


async def serve(rest_port: int, grpc_port: int, resets: Resets) -> None:
    """On 127.0.0.1, until SIGTERM."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, resets.begin)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(lambda: HttpServed(resets), "127.0.0.1", rest_port, backlog=4096)
    await loop.create_server(lambda: GrpcServed(resets), "127.0.0.1", grpc_port, backlog=4096)
    await ended.wait()


@click.command()
@click.option("--rest-port", type=int, required=True)
@click.option("--grpc-port", type=int, required=True)
@click.option("--store", required=True, help="Its name in the log.")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="Where resets are written.")
@click.option("--arrived", type=click.Path(path_type=Path), required=True, help="Where numbers are written in the end.")
@click.option("--seed", type=int, required=True)
def main(rest_port: int, grpc_port: int, store: str, log: Path, arrived: Path, seed: int) -> None:
    """Canned answers, and connections that are reset."""
    resets = Resets(log, store, random.Random(f"{seed} {store}"))
    uvloop.run(serve(rest_port, grpc_port, resets))
    arrived.write_bytes(resets.arrived)


if __name__ == "__main__":
    main()
