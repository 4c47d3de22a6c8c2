"""What the load has sent and what became of it."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from tests.faults.endurance.matching import Failure
from tests.faults.endurance.messages import KINDS, WAYS, WRITES, Kind, Way

_KEPT_FAILURES = 20_000
_KEPT_NOTES = 100
_TEXT = 400  # characters of a failure that are kept


@dataclass(slots=True, eq=False)
class Sent:
    """A request. `meant`: when it was to be sent; `began`: when it was; both as time.monotonic tells. `cut`: how its
    client breaks it off; `broken_off`: it has."""

    number: int
    kind: Kind
    way: Way
    keys: range
    meant: float
    began: float = 0.0
    cut: str = ""
    broken_off: bool = False


class Latency(msgspec.Struct, frozen=True):
    """From when a request was meant to be sent, so that one which had to wait has waited."""

    p50_ms: float
    p99_ms: float


class Told(msgspec.Struct, frozen=True):
    """What a run of the load came to. By kind and way ("search http"): `sent`, `answered`, `latencies`."""

    seconds: float = 0.0
    sent: dict[str, int] = {}
    answered: dict[str, int] = {}
    latencies: dict[str, Latency] = {}
    cuts: dict[str, int] = {}
    failures: list[Failure] = []
    failures_not_kept: int = 0
    in_time: int = 0  # sent before the time was over, not when the rest was caught up with
    queued: int = 0  # the most that waited at once for a free connection
    notes: list[str] = []  # what else was wrong, such as connections that were refused

    @property
    def all_answered(self) -> int:
        return sum(self.answered.values())


@dataclass
class Tally:
    """`ended` is called once for each request, whatever became of it."""

    ended: Callable[[Sent], None]
    sent: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    not_kept: int = 0
    notes: list[str] = field(default_factory=list)
    under_way: int = 0

    def __post_init__(self) -> None:
        self._counts = True
        self._seconds = {f"{kind} {way}": array("f") for kind in KINDS for way in WAYS}

    def begin(self, sent: Sent) -> None:
        sent.began = time.monotonic()
        self.sent[f"{sent.kind} {sent.way}"] += 1
        self.under_way += 1

    def answered(self, sent: Sent) -> None:
        if self._counts:
            self._seconds[f"{sent.kind} {sent.way}"].append(time.monotonic() - sent.meant)
        self._end(sent)

    def broken_off(self, sent: Sent) -> None:
        """By its client, on purpose."""
        sent.broken_off = True
        self.cuts[f"{'grpc' if sent.way == 'grpc' else 'http'} {sent.cut}"] += 1
        self._end(sent)

    def failed(self, sent: Sent, status: str, text: str) -> None:
        now = time.monotonic()
        if len(self.failures) < _KEPT_FAILURES:
            keys = list(sent.keys) if sent.kind in WRITES else []
            self.failures.append(Failure(sent.number, sent.kind, sent.way, keys, sent.began, now, status, text[:_TEXT]))
        else:
            self.not_kept += 1
        self._end(sent)

    def forget(self) -> None:
        """What was sent and answered so far does not count."""
        self.sent.clear()
        for times in self._seconds.values():
            del times[:]

    def stop_counting(self) -> None:
        """What is answered from now on does not count; what fails does."""
        self._counts = False

    def noted(self, problem: str) -> None:
        if len(self.notes) < _KEPT_NOTES:
            self.notes.append(problem)

    def _end(self, sent: Sent) -> None:
        self.under_way -= 1
        self.ended(sent)

    def told(self, seconds: float, in_time: int, queued: int) -> Told:
        given = {name: times for name, times in self._seconds.items() if times}
        return Told(
            seconds=seconds,
            sent=dict(self.sent),
            answered={name: len(times) for name, times in given.items()},
            latencies={name: _latency(times) for name, times in given.items()},
            cuts=dict(self.cuts),
            failures=self.failures,
            failures_not_kept=self.not_kept,
            in_time=in_time,
            queued=queued,
            notes=self.notes,
        )


def _latency(seconds: array[float]) -> Latency:
    p50, p99 = np.percentile(np.frombuffer(seconds, dtype=np.float32), (50, 99))
    return Latency(round(float(p50) * 1000, 2), round(float(p99) * 1000, 2))
