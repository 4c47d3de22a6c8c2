"""A migration from Qdrant to Milvus while the application runs, start to end: the story, to be read top down.

Each step below is what an operator does, mostly in one line: a `crossfade` command, or an edit of crossfade.yaml. The
application (application.py) runs all the time, counts its requests, and knows what every answer has to be.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from rich.console import Console

from examples.demo.configuration import ROUTE
from examples.demo.databases import load
from examples.demo.latency import measure
from examples.demo.processes import TARGETS, CommandFailed, QdrantEmulator, program
from examples.demo.report import Report
from examples.demo.screen import Screen
from examples.demo.stage import DemoError, Stage
from examples.engines import EngineError
from proxy.errors import CrossfadeError

STEPS = (
    (START := "start both stores"),
    (LOAD := "load the texts"),
    (PROXY := "proxy in between"),
    (MIRROR := "dual write"),
    (BACKFILL := "backfill"),
    (VERIFY := "verify"),
    (SHADOW := "shadow reads"),
    (FIVE := "reads 5 %"),
    (QUARTER := "reads 25 %"),
    (HALF := "reads 50 %"),
    (ALL := "reads 100 %"),
    (BACK := "all reads back"),
    (AGAIN := "reads 100 % again"),
    (LATENCY := "measure latency"),
    (PROOF := "verify at rest"),
)
_ENOUGH_SEARCHES = 150  # to tell a share from
_PATIENCE_SECONDS = 45.0
_WORST = 5


def migrate(stage: Stage, screen: Screen, report: Report) -> None:
    """The story. Raises DemoError, or what a command or an engine says."""
    with screen.step(START):
        stage.start_databases()
    with screen.step(LOAD) as step:
        load(stage.source, stage.corpus, lambda done, total: step.progress(done, total, f"{done:,} texts"))
        step.say(f"{stage.counters.source():,} texts")
    with screen.step(PROXY) as step:
        screen.command("crossfade serve -c crossfade.yaml")
        stage.start_proxy()
        stage.start_application()
        _wait(lambda: stage.application.figures().requests >= 200, "the application to make requests")
        step.say("only its URL is new")

    with screen.step(MIRROR) as step:
        operate(stage, screen, "mirror", "docs")
        screen.mirroring = True
        step.say("writes are copied")
    with screen.step(BACKFILL) as step:
        screen.command("crossfade backfill docs")
        copied = stage.run_job("backfill", step.progress).result["copied"]
        step.say(f"{copied:,} points copied")
    with screen.step(VERIFY) as step:
        screen.command("crossfade verify docs")
        verdict = stage.run_job("verify", step.progress).result
        step.say(f"{verdict['equal']:,} equal, {verdict['different']:,} different")
    with screen.step(SHADOW) as step:
        screen.command("edit crossfade.yaml: sample_percent: 20")
        stage.edit("sample_percent: 0", "sample_percent: 20")
        _wait(lambda: stage.route().shadow.compared > 0, "shadow reads after the edit")
        screen.shadowing = True
        _wait(lambda: stage.route().shadow.compared >= 100, "100 shadow reads")
        step.say(f"overlap@10 {stage.route().shadow.overlap or 0:.3f}")

    with screen.step(FIVE) as step:
        operate(stage, screen, "weight", "docs", "5")
        step.say(watch_share(stage, 5))
    with screen.step(QUARTER) as step:
        operate(stage, screen, "weight", "docs", "25")
        step.say(watch_share(stage, 25))
    with screen.step(HALF) as step:
        screen.command("edit crossfade.yaml: weight: 500   (a mistake: refused, and nothing changes)")
        stage.edit("weight: 0", "weight: 500")
        _wait(lambda: "500" in stage.control.status().config_problem, "the mistake to be refused")
        screen.command("edit crossfade.yaml: weight: 50")
        stage.edit("weight: 500", "weight: 50")
        taken = _wait(lambda: stage.route().weight.effective == 50, "the edit to be taken")
        step.say(f"{watch_share(stage, 50)}, edit took {taken:.1f} s")
    with screen.step(ALL) as step:
        operate(stage, screen, "weight", "docs", "100", "--write")
        step.say(watch_share(stage, 100))
    with screen.step(BACK) as step:
        report.rollback_seconds = roll_back(stage, screen)
        report.rolled_back = True
        step.say(f"one flip, {1000 * report.rollback_seconds:.0f} ms")
    with screen.step(AGAIN) as step:
        operate(stage, screen, "weight", "docs", "100")
        step.say(watch_share(stage, 100))

    stage.watch.frozen = True
    stage.application.stop()
    report.take(stage.application.figures())
    with screen.step(LATENCY) as step:
        report.latency = measure(stage.source, stage.proxy, stage.counters, stage.corpus)
        step.say("beside direct access")
    with screen.step(PROOF) as step:
        prove(stage, screen, report)
        step.say(f"{report.differences} differences")


def operate(stage: Stage, screen: Screen, *command: str) -> None:
    """Type a `crossfade` command."""
    screen.command(f"crossfade {' '.join(command)}")
    stage.proxy.run(*command)


def watch_share(stage: Stage, percent: float) -> str:
    """See the target answer that share of the searches, within what chance allows. Raises DemoError."""
    begin = stage.watch.answers()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        time.sleep(0.2)
        seen = stage.watch.answers().since(begin)
        if seen.total >= _ENOUGH_SEARCHES:
            chance = 300 * (percent / 100 * (1 - percent / 100) / seen.total) ** 0.5  # three standard deviations
            if abs(seen.target_percent - percent) <= chance + 2:
                return f"saw {seen.target_percent:.0f} %"
        if time.monotonic() > deadline:
            raise DemoError(
                f"{percent:g} % of the reads should go to the target; of {seen.total} searches {seen.target} did "
                f"({seen.target_percent:.1f} %). crossfade_requests_total in /metrics has the reasons"
            )


def roll_back(stage: Stage, screen: Screen) -> float:
    """Take all reads back by one flip, and see it in who answers. Returns the seconds from the flip until the last
    answer of the target, at most; raises DemoError if the target goes on answering."""
    screen.command("crossfade weight docs 0")
    flipped = time.monotonic()
    stage.control.set_weight("docs", 0)  # what the command does, without the start of a process in the time
    last_of_target, since = time.monotonic(), stage.watch.answers()
    while (seen := stage.watch.answers()).since(since).total < _ENOUGH_SEARCHES:
        if seen.target != since.target:
            last_of_target, since = time.monotonic(), seen
        if time.monotonic() - flipped > _PATIENCE_SECONDS:
            raise DemoError(f"the target goes on answering searches after the flip: {seen.since(since)}")
        time.sleep(0.05)
    if seen.target != since.target:
        raise DemoError("the target answered a search long after the flip")
    return last_of_target - flipped


def prove(stage: Stage, screen: Screen, report: Report) -> None:
    """With the application stopped and nothing under way: compare every point, and count both sides past the proxy."""
    _wait(lambda: stage.route().keys.lag == 0, "the target to catch up")
    screen.command("crossfade verify docs")
    verdict = stage.run_job("verify", screen.steps[PROOF].progress).result
    report.differences, report.unchecked = verdict["different"], verdict["unchecked"]
    route = stage.route()
    report.parked = route.keys.parked
    report.overlap_at_10, report.shadow_reads = route.shadow.overlap, route.shadow.compared
    report.disagreements = [msgspec.to_builtins(each) for each in stage.control.shadow(ROUTE).worst[:_WORST]]
    report.source_points, report.target_points = stage.counters.source(), stage.counters.target()


def _wait(condition: Callable[[], bool], what: str) -> float:
    """Wait for something outside this process; returns the seconds. Raises DemoError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > _PATIENCE_SECONDS:
            raise DemoError(f"waited {_PATIENCE_SECONDS:g} s for {what}")
        time.sleep(0.05)
    return time.monotonic() - began


