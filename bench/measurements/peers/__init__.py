"""Beside Envoy and nginx: what a core of ours carries, in the same run, on the same core, with the same load. And
beside an application that does the same by itself: writes to both stores, asks each with its vendor's client.

    load ──► ours | Envoy | nginx | nothing ──► stub

Every proxy runs all the time, on the core of the proxy, with one worker; the load and the stub share the other cores. A
round sends the same load through one after the other. *Capacity* is requests (or bytes) per second of CPU time, of all
threads and children of the proxy: what one core would carry if nothing else were the limit. So it does not matter
whether the load can saturate a proxy, but for what batching would save it; `busy` says how much of its core it used.

One file a kind of work, each a function that adds its rows; the bounds stand where the rows are made.
"""

from __future__ import annotations

from bench.measurements.peers import (
    dual_forward,
    durable,
    encrypted,
    floors,
    grpc_searches,
    http_searches,
    idle_connections,
    one_in_flight,
    tails,
    translation,
    two_workers,
    upserts,
)
from bench.measurements.peers.arena import set_up
from bench.run import Run


def measure(run: Run) -> None:
    with set_up(run) as arena:
        envoy_per_second = http_searches.measure(run, arena)
        tails.measure(run, arena, envoy_per_second)
        grpc_searches.measure(run, arena)
        upserts.measure(run, arena)
        floors.measure(run, arena)
    dual_forward.measure(run)
    encrypted.measure(run)
    two_workers.measure(run)
    durable.measure(run)
    one_in_flight.measure(run)
    translation.measure(run)
    idle_connections.measure(run)
