"""How long small requests wait while vectors of an upsert are read from JSON: where is such work done best?

In one go on the event loop, on the loop in turns of a millisecond, in a thread, or in the process beside
(proxy/offload.py). Requests come from another process at a steady rate, each a datagram with the time it was sent; what
is measured is how long it takes until the loop has it. All four in this process, one after the other, in each round.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import orjson
import uvloop

from bench.bodies import DIMENSIONS, UPSERT_POINTS, matrix
from bench.figures import TAIL, percentile, row
from bench.run import Run
from proxy.dialects.qdrant.rest_upserts import JsonVector, unread_upsert
from proxy.model import read_all
from proxy.offload import Offload
from proxy.telemetry.metrics import Metrics

Read = Callable[[Sequence[JsonVector]], Awaitable[object]]

_UPSERTS_PER_SECOND = 20.0
_REQUESTS_PER_SECOND = 1000.0
_TURN_SECONDS = 0.001
_SENT = struct.Struct("<d")
_SENDER = """
import socket, struct, sys, time
out = socket.socket(fileno=int(sys.argv[1]))
at = time.monotonic()
end = at + float(sys.argv[2])
while at < end:
    at += 1 / float(sys.argv[3])
    time.sleep(max(0, at - time.monotonic()))
    out.send(struct.pack("<d", at))
"""


def measure(run: Run) -> None:
    """Rows: p99 of the wait, in each way beside in turns; `cpu_seconds_per_upsert` is this process's."""
    seconds = run.pace.seconds
    ways = {"in one go": _at_once, "in turns": _in_turns, "in a thread": _in_a_thread, "in a process beside": None}
    found = run.rounds({name: partial(_wait_seconds, way, seconds) for name, way in ways.items()})
    reference = [p99 for p99, _ in found["in turns"]]
    for name in ways:
        if name != "in turns":
            work = f"small request beside {_UPSERTS_PER_SECOND:g}/s of {UPSERT_POINTS} x {DIMENSIONS} read {name}"
            cpu = {"cpu_seconds_per_upsert": [each for _, each in found[name]]}
            run.add(row(work, TAIL, "read in turns of 1 ms", [p99 for p99, _ in found[name]], reference, cpu))


def _vectors() -> list[JsonVector]:
    vectors = matrix(UPSERT_POINTS, DIMENSIONS, seed=5).tolist()
    body = orjson.dumps({"points": [{"id": number, "vector": vector} for number, vector in enumerate(vectors)]})
    upsert = unread_upsert("c", body)
    assert upsert is not None
    return [point.vectors for point in upsert.points if isinstance(point.vectors, JsonVector)]


async def _at_once(vectors: Sequence[JsonVector]) -> None:
    read_all([each.wire for each in vectors], vectors[0].read)


async def _in_turns(vectors: Sequence[JsonVector]) -> None:
    began = time.monotonic()
    for each in vectors:
        each.read(each.wire)
        if time.monotonic() - began > _TURN_SECONDS:
            await asyncio.sleep(0)
            began = time.monotonic()


async def _in_a_thread(vectors: Sequence[JsonVector]) -> None:
    await asyncio.to_thread(read_all, [each.wire for each in vectors], vectors[0].read)


def _wait_seconds(read: Read | None, seconds: float) -> tuple[float, float]:
    """p99, and CPU seconds of this process for an upsert. `read`: None for the process beside."""
    return uvloop.run(_beside(read, seconds))


async def _beside(read: Read | None, seconds: float) -> tuple[float, float]:
    offload, vectors = Offload(Metrics()), _vectors()

    async def elsewhere(some: Sequence[JsonVector]) -> None:
        await offload.run(read_all, [bytes(each.wire) for each in some], some[0].read)

    if read is None:
        await offload.ready(read_all)
        read = elsewhere
    waits: list[float] = []
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, _note, ours, waits)
    options = (str(theirs.fileno()), str(seconds), str(_REQUESTS_PER_SECOND))
    with theirs, subprocess.Popen([sys.executable, "-c", _SENDER, *options], pass_fds=(theirs.fileno(),)) as sender:
        cpu, upserts, began = time.process_time(), 0, loop.time()
        while sender.poll() is None:
            upserts += 1
            await read(vectors)
            await asyncio.sleep(max(0.0, began + upserts / _UPSERTS_PER_SECOND - loop.time()))
        used = time.process_time() - cpu
    loop.remove_reader(ours)
    ours.close()
    await offload.close()
    return percentile(waits, 99), used / upserts


def _note(end: socket.socket, waits: list[float]) -> None:
    now = time.monotonic()
    while True:
        try:
            [sent] = _SENT.unpack(end.recv(_SENT.size))
        except BlockingIOError:
            return
        waits.append(now - sent)
