"""Control: what an operator can see and do, over a local HTTP API that the command line uses.

`Operations` is what the app offers; `server` puts it on a socket, `client` calls it from another process,
`commands` are the command line, one file a command. All three share the values below, which travel as
JSON. A field that is added needs a default, so that an older client still reads a newer server.

Words: `phase`, `primary`, `weight`, `lag` and the states of keys are those of docs/operations.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from proxy.errors import CrossfadeError

JobKind = Literal["backfill", "verify", "sweep"]
JobAction = Literal["pause", "resume", "cancel"]
JobStatus = Literal["running", "paused", "done", "failed", "cancelled"]

ENDED: frozenset[JobStatus] = frozenset({"done", "failed", "cancelled"})


class NotKnown(CrossfadeError):
    """There is no such route or job; the message lists those there are."""

    def __init__(self, what: str, name: str, known: Sequence[str]) -> None:
        listed = ", ".join(known) if known else "none"
        super().__init__(f"there is no {what} `{name}`; known: {listed}")
        self.what = what
        self.name = name
        self.known = tuple(known)


class Value(msgspec.Struct, frozen=True):
    """What travels."""


class StoreStatus(Value, frozen=True):
    """`problem` says why the store is down, "" while it is up."""

    name: str
    vendor: str
    up: bool
    version: str = ""
    problem: str = ""


class ListenerStatus(Value, frozen=True):
    name: str
    transport: str
    address: str


class Weight(Value, frozen=True):
    """Percent of reads meant for the target. `wish` is the file's; `override` an operator's, until the next edit."""

    wish: float
    override: float | None = None

    @property
    def effective(self) -> float:
        return self.wish if self.override is None else self.override


class KeyCounts(Value, frozen=True):
    """Keys that are not clean. `oldest_seconds`: how long the oldest open, dirty or held one has been so."""

    open: int = 0
    dirty: int = 0
    held: int = 0
    suspect: int = 0
    parked: int = 0
    oldest_seconds: float = 0.0

    @property
    def lag(self) -> int:
        return self.open + self.dirty + self.held + self.suspect


class ShadowFigures(Value, frozen=True):
    """Since the process began. `overlap` is the mean overlap@k of what was compared, None before the first."""

    compared: int = 0
    shed: int = 0
    unsettled: int = 0
    errors: int = 0
    overlap: float | None = None


class JobInfo(Value, frozen=True):
    """`done` and `total` are points of the present `step`; total is an estimate, 0 while unknown. `waiting_for` is the
    failure of a store that a running job waits out. `result` is what a job that is done found (copied, parked; equal,
    different, unchecked), `error` why one failed."""

    id: str
    kind: JobKind
    route: str
    status: JobStatus
    step: str = ""
    done: int = 0
    total: int = 0
    points_per_second: float = 0.0
    eta_seconds: float | None = None
    error: str = ""
    result: dict[str, Any] = {}
    waiting_for: str = ""


class ParkedCollection(Value, frozen=True):
    """A collection that the secondary cannot have: its reads and writes stay with the primary."""

    collection: str
    reason: str


class RouteStatus(Value, frozen=True):
    """`primary` is the side (source, target) that answers for writes. `readable`: the secondary's lag lets it
    be read, in every collection that it can have. `needs_sweep` holds the reasons, if any; cutover stays shut
    meanwhile."""

    name: str
    phase: str
    source: str
    target: str
    primary: str
    policy: str
    weight: Weight
    keys: KeyCounts = KeyCounts()
    collections: tuple[str, ...] = ()
    readable: bool = False
    needs_sweep: tuple[str, ...] = ()
    parked_collections: tuple[ParkedCollection, ...] = ()
    behind: int = 0  # keys that the primary may lack since an emergency
    behind_any: tuple[str, ...] = ()  # collections of which it may lack any key
    needs_verify: tuple[str, ...] = ()  # why, where the secondary is not relied on before
    drift: str = ""  # that the stores differ, or that somebody writes past the proxy
    shadow: ShadowFigures = ShadowFigures()


class Status(Value, frozen=True):
    """`config_problem`: why the last edit of the configuration was refused, "" if it was taken."""

    version: str
    uptime_seconds: float
    ready: bool
    config: str
    routes: tuple[RouteStatus, ...]
    stores: tuple[StoreStatus, ...]
    listeners: tuple[ListenerStatus, ...]
    jobs: tuple[JobInfo, ...] = ()
    config_problem: str = ""


class ParkedKey(Value, frozen=True):
    """A point that the secondary cannot hold, by its id as the client wrote it."""

    collection: str
    id: int | str
    reason: str
    size_bytes: int = 0


class Disagreement(Value, frozen=True):
    """A shadow read whose answers differed; ids only, no payloads."""

    collection: str
    operation: str
    limit: int
    overlap: float
    missing: tuple[int | str, ...] = ()
    unexpected: tuple[int | str, ...] = ()
    score_difference: float = 0.0
    latency_ratio: float = 0.0
    at: float = 0.0


class ShadowReport(Value, frozen=True):
    """The figures and the worst disagreements kept, worst first."""

    figures: ShadowFigures
    worst: tuple[Disagreement, ...] = ()


class GateInfo(Value, frozen=True):
    """What has to be so before a step: its present value, and what opens it if it is closed."""

    name: str
    value: str
    open: bool
    forceable: bool = False
    next: str = ""


class StepInfo(Value, frozen=True):
    """A step to another phase. `does`: what happens then."""

    start: str
    end: str
    command: str
    does: str
    gates: tuple[GateInfo, ...] = ()

    @property
    def closed(self) -> tuple[GateInfo, ...]:
        return tuple(gate for gate in self.gates if not gate.open)


class Plan(Value, frozen=True):
    """Where a route is, and the steps from there: onward and back, None where there is none."""

    route: str
    phase: str
    primary: str
    onward: StepInfo | None = None
    back: StepInfo | None = None


class MoveRequest(Value, frozen=True, forbid_unknown_fields=True):
    """`who` asks (for the audit log); `force`: why closed gates are passed; `now`: the emergency form of a rollback;
    `discard`: give up what only the old primary has."""

    who: str = ""
    force: str = ""
    now: bool = False
    discard: bool = False


class Moved(Value, frozen=True):
    """`held_seconds`: no write waited longer for the move. `behind`: keys that the new primary may lack, in `file`.
    `aliases_behind`: the old one had taken alias changes that it may lack."""

    route: str
    phase: str
    primary: str
    held_seconds: float = 0.0
    behind: int = 0
    file: str = ""
    aliases_behind: bool = False


class Recovery(Value, frozen=True):
    """After an emergency: points copied from the old primary, keys that it does not have (left as they are), keys of
    which a part was written since, keys that could not be copied now, and keys given up."""

    copied: int = 0
    absent: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    left: int = 0
    discarded: int = 0


class AuditEntry(Value, frozen=True):
    """`at` is in seconds since 1970."""

    at: float
    who: str
    what: str
    why: str = ""


class JobRequest(Value, frozen=True, forbid_unknown_fields=True):
    kind: JobKind
    route: str
    options: dict[str, Any] = {}


class WeightRequest(Value, frozen=True, forbid_unknown_fields=True):
    """`write`: put the weight into the configuration file instead of overriding it."""

    percent: float
    write: bool = False


class Reloaded(Value, frozen=True):
    """What an edit changed, a line each; empty if nothing did."""

    changes: tuple[str, ...] = ()


class Operations(Protocol):
    """What the app offers to operators.

    Raises NotKnown for a route or job that does not exist, GateClosed where the state forbids the step (the
    message names the gate and its value) and ConfigError where the configuration is to blame.
    """

    async def status(self) -> Status: ...

    async def start_job(self, request: JobRequest) -> JobInfo:
        """Start it, or go on with the latest of its kind that was cancelled or failed. Options: `restart` (anew);
        backfill `adopt` (the target may hold points already); verify `repair` (mark what differs). GateClosed if one
        of its kind runs on the route."""
        ...

    async def jobs(self) -> Sequence[JobInfo]:
        """Running and ended ones, the latest first."""
        ...

    async def job(self, id: str) -> JobInfo: ...

    async def act_on_job(self, id: str, action: JobAction) -> JobInfo: ...

    async def mirror(self, route: str, request: MoveRequest) -> RouteStatus:
        """Start dual writes."""
        ...

    async def plan(self, route: str) -> Plan: ...

    async def cutover(self, route: str, request: MoveRequest) -> Moved:
        """Make the target the primary."""
        ...

    async def rollback(self, route: str, request: MoveRequest) -> Moved:
        """Undo the phase, orderly or `now`."""
        ...

    async def complete(self, route: str, request: MoveRequest) -> Moved: ...

    async def invalidate(self, route: str, request: MoveRequest) -> RouteStatus:
        """Somebody changed a store by hand: have every collection swept."""
        ...

    async def recover(self, route: str, request: MoveRequest) -> Recovery:
        """The old primary is back after an emergency."""
        ...

    async def list_behind(self, route: str) -> Moved:
        """Write the keys that may be behind into a file."""
        ...

    async def audit(self, route: str) -> Sequence[AuditEntry]:
        """The latest moves, the latest first."""
        ...

    async def set_weight(self, route: str, request: WeightRequest) -> RouteStatus: ...

    async def clear_weight(self, route: str) -> RouteStatus:
        """Take the override back: the file's weight holds again."""
        ...

    async def parked(self, route: str, limit: int) -> Sequence[ParkedKey]: ...

    async def shadow(self, route: str) -> ShadowReport: ...

    async def reload(self) -> Reloaded:
        """Read the configuration again. Raises ConfigError, and changes nothing, if it is not valid."""
        ...
