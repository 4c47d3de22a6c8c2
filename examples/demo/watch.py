"""Looks at the running demo from outside, again and again: the application's own figures, and the proxy's /metrics.

A share is measured over a window of answers, from the counter `crossfade_requests_total` of the proxy (who answered a
search), so it says where reads went, not where they were told to go.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from prometheus_client.parser import text_string_to_metric_families

from examples.demo.configuration import ROUTE
from examples.demo.processes import Application, Proxy
from examples.demo.tally import Figures
from proxy.errors import CrossfadeError

_EVERY_SECONDS = 0.3
_WINDOW_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Answers:
    """Searches answered so far, by the side that did."""

    source: int = 0
    target: int = 0

    def since(self, earlier: Answers) -> Answers:
        return Answers(self.source - earlier.source, self.target - earlier.target)

    @property
    def total(self) -> int:
        return self.source + self.target

    @property
    def target_percent(self) -> float:
        return 100 * self.target / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `recent` are the answers, and `requests_per_second` the pace, of the last seconds."""

    figures: Figures = field(default_factory=Figures)
    answers: Answers = Answers()
    recent: Answers = Answers()
    requests_per_second: float = 0.0
    writes_per_second: float = 0.0
    behind_keys: int = 0
    parked: int = 0
    source_points: int | None = None
    target_points: int | None = None


@dataclass(slots=True)
class _Moment:
    at: float
    requests: int
    writes: int
    answers: Answers


@dataclass(slots=True)
class Watch:
    """`latest` is always there; `start` begins to look. `points` counts both sides' points, None for what cannot be
    counted. `frozen`: the application has stopped; searches that others make do not count."""

    points: Callable[[], tuple[int | None, int | None]] = lambda: (None, None)
    proxy: Proxy | None = None
    application: Application | None = None
    latest: Seen = Seen()
    frozen: bool = False
    _past: deque[_Moment] = field(default_factory=deque)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._look_forever, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def answers(self) -> Answers:
        """Asked now. Raises CrossfadeError if the proxy does not answer."""
        return read_metrics(self.proxy.control.metrics()).answers if self.proxy is not None else Answers()

    # --- looking -----------------------------------------------------------------------------

    def _look_forever(self) -> None:
        looks = 0
        while not self._stop.wait(_EVERY_SECONDS):
            seen = self._look()
            if looks % 5 == 0:
                source, target = self.points()
                seen = replace(seen, source_points=source, target_points=target)
            self.latest = seen
            looks += 1

    def _look(self) -> Seen:
        figures = self.application.figures() if self.application is not None else Figures()
        try:
            page = self.proxy.control.metrics() if self.proxy is not None else ""
        except CrossfadeError:  # it is starting or ending; the latest look stands
            page = ""
        seen = replace(read_metrics(page) if page else self.latest, figures=figures)
        before = self._remember(seen)
        seconds = max(time.monotonic() - before.at, 1e-3)
        return replace(
            seen,
            recent=self.latest.recent if self.frozen else seen.answers.since(before.answers),
            requests_per_second=(figures.requests - before.requests) / seconds,
            writes_per_second=(figures.writes - before.writes) / seconds,
            source_points=self.latest.source_points,
            target_points=self.latest.target_points,
        )

    def _remember(self, seen: Seen) -> _Moment:
        """Keep this moment; returns the oldest within the window."""
        now = time.monotonic()
        self._past.append(_Moment(now, seen.figures.requests, seen.figures.writes, seen.answers))
        while now - self._past[0].at > _WINDOW_SECONDS and len(self._past) > 1:
            self._past.popleft()
        return self._past[0]


def read_metrics(page: str) -> Seen:
    """What the proxy's metrics say about the route."""
    answers: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.labels.get("route") != ROUTE:
                continue
            if sample.name == "crossfade_requests_total" and sample.labels["operation"] == "search":
                answers[sample.labels["answered_by"]] += int(sample.value)
            elif sample.name == "crossfade_keys":
                keys[sample.labels["state"]] += int(sample.value)
    parked = keys.pop("parked", 0)
    return Seen(
        answers=Answers(source=answers["primary"], target=answers["secondary"]),
        behind_keys=keys.total(),
        parked=parked,
    )
