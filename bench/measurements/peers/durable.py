"""What a write waits for that is journalled, and what of it waits for the journal alone: beside one fdatasync of a
small record on the same disk."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench.figures import MEDIAN, Bound, Load, Row, percentile, row
from bench.load import Burst
from bench.measurements.peers.arena import mirrored
from bench.run import Run
from bench.waiting import behind, wait_until
from examples.demo.processes import Proxy
from proxy.dialects import Outcome
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.journal import Journal

_BOUND = Bound(must=3.0, goal=2.0)
CALLERS = 16
_RECORD = bytes(100)
_SYNCS = 300
_COLLECTION = "written"
_OURS, _JOURNAL, _BARE = "through ours", "journal", "bare"


def measure(run: Run) -> None:
    directory = run.directory / "durable"
    with mirrored(directory, _COLLECTION) as (_, _, proxy):
        found = run.rounds(
            {
                _BARE: partial(bare, directory / "synced"),
                _OURS: partial(_through, run, proxy),
                _JOURNAL: partial(_appended, run, directory),
            }
        )
    for each in rows_of(found):
        run.add(each)


def rows_of(found: Mapping[str, Sequence[Load]]) -> list[Row]:
    waits = {name: [load.p50_seconds for load in loads] for name, loads in found.items()}
    write = f"REST write of one point, {CALLERS} in flight, stores that answer at once; journalled"
    record = f"what such a write begins with in the journal, {CALLERS} in flight, until it is durable"
    return [
        row(write, MEDIAN, "one bare fdatasync", waits[_OURS], waits[_BARE], bound=_BOUND),
        row(record, MEDIAN, "one bare fdatasync", waits[_JOURNAL], waits[_BARE]),
    ]


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


def _appended(run: Run, directory: Path) -> Load:
    """In this process, which does nothing else; what ends each write goes along, as it does in the proxy."""
    with tempfile.TemporaryDirectory(dir=directory) as made:
        seconds = uvloop.run(_appends(Path(made) / "journal.db", run.pace.seconds))
    return Load(len(seconds) / run.pace.seconds, percentile(seconds, 50), percentile(seconds, 99))


async def _appends(path: Path, run_seconds: float) -> list[float]:
    """How long each took."""
    journal, seconds = Journal.open(path), []
    here: dict[str, Any] = {"route": _COLLECTION, "collection": _COLLECTION}
    until = time.perf_counter() + run_seconds

    async def write(key: int) -> None:
        while (began := time.perf_counter()) < until:
            begin = r.BeginWrite(**here, owner=journal.owner, ids=(key,), primary=Side.SOURCE)
            position = (await journal.append(begin)).position
            seconds.append(time.perf_counter() - began)
            journal.append(r.EndWrite(**here, begin=position, outcome=Outcome.UNTOUCHED), at_leisure=True)

    await asyncio.gather(*map(write, range(CALLERS)))
    await journal.close()
    return seconds


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
