"""An application with one write in flight, before two stores that take 5 ms each: through ours, which answers when the
first has it and sees to the second, beside writing to both itself, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from bench.figures import THROUGHPUT, Bound, Load, Row, row
from bench.load import Burst
from bench.measurements.peers.arena import mirrored
from bench.run import Run
from bench.waiting import behind, wait_until
from examples.demo.processes import Proxy

_BOUND = Bound(must=1.5, goal=1.9)
_DELAY_SECONDS = 0.005
_COLLECTION = "written"
_OURS, _ITSELF = "through ours", "itself"


def measure(run: Run) -> None:
    directory = run.directory / "one in flight"
    with mirrored(directory, _COLLECTION, _DELAY_SECONDS) as (first, second, proxy):
        found = run.rounds(
            {
                _ITSELF: partial(run.load.burst, _burst(run, first.address, also=second.address)),
                _OURS: partial(_through, run, proxy),
            }
        )
    run.add(row_of(found))


def row_of(found: Mapping[str, Sequence[Load]]) -> Row:
    rates = {name: [load.requests_per_second for load in loads] for name, loads in found.items()}
    work = "REST write of one point, one in flight, stores of 5 ms; journalled"
    return row(work, THROUGHPUT, "writing to both itself", rates[_OURS], rates[_ITSELF], bound=_BOUND)


def _through(run: Run, proxy: Proxy) -> Load:
    load = run.load.burst(_burst(run, proxy.address), proxy)
    wait_until(lambda: behind(proxy) == 0, "the second store did not catch up")
    return load


def _burst(run: Run, address: str, also: str = "") -> Burst:
    return Burst(
        address=address,
        transport="http",
        work="write",
        collection=_COLLECTION,
        client="raw",
        callers=1,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.peer_seconds,
        also=also,
    )
