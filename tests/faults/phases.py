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

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from examples.engines import poll
from proxy.control import ENDED, JobInfo
from proxy.errors import CrossfadeError
from tests.faults.expectations import Side
from tests.faults.scene import Scene
from tests.support.migration import PATIENCE_SECONDS, ROUTE

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


PHASES: tuple[Phase, ...] = (Direct(), DualWrite(), Backfill(), Verify())
