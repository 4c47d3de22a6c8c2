"""`python -m bench [--json FILE] [--quick] [NAME ...]`: the measurements named, or all of them."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from bench.measurements import copying, growth, idle, searches, secondary, starting, upserts
from bench.process_figures import processor
from bench.processes import BenchError, LoadProcess
from bench.run import FULL, QUICK, Run
from bench.table import document, markdown, table
from examples.engines import EngineError

MEASUREMENTS: dict[str, Callable[[Run], None]] = {
    "starting": starting.measure,
    "searches": searches.measure,
    "upserts": upserts.measure,
    "secondary": secondary.measure,
    "copying": copying.measure,
    "idle": idle.measure,
    "growth": growth.measure,
}
_PACKAGES = ("crossfade", "aiohttp", "grpcio", "uvloop", "qdrant-client", "qdrant-edge-py", "pymilvus", "milvus-lite")


def about(*, quick: bool) -> dict[str, Any]:
    """What ran, where and when. `load_average` is that of the minute before the run."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the results there, too.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table there, too.")
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: for trying out, not for quoting.")
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
def main(json_file: Path | None, markdown_file: Path | None, quick: bool, names: tuple[str, ...]) -> None:
    """What the proxy costs, beside doing without it. Takes up to ten minutes; --quick one and a half."""
    ran = about(quick=quick)
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as made:
        directory = Path(made)
        with LoadProcess(directory / "load.log") as load:
            run = Run(directory, QUICK if quick else FULL, load, Console(stderr=True, soft_wrap=True))
            try:
                for name in names or MEASUREMENTS:
                    MEASUREMENTS[name](run)
            except (BenchError, EngineError) as error:
                raise click.ClickException(str(error)) from error
    Console(width=None if sys.stdout.isatty() else 200).print(table(run.rows))
    if quick:
        click.echo("A quick run: its rounds are too few and too short to quote.")
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(document(run.rows, ran), option=orjson.OPT_INDENT_2))
    if markdown_file is not None:
        markdown_file.write_text(markdown(run.rows) + "\n")


if __name__ == "__main__":
    main()
