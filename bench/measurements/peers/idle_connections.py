"""Resident memory that an idle connection costs, without TLS. Its bound is in KiB, and so is its ratio: to 1 KiB."""

from __future__ import annotations

from collections.abc import Sequence

from bench.bodies import NAMES, TRANSPORTS, Transport
from bench.figures import EACH_RESIDENT, Bound, Row, row
from bench.measurements.idle import hold
from bench.processes import Stub, place
from bench.run import Run

_BOUND = Bound(must=8.0, goal=4.0)
_KIB = 1024.0


def measure(run: Run) -> None:
    stub = place(Stub(run.directory / "idle stub of peers"))
    try:
        for transport in TRANSPORTS:
            pairs = [hold(run, stub, transport, f"of peers {number}") for number in range(run.pace.rounds)]
            run.add(row_of(transport, pairs, run.pace.idle_connections))
    finally:
        stub.kill()


def row_of(transport: Transport, pairs: Sequence[tuple[int, int]], connections: int) -> Row:
    """`pairs`: resident bytes with one connection and with all of them, by round."""
    each = [(after - before) / (connections - 1) for before, after in pairs]
    work = f"an idle {NAMES[transport]} connection, plain, of {connections}"
    return row(work, EACH_RESIDENT, "-", each, [_KIB] * len(each), bound=_BOUND)
