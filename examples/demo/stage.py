"""Everything that runs in a demo, in one place, and the end of it: nothing is left behind, whatever happens.

Processes are started by the main thread and stopped in reverse order; each also dies with this process. The working
directory is removed unless something went wrong, since the logs are in it.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from examples.demo.configuration import ROUTE, edit, write_configuration
from examples.demo.corpus import Corpus, standard_library
from examples.demo.databases import Counters
from examples.demo.processes import TARGETS, Application, Proxy, QdrantEmulator
from examples.demo.watch import Watch
from examples.engines import ChildProcess, free_ports
from proxy.control import ENDED, JobInfo, JobKind, RouteStatus
from proxy.control.client import ControlClient

Progress = Callable[[int, int, str], None]


class DemoError(Exception):
    """The migration did not go as it should; the message says where, and what was seen."""


class Stage:
    """`proxy`, `application` and `counters` are there once they have been started."""

    proxy: Proxy
    application: Application
    counters: Counters
    control: ControlClient

    def __init__(self, to: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="crossfade-demo-"))
        self.source = QdrantEmulator(self.directory / "source")
        self.target = TARGETS[to](self.directory / "target")
        self.config = self.directory / "crossfade.yaml"
        self.watch = Watch()
        self.keep_directory = False
        self._open = ExitStack()
        reading = ThreadPoolExecutor(1, "corpus")
        self._open.callback(reading.shutdown, wait=False, cancel_futures=True)
        self._corpus: Future[Corpus] = reading.submit(standard_library)

    @property
    def corpus(self) -> Corpus:
        """Waits until it has been read."""
        return self._corpus.result()

    def start_databases(self) -> None:
        """Raises EngineError, as everything that starts a process here does."""
        self._start(self.source)
        self._start(self.target)
        self.counters = Counters(self.source, self.target)
        self.watch.points = self.counters.look
        self.watch.start()
        self._open.callback(self.watch.stop)

    def start_proxy(self) -> None:
        rest_port, grpc_port, control_port = free_ports(3)
        write_configuration(
            self.config,
            rest_port=rest_port,
            grpc_port=grpc_port,
            control_port=control_port,
            source_url=self.source.url,
            source_grpc_port=self.source.grpc_port,
            target_address=self.target.address,
        )
        self.proxy = Proxy(self.directory / "proxy", self.config, rest_port, grpc_port)
        self._start(self.proxy)
        self.control = self.proxy.control
        self.watch.proxy = self.proxy

    def start_application(self) -> None:
        self.application = Application(
            self.directory / "application", self.corpus, self.proxy.url, self.proxy.grpc_port
        )
        self._start(self.application)
        self.watch.application = self.application

    def _start(self, process: ChildProcess) -> None:
        self._open.callback(process.stop)  # first, since the start may be interrupted
        process.start()

    # --- what the story asks for ---------------------------------------------------------------

    def route(self) -> RouteStatus:
        return next(route for route in self.control.status().routes if route.name == ROUTE)

    def edit(self, before: str, after: str) -> None:
        """Save a change of the configuration file."""
        edit(self.config, before, after)

    def run_job(self, kind: JobKind, progress: Progress) -> JobInfo:
        """Start a job and follow it to its end. Raises DemoError unless it is done."""
        job = self.control.start_job(kind, ROUTE)
        while job.status not in ENDED:
            progress(job.done, job.total, f"{job.done:,} points, {job.points_per_second:,.0f}/s")
            time.sleep(0.15)
            job = self.control.job(job.id)
        if job.status != "done":
            raise DemoError(f"the {kind} is {job.status}: {job.error}; the proxy's log says more")
        return job

    # --- the end -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        if not self.keep_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
