"""`python -m tests.faults`: plays the matrix and prints it. Exit code 1 if anything was lost, came back, differs, or
was told wrongly, or if a cell could not be played; then what such a cell left behind is kept: the proxy's log, journal
and configuration, and the data of the engines."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console

from examples.engines import MilvusLite, MilvusServer
from tests.faults.cells import Cell, cells, impossible
from tests.faults.report import (
    figures,
    print_errors,
    print_findings,
    print_impossible,
    print_matrix,
    summary,
    write_json,
)
from tests.faults.runner import Result, run
from tests.faults.scene import Grounds
from tests.support.qdrant_engines import QdrantEmulator

# A full Milvus that is stopped for longer than its leases live does not come back by itself; one that is killed waits
# for them to expire.
_LONG_LEASES, _SHORT_LEASES = 30, 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", default="", help="cells whose name contains this, such as 'source stopped / verify'")
    parser.add_argument("--phases", default="", help="these phases, with commas between")
    parser.add_argument("--runs", type=int, default=1, help="how often each cell is played")
    parser.add_argument("--json", type=Path, help="write the cells there")
    parser.add_argument("--no-full-milvus", action="store_true", help="Milvus Lite alone")
    parser.add_argument("--target", choices=("milvus", "qdrant"), default="milvus", help="the vendor of the target")
    parser.add_argument("--list", action="store_true", help="name the cells and end")
    arguments = parser.parse_args()
    console = Console(width=max(150, Console().width))
    chosen = _chosen(arguments)
    if arguments.list:
        for cell in chosen:
            console.print(cell.name, highlight=False)
        return 0
    results: list[Result] = []
    directory = Path(tempfile.mkdtemp(prefix="faults_"))
    try:
        _play(chosen, arguments.runs, directory, results, console)
    finally:
        sound = len(results) == len(chosen) and all(result.sound for result in results)
        if sound:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            console.print(f"kept: {directory}", markup=False, highlight=False)
    print_matrix(console, results)
    print_errors(console, results)
    print_impossible(console, impossible())
    print_findings(console, results)
    console.print(summary(results), highlight=False)
    if arguments.json:
        write_json(arguments.json, results, impossible())
    return 0 if sound else 1


def _play(chosen: Sequence[Cell], runs: int, directory: Path, results: list[Result], console: Console) -> None:
    for number, some in enumerate(_by_engine(chosen)):
        with _grounds(directory / f"engines_{number}", some[0]) as grounds:
            for cell in some:
                result = Result(cell)
                for _ in range(runs):
                    run(grounds, cell, result)
                results.append(result)
                told = f"[{len(results)}/{len(chosen)}] {cell.name}: {figures(result)}, {result.seconds:.0f} s"
                console.print(told, markup=False, highlight=False, style=None if result.sound else "bold red")


def _chosen(arguments: argparse.Namespace) -> list[Cell]:
    phases = [name for name in arguments.phases.split(",") if name]
    milvus = [*cells("lite"), *([] if arguments.no_full_milvus else cells("milvus"))]
    every = list(cells("qdrant")) if arguments.target == "qdrant" else milvus
    return [cell for cell in every if arguments.only in cell.name and (not phases or cell.phase.name in phases)]


def _by_engine(chosen: Sequence[Cell]) -> list[list[Cell]]:
    """Cells that can share their engines, in order."""
    groups: dict[tuple[str, bool], list[Cell]] = {}
    for cell in chosen:
        groups.setdefault((cell.engine, _stops_milvus(cell)), []).append(cell)
    return list(groups.values())


def _stops_milvus(cell: Cell) -> bool:
    return cell.engine == "milvus" and cell.fault.name == "target stopped"


def _grounds(directory: Path, cell: Cell) -> AbstractContextManager[Grounds]:
    if cell.engine == "qdrant":
        return Grounds(directory, QdrantEmulator(directory / "target"))
    if cell.engine == "lite":
        return Grounds(directory, MilvusLite(directory / "target", workers=1))
    leases = _LONG_LEASES if _stops_milvus(cell) else _SHORT_LEASES
    return Grounds(directory, MilvusServer(directory / "target", session_ttl_seconds=leases))


if __name__ == "__main__":
    sys.exit(main())
