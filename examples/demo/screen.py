"""The view of the running demo: steps on the left, where the traffic goes on the right. Plain lines in a pipe."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from examples.demo.picture import WIDTH, picture
from examples.demo.watch import Watch

_HEIGHT = 22

State = Literal["waiting", "running", "done", "failed"]
_MARKS = {"waiting": Text("·", "dim"), "done": Text("✓", "bold green"), "failed": Text("✗", "bold red")}


@dataclass(slots=True)
class Step:
    """One line of the story. `say` and `progress` replace what stands beside it."""

    title: str
    state: State = "waiting"
    note: str = ""
    done: int = 0
    total: int = 0
    began: float = 0.0
    seconds: float = 0.0

    def say(self, note: str) -> None:
        self.note = note

    def progress(self, done: int, total: int, note: str = "") -> None:
        self.done, self.total, self.note = done, total, note


@dataclass(slots=True)
class Screen:
    """`titles` are all steps in order. Everything that is shown about traffic comes from `watch`."""

    titles: Sequence[str]
    console: Console
    watch: Watch
    source_name: str
    target_name: str
    mirroring: bool = False
    shadowing: bool = False
    steps: dict[str, Step] = field(default_factory=dict)
    _command: str = ""
    _began: float = field(default_factory=time.monotonic)
    _live: Live | None = None
    _spinner: Spinner = field(default_factory=lambda: Spinner("dots", style="bold cyan"))

    def __post_init__(self) -> None:
        self.steps = {title: Step(title) for title in self.titles}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """The view, while the block runs."""
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self._page, console=self.console, refresh_per_second=8, transient=False) as live:
            self._live = live
            yield
        self._live = None

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        step = self.steps[title]
        step.state, step.began = "running", time.monotonic()
        if self._live is None:
            self._line(f"{title} ...")
        try:
            yield step
            step.state = "done"
        except BaseException:
            step.state = "failed"
            raise
        finally:
            step.seconds = time.monotonic() - step.began
            step.total = 0
            if self._live is None:
                self._line(f"{title}: {step.note or step.state} ({step.seconds:.1f} s)")

    def command(self, text: str) -> None:
        """What an operator would type, or edit, at this point."""
        self._command = text
        if self._live is None:
            self._line(f"  $ {text}")

    def summary(self) -> list[dict[str, Any]]:
        """The steps that were begun, for the report."""
        return [
            {"step": step.title, "state": step.state, "seconds": round(step.seconds, 2), "note": step.note}
            for step in self.steps.values()
            if step.state != "waiting"
        ]

    # --- drawing -------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self.console.print(f"{self.seconds:6.1f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def _page(self) -> RenderableType:
        columns = Table.grid(expand=True)
        columns.add_column(ratio=1)
        columns.add_column(width=WIDTH)
        seen = self.watch.latest
        traffic = picture(seen, self.source_name, self.target_name, self.mirroring, self.shadowing)
        columns.add_row(
            Panel(self._story(), title="migration", title_align="left", border_style="cyan", height=_HEIGHT),
            Panel(traffic, title="traffic", title_align="left", border_style="cyan", height=_HEIGHT),
        )
        head = Table.grid(expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right")
        head.add_row(
            Text.assemble(("crossfade", "bold cyan"), f"  {self.source_name} → {self.target_name}, while it runs"),
            Text(f"{self.seconds:.0f} s ", "bold"),
        )
        command = Text.assemble(("$ ", "green"), (self._command, "bold")) if self._command else Text()
        return Group(head, columns, Padding(command, (0, 2)))

    def _story(self) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for step in self.steps.values():
            mark = self._spinner if step.state == "running" else _MARKS[step.state]
            style = {"waiting": "dim", "running": "bold", "done": "", "failed": "bold red"}[step.state]
            table.add_row(mark, Text(step.title, style), _beside(step))
        return table


def _beside(step: Step) -> RenderableType:
    """A bar while there is something to measure, else the note."""
    if step.state == "running" and step.total:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=16)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_row(ProgressBar(step.total, min(step.done, step.total)), Text(step.note, "cyan"))
        return row
    return Text(step.note, "cyan" if step.state == "running" else "dim")
