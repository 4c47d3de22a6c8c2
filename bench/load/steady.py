"""Requests over HTTP at a fixed rate, whether or not the earlier ones are answered: an open loop.

What is timed is the delay from the moment a request was meant to be sent, so that one which waits for a connection,
behind others that wait for their answers, has waited (no coordinated omission). Requests are meant to be sent as those
of many independent clients come, with exponential gaps; the same moments for every arm. (h2load sends its rate in
bursts of one request a client at once, and wrk knows no rate at all.)

One thread and select(2), whose waits are exact to some 50 us: an event loop's timers are to a millisecond.
"""

from __future__ import annotations

import gc
import itertools
import random
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

from bench.bodies import prepared
from bench.load import Answer, Steady
from bench.load.raw_http import size_of

_SEED = 11
_GRACE_SECONDS = 1.0  # for what is unanswered when the last request was meant to be sent
_READ_BYTES = 1 << 18


def moments(rate: float, seconds: float) -> list[float]:
    """When to send, in seconds from the start: `rate` a second on average, the same for the same arguments."""
    chance = random.Random(_SEED)
    found, at = [], chance.expovariate(rate)
    while at < seconds:
        found.append(at)
        at += chance.expovariate(rate)
    return found


def run(order: Steady) -> Answer:
    """What had no answer in time counts with the time it had waited by then, and is told as `unanswered`."""
    requests = itertools.cycle([one.body for one in prepared("http", order.work, order.collection, order.address)])
    host, _, port = order.address.rpartition(":")
    lines = [_Line(socket.create_connection((host, int(port)))) for _ in range(order.connections)]
    gc.disable()
    try:
        return _run(order, lines, requests)
    finally:
        gc.enable()
        for line in lines:
            line.socket.close()


def _run(order: Steady, lines: Sequence[_Line], requests: Iterator[bytes]) -> Answer:
    coming = deque(moments(order.rate, order.warm_seconds + order.seconds))
    waiting: deque[float] = deque()  # their moment has come, but no connection is free
    free, busy = list(lines), dict[int, _Line]()
    latencies: list[float] = []
    began = time.perf_counter()
    latest = order.warm_seconds + order.seconds + _GRACE_SECONDS
    while coming or waiting or busy:
        now = time.perf_counter() - began
        if now > latest:
            break
        while coming and coming[0] <= now:
            waiting.append(coming.popleft())
        while waiting and free:
            line = free.pop()
            line.send(next(requests), waiting.popleft())
            busy[line.socket.fileno()] = line
        until = coming[0] if coming else latest
        readable, _, _ = select.select(busy, [], [], max(0.0, until - (time.perf_counter() - began)))
        for number in readable:
            line = busy[number]
            if line.is_answered():
                latencies += _counted(order, [line.meant], time.perf_counter() - began)
                free.append(busy.pop(number))
            if line.failure:
                return Answer(failure=line.failure)
    left = [*(line.meant for line in busy.values()), *waiting, *coming]  # coming: nobody got round to them
    late = _counted(order, left, time.perf_counter() - began)
    return Answer(len(latencies), order.seconds, latencies + late, unanswered=len(late))


def _counted(order: Steady, meant: Sequence[float], now: float) -> list[float]:
    """The delays of those that were not meant for the warm-up."""
    return [now - at for at in meant if at >= order.warm_seconds]


class _Line:
    """A connection with one request at a time, which was meant to be sent at `meant`."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.meant = 0.0
        self.failure = ""
        self._received = bytearray()

    def send(self, request: bytes, meant: float) -> None:
        self.meant = meant
        self._received.clear()
        self.socket.sendall(request)  # fits into the socket's buffer

    def is_answered(self) -> bool:
        """Read what has come. `failure` says so if it is not an answer of success, or the end of the connection."""
        data = self.socket.recv(_READ_BYTES)
        self._received += data
        size = size_of(self._received)
        if not data:
            self.failure = "the connection was closed in the middle of a request"
        elif size and not self._received.startswith(b"HTTP/1.1 200"):
            self.failure = self._received[:500].decode(errors="replace")
        return not self.failure and (
            self._received.endswith(b"\r\n0\r\n\r\n") if size < 0 else len(self._received) >= size > 0
        )
