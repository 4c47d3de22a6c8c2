"""Upserts of 100 points of 768 dimensions that are waited for: passed on, and journalled with a target behind.

Journalled: the proxy writes the keys to its journal (an fsync) before it sends the client's request on, understands the
points, and copies them to the target (Milvus Lite) after the answer. Between bursts it gets the time to catch up, so
that every burst starts from a target that is level; within a burst the target falls behind and its work competes with
the source's for their cores, as it would on one machine.

With the target stopped or away, what is left is the price of the journal on the client's own path. Those bursts are
longer: about every 70 writes the source syncs its own files, and what waits for the disk then takes three times as long
as others. Of the hundred writes of a second, a p99 would tell whether that fell among them once or twice.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import ExitStack
from statistics import median

from bench.bodies import DIMENSIONS, NAMES, TRANSPORTS, UPSERT_POINTS, Transport
from bench.data import make_collection
from bench.figures import Load, load_rows
from bench.load import Burst, Client, who
from bench.processes import Source, Stub, address, place, proxy_between
from bench.run import Run
from bench.waiting import backfill, behind, wait_until, wait_until_idle
from examples.demo.processes import Proxy, QdrantEmulator
from examples.engines import MilvusLite

_LONGER = 5  # times
_WRITTEN = f"upsert of {UPSERT_POINTS} x {DIMENSIONS}"
_PASSED, _JOURNALLED, _DIRECT = "passed", "journalled", "direct"  # collections; the first two are routes as well


def measure(run: Run) -> None:
    with ExitStack() as stack:
        stub = place(Stub(run.directory / "upserts stub"))
        stack.callback(stub.kill)
        source = place(QdrantEmulator(run.directory / "upserts source"))
        stack.callback(source.kill)
        target = place(MilvusLite(run.directory / "upserts target"))
        stack.callback(target.kill)
        routes = [{"name": name, "collections": [name]} for name in (_PASSED, _JOURNALLED)]
        proxy = place(proxy_between(run.directory / "upserts stub proxy", stub, target.address, routes), of_proxy=True)
        stack.callback(proxy.kill)
        for transport in TRANSPORTS:
            _beside_the_stub(run, stub, proxy, transport)
        proxy.stop()
        for name in (_DIRECT, _PASSED, _JOURNALLED):
            make_collection(f"127.0.0.1:{source.grpc_port}", name, DIMENSIONS, points=0)
        proxy = place(proxy_between(run.directory / "upserts proxy", source, target.address, routes), of_proxy=True)
        stack.callback(proxy.kill)
        deque(backfill(proxy, _JOURNALLED), maxlen=0)
        for transport in TRANSPORTS:
            _beside_the_engine(run, source, target, proxy, transport, "raw", callers=2)
            _beside_the_engine(run, source, target, proxy, transport, "official", callers=1)
        target.pause()
        for transport in TRANSPORTS:
            _without_target(run, proxy, transport, "stopped")
        target.kill()
        for transport in TRANSPORTS:
            _without_target(run, proxy, transport, "away")
        proxy.stop()


def _beside_the_stub(run: Run, stub: Stub, proxy: Proxy, transport: Transport) -> None:
    direct = _burst(run, stub, transport, _PASSED, "raw", callers=4)
    through = _burst(run, proxy, transport, _PASSED, "raw", callers=4)
    found = run.rounds({"direct": lambda: run.load.burst(direct), "passed": lambda: run.load.burst(through, proxy)})
    work = f"{NAMES[transport]} {_WRITTEN}, passed through; {who('raw', 4)}"
    run.add(*load_rows(work, "direct to the stub", found["passed"], found["direct"]))


def _beside_the_engine(
    run: Run,
    source: Source,
    target: MilvusLite,
    proxy: Proxy,
    transport: Transport,
    client: Client,
    callers: int,
) -> None:
    lags: list[float] = []

    def journalled() -> Load:
        load = run.load.burst(_burst(run, proxy, transport, _JOURNALLED, client, callers), proxy)
        began = time.monotonic()
        wait_until(lambda: behind(proxy) == 0, "the target did not catch up")
        lags.append(time.monotonic() - began)
        wait_until_idle(target)
        return load

    found = run.rounds(
        {
            "direct": lambda: run.load.burst(_burst(run, source, transport, _DIRECT, client, callers)),
            "passed": lambda: run.load.burst(_burst(run, proxy, transport, _PASSED, client, callers), proxy),
            "journalled": journalled,
        }
    )
    what, engine = f"{NAMES[transport]} {_WRITTEN}", "direct to the emulated Qdrant"
    run.add(*load_rows(f"{what}, passed through; {who(client, callers)}", engine, found["passed"], found["direct"]))
    rows = load_rows(f"{what}, journalled; {who(client, callers)}", engine, found["journalled"], found["direct"])
    run.add(*rows)
    rows = load_rows(
        f"{what}, journalled; {who(client, callers)}",
        "passed through",
        found["journalled"],
        found["passed"],
        {"catch_up_seconds": median(lags)},
    )
    run.add(*rows)


def _without_target(run: Run, proxy: Proxy, transport: Transport, how: str) -> None:
    passed = _burst(run, proxy, transport, _PASSED, "raw", callers=1, times=_LONGER)
    journalled = _burst(run, proxy, transport, _JOURNALLED, "raw", callers=1, times=_LONGER)
    found = run.rounds(
        {
            "passed": lambda: run.load.burst(passed, proxy),
            "journalled": lambda: run.load.burst(journalled, proxy),
        }
    )
    work = f"{NAMES[transport]} {_WRITTEN}, journalled, target {how}; {who('raw', 1)}"
    run.add(*load_rows(work, "passed through", found["journalled"], found["passed"]))


def _burst(
    run: Run,
    server: Source | Proxy,
    transport: Transport,
    collection: str,
    client: Client,
    callers: int,
    times: float = 1,
) -> Burst:
    return Burst(
        address=address(server, transport),
        transport=transport,
        work="upsert",
        collection=collection,
        client=client,
        callers=callers,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.seconds * times,
    )
