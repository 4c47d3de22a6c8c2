"""What operators can see and do, on the live objects: `proxy.control.Operations` as the app offers it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from proxy.clock import Clock
from proxy.config import Config
from proxy.control import (
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
    ParkedCollection,
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
from proxy.control.reload import LiveConfig
from proxy.control.weight_edit import write_weight
from proxy.errors import ConfigError, CrossfadeError, GateClosed
from proxy.migration.jobs import Jobs, JobState
from proxy.migration.moves import By, Made, Moves, Step
from proxy.migration.moves import shown as _shown
from proxy.model import PointId, Side
from proxy.replication import records as r
from proxy.serving.live import LiveRoute
from proxy.stores import Store

_PROBE_SECONDS = 1.0


class Operator:
    """Made by the app. `collections_of` gives the source's collections that a route takes."""

    def __init__(
        self,
        *,
        config_path: Path,
        live_config: LiveConfig,
        routes: Mapping[str, LiveRoute],
        stores: Mapping[str, Store],
        jobs: Jobs,
        listeners: Callable[[], Sequence[ListenerStatus]],
        collections_of: Callable[[LiveRoute], Awaitable[list[str]]],
        clock: Clock,
        version: str,
        ready: Callable[[], str | None],
        moves: Mapping[str, Moves],
    ) -> None:
        self._config_path = config_path
        self._live = live_config
        self._routes = routes
        self._stores = stores
        self._jobs = jobs
        self._listeners = listeners
        self._collections_of = collections_of
        self._clock = clock
        self._version = version
        self._ready = ready
        self._moves = moves
        self._started = clock.now()

    # --- looking -----------------------------------------------------------------------------

    async def status(self) -> Status:
        routes = tuple(self._route_status(route) for route in self._routes.values())
        stores = await asyncio.gather(*(self._store(name, store) for name, store in self._stores.items()))
        return Status(
            version=self._version,
            uptime_seconds=self._clock.now() - self._started,
            ready=self._ready() is None,
            config=str(self._config_path),
            routes=routes,
            stores=tuple(stores),
            listeners=tuple(self._listeners()),
            jobs=tuple(await self.jobs()),
            config_problem=self._live.refused or "",
        )

    async def _store(self, name: str, store: Store) -> StoreStatus:
        vendor = store.capabilities.vendor
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                version = await store.probe()
        except TimeoutError:
            return StoreStatus(name=name, vendor=vendor, up=False, problem=f"no answer within {_PROBE_SECONDS:g} s")
        except CrossfadeError as error:
            return StoreStatus(name=name, vendor=vendor, up=False, problem=str(error))
        return StoreStatus(name=name, vendor=vendor, up=True, version=version)

    def _route_status(self, route: LiveRoute) -> RouteStatus:
        replicator = route.replicator
        lag = replicator.lag()
        ledgers = replicator.book.ledgers
        parked = {name: ledger.parked_whole for name, ledger in ledgers.items() if ledger.parked_whole}
        reasons = {ledger.unswept for name, ledger in ledgers.items() if ledger.unswept and name not in parked}
        return RouteStatus(
            name=route.name,
            phase=replicator.book.phase,
            source=route.config.source,
            target=route.config.target,
            primary=route.primary_side.value,
            policy=route.config.writes.policy if route.primary_side is Side.SOURCE else route.config.cutover.policy,
            weight=Weight(wish=route.config.reads.weight, override=route.weight_override),
            keys=KeyCounts(
                open=lag.open, dirty=lag.dirty, held=lag.held, parked=lag.parked, oldest_seconds=lag.oldest_seconds
            ),
            collections=tuple(ledgers),
            readable=route.readable,
            needs_sweep=tuple(sorted(reasons)),
            behind=sum(len(ledger.behind) for ledger in ledgers.values()),
            behind_any=tuple(name for name, ledger in ledgers.items() if ledger.behind_all),
            needs_verify=tuple(sorted({ledger.unverified for ledger in ledgers.values() if ledger.unverified})),
            drift="; ".join(filter(None, (route.drift.found, route.drift.bypassed))),
            parked_collections=tuple(ParkedCollection(name, reason) for name, reason in parked.items()),
            shadow=self._figures(route),
        )

    def _figures(self, route: LiveRoute) -> ShadowFigures:
        figures = route.shadow.report.figures()
        return ShadowFigures(
            compared=figures.compared,
            shed=figures.shed,
            unsettled=figures.unsettled,
            errors=figures.errors,
            overlap=figures.overlap,
        )

    async def parked(self, route: str, limit: int) -> Sequence[ParkedKey]:
        found: list[ParkedKey] = []
        for collection, ledger in self._route(route).replicator.book.ledgers.items():
            for point_id, parking in ledger.parked.items():
                if len(found) >= limit:
                    return found
                found.append(ParkedKey(collection, _shown(point_id), parking.reason, parking.size_bytes))
        return found

    async def shadow(self, route: str) -> ShadowReport:
        live = self._route(route)
        worst = tuple(
            Disagreement(
                collection=each.collection,
                operation=each.operation,
                limit=each.k,
                overlap=each.overlap,
                missing=tuple(_shown(point_id) for point_id in each.missing),
                unexpected=tuple(_shown(point_id) for point_id in each.unexpected),
                score_difference=each.score_difference,
                latency_ratio=each.latency_ratio,
                at=each.at,
            )
            for each in live.shadow.report.worst()
        )
        return ShadowReport(figures=self._figures(live), worst=worst)

    # --- moving ------------------------------------------------------------------------------

    async def mirror(self, route: str, request: MoveRequest) -> RouteStatus:
        live = self._route(route)
        await self._moves[route].mirror(_by(request))
        return self._route_status(live)

    async def plan(self, route: str) -> Plan:
        book = self._route(route).replicator.book
        onward, back = await self._moves[route].plan()
        return Plan(route, book.phase, book.primary.value, _step(onward), _step(back))

    async def cutover(self, route: str, request: MoveRequest) -> Moved:
        self._route(route)
        return _moved(route, await self._moves[route].cutover(_by(request)))

    async def rollback(self, route: str, request: MoveRequest) -> Moved:
        self._route(route)
        moves = self._moves[route]
        made = await (moves.rollback_now(_by(request)) if request.now else moves.rollback(_by(request)))
        return _moved(route, made)

    async def complete(self, route: str, request: MoveRequest) -> Moved:
        self._route(route)
        return _moved(route, await self._moves[route].complete(_by(request)))

    async def invalidate(self, route: str, request: MoveRequest) -> RouteStatus:
        live = self._route(route)
        await self._moves[route].invalidate(_by(request))
        return self._route_status(live)

    async def recover(self, route: str, request: MoveRequest) -> Recovery:
        self._route(route)
        moves = self._moves[route]
        if request.discard:
            return Recovery(discarded=await moves.discard(_by(request)))
        found = await moves.recover(_by(request))
        return Recovery(found.copied, _keys(found.absent), _keys(found.conflicts), found.left)

    async def list_behind(self, route: str) -> Moved:
        self._route(route)
        return _moved(route, self._moves[route].list_behind())

    async def audit(self, route: str) -> Sequence[AuditEntry]:
        notes = self._route(route).replicator.book.notes
        return [AuditEntry(note.at, note.who, note.what, note.why) for note in reversed(notes)]

    async def set_weight(self, route: str, request: WeightRequest) -> RouteStatus:
        live = self._route(route)
        if not 0 <= request.percent <= 100:
            raise GateClosed(f"a weight of {request.percent:g} is not between 0 and 100")
        if request.percent and not live.replicator.mirroring:
            raise GateClosed(
                f"the route `{route}` is direct: no writes are mirrored, so nothing could be read from the target; "
                f"run `crossfade backfill {route}`"
            )
        if request.write:
            write_weight(self._config_path, route, request.percent)
            self._live.look(True)
            if self._live.refused:
                raise ConfigError(self._live.refused)
            await self._override(live, None)
        else:
            await self._override(live, request.percent)
        await self._moves[route].reads_move(live.weight)
        return self._route_status(live)

    async def clear_weight(self, route: str) -> RouteStatus:
        live = self._route(route)
        await self._override(live, None)
        await self._moves[route].reads_move(live.weight)
        return self._route_status(live)

    async def _override(self, live: LiveRoute, weight: float | None) -> None:
        if weight != live.weight_override:
            record = r.SetWeight(route=live.name, weight=weight, wish=live.config.reads.weight)
            await live.replicator.journal.append(record)

    async def reload(self) -> Reloaded:
        before: Config = self._live.config
        self._live.look(True)
        if self._live.refused:
            raise ConfigError(self._live.refused)
        after = self._live.config
        changes = [f"route {new.name}" for old, new in zip(before.routes, after.routes, strict=True) if old != new]
        if before.auth != after.auth:
            changes.append("auth")
        if before.logging != after.logging:
            changes.append("logging")
        return Reloaded(changes=tuple(changes))

    # --- jobs --------------------------------------------------------------------------------

    async def start_job(self, request: JobRequest) -> JobInfo:
        self._route(request.route)
        return _info(await self._jobs.start(request.kind, request.route, request.options))

    async def jobs(self) -> Sequence[JobInfo]:
        return [_info(state) for state in reversed(self._jobs.all())]

    async def job(self, id: str) -> JobInfo:
        return _info(self._known(id))

    async def act_on_job(self, id: str, action: JobAction) -> JobInfo:
        self._known(id)
        act = {"pause": self._jobs.pause, "resume": self._jobs.resume, "cancel": self._jobs.cancel}[action]
        return _info(act(id))

    def _known(self, id: str) -> JobState:
        known = {state.id: state for state in self._jobs.all()}
        if id not in known:
            raise NotKnown("job", id, list(known))
        return known[id]

    def _route(self, name: str) -> LiveRoute:
        route = self._routes.get(name)
        if route is None:
            raise NotKnown("route", name, list(self._routes))
        return route


