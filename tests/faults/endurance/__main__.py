"""`python -m tests.faults.endurance --minutes 30`: a mixed load at 70 % of what the proxy carries, with clients that
break off, upstreams that reset connections, edits of the configuration and new certificates. No request may fail but
those cut on purpose; memory and descriptors must stay flat; and the replicator comes to rest.

Exit code 1 if anything is not as it should be; then the directory of the run is kept, with all logs, what was
reset when (`source/resets.jsonl`) and every failure with what it is (`failures.jsonl`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from bench.processes import BenchError
from examples.engines import EngineError
from tests.faults.endurance.run import Endurance, play
from tests.faults.endurance.servers import EnduranceError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.endurance", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes of the proxy")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--directory", type=Path, help="play there, and keep it whatever is found")
    given = parser.parse_args(arguments)
    console = Console(width=max(120, Console().width))
    directory = given.directory or Path(tempfile.mkdtemp(prefix="endurance_"))
    directory.mkdir(parents=True, exist_ok=True)
    try:
        found = play(directory, given.minutes, given.workers, given.seed, console)
    except (EnduranceError, EngineError, BenchError) as error:
        console.print(f"{error}\nkept: {directory}", style="bold red", markup=False, highlight=False)
        return 1
    problems = found.problems
    _tell(found, problems, console)
    if given.json is not None:
        given.json.write_text(json.dumps({**found.figures(), "problems": problems}, indent=1))
    if problems or given.directory is not None:
        lines = ({"verdict": verdict, **msgspec.structs.asdict(failure)} for failure, verdict in found.verdicts)
        (directory / "failures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        console.print(f"kept: {directory}", markup=False, highlight=False)
    else:
        shutil.rmtree(directory)
    return 1 if problems else 0


def _tell(found: Endurance, problems: Sequence[str], console: Console) -> None:
    for name, value in found.figures().items():
        if isinstance(value, dict):
            console.print(f"{name:>30}", markup=False, highlight=False)
            for each, figure in sorted(value.items()):
                console.print(f"{each:>50}  {figure}", markup=False, highlight=False)
        else:
            console.print(f"{name:>30}  {value}", markup=False, highlight=False)
    for problem in problems:
        console.print(problem, style="bold red", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
