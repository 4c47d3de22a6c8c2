"""`proxy.control.Operations` over two dictionaries: a migration small enough to read, and honest about its states.

Jobs really copy and compare, page by page, and can be held at a page with `hold_pages`. What it refuses, it refuses
for the reasons that the product has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from proxy.control import (
    ENDED,
    AuditEntry,
    Disagreement,
    GateInfo,
    JobAction,
    JobInfo,
    JobRequest,
    KeyCounts,
    ListenerStatus,
    Moved,
    MoveRequest,
    NotKnown,
    ParkedKey,
    Plan,
    Recovery,
    Reloaded,
    RouteStatus,
    ShadowFigures,
    ShadowReport,
    Status,
    StepInfo,
    StoreStatus,
    Weight,
    WeightRequest,
)
from proxy.control.weight_edit import write_weight
from proxy.errors import ConfigError, GateClosed
from proxy.telemetry.tasks import spawn

PAGE_POINTS = 10


@dataclass(slots=True)
class SmallRoute:
    """Two stores as dictionaries. Odd text is longer than what the target takes: those points are parked."""

    name: str
    source: dict[int, str]
    target: dict[int, str] = field(default_factory=dict)
    parked: dict[int, str] = field(default_factory=dict)
    mirroring: bool = False
    weight: Weight = field(default_factory=lambda: Weight(wish=0))
    disagreements: list[Disagreement] = field(default_factory=list)
    primary: str = "source"
    notes: list[AuditEntry] = field(default_factory=list)

    @property
    def phase(self) -> str:
        return "direct" if not self.mirroring else "dual-write" if self.primary == "source" else "cutover"


class SmallOperations:
    """One route, `docs`, with `points` points in the source."""

    def __init__(self, config: Path, points: int = 100, longest_text: int = 1000) -> None:
        self.config = config
        self.docs = SmallRoute("docs", {number: "text " * (number + 1) for number in range(points)})
        self.hold_pages = asyncio.Event()
        self.hold_pages.set()
        self.page_reached = asyncio.Event()
        self.broken: Exception | None = None
        self._longest_text = longest_text
        self._jobs: dict[str, JobInfo] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._may_run: dict[str, asyncio.Event] = {}
        self._curious: dict[str, list[asyncio.Event]] = {}
        self._started = time.monotonic()

    async def close(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    # --- looking -----------------------------------------------------------------------------

    async def status(self) -> Status:
        if self.broken is not None:
            raise self.broken
        return Status(
            version="0.1.0",
            uptime_seconds=time.monotonic() - self._started,
            ready=True,
            config=str(self.config),
            routes=(self._status(self.docs),),
            stores=(
                StoreStatus(name="old", vendor="memory", up=True, version="1.0"),
                StoreStatus(name="new", vendor="memory", up=False, problem="refused the connection"),
            ),
            listeners=(ListenerStatus(name="rest", transport="http", address="127.0.0.1:7333"),),
            jobs=tuple(await self.jobs()),
        )

    async def jobs(self) -> Sequence[JobInfo]:
        return list(reversed(self._jobs.values()))

    async def job(self, id: str) -> JobInfo:
        if id not in self._jobs:
            raise NotKnown("job", id, list(self._jobs))
        for waiting in self._curious.pop(id, []):
            waiting.set()
        return self._jobs[id]

    async def asked_for(self, id: str) -> None:
        """Return when somebody has asked for that job from now on (a command shows what it is told)."""
        asked = asyncio.Event()
        self._curious.setdefault(id, []).append(asked)
        await asked.wait()

    async def parked(self, route: str, limit: int) -> Sequence[ParkedKey]:
        docs = self._route(route)
        return [
            ParkedKey(collection="docs", id=point_id, reason="text too long", size_bytes=len(text))
            for point_id, text in list(docs.parked.items())[:limit]
        ]

    async def shadow(self, route: str) -> ShadowReport:
        return ShadowReport(figures=self._shadow(self._route(route)), worst=tuple(self._route(route).disagreements))

    # --- moving ------------------------------------------------------------------------------

    async def mirror(self, route: str, request: MoveRequest) -> RouteStatus:
        self._route(route).mirroring = True
        return self._status(self._route(route))

    async def plan(self, route: str) -> Plan:
        docs = self._route(route)
        parked = GateInfo("parked", f"{len(docs.parked)} points", not docs.parked, forceable=True, next="shorten them")
        onward = StepInfo(docs.phase, "cutover", "cutover", "The target answers for writes.", (parked,))
        back = StepInfo(docs.phase, "direct", "rollback", "The source answers for writes.")
        return Plan("docs", docs.phase, docs.primary, onward if docs.primary == "source" else None, back)

    async def cutover(self, route: str, request: MoveRequest) -> Moved:
        docs = self._route(route)
        if docs.parked and not request.force:
            raise GateClosed(f"cutover of {route!r} is refused: parked: {len(docs.parked)} points")
        return self._move(docs, "target", "cutover", request)

    async def rollback(self, route: str, request: MoveRequest) -> Moved:
        docs = self._route(route)
        moved = self._move(docs, "source", "rollback --now" if request.now else "rollback", request)
        return msgspec.structs.replace(moved, behind=3, file="behind-docs-9.jsonl") if request.now else moved

    async def complete(self, route: str, request: MoveRequest) -> Moved:
        return self._move(self._route(route), self._route(route).primary, "complete", request)

    def _move(self, docs: SmallRoute, primary: str, what: str, request: MoveRequest) -> Moved:
        docs.primary = primary
        docs.notes.append(AuditEntry(at=0.0, who=request.who, what=what, why=request.force))
        return Moved(docs.name, docs.phase, primary, held_seconds=0.012)

    async def invalidate(self, route: str, request: MoveRequest) -> RouteStatus:
        docs = self._route(route)
        docs.notes.append(AuditEntry(at=0.0, who=request.who, what="invalidate", why=request.force))
        return self._status(docs)

    async def recover(self, route: str, request: MoveRequest) -> Recovery:
        self._route(route)
        return Recovery(discarded=3) if request.discard else Recovery(copied=2, absent=("docs/7",))

    async def list_behind(self, route: str) -> Moved:
        return Moved(route, self._route(route).phase, self._route(route).primary, behind=3, file="behind-docs-9.jsonl")

    async def audit(self, route: str) -> Sequence[AuditEntry]:
        return list(reversed(self._route(route).notes))

    async def set_weight(self, route: str, request: WeightRequest) -> RouteStatus:
        docs = self._route(route)
        if request.percent and not docs.mirroring:
            raise GateClosed(f"the route `{route}` is direct: nothing is read; run `crossfade backfill {route}`")
        if request.write:
            write_weight(self.config, route, request.percent)
            docs.weight = Weight(wish=request.percent)
        else:
            docs.weight = Weight(wish=docs.weight.wish, override=request.percent)
        return self._status(docs)

    async def clear_weight(self, route: str) -> RouteStatus:
        docs = self._route(route)
        docs.weight = Weight(wish=docs.weight.wish)
        return self._status(docs)

    async def reload(self) -> Reloaded:
        text = self.config.read_text()
        if "version: 1" not in text:
            raise ConfigError("line 1: version: is missing")
        return Reloaded(changes=("routes[0].reads.weight: 0 -> 25",) if "weight: 25" in text else ())

    # --- jobs --------------------------------------------------------------------------------

    async def start_job(self, request: JobRequest) -> JobInfo:
        docs = self._route(request.route)
        if request.kind == "backfill" and not docs.mirroring:
            raise GateClosed(f"the route `{docs.name}` is direct; run `crossfade mirror {docs.name}` first")
        job = JobInfo(
            id=f"{request.kind}-{len(self._jobs) + 1}",
            kind=request.kind,
            route=docs.name,
            status="running",
            step="docs: copying" if request.kind != "verify" else "docs: comparing",
            total=len(docs.source),
        )
        self._jobs[job.id] = job
        self._may_run[job.id] = asyncio.Event()
        self._may_run[job.id].set()
        self._running[job.id] = spawn(self._work(job.id, request, docs), name=job.id)
        return job

    async def act_on_job(self, id: str, action: JobAction) -> JobInfo:
        job = await self.job(id)
        if job.status in ENDED:
            raise GateClosed(f"the job `{id}` is {job.status} already")
        match action:
            case "pause":
                self._may_run[id].clear()
                self._change(id, status="paused")
            case "resume":
                self._may_run[id].set()
                self._change(id, status="running")
            case "cancel":
                self._running[id].cancel()
                self._change(id, status="cancelled")
        return self._jobs[id]

    async def finished(self, id: str) -> JobInfo:
        """The job, once it has run to its end."""
        await asyncio.wait([self._running[id]])
        return self._jobs[id]

    async def _work(self, id: str, request: JobRequest, docs: SmallRoute) -> None:
        ids = sorted(docs.source)
        counts: dict[str, int] = {}
        began = time.monotonic()
        for start in range(0, len(ids), PAGE_POINTS):
            await self._may_run[id].wait()
            self.page_reached.set()
            await self.hold_pages.wait()
            page = ids[start : start + PAGE_POINTS]
            for point_id in page:
                outcome = self._one(request, docs, point_id)
                counts[outcome] = counts.get(outcome, 0) + 1
            done = start + len(page)
            rate = done / max(time.monotonic() - began, 1e-6)
            self._change(id, done=done, points_per_second=rate, eta_seconds=(len(ids) - done) / rate)
            await asyncio.sleep(0)
        self._change(id, status="done", result=dict(counts), eta_seconds=None)

    def _one(self, request: JobRequest, docs: SmallRoute, id: int) -> str:
        text = docs.source[id]
        if request.kind == "verify":
            if id in docs.parked or docs.target.get(id) == text:
                return "equal"
            if request.options.get("repair"):
                docs.target[id] = text
            return "different"
        if len(text) > self._longest_text:
            docs.parked[id] = text
            return "parked"
        docs.target[id] = text
        return "copied"

    def _change(self, id: str, **fields: object) -> None:
        self._jobs[id] = msgspec.structs.replace(self._jobs[id], **fields)

    # --- forms -------------------------------------------------------------------------------

    def _route(self, name: str) -> SmallRoute:
        if name != self.docs.name:
            raise NotKnown("route", name, [self.docs.name])
        return self.docs

    def _status(self, docs: SmallRoute) -> RouteStatus:
        return RouteStatus(
            name=docs.name,
            phase=docs.phase,
            source="old",
            target="new",
            primary=docs.primary,
            policy="primary",
            weight=docs.weight,
            keys=KeyCounts(
                dirty=sum(docs.target.get(point_id) != text for point_id, text in docs.source.items()),
                parked=len(docs.parked),
            ),
            collections=("docs", "docs_*"),
            readable=docs.mirroring,
            shadow=self._shadow(docs),
        )

    def _shadow(self, docs: SmallRoute) -> ShadowFigures:
        overlaps = [one.overlap for one in docs.disagreements]
        return ShadowFigures(compared=len(overlaps), overlap=sum(overlaps) / len(overlaps) if overlaps else None)
