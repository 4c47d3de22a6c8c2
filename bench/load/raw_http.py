"""Raw callers over HTTP/1.1: prepared bytes out, and of an answer its status and its end."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from typing import cast

from bench.bodies import Prepared, prepared
from bench.load import Burst, Hold, Watch

_OPENING_AT_ONCE = 50


async def run(burst: Burst) -> Watch:
    requests = prepared("http", burst.work, burst.collection, burst.address)
    watch = Watch(burst)
    addresses = [burst.address, burst.also] if burst.also else [burst.address]
    lines = [[await _connect(address) for address in addresses] for _ in range(burst.callers)]
    try:
        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(lines):
                group.create_task(_call_on(line, requests[number % len(requests) :] + requests, watch))
    finally:
        for caller in itertools.chain(*lines):
            caller.close()
    return watch


async def hold(order: Hold) -> Callable[[], None]:
    """Open the connections; returns what closes them. Raises ConnectionError if one is not served."""
    [request, *_] = prepared("http", "search", order.collection, order.address)
    held: list[Caller] = []

    async def open_one() -> None:
        caller = await _connect(order.address)
        held.append(caller)
        await caller.ask(request.body)

    for start in range(0, order.connections, _OPENING_AT_ONCE):
        await asyncio.gather(*(open_one() for _ in range(min(_OPENING_AT_ONCE, order.connections - start))))

    def close() -> None:
        for caller in held:
            caller.close()

    return close


async def _call_on(line: Sequence[Caller], requests: Sequence[Prepared], watch: Watch) -> None:
    for request in itertools.cycle(requests):
        if not watch.is_open():
            return
        began = time.perf_counter()
        try:
            for caller in line:
                await caller.ask(request.body)
        except ConnectionError as error:
            watch.failed(str(error))
            return
        watch.ended(began)


async def _connect(address: str) -> Caller:
    host, _, port = address.rpartition(":")
    _, caller = await asyncio.get_running_loop().create_connection(Caller, host, int(port))
    return caller


class Caller(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._size = 0  # of the whole answer once its head says so; 0 until then, -1 if it comes in chunks
        self._answered: asyncio.Future[None] | None = None

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send; the future ends with the answer. ConnectionError unless it says 200."""
        self._received.clear()
        self._size = 0
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # of uvloop, which derives from nothing

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._size == 0:
            self._size = size_of(self._received)
        ended = self._received.endswith(b"\r\n0\r\n\r\n") if self._size < 0 else len(self._received) >= self._size > 0
        if ended:
            if self._received.startswith(b"HTTP/1.1 200"):
                self._end(None)
            else:
                self._end(ConnectionError(self._received[:500].decode(errors="replace")))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(ConnectionError(f"the connection was closed in the middle of a request ({error})"))

    def _end(self, error: Exception | None) -> None:
        answered, self._answered = self._answered, None
        if answered is None or answered.done():
            return
        if error is None:
            answered.set_result(None)
        else:
            answered.set_exception(error)


def size_of(received: bytearray) -> int:
    """Of the whole answer, once its head says so; 0 until then, -1 if it comes in chunks."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = received[:end].lower()
    _, named, length = head.partition(b"\r\ncontent-length:")
    return end + 4 + int(length.partition(b"\r\n")[0]) if named else -1
