"""Moving the primary under 200 writes a second: how long a flip holds writes, and what the slowest client waited.

Each round is a cutover and a rollback (embedded engines: the emulated Qdrant and Milvus Lite), while clients go on
writing at a fixed rate through the proxy, one point a request. What counts as a hold is the time from PREPARE to the
decision; no write is held longer.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

import httpx

from bench.data import make_collection
from bench.figures import Measure, Row
from bench.processes import BenchError, place, proxy_between
from bench.run import Run
from bench.waiting import backfill, behind, wait_until
from examples.demo.processes import Proxy, QdrantEmulator
from examples.engines import MilvusLite

_NAME, _DIMENSIONS, _POINTS = "moving", 64, 2_000
_WRITES_PER_SECOND, _CALLERS = 200, 16
_BOUND_SECONDS = 0.25
_HOLD = Measure("longest hold", "ms", lower_is_better=True, scale=1e3)
_WAIT = Measure("longest wait of a client", "ms", lower_is_better=True, scale=1e3)


def measure(run: Run) -> None:
    with ExitStack() as stack:
        source = place(QdrantEmulator(run.directory / "moving source"))
        stack.callback(source.kill)
        target = place(MilvusLite(run.directory / "moving target"))
        stack.callback(target.kill)
        route = {"name": _NAME, "collections": [_NAME], "cutover": {"min_shadow_reads": 0, "policy": "primary"}}
        proxy = place(proxy_between(run.directory / "moving proxy", source, target.address, [route]), of_proxy=True)
        stack.callback(proxy.kill)
        make_collection(f"127.0.0.1:{source.grpc_port}", _NAME, _DIMENSIONS, _POINTS)
        deque(backfill(proxy, _NAME), maxlen=0)
        proxy.control.set_weight(_NAME, 100)
        holds, waits = _flips(run, proxy)
        work = f"cutover or rollback under {_WRITES_PER_SECOND} writes/s, {2 * run.pace.rounds} flips"
        for measured, found in ((_HOLD, holds), (_WAIT, waits)):
            run.add(_row(work, measured, found))


def _flips(run: Run, proxy: Proxy) -> tuple[list[float], list[float]]:
    """Seconds of each flip's hold, and of the slowest write of each flip."""
    holds, waits = [], []
    with _writing(proxy) as writes:
        for _ in range(run.pace.rounds):
            for move in (proxy.control.cutover, proxy.control.rollback):
                wait_until(lambda: behind(proxy) < 100, "the secondary did not catch up")
                writes.slowest_seconds = 0.0
                holds.append(move(_NAME, force="measured").held_seconds)
                writes.settle()
                waits.append(writes.slowest_seconds)
    if writes.failure:
        raise BenchError(f"a write failed: {writes.failure}")
    return holds, waits


@dataclass
class _Writes:
    slowest_seconds: float = 0.0
    done: int = 0
    failure: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def settle(self) -> None:
        """Until every write that may have been held is answered."""
        after = self.done + _CALLERS
        wait_until(lambda: self.done >= after or bool(self.failure), "the writes stand still")


@contextmanager
def _writing(proxy: Proxy) -> Iterator[_Writes]:
    writes = _Writes()
    thread = threading.Thread(target=lambda: asyncio.run(_write(proxy, writes)), name="writes")
    thread.start()
    try:
        writes.settle()
        yield writes
    finally:
        writes.ended.set()
        thread.join()


async def _write(proxy: Proxy, writes: _Writes) -> None:
    url = f"http://{proxy.address}/collections/{_NAME}/points?wait=true"
    began = time.monotonic()

    async def caller(client: httpx.AsyncClient, first: int) -> None:
        for number in range(first, 10**9, _CALLERS):
            await asyncio.sleep(max(0.0, began + number / _WRITES_PER_SECOND - time.monotonic()))
            if writes.ended.is_set() or writes.failure:
                return
            sent = time.monotonic()
            vector = [1.0 + (number * (i + 1)) % 7 for i in range(_DIMENSIONS)]
            answer = await client.put(url, json={"points": [{"id": number % 500, "vector": vector}]})
            writes.slowest_seconds = max(writes.slowest_seconds, time.monotonic() - sent)
            writes.done += 1
            if answer.status_code != 200:
                writes.failure = answer.text

    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as callers:
        for number in range(_CALLERS):
            callers.create_task(caller(client, number))


def _row(work: str, measured: Measure, found: list[float]) -> Row:
    scale: Callable[[float], float] = lambda seconds: seconds * measured.scale  # noqa: E731
    ratios = [seconds / _BOUND_SECONDS for seconds in found]
    return Row(
        work=work,
        measure=measured,
        against="the bound of 250 ms",
        value=scale(max(found)),
        reference=scale(_BOUND_SECONDS),
        ratio=max(found) / _BOUND_SECONDS,
        low=min(ratios),
        high=max(ratios),
        rounds=len(found),
        details={"median_ms": scale(median(found))},
    )
