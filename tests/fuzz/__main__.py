"""`python -m tests.fuzz [--seconds N] [TARGET ...]`: atheris over the targets, beginning with the corpus.

What is found is written to the directory it is started in, and told; run the target with that file as input to see it
again. Atheris is installed by `make fuzz` (requirements.txt), and by nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")


@click.command()
@click.option("--seconds", default=60, show_default=True, help="For each target.")
@click.argument("names", nargs=-1, type=click.Choice(list(TARGETS)))
def main(seconds: int, names: tuple[str, ...]) -> None:
    """Fuzz these targets (all, unless named), one after the other."""
    failed = [name for name in names or TARGETS if not _holds(name, seconds)]
    if failed:
        raise click.ClickException(f"found something in {', '.join(failed)}")


def _holds(name: str, seconds: int) -> bool:
    click.echo(f"{name}: {seconds} s")
    with tempfile.TemporaryDirectory(prefix="crossfade-fuzz-") as found:
        limits = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=10", "-print_final_stats=1", "-verbosity=0"]
        if (words := CORPUS.parent / f"{name}.dict").exists():
            limits.append(f"-dict={words}")
        program = [sys.executable, "-m", "tests.fuzz.run", name, *limits, found, str(CORPUS / name)]
        return subprocess.run(program, check=False).returncode == 0


if __name__ == "__main__":
    main()
