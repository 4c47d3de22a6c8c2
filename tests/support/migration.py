"""A running migration for flow tests: an emulated Qdrant and a Milvus Lite (real engines, own processes), and between
them the proxy, either in a thread of this process (its protocol can be stopped at named points) or as `crossfade
serve` in a process of its own (it can be killed).

`migrations` starts them: `migrations()` on the engines of the session, `migrations(source=..., target=...)` on engines
that the test may hurt. Every migration takes the collections whose names begin with its `prefix`, so tests share
engines without meeting. Tests are plain functions and use the official clients as an application would; what they wait
for is a condition that the proxy itself reports, with a bound. With FLOW_TARGET=milvus_server the session's target is
the full Milvus server.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from qdrant_client import AsyncQdrantClient, QdrantClient

from examples.engines import ChildProcess, MilvusLite, MilvusServer, free_ports, poll
from proxy.app import App
from proxy.control import JobInfo, RouteStatus
from proxy.control.client import ControlClient
from proxy.control.commands.connection import find
from proxy.errors import CrossfadeError
from tests.support.form import python_path
from tests.support.qdrant_engines import QdrantEmulator

ROUTE = "docs"
PATIENCE_SECONDS = 40.0
_numbers = itertools.count(1)

Target = MilvusLite | MilvusServer | QdrantEmulator


# --- stopping the protocol at a named point --------------------------------------------------------


@dataclass(slots=True)
class Stop:
    """Whoever comes to `point` waits there until `release`; the first `lets_pass` do not."""

    point: str
    lets_pass: int = 0
    _reached: threading.Event = field(default_factory=threading.Event)
    _released: Future[None] = field(default_factory=Future)

    async def wait_here(self) -> None:
        if self.lets_pass:
            self.lets_pass -= 1
            return
        self._reached.set()
        await asyncio.wrap_future(self._released)

    def reached(self) -> None:
        """Return when somebody stands there."""
        assert self._reached.wait(PATIENCE_SECONDS), f"nobody came to {self.point!r}"

    def release(self) -> None:
        if not self._released.done():
            self._released.set_result(None)


class Hooks:
    """The hook of a proxy in this process."""

    def __init__(self) -> None:
        self._stops: dict[str, Stop] = {}

    async def __call__(self, point: str) -> None:
        if (stop := self._stops.get(point)) is not None:
            await asyncio.shield(stop.wait_here())

    @contextmanager
    def stop_at(self, point: str, lets_pass: int = 0) -> Iterator[Stop]:
        stop = self._stops[point] = Stop(point, lets_pass)
        try:
            yield stop
        finally:
            del self._stops[point]
            stop.release()


# --- the proxy, in two forms -------------------------------------------------------------------------


class ProxyThread:
    """The app on an event loop of its own, in a thread of this process."""

    def __init__(self, config: Path) -> None:
        self.hooks = Hooks()
        self.app: App
        self._config = config
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises what the app raises."""
        started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live(started)), name="proxy", daemon=True)
        self._thread.start()
        started.result(PATIENCE_SECONDS)

    def stop(self) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(PATIENCE_SECONDS)
            assert not self._thread.is_alive(), f"the proxy does not stop: {asyncio.all_tasks(self._loop)}"
            self._thread = None

    def run(self, function: Callable[[App], Any]) -> Any:
        """`function(app)` on the proxy's own loop."""
        done: Future[Any] = Future()

        def call() -> None:
            try:
                done.set_result(function(self.app))
            except BaseException as error:  # noqa: BLE001  raised again in the test
                done.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return done.result(PATIENCE_SECONDS)

    async def _live(self, started: Future[None]) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.app = App(self._config, hook=self.hooks)
            await self.app.start()
        except BaseException as error:  # noqa: BLE001  raised again by `start`
            started.set_exception(error)
            return
        started.set_result(None)
        await self._end.wait()
        await self.app.stop()


class ProxyProcess(ChildProcess):
    """`crossfade serve`. With `dies_at`, the same app, which kills itself (SIGKILL) when it comes to that point of the
    protocol for the `after`-th time."""

    stop_grace_seconds = 15.0

    def __init__(self, directory: Path, config: Path, port: int, dies_at: str = "", after: int = 1) -> None:
        super().__init__(directory, port)
        self._config = config
        self.dies_at = dies_at
        self.after = after

    def command(self) -> list[str]:
        if self.dies_at:
            program = [sys.executable, "-m", "tests.support.dying_proxy"]
            return [*program, str(self._config), self.dies_at, str(self.after)]
        return [sys.executable, "-c", "from proxy.cli import main; main()", "serve", "-c", str(self._config)]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": python_path()}

    def answers(self) -> bool:
        try:
            return find(self._config, None, None).ready() is None
        except CrossfadeError:
            return False

    def died(self) -> bool:
        """Wait until it is gone."""
        return poll(lambda: not self.is_running(), PATIENCE_SECONDS)


# --- the migration -------------------------------------------------------------------------------------


