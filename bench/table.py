"""How rows are told: a table for people, JSON for programs. Pure.

The JSON is one object: what ran (version, when, where, how thorough) and `rows`, one a row of the table. A row names
what was measured (`work`, `measure`), beside what (`against`), the median ratio of the rounds with its extremes
(`ratio`, `low`, `high`), the absolute medians (`value`, `reference`, in `unit`), and further figures (`details`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from bench.figures import Details, Row


def table(rows: Sequence[Row]) -> Table:
    """A line a row; rows of one work stand together."""
    shown = Table(title="Medians over rounds; ratios are taken within each round", title_justify="left")
    for name, justify in (("work", "left"), ("measure", "left"), ("here", "right"), ("against", "left")):
        shown.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("there", "ratio", "low - high", "more"):
        shown.add_column(name, justify="right" if name != "more" else "left")
    for _, group in groupby(rows, key=lambda row: (row.work, row.against)):
        for number, row in enumerate(group):
            shown.add_row(*cells(row, repeated=number > 0), end_section=False)
        shown.add_section()
    return shown


def cells(row: Row, *, repeated: bool = False) -> list[str]:
    """The row as text; `repeated`: its work and what it is beside stand in the line above."""
    return [
        "" if repeated else row.work,
        row.measure.name,
        f"{figure(row.value)} {_unit(row)}",
        "" if repeated else row.against,
        f"{figure(row.reference)} {_unit(row)}",
        figure(row.ratio),
        f"{figure(row.low)} - {figure(row.high)}",
        told(row.details),
    ]


def figure(value: float) -> str:
    """Three digits that say something, and no more than two after the point but for what is small."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}"
    for bound, digits in ((100, 0), (10, 1), (0.095, 2)):
        if abs(value) >= bound:
            return f"{value:.{digits}f}"
    return f"{value:.3f}" if abs(value) >= 0.0005 else f"{value:.1e}"


def told(details: Details) -> str:
    """The figures of a row that have no column, in words."""
    return ", ".join(f"{name.replace('_', ' ')} {_values(value)}" for name, value in details.items())


def _values(value: float | Sequence[float]) -> str:
    return figure(value) if isinstance(value, int | float) else " ".join(map(figure, value))


def markdown(rows: Sequence[Row]) -> str:
    """The same table for a page of documentation."""
    lines = [
        "| work | measure | here | against | there | ratio | low - high | more |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for _, group in groupby(rows, key=lambda row: (row.work, row.against)):
        for number, row in enumerate(group):
            lines.append("| " + " | ".join(cells(row, repeated=number > 0)) + " |")
    return "\n".join(lines)


def document(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """What `--json` writes."""
    return {**about, "rows": [_entry(row) for row in rows]}


def _entry(row: Row) -> dict[str, Any]:
    return {
        "work": row.work,
        "measure": row.measure.name,
        "against": row.against,
        "ratio": row.ratio,
        "low": row.low,
        "high": row.high,
        "value": row.value,
        "reference": row.reference,
        "unit": row.measure.unit,
        "lower_is_better": row.measure.lower_is_better,
        "rounds": row.rounds,
        "details": dict(row.details),
    }


def _unit(row: Row) -> str:
    return "/s" if row.measure.unit == "1/s" else row.measure.unit