def _info(state: JobState) -> JobInfo:
    return JobInfo(
        id=state.id,
        kind=state.kind,  # type: ignore[arg-type]
        route=state.route,
        status=state.status,  # type: ignore[arg-type]
        step=state.step,
        done=state.done,
        total=state.total,
        points_per_second=state.points_per_second,
        eta_seconds=state.eta_seconds,
        error=state.error,
        result=state.result,
        waiting_for=state.waiting_for,
    )


def _keys(found: Iterable[tuple[str, PointId]]) -> tuple[str, ...]:
    return tuple(f"{collection}/{point_id}" for collection, point_id in found)


def _by(request: MoveRequest) -> By:
    return By(request.who, request.force)


def _moved(route: str, made: Made) -> Moved:
    return Moved(
        route=route,
        phase=made.phase,
        primary=made.primary.value,
        held_seconds=made.held_seconds,
        behind=made.behind,
        file=made.file,
        aliases_behind=made.aliases_behind,
    )


def _step(step: Step | None) -> StepInfo | None:
    if step is None:
        return None
    gates = tuple(GateInfo(gate.name, gate.value, gate.open, gate.forceable, gate.next) for gate in step.gates)
    transition = step.transition
    return StepInfo(transition.start, transition.end, transition.command, transition.does, gates)
