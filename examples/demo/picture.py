"""The picture of the traffic: the application, the proxy, and what flows to each side."""

from __future__ import annotations

import time

from rich.align import Align
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from examples.demo.watch import Seen

WIDTH = 46  # of the panel
SOURCE_STYLE = "bright_blue"
TARGET_STYLE = "bright_magenta"
_BAR = 40
_PROXY = "╭ crossfade ╮"
_LEFT = 14  # columns before it
_PIPE_ROWS = 4
_STEPS_PER_SECOND = 6


def picture(seen: Seen, source: str, target: str, mirroring: bool, shadowing: bool) -> RenderableType:
    """20 lines. `mirroring`, `shadowing`: whether writes and sampled searches reach the target too."""
    figures = seen.figures
    failed = Text(f"{figures.failed_requests} failed", "bold red" if figures.failed_requests else "bold green")
    return Group(
        Align.center(Text.assemble(("application", "bold"), ("  qdrant-client, REST + gRPC", "dim"))),
        Align.center(
            Text.assemble(f"{seen.requests_per_second:,.0f} requests/s, {figures.requests:,} so far, ", failed)
        ),
        Text(" " * (_LEFT + len(_PROXY) // 2) + "│", "cyan"),
        Text(" " * _LEFT + _PROXY, "bold cyan"),
        *_pipes(seen, mirroring, shadowing),
        _sides(seen, source, target),
        Text(),
        Align.center(Text("who answers its searches", "dim")),
        Align.center(_bar(seen)),
        Text(),
        _latencies(seen),
        Text(),
        Text.assemble(("asked  ", "dim"), figures.asked, overflow="ellipsis", no_wrap=True),
        Text.assemble(("found  ", "dim"), (figures.found, "italic"), overflow="ellipsis", no_wrap=True),
    )


def _pipes(seen: Seen, mirroring: bool, shadowing: bool) -> list[RenderableType]:
    """What flows down to each side; the drops move. A pipe hangs from each corner of the proxy's box."""
    share = seen.recent.target_percent
    left = ("", f"writes {seen.writes_per_second:,.0f}/s", f"reads {100 - share:.0f} %", "")
    behind = f"{seen.behind_keys} behind" if seen.behind_keys else "in step"
    right = (
        "copies" if mirroring else "",
        behind if mirroring else "",
        f"reads {share:.0f} %" if share else "",
        "shadow reads" if shadowing else "",
    )
    flows = seen.requests_per_second > 0
    return [
        Text.assemble(
            f"{left[row]:>{_LEFT - 1}} ",
            _drop(row, flows, SOURCE_STYLE),
            " " * (len(_PROXY) - 2),
            _drop(row, flows, TARGET_STYLE) if mirroring else " ",
            f" {right[row]}",
        )
        for row in range(_PIPE_ROWS)
    ]


def _drop(row: int, flows: bool, style: str) -> Text:
    last = row == _PIPE_ROWS - 1
    step = int(time.monotonic() * _STEPS_PER_SECOND)
    if flows and (step - row) % _PIPE_ROWS == 0:
        return Text("▼" if last else "●", f"bold {style}")
    return Text("▽" if last else "│", style if flows else "dim")


def _sides(seen: Seen, source: str, target: str) -> Table:
    table = Table.grid(expand=True)
    table.add_column(justify="center", ratio=1)
    table.add_column(justify="center", ratio=1)
    table.add_row(Text(source, f"bold {SOURCE_STYLE}"), Text(target, f"bold {TARGET_STYLE}"))
    table.add_row(_points(seen.source_points), _points(seen.target_points))
    return table


def _points(count: int | None) -> Text:
    return Text("" if count is None else f"{count:,} points")


def _bar(seen: Seen) -> Text:
    if not seen.recent.total:
        return Text("░" * _BAR, "dim")
    right = round(_BAR * seen.recent.target_percent / 100)
    right = max(right, 1) if seen.recent.target else right
    return Text.assemble(("█" * (_BAR - right), SOURCE_STYLE), ("█" * right, TARGET_STYLE))


def _latencies(seen: Seen) -> Table:
    table = Table.grid(expand=True, padding=(0, 1))
    for justify in ("left", "right", "right"):
        table.add_column(justify=justify)
    table.add_row(Text("what it waits", "dim"), Text("p50", "dim"), Text("p99", "dim"))
    for name, latency in (("search", seen.figures.search), ("write", seen.figures.write)):
        figures = (f"{latency.p50_ms:.1f} ms", f"{latency.p99_ms:.0f} ms") if latency.samples else ("-", "-")
        table.add_row(name, *figures)
    return table
