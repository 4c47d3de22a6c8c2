"""What the demo found, on a page and as JSON, and whether that is what it should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.demo.latency import Row
from examples.demo.tally import Figures


@dataclass(slots=True)
class Report:
    """Filled while the demo runs; None is what was not found out. `source` and `target` say what they really are.

    disagreements: the shadow reads whose answers differed most, with the ids that only one side found.
    differences: points that verify found different after the application had stopped and nothing was under way.
    unchecked: points that it could not compare. rolled_back: reads had gone to the target, and were seen to be
    answered by the source alone after one flip. rollback_seconds: at most so long after it the target still answered.
    """

    source: str
    target: str
    requests: int = 0
    failed_requests: int = 0
    source_points: int | None = None
    target_points: int | None = None
    differences: int | None = None
    unchecked: int | None = None
    parked: int | None = None
    overlap_at_10: float | None = None
    shadow_reads: int = 0
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    rolled_back: bool = False
    rollback_seconds: float | None = None
    seconds: float = 0.0
    requests_by_operation: dict[str, int] = field(default_factory=dict)
    requests_by_transport: dict[str, int] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    steps: list[dict[str, Any]] = field(default_factory=list)
    latency: list[Row] = field(default_factory=list)
    broken_off: str = ""

    def take(self, figures: Figures) -> None:
        """What the application counted."""
        self.requests, self.failed_requests = figures.requests, figures.failed_requests
        self.failures = figures.failures
        self.requests_by_operation = dict(sorted(figures.operations.items()))
        self.requests_by_transport = dict(sorted(figures.transports.items()))

    def problems(self) -> list[str]:
        """What is not as it should be, and where to look; empty if all is well."""
        found = []
        if self.failed_requests:
            listed = "".join(f"\n    {failure}" for failure in self.failures)
            found.append(
                f"{self.failed_requests} of {self.requests} requests of the application failed; the first:{listed}"
            )
        if self.broken_off:  # the rest would only be consequences
            return [f"broken off: {self.broken_off}", *found]
        if self.differences != 0:
            what = "the stores were not compared at rest" if self.differences is None else f"{self.differences} differ"
            found.append(f"{what}; `crossfade jobs` and the proxy's log say which points")
        if self.unchecked:
            found.append(f"{self.unchecked} points could not be compared")
        if not self.requests:
            found.append("the application made no request")
        if not self.rolled_back:
            found.append("reads were not seen to go back to the source; see crossfade_requests_total in /metrics")
        if self.source_points != self.target_points and not self.parked:
            found.append(f"{self.source_points} points in the source, {self.target_points} in the target")
        return found

    def save(self, path: Path) -> None:
        values = asdict(self)
        values["latency"] = [row | row.pop("latency") for row in values["latency"]]
        path.write_text(json.dumps({"passed": not self.problems(), **values}, indent=2) + "\n")

    def show(self, console: Console) -> None:
        console.print()
        console.print(_findings(self))
        if self.latency:
            console.print(_latencies(self.latency))
            console.print(
                Text(
                    "one request at a time on this machine, variants in turn: what the proxy adds here, and nothing "
                    "about the speed of a Qdrant or Milvus server",
                    style="dim",
                )
            )
        for problem in self.problems():
            console.print(Text(f"✗ {problem}", style="bold red"))


def _findings(report: Report) -> Table:
    table = Table(title="What the application and the stores say", title_justify="left", show_header=False)
    table.add_column(style="cyan")
    table.add_column()
    by = ", ".join(f"{count:,} {name}" for name, count in report.requests_by_transport.items())
    table.add_row("source", report.source)
    table.add_row("target", report.target)
    table.add_row("requests", f"{report.requests:,}  ({by})")
    table.add_row("failed requests", Text(f"{report.failed_requests}", style=_style(not report.failed_requests)))
    table.add_row(
        "points", f"{_number(report.source_points)} in the source, {_number(report.target_points)} in the target"
    )
    table.add_row("differences after verify", Text(_number(report.differences), style=_style(report.differences == 0)))
    overlap = "-" if report.overlap_at_10 is None else f"{report.overlap_at_10:.4f}"
    table.add_row("overlap@10 of shadow reads", f"{overlap}  ({report.shadow_reads:,} compared)")
    back = f"yes, within {1000 * report.rollback_seconds:.0f} ms" if report.rollback_seconds is not None else "no"
    table.add_row("all reads went back", Text(back, style=_style(report.rolled_back)))
    table.add_row("took", f"{report.seconds:.0f} s")
    return table


def _latencies(rows: Sequence[Row]) -> Table:
    table = Table(title="Latency, through the proxy beside direct", title_justify="left")
    for name in ("operation", "client", "answered by"):
        table.add_column(name)
    for name in ("direct p50", "p99", "through p50", "p99"):
        table.add_column(name, justify="right")
    cells: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        cells.setdefault((row.operation, row.client, row.answered_by), {})[row.path] = row
    for (operation, client, answered_by), paths in cells.items():
        figures: list[str] = []
        for path in ("direct", "crossfade"):
            found = paths.get(path)
            figures += [f"{found.latency.p50_ms:.1f} ms", f"{found.latency.p99_ms:.1f} ms"] if found else ["-", "-"]
        table.add_row(operation, client, answered_by, *figures)
    return table


def _style(right: bool) -> str:
    return "bold green" if right else "bold red"


def _number(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"
