"""Memory of the proxy with 1,000 connections that nobody uses: each has sent one search and stays open."""

from __future__ import annotations

from contextlib import ExitStack
from statistics import median

from bench.bodies import NAMES, TRANSPORTS, Transport
from bench.figures import RESIDENT, row
from bench.load import Hold, Release
from bench.process_figures import resident_bytes
from bench.processes import Stub, address, place, proxy_between
from bench.run import Run

_COLLECTION = "searched"
_NO_TARGET = "127.0.0.1:1"  # nothing is mirrored, so nobody goes there


def measure(run: Run) -> None:
    with ExitStack() as stack:
        stub = place(Stub(run.directory / "idle stub"))
        stack.callback(stub.kill)
        for transport in TRANSPORTS:
            pairs = [hold(run, stub, transport, number) for number in range(run.pace.rounds)]
            befores, afters = zip(*pairs, strict=True)
            count = run.pace.idle_connections
            each_kib = median(after - before for before, after in pairs) / count / 1024
            work = f"{count} idle {NAMES[transport]} connections"
            run.add(row(work, RESIDENT, "the same proxy without", afters, befores, {"kib_per_connection": each_kib}))


def hold(run: Run, stub: Stub, transport: Transport, number: object) -> tuple[int, int]:
    """Resident bytes of a new proxy with one connection, and with all of them."""
    routes = [{"name": "docs", "collections": [_COLLECTION]}]
    directory = run.directory / f"idle proxy {transport} {number}"
    proxy = place(proxy_between(directory, stub, _NO_TARGET, routes), of_proxy=True)
    try:
        assert proxy.pid is not None
        run.load.obey(Hold(address(proxy, transport), transport, _COLLECTION, 1))
        before = resident_bytes(proxy.pid)
        run.load.obey(Hold(address(proxy, transport), transport, _COLLECTION, run.pace.idle_connections))
        after = resident_bytes(proxy.pid)
        run.load.obey(Release())
    finally:
        proxy.stop()
    return before, after
