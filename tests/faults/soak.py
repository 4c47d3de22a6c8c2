"""`python -m tests.faults.soak --minutes 30`: a mixed load for a long time, with a fault every few seconds and the
primary moved there and back twice; then rest, and a look at both stores.

Beside what the matrix looks at (lost, resurrected, different, told wrongly): the proxy's memory and file descriptors
must stay flat, and its journal bounded. So the proxy is the one process that is not killed here. Memory is flat if the
median of the last third of the run is within 15 % of that of the second (the first fills caches). Exit code 1 if
anything is not as it should be; then the directory of the run is kept, with the engines' data, all logs, and
`diary.jsonl`: each fault, each move, and of every key that is not right all that was attempted, with times.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.process_figures import resident_bytes
from examples.engines import MilvusLite
from proxy.errors import CrossfadeError
from tests.faults.checker import Findings, check
from tests.faults.diary import Diary
from tests.faults.expectations import allowed, wrong
from tests.faults.flatness import DESCRIPTORS_SLACK, growth, third
from tests.faults.injection import FAULTS, Fault
from tests.faults.load import Load, load, old_points
from tests.faults.phases import AfterCutover
from tests.faults.runner import payloads
from tests.faults.scene import Grounds, Scene
from tests.support.both_stores import differences, in_source, in_target, milvus_of
from tests.support.migration import ROUTE

_FAULT_SECONDS = (2.0, 6.0)  # between two faults
_SAMPLE_SECONDS = 5.0
_FLIPS = 4
_JOURNAL_BYTES = 256 * 1024 * 1024
_STRUCK = tuple(fault for fault in FAULTS if fault.area in ("source", "target"))


@dataclass
class Sample:
    seconds: float
    memory_bytes: int
    descriptors: int
    journal_bytes: int


@dataclass
class Soak:
    """What came of it. Lists hold a line for each finding."""

    minutes: float
    samples: list[Sample] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    flips: list[float] = field(default_factory=list)  # seconds for which writes were held
    flips_refused: int = 0
    acknowledged: int = 0
    attempts: int = 0
    findings: Findings = field(default_factory=Findings)
    differences: list[str] = field(default_factory=list)
    wrong_errors: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return [
            *(f"lost: {line}" for line in self.findings.lost),
            *(f"resurrected: {line}" for line in self.findings.resurrected),
            *(f"told wrongly: {line}" for line in self.findings.lies),
            *(f"different: {line}" for line in self.differences),
            *(f"wrong error: {line}" for line in self.wrong_errors[:20]),
            *self._growth(),
        ]

    def third(self, number: int, figure: str) -> float:
        """The median of a figure over the first (0), second or last (2) third of the run."""
        return third(self._values(figure), number)

    def _values(self, figure: str) -> list[float]:
        return [float(getattr(one, figure)) for one in self.samples]

    def _growth(self) -> list[str]:
        found = growth("memory_bytes", self._values("memory_bytes"))
        found += growth("descriptors", self._values("descriptors"), DESCRIPTORS_SLACK)
        largest = max(sample.journal_bytes for sample in self.samples)
        if largest > _JOURNAL_BYTES:
            found.append(f"the journal grew to {largest:,} bytes")
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--only", default="", help="faults whose name contains this, such as 'target kill -9'")
    parser.add_argument("--cutover", action="store_true", help="the target is the primary from the start to the end")
    parser.add_argument("--directory", type=Path, help="play there, and keep it whatever is found")
    given = parser.parse_args(arguments)
    faults = [fault for fault in _STRUCK if given.only in fault.name]
    if not faults:
        parser.error(f"no fault of a store is named {given.only!r}: {', '.join(fault.name for fault in _STRUCK)}")
    console = Console(width=max(120, Console().width))
    soak = Soak(given.minutes)
    directory = given.directory or Path(tempfile.mkdtemp(prefix="soak_"))
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        diary = running.enter_context(Diary(directory / "diary.jsonl"))
        grounds = running.enter_context(Grounds(directory, MilvusLite(directory / "target", workers=1)))
        scene = running.enter_context(grounds.scene(AfterCutover.route, disk_fails=False))
        _Play(scene, soak, diary, faults, given.cutover, random.Random(given.seed)).play(console)
    _tell(soak, console)
    if given.json is not None:
        given.json.write_text(json.dumps(_figures(soak), indent=1))
    if soak.problems or given.directory is not None:
        console.print(f"kept: {directory}", markup=False, highlight=False)
    else:
        shutil.rmtree(directory)
    return 1 if soak.problems else 0


@dataclass
class _Play:
    """`stays`: the target is the primary all the time."""

    scene: Scene
    soak: Soak
    diary: Diary
    faults: Sequence[Fault]
    stays: bool
    chance: random.Random

    def play(self, console: Console) -> None:
        scene, soak = self.scene, self.soak
        scene.mirrored = True
        scene.proxy.start()
        migration = scene.migration
        migration.backfill()
        migration.rest()
        migration.weight(100)
        if self.stays:
            self._flip()
        seconds = 60 * soak.minutes
        flips = [] if self.stays else [seconds * (number + 1) / (_FLIPS + 1) for number in range(_FLIPS)]
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with (
            load(migration, scene.collection, filters=True, fresh=False) as writers,
            Progress(*columns, console=console) as bar,
        ):
            scene.load = writers
            task = bar.add_task("soak", total=seconds)
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < seconds:
                if flips and elapsed > flips[0]:
                    flips.pop(0)
                    self._flip()
                fault = self.chance.choice(self.faults)
                bar.update(task, completed=elapsed, description=f"{len(soak.flips)} flips; {fault.name}")
                self._strike(fault)
                _quiet(scene, soak, self.chance.uniform(*_FAULT_SECONDS), began)
            for _ in flips:
                self._flip()
        soak.acknowledged, soak.attempts = writers.acknowledged, writers.attempts
        migration.rest()
        _look(scene, writers, soak, self.diary)

    def _strike(self, fault: Fault) -> None:
        scene = self.scene
        self.soak.struck[fault.name] += 1
        self.diary.note("struck", fault=fault.name)
        fault.arm(scene)
        try:
            fault.strike(scene)
            fault.last(scene)
        finally:
            self.diary.note("heals", fault=fault.name)
            fault.heal(scene)
            self.diary.note("healed", fault=fault.name)

    def _flip(self) -> None:
        """There or back; tried for a minute, since a gate may be closed just after a fault."""
        control, deadline = self.scene.migration.control, time.monotonic() + 60
        while True:
            try:
                there = control.status().routes[0].primary == "target"
                moved = (control.rollback if there else control.cutover)(ROUTE, force="soak")
            except CrossfadeError as error:
                self.soak.flips_refused += 1
                if time.monotonic() > deadline:
                    self.soak.differences.append(f"the primary could not be moved for a minute: {error}")
                    return
                time.sleep(0.5)
                continue
            self.soak.flips.append(moved.held_seconds)
            self.diary.note("moved", primary="source" if there else "target", held_seconds=moved.held_seconds)
            return


def _quiet(scene: Scene, soak: Soak, seconds: float, began: float) -> None:
    """Let the load go on undisturbed, and look at the proxy meanwhile."""
    ended = time.monotonic() + seconds
    while time.monotonic() < ended:
        last = soak.samples[-1].seconds if soak.samples else -_SAMPLE_SECONDS
        if time.monotonic() - began - last >= _SAMPLE_SECONDS:
            soak.samples.append(_sample(scene, time.monotonic() - began))
        time.sleep(0.1)


def _sample(scene: Scene, seconds: float) -> Sample:
    pid = scene.proxy.pid
    assert pid is not None, scene.proxy.log_tail()
    journal = sum(file.stat().st_size for file in (scene.migration.directory / "data").glob("journal.db*"))
    return Sample(seconds, resident_bytes(pid), len(list(Path(f"/proc/{pid}/fd").iterdir())), journal)


def _look(scene: Scene, writers: Load, soak: Soak, diary: Diary) -> None:
    migration, collection = scene.migration, scene.collection
    right = frozenset().union(*(allowed(fault, mirrored=True, primary="either") for fault in soak.struck))
    soak.wrong_errors = wrong(writers.told, right)
    soak.told.update(kind.value for kind, _ in writers.told)
    with milvus_of(migration) as milvus:
        there = payloads(in_target(milvus, collection))
    stores = {"source": payloads(in_source(migration.direct(), collection)), "target": there}
    history = writers.history
    for side, points in stores.items():
        soak.findings.extend(check(side, old_points(), history, points))
    soak.differences += differences(migration, collection)
    for key in sorted(soak.findings.keys):
        diary.note_key(key, history.get(key, ()), {side: points.get(key) for side, points in stores.items()})
    for problem in soak.problems:
        diary.note("problem", text=problem)


def _figures(soak: Soak) -> dict[str, Any]:
    mib = 2**20
    return {
        "minutes": soak.minutes,
        "acknowledged": soak.acknowledged,
        "attempts": soak.attempts,
        "faults": sum(soak.struck.values()),
        "struck": dict(soak.struck),
        "flips": len(soak.flips),
        "longest_hold_seconds": max(soak.flips, default=0.0),
        "flips_refused": soak.flips_refused,
        "told": dict(soak.told),
        "lost": len(soak.findings.lost),
        "resurrected": len(soak.findings.resurrected),
        "differences": len(soak.differences),
        "wrong_errors": len(soak.wrong_errors) + len(soak.findings.lies),
        "memory_mib": [round(soak.third(third, "memory_bytes") / mib, 1) for third in range(3)],
        "descriptors": [soak.third(third, "descriptors") for third in range(3)],
        "journal_mib": [round(soak.third(third, "journal_bytes") / mib, 1) for third in range(3)],
        "largest_journal_mib": round(max(sample.journal_bytes for sample in soak.samples) / mib, 1),
    }


def _tell(soak: Soak, console: Console) -> None:
    for name, value in _figures(soak).items():
        console.print(f"{name:>22}  {value}", markup=False, highlight=False)
    for problem in soak.problems:
        console.print(problem, style="bold red", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
