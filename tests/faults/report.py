"""The matrix as a reader sees it: a table an area, faults down, phases across; and as JSON.

A cell reads `runs · acknowledged writes · lost/resurrected/differences/wrong errors`; `ok` where the last four are 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.faults.cells import ENGINES
from tests.faults.phases import PHASES
from tests.faults.runner import Result

_SHOWN_CHARACTERS = 2000  # of a line, which may have whole payloads in it; JSON has it all


def figures(result: Result) -> str:
    """`3 runs · 812 acks · 0/0/0/0 ok`, and how many errors clients saw if they saw any."""
    four = (result.lost, result.resurrected, result.differences, result.wrong_errors)
    seen = sum(result.told.values())
    text = f"{result.runs} · {result.acknowledged} · {'/'.join(str(len(each)) for each in four)}"
    mark = "ok" if result.sound else "FAILED TO RUN" if result.failures else "FAILED"
    return f"{text} {mark}" + (f" ({seen} {'right ' if result.sound else ''}errors)" if seen else "")


def print_matrix(console: Console, results: Sequence[Result]) -> None:
    for area in dict.fromkeys(result.cell.area for result in results):
        chosen = [result for result in results if result.cell.area == area]
        phases = [phase.name for phase in PHASES if any(r.cell.phase.name == phase.name for r in chosen)]
        table = Table(
            title=f"{area}: runs · acknowledged · lost/resurrected/differences/wrong errors", title_justify="left"
        )
        table.add_column("fault")
        for phase in phases:
            table.add_column(phase)
        by_place = {(result.cell.fault_name, result.cell.phase.name): result for result in chosen}
        for fault in dict.fromkeys(result.cell.fault_name for result in chosen):
            found = [by_place.get((fault, phase)) for phase in phases]
            table.add_row(fault.removeprefix(area + " "), *[figures(result) if result else "-" for result in found])
        console.print(table)


def print_findings(console: Console, results: Sequence[Result]) -> None:
    """Every finding that should not be, a few lines a cell."""
    for result in results:
        if result.sound:
            continue
        console.print(f"[bold]{result.cell.name}[/bold]")
        for title in ("lost", "resurrected", "differences", "wrong_errors", "failures", "notes"):
            for line in getattr(result, title)[:4]:
                console.print(f"  {title}: {line[:_SHOWN_CHARACTERS]}", markup=False, highlight=False)


def print_errors(console: Console, results: Sequence[Result]) -> None:
    """What clients were told, by fault."""
    table = Table(title="what clients were told, all phases together", title_justify="left")
    table.add_column("fault")
    table.add_column("errors")
    for fault in dict.fromkeys(result.cell.fault_name for result in results):
        told: dict[str, int] = {}
        for result in results:
            if result.cell.fault_name == fault:
                for kind, number in result.told.items():
                    told[kind] = told.get(kind, 0) + number
        table.add_row(fault, ", ".join(f"{kind}: {number}" for kind, number in sorted(told.items())) or "none")
    console.print(table)


def print_impossible(console: Console, reasons: Mapping[str, str]) -> None:
    table = Table(title="cells that cannot exist", title_justify="left")
    table.add_column("cell")
    table.add_column("why")
    for reason in dict.fromkeys(reasons.values()):
        table.add_row("\n".join(name for name, why in reasons.items() if why == reason), reason)
    console.print(table)


def summary(results: Sequence[Result]) -> str:
    acknowledged = sum(result.acknowledged for result in results)
    unsound = sum(not result.sound for result in results)
    return f"{len(results)} cells, {acknowledged} acknowledged writes, {unsound} cells with findings"


def as_json(results: Sequence[Result], impossible: Mapping[str, str]) -> str:
    cells = [
        {
            "area": result.cell.area,
            "fault": result.cell.fault.name,
            "phase": result.cell.phase.name,
            "target": ENGINES[result.cell.engine],
            "runs": result.runs,
            "acknowledged": result.acknowledged,
            "lost": len(result.lost),
            "resurrected": len(result.resurrected),
            "differences": len(result.differences),
            "wrong_errors": len(result.wrong_errors),
            "failures": result.failures,
            "told": dict(result.told),
            "sweeps": result.sweeps,
            "seconds": round(result.seconds, 1),
            "notes": [note for note in result.notes if len(note) < 500],
        }
        for result in results
    ]
    return json.dumps({"cells": cells, "impossible": dict(impossible)}, indent=1)


def write_json(path: Path, results: Sequence[Result], impossible: Mapping[str, str]) -> None:
    path.write_text(as_json(results, impossible) + "\n")
