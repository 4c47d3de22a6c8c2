"""The picture of the traffic: application, proxy, and what goes to each side. Pure."""

from __future__ import annotations

from rich.align import Align
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.demo.watch import Seen

SOURCE_STYLE = "bright_blue"
TARGET_STYLE = "bright_magenta"
_BAR = 38


def picture(seen: Seen, source: str, target: str, mirroring: bool, shadowing: bool) -> RenderableType:
    """About 19 lines of 42 columns."""
    figures = seen.figures
    failed = Text(f"{figures.failed_requests} failed", "bold red" if figures.failed_requests else "bold green")
    return Group(
        Align.center(Text.assemble(("application", "bold"), ("  qdrant-client, REST + gRPC", "dim"))),
        Align.center(Text.assemble(f"{seen.requests_per_second:,.0f} requests/s · {figures.requests:,} · ", failed)),
        Align.center(Text("│", "dim")),
        Align.center(Text("┤ crossfade ├", "bold cyan")),
        Align.center(Text("┌────────────┴────────────┐", "dim")),
        _sides(seen, source, target, mirroring, shadowing),
        Text(),
        Align.center(Text("who answered the searches of the last 3 s", "dim")),
        Align.center(_bar(seen)),
        Text(),
        _latencies(seen),
        Text(),
        Text.assemble(("asked  ", "dim"), figures.asked, overflow="ellipsis", no_wrap=True),
        Text.assemble(("found  ", "dim"), figures.found, overflow="ellipsis", no_wrap=True),
    )


def _sides(seen: Seen, source: str, target: str, mirroring: bool, shadowing: bool) -> Table:
    table = Table.grid(expand=True)
    table.add_column(justify="center", ratio=1)
    table.add_column(justify="center", ratio=1)
    writes = f"writes {seen.writes_per_second:,.0f}/s"
    copies = ("copies" + (f", {seen.behind_keys} behind" if seen.behind_keys else ", in step")) if mirroring else ""
    table.add_row(Text(source, f"bold {SOURCE_STYLE}"), Text(target, f"bold {TARGET_STYLE}"))
    table.add_row(Text(writes), Text(copies))
    table.add_row(_points(seen.source_points), _points(seen.target_points))
    table.add_row(Text(), Text("shadow reads" if shadowing else "", "dim"))
    return table


def _points(count: int | None) -> Text:
    return Text("" if count is None else f"{count:,} points")


def _bar(seen: Seen) -> Text:
    if not seen.recent.total:
        return Text("░" * _BAR, "dim")
    right = round(_BAR * seen.recent.target_percent / 100)
    right = max(right, 1) if seen.recent.target else right
    percent = seen.recent.target_percent
    bar = Text.assemble(("█" * (_BAR - right), SOURCE_STYLE), ("█" * right, TARGET_STYLE))
    words = Text.assemble((f"{100 - percent:.0f} %", SOURCE_STYLE), (f"{percent:>{_BAR - 5}.0f} %", TARGET_STYLE))
    return Text("\n").join([bar, words])


def _latencies(seen: Seen) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    for justify in ("left", "right", "right"):
        table.add_column(justify=justify)
    table.add_row(Text("latency seen by it", "dim"), Text("p50", "dim"), Text("p99", "dim"))
    for name, latency in (("search", seen.figures.search), ("write", seen.figures.write)):
        table.add_row(name, f"{latency.p50_ms:.1f} ms", f"{latency.p99_ms:.0f} ms")
    return table
