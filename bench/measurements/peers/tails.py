"""The slowest searches over HTTP: at half the rate that Envoy's core carries, and with 256 callers in a closed loop.

At a fixed rate counts what each proxy adds to the p99 of the stub itself, in the same round. A proxy that cannot carry
that rate falls behind for as long as the round lasts, and is shown with it; `unanswered` is the share of requests that
still waited at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median

from bench.figures import ADDED_TAIL, TAIL, Bound, Load, Row, added, percentile, row
from bench.load import Answer, Steady
from bench.measurements.peers.arena import COLLECTION, DIRECT, ENVOY, OURS, Arena, Arm, ClosedLoop, settle
from bench.peers.installed import NGINX, SYSTEM_NGINX
from bench.processes import BenchError
from bench.run import Run

_STEADY_CONNECTIONS = 64
_CLOSED_CONNECTIONS = 256
_ADDED = Bound(must=1.0, goal=0.5)
_CROWDED = {NGINX: Bound(must=2.0, goal=1.3), SYSTEM_NGINX: None}


def measure(run: Run, arena: Arena, envoy_per_second: float) -> None:
    rate = round(envoy_per_second / 2)
    arms = [arena.arms[name] for name in (DIRECT, OURS, ENVOY)]
    made = steady_row(run.rounds({arm.name: partial(_steady, run, arm, rate) for arm in arms}), rate)
    if made.details["rounds_not_counted"]:
        run.tell(f"{made.details['rounds_not_counted']} rounds do not count: Envoy added nothing to the stub's p99")
    run.add(made)
    callers = ClosedLoop(run, _CLOSED_CONNECTIONS)
    arms = [arena.arms[name] for name in (OURS, NGINX, SYSTEM_NGINX) if name in arena.arms]
    run.add(*crowded_rows(callers.rounds(arms), callers.who))


def steady_row(found: Mapping[str, Sequence[Answer]], rate: int) -> Row:
    """Of the rounds in which Envoy added something. Raises BenchError if there is none."""
    tails = {name: [percentile(one.latencies_seconds, 99) for one in answers] for name, answers in found.items()}
    ours, envoys, not_counted = added(tails[DIRECT], tails[OURS], tails[ENVOY])
    if not envoys:
        raise BenchError("Envoy added nothing to the p99 of the stub in any round: run it again on a quieter machine")
    details = {
        "requests_per_second": rate,
        "rounds_not_counted": not_counted,
        "direct_p99_ms": median(tails[DIRECT]) * 1e3,
        "unanswered": _unanswered(found[OURS]),
        "unanswered_there": _unanswered(found[ENVOY]),
    }
    work = "REST search of 16 KB, at half the rate that Envoy carries"
    return row(work, ADDED_TAIL, ENVOY, ours, envoys, details, _ADDED)


def _unanswered(answers: Sequence[Answer]) -> float:
    """Their share of all requests that were meant to be sent."""
    return median(one.unanswered / len(one.latencies_seconds) for one in answers)


def crowded_rows(found: Mapping[str, Sequence[Load]], who: str) -> list[Row]:
    tails = {name: [load.p99_seconds for load in loads] for name, loads in found.items()}
    rates = {name: median(load.requests_per_second for load in loads) for name, loads in found.items()}
    return [
        row(
            f"REST search of 16 KB, closed loop; {who}",
            TAIL,
            name,
            tails[OURS],
            tails[name],
            {"requests_per_second": rates[OURS], "requests_per_second_there": rates[name]},
            bound,
        )
        for name, bound in _CROWDED.items()
        if name in found
    ]


def _steady(run: Run, arm: Arm, rate: int) -> Answer:
    seconds = float(run.pace.peer_seconds)
    order = Steady(arm.http_address, "search", COLLECTION, rate, _STEADY_CONNECTIONS, run.pace.warm_seconds, seconds)
    answer = run.load.obey(order)
    settle()
    return answer
