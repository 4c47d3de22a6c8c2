"""Explore the models of the replication protocol, and leave rules out to see that it is noticed.

    python -m tests.models                            every model, bounded, as the tests run them
    python -m tests.models --full                     more worlds: more operations, several faults in one run
    python -m tests.models --model mirror --mutate all
    python -m tests.models --mutate no-hold           and prints the shortest trace to what goes wrong

Exit code 1 if a model does not hold, a mutation is not caught, or a check was not finished.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console

from tests.models.catalogue import MODELS
from tests.models.explore import CAP, Model, ModelError, Result, Wrong, check

FULL_CAP = 20_000_000  # states from one start; about a kilobyte each
_LINE = "{:<13} {:<27} {:>10} {:>8} {:>6} {:>8}  {}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    console = Console(highlight=False)
    runs = list(_runs(options.model, options.mutate))
    if not runs:
        console.print(f"no model has a rule {options.mutate!r}")
        return 2
    console.print(_LINE.format("model", "without", "states", "rest", "trace", "seconds", "result"), soft_wrap=True)
    failed = [
        f"{model.name} {without}".strip() for model, without in runs if not _run(console, model, without, options)
    ]
    console.print(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.models", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="more worlds (up to an hour)")
    parser.add_argument("--model", choices=[model.name for model in MODELS], help="only this one")
    parser.add_argument("--mutate", metavar="NAME", default="", help="leave this rule out, or `all` of them in turn")
    return parser.parse_args(arguments)


def _runs(name: str | None, mutate: str) -> Iterator[tuple[type[Model[Any]], str]]:
    """(model, the rule to leave out). With a rule's name only the models that have it; "" is the model as it is."""
    for model in MODELS:
        if name in (None, model.name):
            if mutate in ("", "all"):
                yield model, ""
            for rule in model.rules:
                if mutate in (rule, "all"):
                    yield model, rule


def _run(console: Console, kind: type[Model[Any]], without: str, options: argparse.Namespace) -> bool:
    """Whether all is as it should be: the model holds, or without the rule it does not."""
    began = time.monotonic()
    try:
        with console.status(f"{kind.name} {without}") as status:
            result = check(
                kind(without), options.full, FULL_CAP if options.full else CAP, _progress(status.update, kind)
            )
    except ModelError as error:
        console.print(str(error), style="red")
        return False
    good = (result.wrong is not None) is bool(without)
    console.print(
        _line(kind.name, without, result, time.monotonic() - began), style="" if good else "red", soft_wrap=True
    )
    if result.wrong is not None and options.mutate != "all":
        _show(console, kind, without, result.wrong)
    return good


def _progress(update: Callable[[str], None], kind: type[Model[Any]]) -> Callable[[int], None]:
    return lambda states: update(f"{kind.name}: {states:,} states")


def _line(name: str, without: str, result: Result, seconds: float) -> str:
    length = str(result.wrong.length) if result.wrong is not None else "-"
    verdict = ("caught" if without else "WRONG") if result.wrong is not None else ("NOT CAUGHT" if without else "holds")
    return _LINE.format(name, without or "-", result.states, result.rests, length, f"{seconds:.1f}", verdict)


def _show(console: Console, kind: type[Model[Any]], without: str, wrong: Wrong) -> None:
    if without:
        console.print(f"\nwithout: {kind.rules[without]}", soft_wrap=True)
    console.print(f"{wrong}\n", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
