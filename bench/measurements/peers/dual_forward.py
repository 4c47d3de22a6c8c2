"""Searches that go to two stores, both awaited, nothing journalled: shadow reads of all of them, beside mirrors.

    load ──► ours | Envoy | nginx ──┬─► stub ──► the client's answer
                                    └─► stub

Ours compares the two answers; the peers throw the second one away. The stubs say that searches took them different
times, as two servers would. How many searches the second one got is counted by the stubs, and a proxy that does not
send it all of them measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from bench.figures import CAPACITY, Bound, Load, Row, busy, capacities, row
from bench.load import Burst
from bench.measurements.peers.arena import COLLECTION, ENVOY, OURS, Arm, ClosedLoop, nginxes_before, settle
from bench.peers.envoy import Envoy
from bench.peers.installed import NGINX, SYSTEM_NGINX
from bench.processes import BenchError, Stub, place, proxy_between
from bench.run import Run
from bench.waiting import backfill, mirror
from examples.demo.processes import Proxy
from examples.engines import ChildProcess

_CONNECTIONS = 64
_CALLERS = 32
HTTP_BOUNDS = {NGINX: Bound(must=1.0, goal=1.5), ENVOY: Bound(must=1.5, goal=2.5), SYSTEM_NGINX: None}
GRPC_BOUNDS: dict[str, Bound | None] = {ENVOY: Bound(must=1.0, goal=1.5)}
_LEAST_SHARE = 0.95  # of the searches, that the second store has to get, and ours to compare


@dataclass(slots=True)
class Shares:
    """Of the searches of each burst: how many the second stub got (`mirrored`), and ours compared. `counts`: how many
    the two stubs have got and ours has compared so far."""

    counts: Callable[[], tuple[int, int, int]]
    mirrored: dict[str, list[float]] = field(default_factory=dict)
    compared: list[float] = field(default_factory=list)

    def counted(self, arm: Arm, burst: Callable[[], Load]) -> Load:
        """A burst through that arm. Raises BenchError if not all of it went to both."""
        before = self.counts()
        load = burst()
        settle()
        first, second, compared = (now - then for now, then in zip(self.counts(), before, strict=True))
        if not first or second < first * _LEAST_SHARE:
            raise BenchError(f"{arm.name} sent {second} of {first} searches to the second store")
        if arm.name == OURS and compared < first * _LEAST_SHARE:
            raise BenchError(f"{arm.name} compared {compared} of {first} searches")
        self.mirrored.setdefault(arm.name, []).append(second / first)
        if arm.name == OURS:
            self.compared.append(compared / first)
        return load


@dataclass(frozen=True, slots=True)
class Setting:
    """The two stubs and what stands before them."""

    first: Stub
    second: Stub
    proxy: Proxy
    arms: Mapping[str, Arm]

    def shares(self) -> Shares:
        return Shares(
            lambda: (self.first.searches(), self.second.searches(), compared_in(self.proxy.control.metrics()))
        )


def measure(run: Run) -> None:
    with _set_up(run) as setting:
        callers, shares = ClosedLoop(run, _CONNECTIONS), setting.shares()
        found = callers.rounds(list(setting.arms.values()), shares.counted)
        for made in rows(f"REST search of 16 KB, {{}}; {callers.who}", found, HTTP_BOUNDS, shares):
            run.add(made)
        shares = setting.shares()
        bursts = {
            name: partial(shares.counted, arm, partial(run.load.burst, _burst(run, arm), arm.process))
            for name, arm in setting.arms.items()
            if arm.grpc_address
        }
        work = f"gRPC search of 3 KB, {{}}; {_CALLERS} callers of grpcio"
        for made in rows(work, run.rounds(bursts), GRPC_BOUNDS, shares):
            run.add(made)


def rows(
    work: str, found: Mapping[str, Sequence[Load]], bounds: Mapping[str, Bound | None], shares: Shares
) -> list[Row]:
    """`found`: what each arm did, by round."""
    return [
        row(
            work.format("to two stores, compared"),
            CAPACITY,
            f"{name}, mirroring",
            capacities(found[OURS]),
            capacities(found[name]),
            {
                "busy": busy(found[OURS]),
                "busy_there": busy(found[name]),
                "compared_share": median(shares.compared),
                "second_store_share": median(shares.mirrored[OURS]),
                "second_store_share_there": median(shares.mirrored[name]),
            },
            bound,
        )
        for name, bound in bounds.items()
        if name in found
    ]


def compared_in(metrics: str) -> int:
    """How many searches have been compared so far, of what /metrics says."""
    lines = [line for line in metrics.splitlines() if line.startswith("crossfade_shadow_reads_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="compared"' in line))


@contextmanager
def _set_up(run: Run) -> Iterator[Setting]:
    directory = run.directory / "dual"
    with ExitStack() as stack:

        def running(process: ChildProcess, *, of_proxy: bool = True) -> None:
            place(process, of_proxy=of_proxy)
            stack.callback(process.stop)

        named = ("--collection", COLLECTION)
        first = Stub(directory / "first", more=named)
        second = Stub(directory / "second", more=(*named, "--took-seconds", "0.000456"))
        running(first, of_proxy=False)
        running(second, of_proxy=False)
        mirrors = (second.rest_port, second.grpc_port)
        envoy = Envoy(directory / "envoy", first.rest_port, first.grpc_port, mirror_ports=mirrors)
        nginxes = nginxes_before(directory, first.rest_port, second.rest_port)
        shadow = {"sample_percent": 100, "max_in_flight": 4 * _CONNECTIONS}
        route = {"name": COLLECTION, "collections": [COLLECTION], "shadow": shadow}
        proxy = proxy_between(directory / "proxy", first, second, [route])
        for process in (envoy, *nginxes.values(), proxy):
            running(process)
        mirror(proxy, COLLECTION)
        for _ in backfill(proxy, COLLECTION):
            pass
        arms = [
            Arm(OURS, proxy.address, f"127.0.0.1:{proxy.grpc_port}", proxy),
            Arm(ENVOY, envoy.address, f"127.0.0.1:{envoy.grpc_port}", envoy),
            *(Arm(name, nginx.address, "", nginx) for name, nginx in nginxes.items()),
        ]
        yield Setting(first, second, proxy, {arm.name: arm for arm in arms})


def _burst(run: Run, arm: Arm) -> Burst:
    return Burst(
        address=arm.grpc_address,
        transport="grpc",
        work="search",
        collection=COLLECTION,
        client="raw",
        callers=_CALLERS,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.peer_seconds,
        deadlines=True,
    )
