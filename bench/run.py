"""What every measurement gets: how long it may take, where to put its files, who sends the load, where rows go."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from bench.figures import Row
from bench.processes import LoadProcess

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How thorough a run is. `seconds` is one burst of one arm, after `warm_seconds` that do not count."""

    rounds: int
    seconds: float
    warm_seconds: float
    copied_points: int  # of 768 dimensions, in one round of a backfill
    grown_points: int  # of 64 dimensions, in the backfill whose memory is watched
    idle_connections: int = 1000
    peer_seconds: int = 3  # one burst of an arm beside Envoy and nginx; wrk knows whole seconds only


FULL = Pace(rounds=5, seconds=1.0, warm_seconds=0.25, copied_points=5_000, grown_points=200_000)
QUICK = Pace(rounds=3, seconds=0.3, warm_seconds=0.1, copied_points=1_000, grown_points=20_000, peer_seconds=1)


@dataclass(slots=True)
class Run:
    """`console` shows progress, on standard error."""

    directory: Path
    pace: Pace
    load: LoadProcess
    console: Console
    rows: list[Row] = field(default_factory=list)
    programs: dict[str, str] = field(default_factory=dict)  # that are not ours, and their versions
    _began: float = field(default_factory=time.monotonic)

    def tell(self, what: str) -> None:
        self.console.print(f"[dim]{time.monotonic() - self._began:5.0f} s[/dim]  {what}", highlight=False)

    def add(self, *rows: Row) -> None:
        """Rows of one work."""
        self.rows.extend(rows)
        ratios = ", ".join(f"{row.measure.name} {row.ratio:.2f}" for row in rows)
        self.tell(f"{rows[0].work}: {ratios} of {rows[0].against}")

    def rounds(self, arms: Mapping[str, Callable[[], T]]) -> dict[str, Sequence[T]]:
        """Every arm once a round, in turn, every other round backwards; what each gave, by round."""
        found: dict[str, list[T]] = {name: [] for name in arms}
        for number in range(self.pace.rounds):
            order = list(arms) if number % 2 == 0 else list(arms)[::-1]
            for name in order:
                found[name].append(arms[name]())
        return dict(found)
