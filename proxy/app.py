"""The composition root: configuration -> objects -> a running process. Every layer of the request path is put together
in `App._build`, a line each; nothing here decides anything about a request.

Starts although stores are down (they are asked again and again, and `status` tells); does not start on a configuration
with a mistake, on a port that is taken, or on a journal that is lost where it is not known which store is primary.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

from proxy.clock import Clock, SystemClock
from proxy.config import Config, QdrantEdgeConfig, Route, endpoint, split_address
from proxy.config import Listener as ListenerConfig
from proxy.control import ListenerStatus
from proxy.control import token as control_token
from proxy.control.operator import Operator
from proxy.control.reload import LiveConfig
from proxy.control.server import Server, api, probes
from proxy.dialects import Dialect
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import ConfigError
from proxy.fronts.names import NameMap
from proxy.fronts.qdrant import LocalFront, QdrantFront
from proxy.listeners import Listener
from proxy.listeners.admission import Admission
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.listeners.shared_listener import SharedListener
from proxy.listeners.tls import Certificate
from proxy.migration.jobs import Jobs
from proxy.migration.kinds import Kinds
from proxy.migration.moves import Moves
from proxy.migration.sweeper import Sweeper
from proxy.model import Side
from proxy.offload import Offload
from proxy.pipeline import Pipeline
from proxy.release import release
from proxy.replication.hooks import Hook, no_hook
from proxy.replication.journal import Journal
from proxy.replication.membership import Membership
from proxy.replication.replicator import Replicator
from proxy.replication.site import StorePair
from proxy.routing import RouteTable, source_name, target_name
from proxy.serving.access import Gatekeeper, GuardedFront
from proxy.serving.drift import Drift
from proxy.serving.fast_path import FastPath
from proxy.serving.figures import Figures
from proxy.serving.live import Breaker, LiveRoute, settings_of
from proxy.serving.names import Elsewhere
from proxy.serving.primaries import Front
from proxy.serving.reads import Reader
from proxy.serving.store_limit import StoreLimit
from proxy.serving.switchboard import Switchboard
from proxy.serving.upstream import Upstream
from proxy.shadow import ShadowReader
from proxy.sockets import Handover, Inherited, listening, take
from proxy.stores import Forwarder, Store
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from proxy.stores.opening import open_forwarders, open_store
from proxy.stores.qdrant import QdrantStore
from proxy.telemetry import logs
from proxy.telemetry.exposition import Exposition, merged
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import PassThrough, Transport
from proxy.workers import Channel, Workers

DRAIN_SECONDS = 10.0
LINGER_SECONDS = 60.0
_AGE_SECONDS = 600.0  # of a gRPC connection, so that they spread over workers
_WORKER_SECONDS = 3 * DRAIN_SECONDS  # for one to end: listeners, work under way, and some air
_YOUNG_OBJECTS = 10_000  # that the garbage collector lets come together (700 by itself): a millisecond to look at
_PROTOCOLS = {"http": ("http/1.1",), "grpc": ("h2",), "both": ("h2", "http/1.1")}  # of TLS (ALPN), by transport
_log = logging.getLogger("crossfade.app")


async def serve(config_path: Path, take_over: bool = False) -> None:
    """Run the proxy until SIGTERM or SIGINT, or until another process takes over. With `take_over`, take the sockets of
    the one that serves now. Raises ConfigError or JournalError if it cannot start."""
    app = App(config_path)
    taken = take(app.handover_path) if take_over else None
    if take_over and taken is None:
        raise ConfigError(f"no proxy offers its sockets at {app.handover_path}; start without --take-over")
    await app.start(taken.sockets if taken is not None else {})
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    starting = spawn(app.workers.start(), name="start of the workers")
    stopped = spawn(stop.wait(), name="signal")
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if stop.is_set():  # whoever serves now goes on
        starting.cancel()
        await app.stop()
        return
    stopped.cancel()
    handover = Handover(app.handover_path, app.sockets(), stop.set)
    handover.start()
    if taken is not None:
        taken.ready()
    following = spawn(app.live_config.follow(), name="configuration")
    await stop.wait()
    _log.info("stopping", extra={"reason": "another process takes over" if handover.is_taken else "a signal"})
    following.cancel()
    await handover.close()
    await app.stop(LINGER_SECONDS if handover.is_taken else 0.0)


async def work(config_path: Path, number: int, descriptor: int) -> None:
    """Run a worker (proxy/workers.py) until it is told to stop, or whoever started it is gone."""
    channel = Channel(descriptor)
    for ignored in (signal.SIGINT, signal.SIGHUP):  # of a terminal, which sends them to all: the first process tells
        signal.signal(ignored, signal.SIG_IGN)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    app = App(config_path, worker=number, text=await channel.first())
    await app.start(channel.sockets)
    channel.serves()
    told = spawn(channel.heed(app.live_config.take, app.exposition.page), name="what to do")
    stopped = spawn(stopping.wait(), name="signal")
    await asyncio.wait({told, stopped}, return_when=asyncio.FIRST_COMPLETED)
    await app.stop(told.result() if told.done() else 0.0)


class Beside(TypedDict):
    """What a listener has beside its handler."""

    fast: PassThrough
    admission: Admission


class OfGrpc(TypedDict):
    max_body_bytes: int
    max_age_seconds: float | None
    streams: Callable[[str], bool]


class OfSocket(TypedDict):
    sock: socket.socket | None
    certificate: Certificate | None


class App:
    """One proxy process. `worker`: its number, if it is one of another's; with `text`, its configuration. `clock` and
    `hook` are for tests."""

    def __init__(
        self,
        config_path: Path,
        clock: Clock | None = None,
        hook: Hook = no_hook,
        *,
        worker: int = 0,
        text: str | None = None,
    ) -> None:
        self.live_config = LiveConfig(config_path, self._apply, self._refused, self._moved, text)
        self.worker = worker
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.routes: dict[str, LiveRoute] = {}
        self._config_path = config_path
        self._hook = hook
        self._listeners: list[tuple[ListenerConfig, Listener]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._inherited = Inherited()
        self._of_workers: dict[str, socket.socket] = {}
        self.control: Server | None = None
        self.probes: Server | None = None

    @property
    def handover_path(self) -> Path:
        return Path(self.live_config.config.data_dir) / "handover.sock"

    async def start(self, taken: Mapping[str, socket.socket] | None = None) -> None:
        """`taken`: listening sockets of the process before, by the names that `sockets` gives them."""
        self._inherited = Inherited(taken)
        config = self.live_config.config
        logs.configure(config.logging.format, config.logging.level, worker=self.worker)
        longest = max(store.longest_request_seconds for store in config.stores.values())
        self.journal = Journal.open(Path(config.data_dir) / "journal.db", longest)
        self._build(config)
        await asyncio.gather(*(route.replicator.bind() for route in self.routes.values()))
        await self._open_sockets(config)
        self._inherited.close()
        self.membership.start()
        self._tasks.append(spawn(self.sweeper.run(), name="sweeper"))
        for name, route in self.routes.items():
            self._tasks.append(spawn(route.drift.watch(), name=f"drift of {name}"))
        self._tasks.append(spawn(self.figures.probe_forever(), name="store probes"))
        if config.auth.mode == "ask-primary" and (moved := self._moved()):
            why = "auth.mode is ask-primary, but their primary is the target: set it to keys"
            _log.warning("routes answer nobody from the target", extra={"problem": why, "count": len(moved)})
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        _log.info("serving", extra={"version": release()})

    async def stop(self, linger_seconds: float = 0.0) -> None:
        """Answer what is being answered, let running batches end, and leave the journal as it is. Idle connections stay
        for `linger_seconds`. Neither a store that hangs nor a journal that cannot be written keeps the program: what is
        left open then is closed as unknown by the next start."""
        if linger_seconds:  # others serve from here on
            await self._stop_control()
        stopping = spawn(self.workers.stop(_WORKER_SECONDS + linger_seconds, linger_seconds), name="workers stop")
        await asyncio.sleep(0)  # they are told
        for sock in self._of_workers.values():  # nobody accepts from this end of them
            sock.close()
        await asyncio.gather(
            stopping, *(listener.stop(DRAIN_SECONDS, linger_seconds) for _, listener in self._listeners)
        )
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.membership.close()
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._let_work_end()
        except TimeoutError:
            _log.warning("work is left open", extra={"problem": self.journal.error or "a store does not answer"})
        if not linger_seconds:
            await self._stop_control()
        await asyncio.gather(*(upstream.close() for upstream in self.upstreams.values()))
        await asyncio.gather(*(each.close() for beside in self.beside.values() for each in beside.values()))
        await asyncio.gather(*(store.close() for store in self.stores.values()))
        await self.offload.close()
        await self.journal.close()
        self.exposition.close()

    async def _stop_control(self) -> None:
        if self.control is not None:
            await self.control.stop()
        if self.probes is not None:
            await self.probes.stop()

    async def _let_work_end(self) -> None:
        await self.jobs.close()
        await asyncio.gather(*(route.shadow.close() for route in self.routes.values()))
        await asyncio.gather(*(route.replicator.close() for route in self.routes.values()))

    # --- putting it together --------------------------------------------------------------------

    def _build(self, config: Config) -> None:
        self.stores: dict[str, Store] = {name: open_store(store) for name, store in config.stores.items()}
        sources = dict.fromkeys([*(route.source for route in config.routes), config.source_of_the_rest])
        self.limits = {name: StoreLimit(name, self.clock) for name in config.stores}
        self.upstreams = {name: self._upstream(config, name) for name in sources}
        targets = dict.fromkeys(route.target for route in config.routes)
        self.beside = {name: open_forwarders(config.stores[name]) for name in targets}
        self.offload = Offload(self.metrics)
        self.membership = Membership(self.journal, self._hold_seconds, self.clock)
        self.gatekeeper = Gatekeeper(config.auth, self.clock, self.metrics)
        self.reader = Reader(self.gatekeeper, self.metrics)
        for route in config.routes:
            self.routes[route.name] = self._live_route(config, route)
        self.switchboard = Switchboard(
            RouteTable.of(config), self.routes, self.upstreams, self.upstreams[config.source_of_the_rest]
        )
        for upstream in self.upstreams.values():
            upstream.names.elsewhere = partial(self._elsewhere, upstream)
        makers = Kinds(self.routes, self.collections_of).makers()
        self.jobs = Jobs(self.journal, self.membership, self.clock, self.metrics, makers)
        self.moves = {name: self._moves(config, route) for name, route in self.routes.items()}
        self.sweeper = Sweeper(self.jobs, self.membership, self.routes, self.clock)
        self.exposition = Exposition(self.metrics)
        self.figures = Figures(self.metrics, self.journal, self.routes, self.stores, self.clock)
        self.metrics.store_in_flight.watch(lambda: [((name,), float(at.in_flight)) for name, at in self.limits.items()])
        self.metrics.store_limit.watch(lambda: [((name,), at.limit) for name, at in self.limits.items()])

    def _upstream(self, config: Config, name: str) -> Upstream:
        store = self.stores[name]
        forwarders: Mapping[Transport, Forwarder] = open_forwarders(config.stores[name])
        if isinstance(config.stores[name], QdrantEdgeConfig):
            forwarders = front_of(store)
        return Upstream.of(store, forwarders, self.clock, self.limits[name])

    def _live_route(self, config: Config, route: Route) -> LiveRoute:
        pair = StorePair(
            source=self.stores[route.source],
            target=self.stores[route.target],
            source_hold_seconds=config.stores[route.source].longest_request_seconds,
            target_hold_seconds=config.stores[route.target].longest_request_seconds,
            map_name=lambda collection: target_name(self.routes[route.name].config, collection),
            source_label=route.source,
            target_label=route.target,
            source_address=self._address(config, route.source),
            target_address=self._address(config, route.target),
        )
        replicator = Replicator(
            route.name,
            self.journal,
            pair,
            settings_of(route),
            self.clock,
            self.metrics,
            self.membership,
            self._hook,
            self.offload,
        )
        live = LiveRoute(
            config=route,
            upstream=self.upstreams[route.source],
            shadow=ShadowReader(route.name, route.shadow, self.clock, self.metrics),
            replicator=replicator,
            clock=self.clock,
            breaker=Breaker(self.clock),
            drift=Drift(replicator, self.clock, lambda: self.collections_of(self.routes[route.name])),
            target_limit=self.limits[route.target],
            front=self._front(route),
            target_forwarders=self.beside[route.target],
        )
        live.shadow.unclean = live.unclean
        live.shadow.busy = self.reader.is_busy
        return live

    def _front(self, route: Route) -> Front | None:
        """The target, answering the source's clients once it is the primary; None if it cannot."""
        target = self.stores[route.target]
        primary: EmulatedPrimary | QdrantStore
        if isinstance(target, MilvusStore | MemoryStore):
            primary = EmulatedPrimary(target)
        elif isinstance(target, QdrantStore):
            primary = target
        else:
            return None
        names = NameMap(partial(target_name, route), partial(source_name, route))
        return GuardedFront(QdrantFront(primary, primary.metric_of, names=names), self.limits[route.target])

    def _hold_seconds(self, route: str, side: Side) -> float:
        """How long a request to a store of `route` may live; the longest, if the route is not configured any more."""
        if route in self.routes:
            return self.routes[route].replicator.stores.hold_seconds(side)
        return max(store.longest_request_seconds for store in self.live_config.config.stores.values())

    def _address(self, config: Config, store: str) -> str:
        """Which database a store is; one in memory is a new one in every process."""
        return endpoint(config.stores[store]) or f"memory of {self.journal.owner}"

    async def _open_sockets(self, config: Config) -> None:
        for listener in config.listeners:
            host, port = split_address(listener.address)
            taken = self._inherited.take(f"listener {listener.name}", host, port)
            if config.workers > 1 and not self.worker:
                taken = self._share(listener.name, host, port, taken, config.workers)
            made = self._listener(listener, host, port, taken)
            await made.start()
            self._listeners.append((listener, made))
        self.workers = Workers(self._config_path, lambda: self.live_config.text, self._sockets_of_workers(config))
        if not self.worker:
            await self._open_control(config)

    def _share(self, listener: str, host: str, port: int, taken: socket.socket | None, number: int) -> socket.socket:
        """A listener's socket behind whose port the workers have theirs, which are kept here."""
        if taken is None:
            taken = listening(host, port, apart=True)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for worker in range(1, number):
            name, bound = f"worker {worker} listener {listener}", taken.getsockname()[1]
            self._of_workers[name] = self._inherited.take(name, host, bound) or listening(host, bound, shared=True)
        return taken

    def _sockets_of_workers(self, config: Config) -> list[dict[str, socket.socket]]:
        """By worker, and by the names that they have there."""
        if self.worker:
            return []
        return [
            {
                f"listener {each.name}": self._of_workers[f"worker {worker} listener {each.name}"]
                for each in config.listeners
            }
            for worker in range(1, config.workers)
        ]

    async def _open_control(self, config: Config) -> None:
        token = config.control.token
        secret = token.get_secret_value() if token else control_token.load_or_create(Path(config.data_dir))
        operator = Operator(
            config_path=self._config_path,
            live_config=self.live_config,
            routes=self.routes,
            stores=self.stores,
            jobs=self.jobs,
            listeners=self.listening,
            collections_of=self.collections_of,
            clock=self.clock,
            version=release(),
            ready=self.not_ready,
            moves=self.moves,
        )
        host, port = split_address(config.control.address)
        self.control = Server(
            api(operator, self._page, self.not_ready, secret),
            host,
            port,
            self._inherited.take("control", host, port),
        )
        await self.control.start()
        if config.probes.address is not None:
            host, port = split_address(config.probes.address)
            taken = self._inherited.take("probes", host, port)
            self.probes = Server(probes(self._page, self.not_ready), host, port, taken)
            await self.probes.start()

    def _elsewhere(self, upstream: Upstream) -> list[Elsewhere]:
        """The targets that are the primary of collections of that source by now."""
        return [
            Elsewhere(
                route.replicator.stores.target,
                lambda name, own=route: getattr(self.switchboard.table.find(name), "name", None) == own.name,  # type: ignore[misc]
                lambda name, own=route: source_name(own.config, name),  # type: ignore[misc]
            )
            for route in self.routes.values()
            if route.upstream is upstream and route.primary_side is Side.TARGET
        ]

    def _moves(self, config: Config, route: LiveRoute) -> Moves:
        mode, data_dir = lambda: self.gatekeeper.mode, Path(config.data_dir)
        return Moves(route, self.jobs, lambda: self.collections_of(route), mode, data_dir)

    # --- what others ask --------------------------------------------------------------------------

    def sockets(self) -> dict[str, socket.socket]:
        """The listening sockets that another process can take over."""
        found = {f"listener {config.name}": listener.socket for config, listener in self._listeners}
        found |= self._of_workers
        if self.control is not None:
            found["control"] = self.control.socket
        if self.probes is not None:
            found["probes"] = self.probes.socket
        return {name: each for name, each in found.items() if each is not None}

    def listening(self) -> Sequence[ListenerStatus]:
        return [
            ListenerStatus(
                name=config.name,
                transport=config.transport,
                address=f"{split_address(config.address)[0]}:{listener.port}",
            )
            for config, listener in self._listeners
        ]

    def not_ready(self) -> str | None:
        """Why this process should get no requests; a store that is down is no reason."""
        return f"journal: {self.journal.error}" if self.journal.error else self.workers.missing

    async def _page(self) -> bytes:
        """The metrics, of the workers too if there are any."""
        if self.live_config.config.workers == 1:
            return self.exposition.page()
        pages = {"0": self.exposition.page().decode()} | await self.workers.pages()
        return await asyncio.to_thread(merged, pages)

    async def collections_of(self, route: LiveRoute) -> list[str]:
        """The source's collections that the route takes. Raises what the source raises."""
        await route.upstream.names.need()
        names = route.upstream.names
        table = self.switchboard.table
        return [
            collection
            for collection in sorted(await route.upstream.store.collections())
            if getattr(table.find(collection, names.aliases_of(collection)), "name", None) == route.name
        ]

    def _listener(self, config: ListenerConfig, host: str, port: int, taken: socket.socket | None) -> Listener:
        """Raises ConfigError if its certificate cannot be used."""
        known = self.switchboard.metric_of
        dialect = QdrantGrpc(known)
        http, grpc = self._pipeline(config, QdrantRest(known)), self._pipeline(config, dialect)
        refuse = {"http": http.refuse, "grpc": grpc.refuse}
        largest = (config.max_in_flight, config.max_in_flight_bytes, config.max_body_bytes)
        admission = Admission(*largest, lambda request: refuse[request.transport](request))
        self.metrics.in_flight.watch(lambda: [((config.name,), float(admission.requests))])
        for_http: Beside = {"fast": self._fast(http), "admission": admission}
        for_grpc: Beside = {"fast": self._fast(grpc), "admission": admission}
        limit, protocols = config.max_body_bytes, _PROTOCOLS[config.transport]
        tls = config.tls
        certificate = Certificate(Path(tls.certificate), Path(tls.key), protocols) if tls is not None else None
        age_seconds = config.max_connection_age_seconds
        if age_seconds is None and self.live_config.config.workers > 1:
            age_seconds = _AGE_SECONDS
        of_grpc: OfGrpc = {"max_body_bytes": limit, "max_age_seconds": age_seconds, "streams": dialect.streams}
        socket_of: OfSocket = {"sock": taken, "certificate": certificate}
        match config.transport:
            case "http":
                return HttpListener(http, host, port, **for_http, **socket_of)
            case "grpc":
                return GrpcListener(grpc, host, port, **of_grpc, **for_grpc, **socket_of)
            case "both":
                one = HttpListener(http, host, port, **for_http)
                other = GrpcListener(grpc, host, port, **of_grpc, **for_grpc)
                return SharedListener(one, other, host, port, **socket_of)

    def _pipeline(self, config: ListenerConfig, dialect: Dialect) -> Pipeline:
        known = self.switchboard, self.gatekeeper, self.reader, self.clock, self.metrics
        return Pipeline(config, dialect, *known, self.offload)

    def _fast(self, slow: Pipeline) -> FastPath:
        made = slow.listener, slow.dialect, self.switchboard, self.gatekeeper, self.reader, self.clock, self.metrics
        return FastPath(*made, slow)

    # --- reload and figures -------------------------------------------------------------------------

    def _moved(self) -> list[str]:
        """The routes whose primary is the target."""
        return [name for name, route in self.routes.items() if route.primary_side is Side.TARGET]

    def _refused(self, why: str) -> None:
        self.metrics.config_reloads.add("refused")

    def _apply(self, old: Config, new: Config) -> None:
        self.metrics.config_reloads.add("taken")
        self.figures.config_loaded()
        for route in new.routes:
            self.routes[route.name].apply(route, first=not self.worker)
            self.routes[route.name].shadow.apply(route.shadow)
            if not self.worker:
                following = self.moves[route.name].reads_move(self.routes[route.name].weight)
                spawn(following, name="the phase follows the weight")
        self.switchboard.table = RouteTable.of(new)
        if old.auth != new.auth:
            self.gatekeeper.apply(new.auth)
        if old.logging != new.logging:
            logs.configure(new.logging.format, new.logging.level, worker=self.worker)
        self.workers.configure(self.live_config.text)


def front_of(store: Store) -> dict[Transport, Forwarder]:
    """What answers clients for an embedded engine."""
    from proxy.emulator.front import front_over_engine  # an optional dependency
    from proxy.stores.qdrant_edge import QdrantEdgeStore

    assert isinstance(store, QdrantEdgeStore)
    front = LocalFront(front_over_engine(store))
    return {"http": front, "grpc": front}
