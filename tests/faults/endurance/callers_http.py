"""The clients over HTTP, plain and with TLS: connections with one request at a time, which may break it off.

Broken off is by FIN or by RST (SO_LINGER 0), amid the head, amid the body, while the answer is waited for, or amid the
answer. Whatever is not the right answer to the last byte is a failure; so are bytes that nobody has asked for, and the
end of a connection that was to be kept.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import cast

from bench.load.raw_http import size_of
from tests.faults.endurance.matching import STARTED
from tests.faults.endurance.messages import Asked, http_body
from tests.faults.endurance.tally import Sent, Tally

LONGEST_SECONDS = 10.0  # for an answer
_PAUSE_SECONDS = 0.02  # at most, with part of a request sent
_WAIT_SECONDS = 0.005  # at most, while an answer is waited for
_AGAIN_SECONDS = 0.05
CUTS = ("head", "body", "waiting", "answer")


class Pool:
    """Connections to one address; one that is lost or broken off is replaced. `room` is called when one is free."""

    def __init__(
        self, address: str, size: int, tls: ssl.SSLContext | None, tally: Tally, room: Callable[[], None]
    ) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._tls = tls
        self._size = size
        self._room = room
        self._free: deque[_Line] = deque()
        self._lines: set[_Line] = set()
        self._tasks: asyncio.TaskGroup
        self._closed = False
        self.tally = tally
        self.chance = random.Random(self._address[1])

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        await asyncio.gather(*(self._connect() for _ in range(self._size)))

    def close(self) -> None:
        """What is under way gets no answer any more, and is not told of."""
        self._closed = True
        for line in tuple(self._lines):
            line.sent = None
            line.close()

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def send(self, sent: Sent, asked: Asked) -> None:
        """Only where there is room."""
        self._free.popleft().send(sent, asked)

    def sweep(self) -> None:
        """Give up on what has waited for too long."""
        latest = time.monotonic() - LONGEST_SECONDS
        for line in tuple(self._lines):
            if line.sent is not None and line.sent.began < latest:
                line.fail(f"no answer within {LONGEST_SECONDS:g} s", "")

    # --- the connections' -----------------------------------------------------------------------------

    def free(self, line: _Line) -> None:
        self._free.append(line)
        self._room()

    def lost(self, line: _Line) -> None:
        self._lines.discard(line)
        if line in self._free:
            self._free.remove(line)
        if not self._closed:
            self._tasks.create_task(self._connect())

    async def _connect(self) -> None:
        loop, name = asyncio.get_running_loop(), "localhost" if self._tls else None
        while not self._closed:
            try:
                _, line = await loop.create_connection(
                    lambda: _Line(self), *self._address, ssl=self._tls, server_hostname=name
                )
            except OSError as error:
                self.tally.noted(f"a connection to {self._address} was refused: {error}")
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._lines.add(line)
                self.free(line)
                return


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._received = bytearray()
        self._size = 0
        self._last: Sent | None = None  # that was answered
        self._closed = False  # by this end
        self.transport: asyncio.Transport
        self.sent: Sent | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # of uvloop, which derives from nothing

    def send(self, sent: Sent, asked: Asked) -> None:
        chance, whole = self._pool.chance, asked.head + asked.body
        self.sent = sent
        self._received.clear()
        self._size = 0
        self._pool.tally.begin(sent)
        match sent.cut:
            case "head":
                at, pause = chance.randrange(1, len(asked.head)), _PAUSE_SECONDS
            case "body":
                at, pause = chance.randrange(len(asked.head), len(whole)), _PAUSE_SECONDS
            case "waiting":
                at, pause = len(whole), _WAIT_SECONDS
            case _:
                self.transport.write(whole)
                return
        self.transport.write(whole[:at])
        asyncio.get_running_loop().call_later(chance.uniform(0, pause), self._break_off, sent)

    def data_received(self, data: bytes) -> None:
        sent = self.sent
        if sent is None:
            self._pool.tally.noted(f"bytes that nobody has asked for: {data[:200]!r}")
            self.abort()
            return
        self._received += data
        if sent.cut == "answer":
            self._break_off(sent)
            return
        if not self._size:
            self._size = size_of(self._received)
        if len(self._received) >= self._size > 0 or self._size < 0:
            self._judge(sent)

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent is not None:
            began = f" of which {len(self._received)} bytes had come" if self._received else ""
            self.fail(STARTED if self._received else "closed without an answer", f"{error}{began}")
        elif not self._closed and self._last is not None:
            self._pool.tally.noted(
                f"a connection ended behind the answer to {self._last.kind} {self._last.number}: {error}"
            )
        self._pool.lost(self)

    def close(self) -> None:
        self._closed = True
        self.transport.close()

    def abort(self) -> None:
        self._closed = True
        self.transport.abort()

    def fail(self, status: str, text: str) -> None:
        """The connection is of no more use."""
        sent, self.sent = self.sent, None
        assert sent is not None
        self.abort()
        self._pool.tally.failed(sent, status, text)

    def _judge(self, sent: Sent) -> None:
        """A whole answer has come."""
        head, _, body = bytes(self._received).partition(b"\r\n\r\n")
        status = head[9:12].decode(errors="replace")
        if self._size < 0 or len(self._received) > self._size:
            self.fail("another answer than was given", f"in chunks, or with bytes behind it: {head!r}")
        elif status == "200" and body != http_body(sent.kind, sent.number):
            self.fail("another answer than was given", f"{head!r} {body[:100]!r} ... {body[-100:]!r}")
        else:
            self.sent, self._last = None, sent
            if status == "200":
                self._pool.tally.answered(sent)
            else:
                self._pool.tally.failed(sent, f"HTTP {status}", body.decode(errors="replace"))
            if b"\r\nconnection: close" in head.lower():
                self.close()
            else:
                self._pool.free(self)

    def _break_off(self, sent: Sent) -> None:
        if self.sent is not sent:
            return  # it was answered before
        self.sent = None
        if self._pool.chance.random() < 0.5:
            sent.cut += " by RST"
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.abort()
        else:
            sent.cut += " by FIN"
            self.close()
        self._pool.tally.broken_off(sent)
