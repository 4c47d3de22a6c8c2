"""What a write waits for that is journalled: beside one fdatasync of a small record on the same disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.figures import MEDIAN, Bound, Load, Row, percentile, row
from bench.load import Burst
from bench.measurements.peers.arena import mirrored
from bench.run import Run
from bench.waiting import behind, wait_until
from examples.demo.processes import Proxy

_BOUND = Bound(must=3.0, goal=2.0)
CALLERS = 16
_RECORD = bytes(100)
_SYNCS = 300
_COLLECTION = "written"
_OURS, _BARE = "through ours", "bare"


def measure(run: Run) -> None:
    directory = run.directory / "durable"
    with mirrored(directory, _COLLECTION) as (_, _, proxy):
        found = run.rounds({_BARE: partial(bare, directory / "synced"), _OURS: partial(_through, run, proxy)})
    run.add(row_of(found))


def row_of(found: Mapping[str, Sequence[Load]]) -> Row:
    waits = {name: [load.p50_seconds for load in loads] for name, loads in found.items()}
    work = f"REST write of one point, {CALLERS} in flight, stores that answer at once; journalled"
    return row(work, MEDIAN, "one bare fdatasync", waits[_OURS], waits[_BARE], bound=_BOUND)


def _through(run: Run, proxy: Proxy) -> Load:
    burst = Burst(
        address=proxy.address,
        transport="http",
        work="write",
        collection=_COLLECTION,
        client="raw",
        callers=CALLERS,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.seconds,
    )
    load = run.load.burst(burst, proxy)
    wait_until(lambda: behind(proxy) == 0, "the second store did not catch up")
    return load


def bare(path: Path) -> Load:
    """100 bytes behind the last, and a sync, again and again."""
    seconds = []
    with path.open("ab", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(_RECORD)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - began)
    return Load(_SYNCS / sum(seconds), percentile(seconds, 50), percentile(seconds, 99))
