"""Searches of 3 KB over gRPC by real clients, with the headers that they send: a time-out that varies.

Callers of grpcio send what is left of a deadline, one of 700 values; qdrant-client sends one of two.

The clients take most of the load's core and leave each proxy mostly idle, so neither saves by batching.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from bench.figures import CAPACITY, Bound, Load, Row, busy, capacities, row
from bench.load import Burst, Client
from bench.measurements.peers.arena import COLLECTION, DIRECT, ENVOY, OURS, Arena, Arm
from bench.run import Run

_BOUND = Bound(must=0.6, goal=1.2)
_CLIENTS: dict[str, tuple[Client, int]] = {
    "32 callers of grpcio": ("raw", 32),
    "4 threads of qdrant-client": ("official", 4),
}


def measure(run: Run, arena: Arena) -> None:
    arms = [arena.arms[name] for name in (DIRECT, OURS, ENVOY)]
    for who, (client, callers) in _CLIENTS.items():
        found = run.rounds(
            {arm.name: partial(run.load.burst, _burst(run, arm, client, callers), arm.process) for arm in arms}
        )
        run.add(row_of(found, who))


def row_of(found: Mapping[str, Sequence[Load]], who: str) -> Row:
    """`found`: what each arm did, by round."""
    details = {
        "busy": busy(found[OURS]),
        "busy_there": busy(found[ENVOY]),
        "direct_requests_per_second": median(load.requests_per_second for load in found[DIRECT]),
    }
    work = f"gRPC search of 3 KB, routed and counted; {who}"
    return row(work, CAPACITY, ENVOY, capacities(found[OURS]), capacities(found[ENVOY]), details, _BOUND)


def _burst(run: Run, arm: Arm, client: Client, callers: int) -> Burst:
    return Burst(
        address=arm.grpc_address,
        transport="grpc",
        work="search",
        collection=COLLECTION,
        client=client,
        callers=callers,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.peer_seconds,
        deadlines=True,
    )
