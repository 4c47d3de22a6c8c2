"""Backfill: points per second, beside the target's own client that is fed by the same reader (copy_by_client.py).

Every round copies the same collection, each time into a new Milvus Lite and with a new proxy. Dual writes are on
beforehand, so that the wait for earlier writes is over. Told twice: while points are copied, and for the whole job,
which goes on to look for points that only the target has.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.bodies import DIMENSIONS
from bench.data import make_collection
from bench.figures import POINTS, row
from bench.process_figures import cpu_seconds, pin
from bench.processes import BenchError, address, cores, place, proxy_between
from bench.run import Run
from bench.waiting import backfill, mirror, wait_until_idle
from examples.demo.processes import QdrantEmulator
from examples.engines import MilvusLite

_COLLECTION = "copied"
_PAGE_POINTS = 256  # the default of a backfill
_LONGEST_SECONDS = 300
_NOBODY_WRITES_SECONDS = 0.5  # so that the wait for writes under way is short


@dataclass(frozen=True, slots=True)
class Copied:
    """Points per second of one copy; `cpu_seconds` are those of the process that copies."""

    copying: float
    whole: float
    cpu_seconds: float = 0.0


def measure(run: Run) -> None:
    numbers = itertools.count(1)
    with ExitStack() as stack:
        source = place(QdrantEmulator(run.directory / "copying source"))
        stack.callback(source.kill)
        make_collection(address(source, "grpc"), _COLLECTION, DIMENSIONS, run.pace.copied_points)
        wait_until_idle(source)

        def into_new_target(copy: Callable[[MilvusLite, Path], Copied]) -> Copied:
            directory = run.directory / f"copy {next(numbers)}"
            target = place(MilvusLite(directory / "target"))
            try:
                return copy(target, directory)
            finally:
                target.kill()

        found = run.rounds(
            {
                "client": lambda: into_new_target(lambda target, _: _by_client(source, target)),
                "backfill": lambda: into_new_target(lambda target, made: _by_backfill(made, source, target)),
            }
        )
    what, against = f"of {run.pace.copied_points} x {DIMENSIONS}", "pymilvus fed by the same reader"
    client = [one.copying for one in found["client"]]
    cpu = {"proxy_cpu_seconds": sum(one.cpu_seconds for one in found["backfill"]) / len(found["backfill"])}
    run.add(row(f"backfill {what}, copying", POINTS, against, [one.copying for one in found["backfill"]], client, cpu))
    run.add(row(f"backfill {what}, whole job", POINTS, against, [one.whole for one in found["backfill"]], client))


def _by_client(source: QdrantEmulator, target: MilvusLite) -> Copied:
    arguments = [address(source, "grpc"), target.address, _COLLECTION, str(_PAGE_POINTS)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.copy_by_client", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        pin(process.pid, cores()[0])
        printed, told = process.communicate(timeout=_LONGEST_SECONDS)
    finally:
        process.kill()
    if process.returncode != 0:
        raise BenchError(f"the copy by pymilvus failed:\n{told[-2000:]}")
    return Copied(float(printed), float(printed))


def _by_backfill(directory: Path, source: QdrantEmulator, target: MilvusLite) -> Copied:
    routes = [{"name": "docs", "collections": [_COLLECTION]}]
    proxy = place(
        proxy_between(directory / "proxy", source, target.address, routes, _NOBODY_WRITES_SECONDS), of_proxy=True
    )
    try:
        mirror(proxy, "docs")
        assert proxy.pid is not None
        used, began, copied_at, points = cpu_seconds(proxy.pid), time.perf_counter(), 0.0, 0
        for job in backfill(proxy, "docs"):
            if job.step.endswith("copying"):
                points = job.total
            elif points and not copied_at:
                copied_at = time.perf_counter()
        ended = time.perf_counter()
        used = cpu_seconds(proxy.pid) - used
    finally:
        proxy.stop()
    return Copied(points / ((copied_at or ended) - began), points / (ended - began), used)
