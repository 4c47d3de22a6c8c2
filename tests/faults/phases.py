"""The phases of a migration, as the matrix has them. A phase is an object; another one is added to `PHASES`.

A phase provides:

- `name`; `mirrored`: whether both stores must be equal at rest; `primary`: the side whose faults clients may feel;
  `route`: what it needs in the route's section;
- `prepare(scene)`: bring the route as far as it goes without clients;
- `enter(scene)`: with clients at work, start what the phase is about, and return once it is well under way;
- `settle(scene)`: after the fault has healed and clients are gone, wait until that has ended; lines about what it found
  that it should not have.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from examples.engines import poll
from proxy.control import ENDED, JobInfo
from proxy.errors import CrossfadeError
from tests.faults.expectations import Side
from tests.faults.scene import Scene
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration

_UNDER_WAY_POINTS = 48
_JOB_SECONDS = 150.0  # a full Milvus that was stopped is slow for a while
_SLOWLY = {"backfill": {"page_points": 16, "requests_per_second": 12}}


class Phase(Protocol):
    name: str
    mirrored: bool
    primary: Side
    route: Mapping[str, Any]

    def prepare(self, scene: Scene) -> None: ...

    def enter(self, scene: Scene) -> None: ...

    def settle(self, scene: Scene) -> list[str]: ...


class Direct:
    """Nothing is mirrored: the proxy only passes on."""

    name = "direct"
    mirrored = False
    primary: Side = "source"
    route: Mapping[str, Any] = {}

    def prepare(self, scene: Scene) -> None:
        pass

    def enter(self, scene: Scene) -> None:
        pass

    def settle(self, scene: Scene) -> list[str]:
        return []


class DualWrite:
    """Everything old has been copied, so only what is known of the keys under way can repair them."""

    name = "dual-write"
    mirrored = True
    primary: Side = "source"
    route: Mapping[str, Any] = {}

    def prepare(self, scene: Scene) -> None:
        scene.migration.backfill()
        scene.migration.rest()

    def enter(self, scene: Scene) -> None:
        pass

    def settle(self, scene: Scene) -> list[str]:
        return []


class _WithJob:
    kind: Literal["backfill", "verify"]

    def enter(self, scene: Scene) -> None:
        job = scene.migration.control.start_job(self.kind, ROUTE, restart=True)
        scene.job = job.id
        assert poll(lambda: self._under_way(scene), PATIENCE_SECONDS), f"the {self.kind} does not get on"

    @staticmethod
    def _under_way(scene: Scene) -> bool:
        """Or the proxy is dead already, or the job is."""
        try:
            job = scene.migration.control.job(scene.job)
        except CrossfadeError:
            return not scene.proxy.is_running()
        return job.done >= _UNDER_WAY_POINTS or job.status in ENDED

    def _ended(self, scene: Scene) -> JobInfo:
        """The job, once it is done. One that the fault made fail is started again, as an operator would."""
        control = scene.migration.control
        try:
            job = control.job(scene.job)
        except CrossfadeError:  # the journal that knew it is gone
            job = control.start_job(self.kind, ROUTE)
        assert poll(lambda: control.job(job.id).status in ENDED, _JOB_SECONDS), control.job(job.id)
        job = control.job(job.id)
        if job.status != "done":
            scene.notes.append(f"the {self.kind} ended as {job.status} ({job.error}) and was started again")
            job = scene.migration.finished(control.start_job(self.kind, ROUTE))
        return job


class Backfill(_WithJob):
    """Points that were there before are copied."""

    name = "backfill"
    mirrored = True
    primary: Side = "source"
    route: Mapping[str, Any] = _SLOWLY
    kind: Literal["backfill", "verify"] = "backfill"

    def prepare(self, scene: Scene) -> None:
        scene.migration.mirror()

    def settle(self, scene: Scene) -> list[str]:
        self._ended(scene)
        return []


class Verify(_WithJob):
    """Both stores are compared; after all has come to rest they must be found equal."""

    name = "verify"
    mirrored = True
    primary: Side = "source"
    route: Mapping[str, Any] = _SLOWLY
    kind: Literal["backfill", "verify"] = "verify"

    def prepare(self, scene: Scene) -> None:
        scene.migration.backfill()
        scene.migration.rest()

    def settle(self, scene: Scene) -> list[str]:
        result = self._ended(scene).result
        if result["unchecked"]:
            scene.notes.append(f"verify could not check {result['unchecked']} points")
        return [f"verify reports {result['different']} points as different"] if result["different"] else []


_CUTOVER: Mapping[str, Any] = {"cutover": {"min_shadow_reads": 0, "policy": "primary", "hold_ms": 1000}}


class AfterCutover:
    """The target answers for writes, and the source follows."""

    name = "after cutover"
    mirrored = True
    primary: Side = "target"
    route: Mapping[str, Any] = _CUTOVER

    def prepare(self, scene: Scene) -> None:
        scene.migration.backfill()
        scene.migration.rest()
        scene.migration.weight(100)
        scene.migration.control.cutover(ROUTE, force="the matrix")

    def enter(self, scene: Scene) -> None:
        pass

    def settle(self, scene: Scene) -> list[str]:
        status = scene.migration.status()
        return [] if status.primary == "target" else [f"the primary is the {status.primary}"]


class Cutover:
    """The primary moves to and fro, as often as its gates let it, while the fault lasts."""

    name = "cutover"
    mirrored = True
    primary: Side = "either"
    route: Mapping[str, Any] = _CUTOVER

    def prepare(self, scene: Scene) -> None:
        scene.migration.backfill()
        scene.migration.rest()
        scene.migration.weight(100)

    def enter(self, scene: Scene) -> None:
        scene.moving = Moving(scene.migration)
        assert poll(lambda: scene.moving.moved > 0 or not scene.proxy.is_running(), PATIENCE_SECONDS), scene.moving.told

    def settle(self, scene: Scene) -> list[str]:
        scene.moving.end()
        scene.notes.append(f"the primary was moved {scene.moving.moved} times, and {scene.moving.refused} times not")
        assert poll(lambda: self._decided(scene), PATIENCE_SECONDS), "no decision"
        return []

    @staticmethod
    def _decided(scene: Scene) -> bool:
        try:
            status = scene.migration.status()
        except CrossfadeError:
            return False
        return (status.phase, status.primary) in (("shift", "source"), ("cutover", "target"))


class Moving:
    """Cutover and rollback in turn, until it is ended."""

    def __init__(self, migration: Migration) -> None:
        self.moved = 0
        self.refused = 0
        self.told = ""
        self._migration = migration
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _move(self) -> None:
        while not self._ended.wait(0.05):
            control = self._migration.control
            try:
                there = control.status().routes[0].primary == "target"
                (control.rollback if there else control.cutover)(ROUTE, force="the matrix")
                self.moved += 1
            except CrossfadeError as error:
                self.told = str(error)
                self.refused += 1


PHASES: tuple[Phase, ...] = (Direct(), DualWrite(), Backfill(), Verify(), Cutover(), AfterCutover())
