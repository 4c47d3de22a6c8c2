"""One worker beside two, behind the same port and on the same core: what a request costs, and how evenly they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from prometheus_client.parser import text_string_to_metric_families

from bench.figures import EACH_CPU, Bound, Load, Row, row
from bench.measurements.peers.arena import COLLECTION, Arm, ClosedLoop
from bench.processes import Stub, place, proxy_between
from bench.run import Run
from examples.demo.processes import Proxy

_CONNECTIONS = 64
_BOUND = Bound(must=1.1, goal=1.05)
_ONE, _TWO = "one worker", "two workers"


def measure(run: Run) -> None:
    directory = run.directory / "two workers"
    with ExitStack() as stack:
        stub, other = Stub(directory / "stub"), Stub(directory / "other")
        for each in (stub, other):
            place(each)
            stack.callback(each.kill)
        routes = [{"name": COLLECTION, "collections": [COLLECTION]}]
        proxies = {
            name: place(proxy_between(directory / name, stub, other, routes, workers=workers), of_proxy=True)
            for name, workers in ((_ONE, 1), (_TWO, 2))
        }
        for proxy in proxies.values():
            stack.callback(proxy.stop)
        callers = ClosedLoop(run, _CONNECTIONS)
        found = callers.rounds([Arm(name, proxy.address, "", proxy) for name, proxy in proxies.items()])
        share = least_share(requests_by_worker(proxies[_TWO]))
    run.add(row_of(found, callers.who, share))


def requests_by_worker(proxy: Proxy) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(proxy.control.metrics()):
        for sample in family.samples:
            if sample.name == "crossfade_requests_total":
                worker = sample.labels.get("worker", "0")
                found[worker] = found.get(worker, 0.0) + sample.value
    return found


def least_share(by_worker: Mapping[str, float]) -> float:
    """Percent of the requests that the worker with the fewest has had."""
    return 100 * min(by_worker.values()) / sum(by_worker.values())


def row_of(found: Mapping[str, Sequence[Load]], who: str, least_percent: float) -> Row:
    each = {name: [load.proxy_cpu_seconds for load in loads] for name, loads in found.items()}
    details = {"least percent of a worker": least_percent}
    work = f"REST search of 16 KB by two workers; {who}"
    return row(work, EACH_CPU, _ONE, each[_TWO], each[_ONE], details, _BOUND)
