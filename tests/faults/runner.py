"""One cell, from start to findings: a route in its phase, clients at work, the fault, rest, and a look at both stores
with both vendors' own clients."""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from examples.engines import EngineError
from proxy.errors import CrossfadeError
from tests.faults.cells import Cell
from tests.faults.checker import Findings, Payload, check
from tests.faults.expectations import allowed, missed, wrong
from tests.faults.load import Load, load, old_points
from tests.faults.scene import Grounds, Scene
from tests.faults.told import Kind
from tests.support.both_stores import Points, differences, in_source, of_target

_BEFORE, _AFTER = 50, 50  # acknowledged writes of each writer before the fault and after it


@dataclass
class Result:
    """What became of a cell, over all its runs. Lists hold a line for each finding."""

    cell: Cell
    runs: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    resurrected: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    wrong_errors: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # of the run itself: no rest, no start, a fault that missed
    told: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    sweeps: int = 0  # of the whole collection, which repair whatever is forgotten
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not (self.lost or self.resurrected or self.differences or self.wrong_errors or self.failures)

    def take(self, findings: Findings) -> None:
        self.lost += findings.lost
        self.resurrected += findings.resurrected
        self.wrong_errors += findings.lies


def run(grounds: Grounds, cell: Cell, result: Result) -> None:
    """Play `cell` once and add what came of it to `result`. Its directory is kept if it, or a run before, found
    something."""
    began = time.monotonic()
    result.runs += 1
    try:
        with grounds.scene(cell.phase.route, cell.fault.disk_fails) as scene:
            try:
                _play(scene, cell, result)
            except (AssertionError, EngineError, CrossfadeError) as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                result.failures.append(f"{type(error).__name__} at {where.name}: {error}")
                result.notes.append(scene.proxy.log_tail(1500))
            result.notes += scene.notes
            scene.is_kept = not result.sound
        if result.sound:
            shutil.rmtree(scene.migration.directory, ignore_errors=True)
        else:
            result.notes.append(f"kept in {scene.migration.directory}, of collection {scene.collection}")
    finally:
        result.seconds += time.monotonic() - began


def _play(scene: Scene, cell: Cell, result: Result) -> None:
    phase, fault = cell.phase, cell.fault
    scene.mirrored = phase.mirrored
    scene.proxy.start()
    phase.prepare(scene)
    fault.arm(scene)
    try:
        with load(scene.migration, scene.collection, fault.filters, others=scene.others, size=cell.size) as writers:
            scene.load = writers
            if fault.patient:
                writers.wait_for(_BEFORE)
            phase.enter(scene)
            before = writers.attempts
            fault.strike(scene)
            fault.last(scene)
            during = writers.attempts - before
            fault.heal(scene)
            writers.wait_for(_AFTER if fault.served_after else 1)
    finally:
        if scene.load is not None:
            _take_errors(scene.load, cell, result)
    if phase.primary != "either" and missed(cell.fault.name, writers.told, _right(cell)):
        result.failures.append(f"no client felt the fault, although {during} writes were attempted while it lasted")
    fault.finish(scene)
    result.differences += phase.settle(scene)
    if phase.mirrored:
        scene.migration.rest()
        result.sweeps += sum(job.kind == "sweep" for job in scene.migration.control.jobs())
    _look(scene, writers, phase.mirrored, result)


def _take_errors(writers: Load, cell: Cell, result: Result) -> None:
    told = writers.told
    result.acknowledged += writers.acknowledged
    result.told.update(kind.value for kind, _ in told)
    result.wrong_errors += wrong(told, _right(cell))


def _right(cell: Cell) -> frozenset[Kind]:
    return allowed(cell.fault.name, cell.phase.mirrored, cell.phase.primary)


def _look(scene: Scene, writers: Load, mirrored: bool, result: Result) -> None:
    migration, collection = scene.migration, scene.collection
    here = in_source(migration.direct(), collection)
    result.take(check("source", old_points(), writers.history, payloads(here)))
    if mirrored:
        there = of_target(migration, collection)
        result.take(check("target", old_points(), writers.history, payloads(there)))
        result.differences += differences(migration, collection)


def payloads(points: Points) -> dict[int, Payload]:
    found: dict[int, Any] = {int(key): json.loads(payload) for key, (payload, _) in points.items()}
    return found