@dataclass
class Migration:
    """One route, `docs`, of a proxy that runs."""

    directory: Path
    prefix: str
    source: QdrantEmulator
    target: Target
    config: dict[str, Any]
    proxy: ProxyThread | ProxyProcess
    rest_port: int
    grpc_port: int
    clients: ExitStack

    @property
    def config_path(self) -> Path:
        return self.directory / "crossfade.yaml"

    @property
    def route(self) -> dict[str, Any]:
        """The route's section of the configuration; `save` makes a change count."""
        routes: list[dict[str, Any]] = self.config["routes"]
        return routes[0]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def hooks(self) -> Hooks:
        assert isinstance(self.proxy, ProxyThread)
        return self.proxy.hooks

    @property
    def process(self) -> ProxyProcess:
        assert isinstance(self.proxy, ProxyProcess)
        return self.proxy

    @property
    def control(self) -> ControlClient:
        return find(self.config_path, None, None)

    def name(self, rest: str = "") -> str:
        """A collection of this migration."""
        return f"{self.prefix}{rest}"

    # --- clients ---------------------------------------------------------------------------------

    def client(self, *, grpc: bool = False, **options: Any) -> QdrantClient:
        """The official client, at the proxy."""
        return self.client_at(self.rest_port, self.grpc_port, grpc=grpc, **options)

    def direct(self, *, grpc: bool = False, **options: Any) -> QdrantClient:
        """The official client, at the source itself."""
        return self.client_at(self.source.rest_port, self.source.grpc_port, grpc=grpc, **options)

    def at_target(self) -> QdrantClient:
        """The official client, at a target that is a Qdrant."""
        assert isinstance(self.target, QdrantEmulator)
        return self.client_at(self.target.rest_port, self.target.grpc_port)

    def async_client(self, *, grpc: bool = False) -> AsyncQdrantClient:
        """At the proxy; the caller closes it."""
        return AsyncQdrantClient(
            url=self.url, grpc_port=self.grpc_port, prefer_grpc=grpc, timeout=20, check_compatibility=False
        )

    def client_at(self, rest_port: int, grpc_port: int, *, grpc: bool = False, **options: Any) -> QdrantClient:
        """The official client, at any ports; closed with the migration."""
        settings = {"timeout": 20, "check_compatibility": False, "prefer_grpc": grpc} | options
        client = QdrantClient(url=f"http://127.0.0.1:{rest_port}", grpc_port=grpc_port, **settings)
        self.clients.callback(client.close)
        return client

    # --- what an operator does -----------------------------------------------------------------------

    def mirror(self) -> None:
        """Start dual writes, and wait until what was sent before cannot land any more."""
        self.control.mirror(ROUTE)
        self.until(lambda route: route.keys.held == 0, "held")

    def backfill(self, **options: bool) -> JobInfo:
        return self.job("backfill", **options)

    def verify(self, **options: bool) -> dict[str, Any]:
        """The counts of a new verify that has ended well."""
        return self.job("verify", restart=True, **options).result

    def job(self, kind: Any, **options: bool) -> JobInfo:
        """Start a job and wait until it is done."""
        return self.finished(self.control.start_job(kind, ROUTE, **options))

    def finished(self, job: JobInfo, status: str = "done") -> JobInfo:
        assert poll(lambda: self.control.job(job.id).status not in ("running", "paused"), PATIENCE_SECONDS), (
            self.control.job(job.id)
        )
        ended = self.control.job(job.id)
        assert ended.status == status, ended
        return ended

    def weight(self, percent: float) -> None:
        """An operator's weight; returns once the secondary can be read, unless it is 0."""
        self.control.set_weight(ROUTE, percent)
        if percent:
            self.until(lambda route: route.readable, "readable")

    def status(self) -> RouteStatus:
        return self.control.status().routes[0]

    def until(self, condition: Callable[[RouteStatus], bool], what: str) -> RouteStatus:
        """The status once `condition` holds for it."""
        found: list[RouteStatus] = []

        def holds() -> bool:
            found[:] = [self.status()]
            return condition(found[0])

        assert poll(holds, PATIENCE_SECONDS), f"waited for: {what}; status: {found}"
        return found[0]

    def rest(self) -> RouteStatus:
        """Wait until nothing is open, dirty or held, and no sweep is due or under way."""

        def resting() -> bool:
            status = self.control.status()
            ended = all(job.status not in ("running", "paused") for job in status.jobs)
            return ended and status.routes[0].keys.lag == 0 and not status.routes[0].needs_sweep

        assert poll(resting, PATIENCE_SECONDS), f"does not come to rest: {self.control.status()}"
        return self.status()

    def save(self) -> None:
        """Write the configuration as an editor does: a new file in the old one's place."""
        draft = self.config_path.with_suffix(".draft")
        draft.write_text(yaml.safe_dump(self.config, sort_keys=False))
        os.replace(draft, self.config_path)

    # --- what is seen from outside ---------------------------------------------------------------------

    def counts(self, metric: str) -> Counter[tuple[str, ...]]:
        """The samples of a counter, by its labels but for route and worker, in the order of their names."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in text_string_to_metric_families(self.control.metrics()):
            for sample in family.samples:
                if sample.name == f"crossfade_{metric}_total":
                    labels = sorted(pair for pair in sample.labels.items() if pair[0] not in ("route", "worker"))
                    found[tuple(value for _, value in labels)] += int(sample.value)
        return found

    @contextmanager
    def reads(self) -> Iterator[Counter[tuple[str, str]]]:
        """Counts the reads of the block by (reason, store): filled when it ends."""
        counted: Counter[tuple[str, str]] = Counter()
        before = self.counts("reads")
        yield counted
        for (reason, store), number in (self.counts("reads") - before).items():
            counted[(reason, store)] = number


class Migrations:
    """Starts migrations for one test and ends them with it. Without a `request` the engines must be given."""

    def __init__(self, request: pytest.FixtureRequest | None, directory: Path, running: ExitStack) -> None:
        self._request = request
        self._directory = directory
        self._running = running

    def __call__(
        self,
        *,
        source: QdrantEmulator | None = None,
        target: Target | None = None,
        as_process: bool = False,
        start: bool = True,
        change: Callable[[dict[str, Any]], None] = lambda config: None,
        **route: Any,
    ) -> Migration:
        """`route`: keys of the route's section; `change` edits the whole configuration before the start."""
        number = next(_numbers)
        directory = self._directory / f"migration_{number}"
        directory.mkdir()
        rest_port, grpc_port, control_port = free_ports(3)
        source = source or self._of_session("qdrant_emulator")
        target = target or self._of_session(os.environ.get("FLOW_TARGET", "milvus_lite"))
        prefix = f"flow_{number}_"
        config = _configuration(directory, prefix, source, target, (rest_port, grpc_port, control_port))
        config["routes"][0] |= route
        if as_process:
            config["workers"] = int(os.environ.get("FLOW_WORKERS", "1"))
        change(config)
        path = directory / "crossfade.yaml"
        proxy = ProxyProcess(directory, path, rest_port) if as_process else ProxyThread(path)
        self._running.callback(proxy.stop)
        # They go first: an idle gRPC client of Python's takes 5 s to notice that the proxy asks it to.
        clients = self._running.enter_context(ExitStack())
        made = Migration(directory, prefix, source, target, config, proxy, rest_port, grpc_port, clients)
        made.save()
        if start:
            proxy.start()
        return made

    def _of_session(self, engine: str) -> Any:
        assert self._request is not None, f"{engine} was not given"
        return self._request.getfixturevalue(engine)

    def own_source(self) -> QdrantEmulator:
        """A source for this test alone."""
        return self._running.enter_context(QdrantEmulator(self._directory / f"source_{next(_numbers)}"))

    def own_target(self) -> MilvusLite:
        """A target for this test alone."""
        return self._running.enter_context(MilvusLite(self._directory / f"target_{next(_numbers)}", workers=1))


