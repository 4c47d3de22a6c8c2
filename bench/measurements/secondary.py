"""Searches that the other vendor's store answers (all reads on the target): translated there and back by the proxy,
beside that store's own client. The target is Milvus Lite, whose own time is most of it."""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack

from pymilvus import MilvusClient

from bench.bodies import DIMENSIONS, NAMES, TRANSPORTS
from bench.data import make_collection
from bench.figures import load_rows
from bench.load import Burst
from bench.processes import address, place, proxy_between
from bench.run import Run
from bench.waiting import backfill, wait_until_idle
from examples.demo.processes import QdrantEmulator
from examples.engines import MilvusLite

_COLLECTION = "moved"
_POINTS = 2_000


def measure(run: Run) -> None:
    with ExitStack() as stack:
        source = place(QdrantEmulator(run.directory / "secondary source"))
        stack.callback(source.kill)
        target = place(MilvusLite(run.directory / "secondary target"))
        stack.callback(target.kill)
        make_collection(f"127.0.0.1:{source.grpc_port}", _COLLECTION, DIMENSIONS, _POINTS)
        routes = [{"name": "docs", "collections": [_COLLECTION], "reads": {"weight": 100}}]
        proxy = place(proxy_between(run.directory / "secondary proxy", source, target.address, routes), of_proxy=True)
        stack.callback(proxy.kill)
        deque(backfill(proxy, "docs"), maxlen=0)
        flush(target, _COLLECTION)
        wait_until_idle(source, target)
        own = Burst(
            address=target.address,
            transport="grpc",
            work="search",
            collection=_COLLECTION,
            client="official",
            callers=1,
            warm_seconds=run.pace.warm_seconds,
            seconds=run.pace.seconds,
            vendor="milvus",
        )
        through = {
            transport: Burst(
                address=address(proxy, transport),
                transport=transport,
                work="search",
                collection=_COLLECTION,
                client="official",
                callers=1,
                warm_seconds=run.pace.warm_seconds,
                seconds=run.pace.seconds,
            )
            for transport in TRANSPORTS
        }
        found = run.rounds(
            {
                "direct": lambda: run.load.burst(own),
                "http": lambda: run.load.burst(through["http"], proxy),
                "grpc": lambda: run.load.burst(through["grpc"], proxy),
            }
        )
        for transport in TRANSPORTS:
            work = f"{NAMES[transport]} search, answered by the target; qdrant-client"
            run.add(*load_rows(work, "pymilvus on Milvus Lite", found[transport], found["direct"]))
        proxy.stop()


def flush(target: MilvusLite, collection: str) -> None:
    """Have Milvus Lite index what was written: until then it looks at every row, which takes 50 times as long."""
    client = MilvusClient(uri=f"http://{target.address}")
    try:
        client.flush(collection)
    finally:
        client.close()
