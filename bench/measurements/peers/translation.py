"""What translation costs in CPU: Qdrant's gRPC in, Milvus out, beside the vendors' clients in an application's process.

The Milvus answers at once (milvus_stub.py), so that both arms are busy: a core that falls asleep between two requests
takes twice as long for each. A search is answered by the target; qdrant-client leaves the proxy idle for a third of the
time, grpcio's callers do not. An upsert is told twice: once the target answers for
writes (phase `complete`) it is translated and sent there, and no more; while both stores are kept the same, all counts
that it costs until the target has it, the journal and the passing on to the source included, less what the proxy does
at rest in as much time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import grpc

from bench.bodies import DIMENSIONS, UPSERT_POINTS, Work, prepared
from bench.data import make_collection
from bench.figures import EACH_CPU, Bound, Row, row
from bench.load import Burst, Client, Clients
from bench.measurements.secondary import flush
from bench.processes import MilvusStub, address, place, proxy_between, used_seconds
from bench.run import Run
from bench.waiting import backfill, behind, wait_until, wait_until_idle
from examples.demo.processes import Proxy, QdrantEmulator
from examples.engines import MilvusLite

_ROUTE, _COLLECTION = "docs", "translated"
_LISTS = "reading into lists + pymilvus's encoding"
_POINTS = 2_000
_CALLERS = 8
_SEARCHES: dict[str, tuple[Client, int]] = {
    f"{_CALLERS} callers of qdrant-client": ("official", _CALLERS),
    "32 callers of grpcio": ("raw", 32),
}
_SEARCH = Bound(must=0.5, goal=0.3)
_UPSERT = Bound(must=0.33, goal=0.15)
_OURS, _CLIENTS = "ours", "clients"
_WRITERS = 2
_TIMES = 3
_LOOK_SECONDS = 1.0  # each look costs the proxy a millisecond
_REST_SECONDS = 1.0


def measure(run: Run) -> None:
    directory = run.directory / "translation"
    with ExitStack() as stack:
        source = place(QdrantEmulator(directory / "source"))
        stack.callback(source.kill)
        lite = place(MilvusLite(directory / "target"))
        stack.callback(lite.kill)
        target = place(MilvusStub(directory / "stub", lite.address))
        stack.callback(target.kill)
        make_collection(address(source, "grpc"), _COLLECTION, DIMENSIONS, _POINTS)
        routes = [{"name": _ROUTE, "collections": [_COLLECTION], "cutover": {"min_shadow_reads": 0}}]
        proxy = place(proxy_between(directory / "proxy", source, target.address, routes), of_proxy=True)
        stack.callback(proxy.stop)
        deque(backfill(proxy, _ROUTE), maxlen=0)
        proxy.control.set_weight(_ROUTE, 100)
        flush(lite, _COLLECTION)
        wait_until_idle(source, lite)

        def clients(work: Work) -> float:
            times = 50 * run.pace.peer_seconds
            order = Clients(work, (address(source, "grpc"), target.address), _COLLECTION, times, _CALLERS)
            return run.load.obey(order).cpu_seconds / times

        def beside_clients(work: Work, ours: Callable[[], float]) -> dict[str, Sequence[float]]:
            return run.rounds({_OURS: ours, _CLIENTS: partial(clients, work)})

        for who, (client, callers) in _SEARCHES.items():
            searched = beside_clients("search", partial(_under_load, run, proxy, "search", client, callers))
            run.add(search_row(searched, who))
        kept_the_same = beside_clients("upsert", partial(_until_level, proxy))
        for move in (proxy.control.cutover, proxy.control.complete):
            move(_ROUTE, force="measured")
        written = beside_clients("upsert", partial(_under_load, run, proxy, "upsert", "raw", _WRITERS))
        run.add(upsert_row(written))
        run.add(mirrored_row(kept_the_same))


def search_row(found: Mapping[str, Sequence[float]], who: str) -> Row:
    """`found`: CPU seconds a request, by round."""
    work = f"gRPC search, translated to Milvus; {who}"
    against = "AsyncQdrantClient + AsyncMilvusClient"
    return row(work, EACH_CPU, against, found[_OURS], found[_CLIENTS], bound=_SEARCH)


def upsert_row(found: Mapping[str, Sequence[float]]) -> Row:
    """`found`: CPU seconds a request, by round."""
    work = f"gRPC upsert of {UPSERT_POINTS} x {DIMENSIONS}, translated to Milvus; {_WRITERS} raw callers"
    return row(work, EACH_CPU, _LISTS, found[_OURS], found[_CLIENTS], bound=_UPSERT)


def mirrored_row(found: Mapping[str, Sequence[float]]) -> Row:
    """`found`: CPU seconds a request, by round."""
    work = "the same, journalled, written to the source, and translated for the target"
    return row(work, EACH_CPU, _LISTS, found[_OURS], found[_CLIENTS])


def _under_load(run: Run, proxy: Proxy, work: Work, client: Client, callers: int) -> float:
    burst = Burst(
        address=address(proxy, "grpc"),
        transport="grpc",
        work=work,
        collection=_COLLECTION,
        client=client,
        callers=callers,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.peer_seconds,
        deadlines=work == "search",
    )
    return run.load.burst(burst, proxy).proxy_cpu_seconds


def _until_level(proxy: Proxy) -> float:
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
