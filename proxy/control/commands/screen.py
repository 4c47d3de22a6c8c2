"""How values look on a terminal, and plainly in a pipe: tables, ages, numbers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PLAIN_WIDTH = 240  # in a pipe nothing is wrapped for a screen


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as words: what is shown, before anybody draws it. Columns that begin with ">" are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False, emoji=False, markup=False)


def show(grids: Iterable[Grid]) -> None:
    """Draw the grids that have rows, one below the other."""
    screen = console()
    for number, grid in enumerate(grid for grid in grids if grid.rows):
        if number:
            screen.print()
        screen.print(drawn(grid, plain=not screen.is_terminal))


def drawn(grid: Grid, plain: bool) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=grid.title or None,
        title_justify="left",
        title_style="" if plain else "bold",
        box=None if plain else box.SIMPLE_HEAD,
        pad_edge=not plain,
        header_style="" if plain else "dim",
    )
    for column in grid.columns:
        table.add_column(column.removeprefix(">"), justify="right" if column.startswith(">") else "left")
    for row in grid.rows:
        table.add_row(*row)
    return table


def show_json(value: Any) -> None:
    """The value as the API sent it, for scripts."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def percent(value: float) -> str:
    return f"{value:g} %"


def duration(seconds: float) -> str:
    """`850 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def ago(unix_seconds: float) -> str:
    return f"{duration(max(0.0, time.time() - unix_seconds))} ago"


def size(size_bytes: int) -> str:
    value, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
