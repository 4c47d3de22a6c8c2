"""What translation costs in CPU: Qdrant's gRPC in, Milvus out, beside the vendors' clients in an application's process.

A search is answered by the target, and several are under way in both arms: a core that falls asleep between two takes
twice as long for each. Of an upsert counts all that ours does until the target has it, the journal and the passing on
to the source included, less what it does at rest in as much time. The target is Milvus Lite, whose slowness costs
neither side CPU time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import grpc

from bench.bodies import DIMENSIONS, UPSERT_POINTS, Work, prepared
from bench.data import make_collection
from bench.figures import EACH_CPU, Bound, Row, row
from bench.load import Burst, Clients
from bench.measurements.secondary import flush
from bench.processes import address, place, proxy_between, used_seconds
from bench.run import Run
from bench.waiting import backfill, behind, wait_until, wait_until_idle
from examples.demo.processes import Proxy, QdrantEmulator
from examples.engines import MilvusLite

_COLLECTION = "translated"
_POINTS = 2_000
_CALLERS = 8
_SEARCH = Bound(must=0.5, goal=0.3)
_UPSERT = Bound(must=0.33, goal=0.15)
_OURS, _CLIENTS = "ours", "clients"
_TIMES = 3
_LOOK_SECONDS = 1.0  # each look costs the proxy a millisecond
_REST_SECONDS = 1.0


def measure(run: Run) -> None:
    directory = run.directory / "translation"
    with ExitStack() as stack:
        source = place(QdrantEmulator(directory / "source"))
        stack.callback(source.kill)
        target = place(MilvusLite(directory / "target"))
        stack.callback(target.kill)
        make_collection(address(source, "grpc"), _COLLECTION, DIMENSIONS, _POINTS)
        routes = [{"name": "docs", "collections": [_COLLECTION], "reads": {"weight": 100}}]
        proxy = place(proxy_between(directory / "proxy", source, target.address, routes), of_proxy=True)
        stack.callback(proxy.stop)
        deque(backfill(proxy, "docs"), maxlen=0)
        flush(target, _COLLECTION)
        wait_until_idle(source, target)

        def clients(work: Work) -> float:
            times = 50 * run.pace.peer_seconds
            order = Clients(work, (address(source, "grpc"), target.address), _COLLECTION, times, _CALLERS)
            return run.load.obey(order).cpu_seconds / times

        searches = {_OURS: partial(_search, run, proxy), _CLIENTS: partial(clients, "search")}
        run.add(search_row(run.rounds(searches)))
        upserts = {_OURS: partial(_upsert, proxy), _CLIENTS: partial(clients, "upsert")}
        run.add(upsert_row(run.rounds(upserts)))


def search_row(found: Mapping[str, Sequence[float]]) -> Row:
    """`found`: CPU seconds a request, by round."""
    work = f"gRPC search, translated to Milvus; {_CALLERS} callers of qdrant-client"
    against = "AsyncQdrantClient + AsyncMilvusClient"
    return row(work, EACH_CPU, against, found[_OURS], found[_CLIENTS], bound=_SEARCH)


def upsert_row(found: Mapping[str, Sequence[float]]) -> Row:
    """`found`: CPU seconds a request, by round."""
    work = f"gRPC upsert of {UPSERT_POINTS} x {DIMENSIONS}, journalled and translated to Milvus"
    against = "reading into lists + pymilvus's encoding"
    return row(work, EACH_CPU, against, found[_OURS], found[_CLIENTS], bound=_UPSERT)


def _search(run: Run, proxy: Proxy) -> float:
    burst = Burst(
        address=address(proxy, "grpc"),
        transport="grpc",
        work="search",
        collection=_COLLECTION,
        client="official",
        callers=_CALLERS,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.peer_seconds,
    )
    return run.load.burst(burst, proxy).proxy_cpu_seconds


def _upsert(proxy: Proxy) -> float:
    """Every point once before it is level, so that all are copied."""
    requests = prepared("grpc", "upsert", _COLLECTION, "")
    before = used_seconds(proxy)
    time.sleep(_REST_SECONDS)
    at_rest = (used_seconds(proxy) - before) / _REST_SECONDS
    began, before = time.monotonic(), used_seconds(proxy)
    with grpc.insecure_channel(address(proxy, "grpc"), options=[("grpc.max_send_message_length", -1)]) as channel:
        send = channel.unary_unary(requests[0].path)
        for _ in range(_TIMES):
            for request in requests:
                send(request.body)
            wait_until(lambda: _level(proxy), "the target did not catch up")
    used = used_seconds(proxy) - before - at_rest * (time.monotonic() - began)
    return used / (_TIMES * len(requests))


def _level(proxy: Proxy) -> bool:
    time.sleep(_LOOK_SECONDS)
    return behind(proxy) == 0
