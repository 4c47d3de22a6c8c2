"""`python -m tests.faults.endurance.load`: the load, a process of its own. It reads an order a line (JSON) from its
input and writes what came of it.

`Closed`: so many requests at once, each followed by the next, to see what is carried at most. `Open`: a fixed rate, as
from many independent clients (exponential gaps), whether or not earlier ones are answered, of which a share is broken
off by the client. Both send the same mix.
"""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
import sys
import time
from collections import deque

import msgspec
import uvloop

from tests.faults.endurance import callers_grpc, callers_http
from tests.faults.endurance.callers_grpc import Channels
from tests.faults.endurance.callers_http import LONGEST_SECONDS, Pool
from tests.faults.endurance.messages import FIRST_ID, KINDS, LAST_ID, WAYS, Kind, Way, over_grpc, over_http
from tests.faults.endurance.tally import Sent, Tally, Told

SHARES: dict[Kind, float] = {"search": 81.8, "fetch": 8.0, "large": 0.2, "write": 9.5, "upsert": 0.5}
WAY_SHARES: dict[Way, float] = {"http": 45.0, "tls": 15.0, "grpc": 40.0}
_CONNECTIONS: dict[Way, int] = {"http": 48, "tls": 16}
_CHANNELS, _CALLS = 8, 128
_GRACE_SECONDS = LONGEST_SECONDS + 5
_TICK_SECONDS = 0.001


class Closed(msgspec.Struct, frozen=True, tag=True):
    """`warm_seconds` do not count. `cut_share`: as of Open."""

    seconds: float
    warm_seconds: float
    at_once: int
    cut_share: float


class Open(msgspec.Struct, frozen=True, tag=True):
    """`rate` a second. `cut_share` of the requests are broken off."""

    seconds: float
    rate: float
    cut_share: float


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Where to send to. `ca`: a file with the authority of the listener with TLS."""

    addresses: dict[Way, str]
    ca: str
    seed: int


Order = Begin | Closed | Open


class Load:
    """One run."""

    def __init__(self, where: Begin, first: int) -> None:
        self._chance = random.Random(f"{where.seed} {first}")
        self._next = first
        self._waiting: dict[Way, deque[tuple[Sent, bool]]] = {way: deque() for way in WAYS}
        self._again = False  # as soon as one has ended
        self._cut_share = 0.0
        self._queued = 0
        self._ends = False  # nothing more is sent
        self._drained = asyncio.Event()
        self.tally = Tally(self._ended)
        tls = ssl.create_default_context(cafile=where.ca)
        tls.set_alpn_protocols(["http/1.1"])
        self._pools: dict[Way, Pool] = {
            way: Pool(where.addresses[way], size, tls if way == "tls" else None, self.tally, self._pump)
            for way, size in _CONNECTIONS.items()
        }
        self._channels = Channels(where.addresses["grpc"], _CHANNELS, _CALLS, self.tally, self._pump)

    @property
    def next_number(self) -> int:
        return self._next

    async def run(self, order: Closed | Open) -> Told:
        async with asyncio.TaskGroup() as tasks:
            for pool in self._pools.values():
                await pool.open(tasks)
            await self._channels.open(tasks)
            sweeping = tasks.create_task(self._sweep())
            seconds = await (self._closed(order) if isinstance(order, Closed) else self._open(order))
            in_time = self.tally.sent.total()
            await self._drain()
            sweeping.cancel()
            for pool in self._pools.values():
                pool.close()
            await self._channels.close()
        return self.tally.told(seconds, in_time, self._queued)

    async def _closed(self, order: Closed) -> float:
        self._again = True
        self._cut_share = order.cut_share
        for _ in range(order.at_once):
            self._launch(time.monotonic())
        await asyncio.sleep(order.warm_seconds)
        self.tally.forget()
        began = time.monotonic()
        await asyncio.sleep(order.seconds)
        seconds = time.monotonic() - began
        self._again = False
        self.tally.stop_counting()
        return seconds

    async def _open(self, order: Open) -> float:
        self._cut_share = order.cut_share
        began = due = time.monotonic()
        while (now := time.monotonic()) < began + order.seconds:
            while due <= now:
                self._launch(due)
                due += self._chance.expovariate(order.rate)
            await asyncio.sleep(max(_TICK_SECONDS, due - time.monotonic()))
        return time.monotonic() - began

    async def _drain(self) -> None:
        """Until all are answered. What is not by then is not any more."""
        self._ends = True
        self._look_if_drained()
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._drained.wait()
        except TimeoutError:
            self.tally.noted(f"{self._left()} requests had no end {_GRACE_SECONDS:g} s after the last was sent")
            for waiting in self._waiting.values():
                waiting.clear()

    def _left(self) -> int:
        return self.tally.under_way + sum(map(len, self._waiting.values()))

    def _look_if_drained(self) -> None:
        if not self._left():
            self._drained.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1)
            for pool in self._pools.values():
                pool.sweep()

    def _launch(self, meant: float) -> None:
        [kind] = self._chance.choices(KINDS, [SHARES[kind] for kind in KINDS])
        [way] = self._chance.choices(WAYS, [WAY_SHARES[way] for way in WAYS])
        sent = Sent(self._next, kind, way, range(0), meant)
        self._next += 1
        assert self._next <= LAST_ID
        in_body = kind == "search" and self._chance.random() < 0.5
        if self._chance.random() < self._cut_share:
            sent.cut = self._chance.choice(callers_grpc.CUTS if way == "grpc" else callers_http.CUTS)
            if sent.cut == "body" and kind == "fetch":
                sent.cut = "head"
        self._waiting[way].append((sent, in_body))
        self._pump_way(way)
        self._queued = max(self._queued, len(self._waiting[way]))

    def _ended(self, sent: Sent) -> None:
        if self._again:
            self._launch(time.monotonic())
        elif self._ends:
            self._look_if_drained()

    def _pump(self) -> None:
        for way in WAYS:
            self._pump_way(way)

    def _pump_way(self, way: Way) -> None:
        waiting, target = self._waiting[way], self._channels if way == "grpc" else self._pools[way]
        while waiting and target.has_room:
            sent, in_body = waiting.popleft()
            asked = (over_grpc if way == "grpc" else over_http)(sent.kind, sent.number, in_body)
            sent.keys = asked.keys
            if isinstance(target, Channels):
                target.send(sent, asked, in_body)
            else:
                target.send(sent, asked)


def warm() -> None:
    """Make what is made once."""
    for kind in KINDS:
        over_http(kind, FIRST_ID, False)
        over_grpc(kind, FIRST_ID, False)
    gc.collect()
    gc.freeze()


async def obey() -> None:
    """Until the input ends."""
    where, first = Begin({}, "", 0), FIRST_ID
    warm()
    while line := await asyncio.to_thread(sys.stdin.readline):
        order: Order = msgspec.json.decode(line, type=Order)
        told = Told()
        if isinstance(order, Begin):
            where = order
        else:
            load = Load(where, first)
            told = await load.run(order)
            first = load.next_number
        sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(obey())