def keep_running(stage: Stage, console: Console) -> None:
    """Until Ctrl-C, with the application at work again."""
    stage.start_application()
    crossfade, config = " ".join(program()), f"-c {stage.config}"
    for line in (
        "",
        f"application's URL   {stage.proxy.url}   gRPC 127.0.0.1:{stage.proxy.grpc_port}",
        f"source (emulated)   {stage.source.url}   gRPC 127.0.0.1:{stage.source.grpc_port}",
        f"target              {stage.target.address} (gRPC)",
        f"metrics             {stage.control.url}/metrics",
        f"configuration       {stage.config}",
        "",
        f"try: {crossfade} status --watch {config}",
        f"     {crossfade} weight docs 25 {config}",
        "",
        "everything runs until Ctrl-C",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    while True:
        signal.pause()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--to", choices=TARGETS, default="milvus-lite", help="what to move to")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell started it in the background
    console = Console()
    report = Report(QdrantEmulator.description, TARGETS[options.to].description)
    with Stage(options.to) as stage:
        screen = Screen(STEPS, console, stage.watch, stage.source.short_name, stage.target.short_name)
        try:
            with screen.shown():
                migrate(stage, screen, report)
        except (DemoError, CommandFailed, EngineError, CrossfadeError, OSError) as error:
            report.broken_off = str(error)
            if hasattr(stage, "application"):
                report.take(stage.application.figures())
        except KeyboardInterrupt:
            console.print("stopped")
            return 130
        report.seconds = round(screen.seconds, 1)
        report.steps = screen.summary()
        report.show(console)
        if options.json is not None:
            report.save(options.json)
        problems = report.problems()
        if problems:
            stage.keep_directory = True
            console.print(f"the logs are in {stage.directory}/*/engine.log", markup=False, soft_wrap=True)
        if options.keep and not report.broken_off:
            try:
                keep_running(stage, console)
            except KeyboardInterrupt:
                console.print("stopped")
        return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
