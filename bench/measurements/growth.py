"""Memory of the proxy during a backfill: it must not grow with the collection.

Resident memory is read at each tenth of the way, with the number of keys that are not clean. The first tenth fills
what stays (buffers, caches, the allocator's pools); the slope is that of the line through all later ones.
"""

from __future__ import annotations

from contextlib import ExitStack

from bench.data import make_collection
from bench.figures import RESIDENT, Details, row, slope
from bench.process_figures import resident_bytes
from bench.processes import address, place, proxy_between
from bench.run import Run
from bench.waiting import backfill, behind
from examples.demo.processes import QdrantEmulator
from examples.engines import MilvusLite

_COLLECTION = "grown"
_DIMENSIONS = 64
_MIB = 2**20


def measure(run: Run) -> None:
    with ExitStack() as stack:
        source = place(QdrantEmulator(run.directory / "growth source"))
        stack.callback(source.kill)
        target = place(MilvusLite(run.directory / "growth target"))
        stack.callback(target.kill)
        make_collection(address(source, "grpc"), _COLLECTION, _DIMENSIONS, run.pace.grown_points)
        run.tell(f"{run.pace.grown_points} points are in the source; the backfill begins")
        routes = [{"name": "docs", "collections": [_COLLECTION]}]
        proxy = place(proxy_between(run.directory / "growth proxy", source, target.address, routes), of_proxy=True)
        stack.callback(proxy.kill)
        assert proxy.pid is not None
        before = resident_bytes(proxy.pid)
        copied: list[int] = []
        resident: list[int] = []
        unclean: list[int] = []
        for job in backfill(proxy, "docs"):
            if job.step.endswith("copying") and job.done * 10 >= (len(copied) + 1) * job.total > 0:
                copied.append(job.done)
                resident.append(resident_bytes(proxy.pid))
                unclean.append(behind(proxy))
                run.tell(f"{job.done} points: {resident[-1] / _MIB:.1f} MiB, {unclean[-1]} keys not clean")
        after = resident_bytes(proxy.pid)
        proxy.stop()
    details: Details = {
        "mib_before": before / _MIB,
        "mib_at_each_tenth": [size / _MIB for size in resident],
        "mib_after": after / _MIB,
        "slope_mib_per_100k_points": slope(copied[1:], resident[1:]) / _MIB * 100_000,
        "most_keys_not_clean": max(unclean),
    }
    work = f"backfill of {run.pace.grown_points} x {_DIMENSIONS}, nine tenths copied"
    run.add(row(work, RESIDENT, "one tenth copied", [resident[8]], [resident[0]], details))
