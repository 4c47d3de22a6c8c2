"""The load: one process that sends requests as fast as they are answered, or at a fixed rate, and times each of them.

It reads an order a line (JSON, the values below) from its input and writes an answer a line. `raw` callers send bytes
that were made before the clock started and look at no more of an answer than its end and its status: what is measured
is the way, not the client. `official` callers are the vendors' own Python clients, as an application has them; they
cost more than anything else on the way, and are shown for what they are. (wrk.py is a program of its own, which the
benchmark starts itself.)
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from bench.bodies import Transport, Work

Client = Literal["raw", "official"]

_LEAST = 10  # requests
_LONGEST_TIMES = 20  # a burst's seconds


class Burst(msgspec.Struct, frozen=True, tag=True):
    """`callers` send `work` to `address` (its HTTP or its gRPC one), each again as soon as it is answered, for
    `seconds` after `warm_seconds` that do not count. A target of vendor "milvus" is asked by pymilvus."""

    address: str
    transport: Transport
    work: Work
    collection: str
    client: Client
    callers: int
    warm_seconds: float
    seconds: float
    vendor: Literal["qdrant", "milvus"] = "qdrant"
    deadlines: bool = False  # raw over gRPC: a call has what is left of a deadline, a header that varies
    also: str = ""  # raw over HTTP: the same request goes to this address once the first has answered; both are one


class Steady(msgspec.Struct, frozen=True, tag=True):
    """Send `work` over HTTP, `rate` a second on average, whether or not it is answered, over
    `connections` (steady.py)."""

    address: str
    work: Work
    collection: str
    rate: float
    connections: int
    warm_seconds: float
    seconds: float


class Clients(msgspec.Struct, frozen=True, tag=True):
    """Have the vendors' own clients do what the proxy does when it translates, `times` times, and count their CPU time
    (clients.py). `addresses`: of Qdrant's gRPC and of Milvus. `callers`: how many are at it at the same time."""

    work: Work
    addresses: tuple[str, str]
    collection: str
    times: int
    callers: int = 1


class Hold(msgspec.Struct, frozen=True, tag=True):
    """Open `connections`, send one search on each, and keep them until the next order comes."""

    address: str
    transport: Transport
    collection: str
    connections: int


class Release(msgspec.Struct, frozen=True, tag=True):
    """Close what is held."""


class Answer(msgspec.Struct, frozen=True):
    """What came of a Burst: how many requests ended in how many seconds, and how long each took. `failure`: the first
    request that was not answered with success, "" if all were; such a measurement counts for nothing. `in_all`: with
    those that were answered outside of the time, which cost the proxy as much. `unanswered`: of a Steady, those that
    had no answer when it ended; their waiting is among the latencies."""

    requests: int = 0
    seconds: float = 0.0
    latencies_seconds: list[float] = []
    failure: str = ""
    in_all: int = 0
    unanswered: int = 0
    cpu_seconds: float = 0.0  # of this process; of Clients only


def who(client: Client, callers: int) -> str:
    """The callers in words."""
    if client == "official":
        return "qdrant-client" if callers == 1 else f"{callers} threads of qdrant-client"
    return "1 raw caller" if callers == 1 else f"{callers} raw callers"


Order = Burst | Steady | Clients | Hold | Release


class Watch:
    """When a burst begins and ends, and how long its requests took.

    It ends after the burst's seconds, or later if by then fewer than `_LEAST` requests have: a figure of two or three
    says nothing.
    """

    def __init__(self, burst: Burst) -> None:
        self._from = time.perf_counter() + burst.warm_seconds
        self._until = self._from + burst.seconds
        self._latest = self._from + _LONGEST_TIMES * burst.seconds
        self._latencies: list[float] = []
        self._last = self._from
        self._in_all = 0
        self.failure = ""

    def is_open(self) -> bool:
        now = time.perf_counter()
        if self.failure or now > self._latest:
            return False
        return now < self._until or len(self._latencies) < _LEAST

    def ended(self, began: float) -> None:
        """A request that was sent at `began` (time.perf_counter) has been answered with success."""
        now = time.perf_counter()
        self._in_all += 1
        if now >= self._from and self.is_open():
            self._latencies.append(now - began)
            self._last = now

    def failed(self, why: str) -> None:
        self.failure = self.failure or why

    def answer(self) -> Answer:
        seconds = max(self._last, self._until) - self._from
        return Answer(len(self._latencies), seconds, self._latencies, self.failure, self._in_all)
