"""Searches of 16 KB over HTTP, passed on by a route, and counted: beside nginx and Envoy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from bench.figures import CAPACITY, Bound, Load, Row, busy, capacities, row
from bench.load import wrk
from bench.measurements.peers.arena import DIRECT, ENVOY, OURS, Arena, ClosedLoop
from bench.peers.installed import NGINX, SYSTEM_NGINX
from bench.run import Run

_CONNECTIONS = 64
_TRACED = ", each with a trace id of its own"
_BOUNDS = {NGINX: Bound(must=1.0, goal=1.5), ENVOY: Bound(must=1.3, goal=2.5), SYSTEM_NGINX: None}


def measure(run: Run, arena: Arena) -> float:
    """Adds the rows. Returns Envoy's requests per CPU second, which is what its core would carry."""
    callers = ClosedLoop(run, _CONNECTIONS)
    found = callers.rounds(list(arena.arms.values()))
    for made in rows(found, callers.who):
        run.add(made)
    if wrk.program() is not None:
        traced = ClosedLoop(run, _CONNECTIONS, traced=True)
        for made in rows(traced.rounds(list(arena.arms.values())), traced.who, _TRACED):
            run.add(made)
    return median(capacities(found[ENVOY]))


def rows(found: Mapping[str, Sequence[Load]], who: str, more: str = "") -> list[Row]:
    """`found`: what each arm did, by round. Only searches with nothing more to say have bounds."""
    return [
        row(
            f"REST search of 16 KB, routed and counted{more}; {who}",
            CAPACITY,
            name,
            capacities(found[OURS]),
            capacities(found[name]),
            {
                "busy": busy(found[OURS]),
                "busy_there": busy(found[name]),
                "direct_requests_per_second": median(load.requests_per_second for load in found[DIRECT]),
            },
            None if more else bound,
        )
        for name, bound in _BOUNDS.items()
        if name in found
    ]
