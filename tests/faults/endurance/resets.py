"""When an upstream resets a connection, and what it writes down of it.

A connection is reset (SO_LINGER 0, so that its peer reads RST) when it has brought part of a request's body, a whole
request, when part of the answer is out, or while nobody uses it between two. (A request that nobody has read and one
that was read but for its answer look alike from the other end; here it is read, so that its number is known.) The
numbers of all requests that were under way on it go to the log first, a line of JSON a reset, and of those answered in
the second before; what is still unread is read before, so that none is missed that had arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import msgspec

from tests.faults.endurance.matching import ResetConnection
from tests.faults.endurance.messages import FIRST_ID, LAST_ID

_EVERY_SECONDS = {"http": 0.8, "grpc": 2.5, "idle": 1.0, "body": 5.0}  # a reset, on average; body: a large one
_LATE_SHARE, _LATE_SECONDS = 0.005, 0.04  # answers that take up to so long, so that several are under way at once
_PART_SECONDS = 0.003  # at most, between part of an answer and the reset
_READ_BYTES = 1 << 18
_LARGE_BYTES = 100_000
_LATELY_SECONDS = 1.0


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
        self.arrived = bytearray(LAST_ID - FIRST_ID + 1)  # a byte each
        self.highest = FIRST_ID

    def begin(self) -> None:
        now = time.monotonic()
        self._due = {what: now + self.chance.expovariate(1 / seconds) for what, seconds in _EVERY_SECONDS.items()}
        self._strike_idle()

    def drawn(self, number: int, way: str, missing_bytes: int = 0) -> str:
        """A request with this number (0: of the proxy's own) has come, but for so much of its body: "" to answer it, or
        when the connection is to be reset."""
        if number:
            self.arrived[number - FIRST_ID] = 1
            self.highest = max(self.highest, number)
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