def _configuration(
    directory: Path, prefix: str, source: QdrantEmulator, target: Target, ports: tuple[int, int, int]
) -> dict[str, Any]:
    rest_port, grpc_port, control_port = ports
    return {
        "version": 1,
        "data_dir": str(directory / "data"),
        "listeners": [
            {"name": "rest", "vendor": "qdrant", "transport": "http", "address": f"127.0.0.1:{rest_port}"},
            {"name": "grpc", "vendor": "qdrant", "transport": "grpc", "address": f"127.0.0.1:{grpc_port}"},
        ],
        "control": {"address": f"127.0.0.1:{control_port}"},
        "stores": {
            "old": {**_of_qdrant(source), "timeout_seconds": 2, "longest_request_seconds": 1},
            "new": {**_of_target(target), "timeout_seconds": 2, "longest_request_seconds": 1},
        },
        "routes": [{"name": ROUTE, "collections": [f"{prefix}*"], "source": "old", "target": "new"}],
    }


def _of_target(target: Target) -> dict[str, Any]:
    if isinstance(target, QdrantEmulator):
        return _of_qdrant(target)
    return {"kind": "milvus", "address": target.address, "index": {"type": "FLAT"}}


def _of_qdrant(engine: QdrantEmulator) -> dict[str, Any]:
    return {"kind": "qdrant", "url": engine.url, "grpc_url": f"http://{engine.grpc_address}"}


@pytest.fixture
def migrations(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Migrations]:
    """Starts migrations; see `Migrations.__call__`."""
    with ExitStack() as running:
        yield Migrations(request, tmp_path, running)


@pytest.fixture(scope="module")
def shared_migrations(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Migrations]:
    """The same for a whole module, whose tests only read, or each write to a collection of their own."""
    with ExitStack() as running:
        yield Migrations(request, tmp_path_factory.mktemp("shared"), running)
