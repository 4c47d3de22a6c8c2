"""How rows are told: a table for people, JSON for programs. Pure.

The JSON is one object: what ran (version, when, where, how thorough) and `rows`, one a row of the table. A row names
what was measured (`work`, `measure`), beside what (`against`), the median ratio of the rounds with its extremes
(`ratio`, `low`, `high`), the absolute medians (`value`, `reference`, in `unit`), and further figures (`details`). A row
that has a bound says what the ratio `must` reach, its `goal`, and which of them is `reached` ("goal", "must" or
"missed"); in all others these are null. With `lower_is_better` a bound is an upper one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.table import Table

from bench.figures import Details, Row, Verdict

_VERDICTS: Mapping[Verdict | None, str] = {
    "goal": "goal reached",
    "must": "must reached, goal missed",
    "missed": "must missed",
    None: "",
}
_COLOURS: Mapping[Verdict | None, str] = {"goal": "green", "must": "yellow", "missed": "red", None: ""}


def table(rows: Sequence[Row]) -> Table:
    """A line a row; rows of one work stand together."""
    shown = Table(title="Medians over rounds; ratios are taken within each round", title_justify="left")
    for name, justify in (("work", "left"), ("measure", "left"), ("here", "right"), ("against", "left")):
        shown.add_column(name, justify=justify)  # type: ignore[arg-type]
    for name in ("there", "ratio", "low - high"):
        shown.add_column(name, justify="right")
    bounded = any(row.bound for row in rows)
    for name in ("must", "goal", "reached") if bounded else ():
        shown.add_column(name, justify="left" if name == "reached" else "right")
    shown.add_column("more", justify="left")
    for _, group in groupby(rows, key=lambda row: (row.work, row.against)):
        for number, row in enumerate(group):
            colour = _COLOURS[row.verdict]
            shown.add_row(*cells(row, repeated=number > 0, bounded=bounded, colour=colour), end_section=False)
        shown.add_section()
    return shown


def cells(row: Row, *, repeated: bool = False, bounded: bool = False, colour: str = "") -> list[str]:
    """The row as text; `repeated`: its work and what it is beside stand in the line above; `bounded`: with its bound,
    if it has one, whose verdict has a `colour`."""
    return [
        "" if repeated else row.work,
        row.measure.name,
        f"{figure(row.value)} {_unit(row)}",
        "" if repeated else row.against,
        f"{figure(row.reference)} {_unit(row)}",
        figure(row.ratio),
        f"{figure(row.low)} - {figure(row.high)}",
        *(_bound(row, colour) if bounded else ()),
        told(row.details),
    ]


def _bound(row: Row, colour: str) -> list[str]:
    if row.bound is None:
        return ["", "", ""]
    sign = "≤" if row.measure.lower_is_better else "≥"
    verdict = _VERDICTS[row.verdict]
    return [
        f"{sign} {figure(row.bound.must)}",
        f"{sign} {figure(row.bound.goal)}",
        f"[{colour}]{verdict}[/{colour}]" if colour else verdict,
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
    bounded = any(row.bound for row in rows)
    names = ["work", "measure", "here", "against", "there", "ratio", "low - high"]
    names += ["must", "goal", "reached", "more"] if bounded else ["more"]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for _, group in groupby(rows, key=lambda row: (row.work, row.against)):
        for number, row in enumerate(group):
            lines.append("| " + " | ".join(cells(row, repeated=number > 0, bounded=bounded)) + " |")
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
        "must": row.bound and row.bound.must,
        "goal": row.bound and row.bound.goal,
        "reached": row.verdict,
        "value": row.value,
        "reference": row.reference,
        "unit": row.measure.unit,
        "lower_is_better": row.measure.lower_is_better,
        "rounds": row.rounds,
        "details": dict(row.details),
    }


def _unit(row: Row) -> str:
    return "/s" if row.measure.unit == "1/s" else row.measure.unit
