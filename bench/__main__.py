"""`python -m bench [--json FILE] [--quick] [NAME ...]`: the measurements named, or all of them."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console

from bench.figures import Row
from bench.measurements import beside, copying, growth, idle, moving, peers, searches, secondary, starting, upserts
from bench.process_figures import machine_cpu_seconds, own_cpu_seconds, processor
from bench.processes import BenchError, LoadProcess
from bench.run import FULL, QUICK, Run
from bench.table import document, markdown, table
from examples.engines import EngineError
from proxy.release import release

MEASUREMENTS: dict[str, Callable[[Run], None]] = {
    "starting": starting.measure,
    "searches": searches.measure,
    "upserts": upserts.measure,
    "secondary": secondary.measure,
    "copying": copying.measure,
    "moving": moving.measure,
    "idle": idle.measure,
    "growth": growth.measure,
    "beside": beside.measure,
    "peers": peers.measure,
}
_PACKAGES = ("aiohttp", "grpcio", "uvloop", "qdrant-client", "qdrant-edge-py", "pymilvus", "milvus-lite")


class Surroundings:
    """What ran, where and when, and how much of the machine others took meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._others = machine_cpu_seconds() - own_cpu_seconds()
        self._at = datetime.now(UTC)

    def told(self, *, quick: bool) -> dict[str, Any]:
        """To be asked when everything has ended. `others_cores`: cores that other processes kept busy on average."""
        seconds = time.monotonic() - self._began
        others = machine_cpu_seconds() - own_cpu_seconds() - self._others
        return {
            "at": self._at.isoformat(timespec="seconds"),
            "quick": quick,
            "seconds": round(seconds),
            "others_cores": round(others / seconds, 2),
            **_machine(),
        }


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "python": platform.python_version(),
        "versions": {"crossfade": release(), **{name: version(name) for name in _PACKAGES}},
    }


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the results there, too.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="Write the table there, too.")
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds: for trying out, not for quoting.")
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
def main(json_file: Path | None, markdown_file: Path | None, quick: bool, names: tuple[str, ...]) -> None:
    """What the proxy costs, beside doing without it. Takes up to forty minutes; --quick ten."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    surroundings = Surroundings()
    with tempfile.TemporaryDirectory(prefix="crossfade-bench-") as made:
        directory = Path(made)
        rows: list[Row] = []
        programs: dict[str, str] = {}
        try:
            with LoadProcess(directory / "load.log") as load:
                console = Console(stderr=True, soft_wrap=True)
                run = Run(directory, QUICK if quick else FULL, load, console, rows, programs)
                for name in names or MEASUREMENTS:
                    MEASUREMENTS[name](run)
        except (BenchError, EngineError) as error:
            raise click.ClickException(str(error)) from error
        finally:  # what was measured before something failed is told, too
            _tell(rows, {**surroundings.told(quick=quick), "programs": programs}, json_file, markdown_file)


def _tell(rows: Sequence[Row], ran: Mapping[str, Any], json_file: Path | None, markdown_file: Path | None) -> None:
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows))
    click.echo(
        f"crossfade {ran['versions']['crossfade']}: {ran['seconds']} s on {ran['cores']} cores ({ran['processor']}), "
        f"of which others took {ran['others_cores']}"
    )
    if ran["programs"]:
        click.echo("with " + ", ".join(f"{name} {version}" for name, version in ran["programs"].items()))
    if ran["quick"]:
        click.echo("A quick run: its rounds are too few and too short to quote.")
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(document(rows, ran), option=orjson.OPT_INDENT_2))
    if markdown_file is not None:
        markdown_file.write_text(markdown(rows) + "\n")


if __name__ == "__main__":
    main()
