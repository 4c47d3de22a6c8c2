"""The endurance run itself: the capacity, clients that break off and resets included; the long load, with edits as
well; then rest and a look.

Problems are: a request that failed and was not cut on purpose; an answer that is not the right one; an edit that was
not taken, or a mistake that was; memory or descriptors that grow; a load that could not keep its rate; stores that do
not come to rest; and whatever should have happened and did not, since then nothing was tested.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.process_figures import machine_cpu_seconds, tree_cpu_seconds
from bench.processes import BenchError
from bench.waiting import behind, mirror, wait_until
from examples.demo.processes import Proxy
from tests.faults.endurance import callers_grpc, callers_http
from tests.faults.endurance.edits import EDITS, Authority, Editor, moments
from tests.faults.endurance.load import SHARES, WAY_SHARES, Closed, Open
from tests.faults.endurance.matching import Failure, ResetConnection, Verdict, judged
from tests.faults.endurance.messages import Way
from tests.faults.endurance.servers import (
    LONGEST_REQUEST_SECONDS,
    ROUTE,
    EnduranceError,
    LoadProcess,
    Upstream,
    memory_and_descriptors,
    proxy_with_tls,
)
from tests.faults.endurance.tally import Told
from tests.faults.flatness import DESCRIPTORS_SLACK, growth, third

SHARE_OF_CAPACITY = 0.7
CUT_SHARE = 0.01
SAMPLE_SECONDS = 5.0
_LEAST_RATE = 0.95  # of the rate that was asked for
_WARM_SECONDS, _CAPACITY_SECONDS, _AT_ONCE = 3.0, 10.0, 64
_CAPACITY_TIMES = 3  # of which the median counts: what a machine carries differs from one moment to the next
_FULL = 0.85  # of a core, for each process of the proxy
_SHOWN = 20
_EXPECTED = 3  # how many of something have to be expected in a run, for none of it to be a problem
RESETS = ("http body", "http request", "http answer", "http idle", "grpc request", "grpc answer")


@dataclass
class Endurance:
    """What came of it."""

    minutes: float
    workers: int
    capacities: list[Told] = field(default_factory=list)
    capacity_afterwards: Told = field(default_factory=Told)  # a machine may have become another one meanwhile
    capacity_cores: float = 0.0  # that the proxy used meanwhile
    capacity_others: float = 0.0  # cores that were at work for somebody else on this machine
    cores: float = 0.0  # the same under the long load
    others: float = 0.0
    asked_rate: float = 0.0
    told: Told = field(default_factory=Told)
    resets: list[ResetConnection] = field(default_factory=list)
    began: float = 0.0  # the long load, as time.monotonic tells
    ended: float = float("inf")
    verdicts: list[tuple[Failure, Verdict]] = field(default_factory=list)
    edits: Counter[str] = field(default_factory=Counter)
    edit_problems: list[str] = field(default_factory=list)
    memory_bytes: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)
    rest: list[str] = field(default_factory=list)
    rest_seconds: float = 0.0

    @property
    def loads(self) -> list[Told]:
        """In their order."""
        return [*self.capacities, self.told, self.capacity_afterwards]

    @property
    def capacity_rate(self) -> float:
        return median(map(_answered_rate, self.capacities)) if self.capacities else 0.0

    @property
    def reached_rate(self) -> float:
        return self.told.in_time / self.told.seconds if self.told.seconds else 0.0

    @property
    def problems(self) -> list[str]:
        unmatched = [failure for failure, verdict in self.verdicts if verdict is Verdict.PROBLEM]
        found = [f"failed: {failure}" for failure in unmatched[:_SHOWN]]
        if len(unmatched) > _SHOWN:
            found.append(f"failed: {len(unmatched) - _SHOWN} more")
        found += [note for told in self.loads for note in told.notes]
        found += [*self.edit_problems, *self.rest]
        if not_kept := sum(told.failures_not_kept for told in self.loads):
            found.append(f"{not_kept} failures more than are looked at")
        found += growth("memory_bytes", self.memory_bytes) if self.memory_bytes else ["nothing was sampled"]
        found += growth("descriptors", self.descriptors, DESCRIPTORS_SLACK) if self.descriptors else []
        if self.reached_rate < _LEAST_RATE * self.asked_rate:
            found.append(
                f"{self.reached_rate:,.1f} requests a second were sent where {self.asked_rate:,.1f} were meant (others "
                f"on this machine used {self.others:.2f} cores; {self.capacity_others:.2f} while the capacity was "
                "measured)"
            )
        return found + self.not_tested()

    def not_tested(self) -> list[str]:
        """What should have happened, and never did. What is too rare for a run as short as this is not expected."""
        sent = sum(self.told.sent.values())
        found = [
            f"no {kind} over {way} was answered"
            for kind, share in SHARES.items()
            for way, way_share in WAY_SHARES.items()
            if sent * share * way_share / 10_000 >= _EXPECTED and not self.told.answered.get(f"{kind} {way}")
        ]
        cuts = [f"http {cut} by {end}" for cut in callers_http.CUTS for end in ("FIN", "RST")]
        cuts += [f"grpc {cut}" for cut in callers_grpc.CUTS]
        each = sent * CUT_SHARE / len(cuts) / 4
        found += [f"no client broke off: {cut}" for cut in cuts if each >= _EXPECTED and not self.told.cuts.get(cut)]
        resets = self.resets_by_kind()
        if self.minutes >= 1:
            found += [f"no connection was reset: {kind}" for kind in RESETS if not resets["source " + kind]]
        if 60 * self.minutes > 20 * (len(EDITS) + 1):
            found += [f"no edit was made: {edit}" for edit in EDITS if not self.edits[edit]]
        return found

    def what_was_full(self) -> str:
        """The proxy, or the capacity is not its own: the load was slower, or others took the machine."""
        return "the proxy" if self.capacity_cores >= _FULL * self.workers else "not the proxy"

    def resets_by_kind(self) -> Counter[str]:
        """During the long load."""
        during = [reset for reset in self.resets if self.began <= reset.at <= self.ended]
        return Counter(f"{reset.store} {reset.way} {reset.kind}" for reset in during)

    def figures(self) -> dict[str, Any]:
        mib = 2**20
        verdicts = Counter(verdict for _, verdict in self.verdicts)
        return {
            "minutes": self.minutes,
            "workers": self.workers,
            "capacity_per_second": round(self.capacity_rate),
            "capacities_per_second": [round(_answered_rate(told)) for told in self.capacities],
            "capacity_per_second_afterwards": round(_answered_rate(self.capacity_afterwards)),
            "proxy_cores_at_capacity": round(self.capacity_cores, 2),
            "what_was_full_at_capacity": self.what_was_full(),
            "cores_of_others_at_capacity": round(self.capacity_others, 2),
            "rate_asked_per_second": round(self.asked_rate),
            "rate_reached_per_second": round(self.reached_rate),
            "proxy_cores": round(self.cores, 2),
            "cores_of_others": round(self.others, 2),
            "sent": self.told.sent,
            "answered": self.told.all_answered,
            "latencies": {
                name: f"p50 {each.p50_ms} ms, p99 {each.p99_ms} ms" for name, each in self.told.latencies.items()
            },
            "most_queued_by_the_load": self.told.queued,
            "cut_by_clients": self.told.cuts,
            "reset_by_upstreams": dict(self.resets_by_kind()),
            "requests_on_reset_connections": sum(len(reset.numbers) for reset in self.resets),
            "failed": {verdict.value: verdicts[verdict] for verdict in Verdict},
            "failed_as": dict(Counter(f"{one.kind} {one.way} {one.status}" for one, _ in self.verdicts)),
            "edits": dict(self.edits),
            "rest_seconds": round(self.rest_seconds, 1),
            "memory_mib": [round(third(self.memory_bytes, number) / mib, 1) for number in range(3)],
            "descriptors": [third(self.descriptors, number) for number in range(3)],
        }


def play(directory: Path, minutes: float, workers: int, seed: int, console: Console) -> Endurance:
    """Raises EnduranceError and EngineError if it cannot go on."""
    found = Endurance(minutes, workers)
    with ExitStack() as stack:
        authority = Authority(directory)
        source = stack.enter_context(Upstream(directory / "source", "source", seed))
        target = stack.enter_context(Upstream(directory / "target", "target", seed))
        proxy, tls_address = proxy_with_tls(directory / "proxy", source, target, authority, workers)
        stack.enter_context(proxy)
        mirror(proxy, ROUTE)
        addresses: dict[Way, str] = {"http": proxy.address, "tls": tls_address, "grpc": f"127.0.0.1:{proxy.grpc_port}"}
        load = stack.enter_context(LoadProcess(directory / "load.log", addresses, authority.root, seed))
        for upstream in (source, target):
            upstream.begin_resets()
        console.print("measuring the capacity", style="dim")
        cores = _cores_used(proxy)
        measure = Closed(_CAPACITY_SECONDS, _WARM_SECONDS, _AT_ONCE, CUT_SHARE)
        found.capacities = [load.obey(measure) for _ in range(_CAPACITY_TIMES)]
        found.capacity_cores, found.capacity_others = cores()
        found.asked_rate = SHARE_OF_CAPACITY * found.capacity_rate
        editor = Editor(proxy, tls_address, authority, workers, seed)
        schedule = list(moments(60 * minutes, random.Random(f"moments {seed}")))
        cores, found.began = _cores_used(proxy), time.monotonic()
        with ThreadPoolExecutor(1) as thread:
            order = Open(60 * minutes, found.asked_rate, CUT_SHARE)
            loading = thread.submit(load.obey, order)
            try:
                _watch(found, proxy, editor, schedule, loading, console)
            except BaseException:
                load.stop()  # or it would be waited for
                raise
        (found.cores, found.others), found.ended = cores(), time.monotonic()
        _rest(found, proxy)
        found.capacity_afterwards = load.obey(measure)
        _rest(found, proxy)
        for upstream in (source, target):
            upstream.stop()
            found.resets += upstream.resets()
        failures = [failure for told in found.loads for failure in told.failures]
        found.verdicts = judged(failures, found.resets, source.has_seen, LONGEST_REQUEST_SECONDS)
    return found


def _watch(
    found: Endurance,
    proxy: Proxy,
    editor: Editor,
    schedule: Sequence[tuple[float, str]],
    loading: Future[Told],
    console: Console,
) -> None:
    """Sample and edit until the load has ended."""
    seconds, coming = 60 * found.minutes, list(schedule)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("endurance", total=seconds)
        began = time.monotonic()
        sampled = 0.0
        while not loading.done():
            elapsed = time.monotonic() - began
            bar.update(task, completed=min(elapsed, seconds))
            if sampled <= elapsed < seconds:
                sampled += SAMPLE_SECONDS
                memory, descriptors = memory_and_descriptors(proxy)
                found.memory_bytes.append(memory)
                found.descriptors.append(descriptors)
            if coming and coming[0][0] <= elapsed:
                _, edit = coming.pop(0)
                bar.update(task, description=f"{sum(found.edits.values())} edits; {edit}")
                if problem := editor.make(edit):
                    found.edit_problems.append(f"after {elapsed:.0f} s: {problem}")
                found.edits[edit] += 1
            time.sleep(0.05)
    found.told = loading.result()


def _answered_rate(told: Told) -> float:
    """Requests a second."""
    return told.all_answered / told.seconds if told.seconds else 0.0


def _rest(found: Endurance, proxy: Proxy) -> None:
    began = time.monotonic()
    try:
        wait_until(lambda: behind(proxy) == 0, "the replicator did not come to rest")
    except BenchError as error:
        found.rest.append(str(error))
    found.rest_seconds = max(found.rest_seconds, time.monotonic() - began)


def _cores_used(proxy: Proxy) -> Callable[[], tuple[float, float]]:
    """From now on, on average: by the proxy, and by whoever is not of this run."""
    assert proxy.pid is not None
    pid, began = proxy.pid, time.monotonic()

    def seconds() -> tuple[float, float]:
        if proxy.pid != pid:
            raise EnduranceError(f"the proxy is gone:\n{proxy.log_tail()}")
        return tree_cpu_seconds(pid), machine_cpu_seconds() - tree_cpu_seconds(os.getpid())

    before = seconds()

    def so_far() -> tuple[float, float]:
        elapsed = time.monotonic() - began
        of_proxy, of_others = (now - then for now, then in zip(seconds(), before, strict=True))
        return of_proxy / elapsed, max(0.0, of_others / elapsed)

    return so_far
