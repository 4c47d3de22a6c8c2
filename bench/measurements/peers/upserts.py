"""Upserts of 100 points of 768 dimensions, journalled and copied to a second store of the same vendor, beside Envoy,
which passes the same bytes on and does no more.

Ours is charged for all of it: the CPU time counts until the second store is level, after the burst. Where the same
points are written again before they were copied, the latest is copied once; `copied share` says how many were.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from bench.bodies import DIMENSIONS, NAMES, TRANSPORTS, UPSERT_POINTS, Transport, prepared
from bench.figures import VOLUME, Bound, Row, row
from bench.load import Burst, who
from bench.measurements.peers.arena import ENVOY, OURS, WRITTEN, Arena, Arm, copied_points
from bench.processes import used_seconds
from bench.run import Run
from bench.waiting import behind, wait_until

_CALLERS = 2
_BOUNDS: dict[Transport, Bound] = {"grpc": Bound(must=0.7, goal=1.0), "http": Bound(must=0.3, goal=0.5)}
_LOOK_SECONDS = 0.1  # each look costs the proxy a millisecond


@dataclass(frozen=True, slots=True)
class Written:
    """What one arm did in one round."""

    bytes_per_cpu_second: float
    requests_per_second: float
    catch_up_seconds: float = 0.0
    copied_share: float = 0.0


def measure(run: Run, arena: Arena) -> None:
    for transport in reversed(TRANSPORTS):
        arms = [arena.arms[name] for name in (OURS, ENVOY)]
        bursts = {arm.name: burst(run, arm, transport) for arm in arms}
        for arm in arms:
            written(run, arena, arm, bursts[arm.name])
        found = run.rounds({arm.name: partial(written, run, arena, arm, bursts[arm.name]) for arm in arms})
        run.add(row_of(transport, found))


def row_of(transport: Transport, found: Mapping[str, Sequence[Written]]) -> Row:
    ours, envoys = found[OURS], found[ENVOY]
    details = {
        "requests_per_second": median(one.requests_per_second for one in ours),
        "requests_per_second_there": median(one.requests_per_second for one in envoys),
        "catch_up_seconds": median(one.catch_up_seconds for one in ours),
        "copied_share": median(one.copied_share for one in ours),
    }
    values, references = ([one.bytes_per_cpu_second for one in arm] for arm in (ours, envoys))
    what = f"{NAMES[transport]} upsert of {UPSERT_POINTS} x {DIMENSIONS}, journalled and copied; {who('raw', _CALLERS)}"
    return row(what, VOLUME, f"{ENVOY}, passed through", values, references, details, _BOUNDS[transport])


def written(run: Run, arena: Arena, arm: Arm, burst: Burst) -> Written:
    """One burst, and for ours the time until the second store has everything."""
    is_ours = arm.name == OURS
    copied = copied_points(arena.proxy) if is_ours else 0
    before = used_seconds(arm.process)
    answer = run.load.obey(burst)
    began = time.monotonic()
    if is_ours:
        wait_until(lambda: _level(arena), "the second store did not catch up")
    caught_up = time.monotonic() - began
    used = used_seconds(arm.process) - before
    copied = copied_points(arena.proxy) - copied if is_ours else 0
    size = len(prepared(burst.transport, "upsert", WRITTEN, burst.address)[0].body)
    return Written(
        bytes_per_cpu_second=size * answer.in_all / used,
        requests_per_second=answer.requests / answer.seconds,
        catch_up_seconds=caught_up,
        copied_share=copied / (answer.in_all * UPSERT_POINTS),
    )


def _level(arena: Arena) -> bool:
    if behind(arena.proxy) == 0:
        return True
    time.sleep(_LOOK_SECONDS)
    return False


def burst(run: Run, arm: Arm, transport: Transport) -> Burst:
    return Burst(
        address=arm.http_address if transport == "http" else arm.grpc_address,
        transport=transport,
        work="upsert",
        collection=WRITTEN,
        client="raw",
        callers=_CALLERS,
        warm_seconds=0.0,
        seconds=run.pace.peer_seconds,
    )
