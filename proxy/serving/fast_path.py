"""The fast path: a read that the source answers moves as bytes, unread, without a task of its own.

Taken where all is plain: the body is there, the endpoint says that it is a read of data, the source is the primary, the
route's rules and weight (which may ask for headers, not for tenants) leave the read with it, a connection is free, and
where a shadow is due, the other store can be asked the same bytes (twin.py). Anything else, and any failure before the
answer has begun, is the slow path's (pipeline.py), which decides it from the beginning, by the same chance
(`Request.draw`).

Heads come again and again: what was found out for one is kept as a `_Way`, for as long as nothing has changed of what
it was made of (configuration, names, weight, primary).

Nobody looks into what goes this way to the source alone. So that kinds of reads that no target could answer are still
counted, one of `LOOKED_INTO` takes the slow path all the same, the first included.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from operator import is_

from proxy.clock import Clock
from proxy.config import Listener
from proxy.dialects import Dialect, Glance
from proxy.errors import CrossfadeError, Overloaded, Unclear
from proxy.model import Side
from proxy.routing import Facts, asks_for_tenants, client_host, headers_of, is_sampled, stays_with_source
from proxy.serving.access import Gatekeeper
from proxy.serving.live import LiveRoute
from proxy.serving.reads import STALE_SECONDS, Reader
from proxy.serving.switchboard import Place, Switchboard
from proxy.serving.twin import Outlines, Twin
from proxy.shadow.pair import Pair
from proxy.stores import Passage
from proxy.telemetry.instruments import Add, Observe
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Answer, AnswerHead, Body, GiveUp, Handler, Request

LOOKED_INTO = 256
_WAYS = 1024
_SHOWN = 512
_log = logging.getLogger("crossfade.fast_path")


@dataclass
class FastPath:
    """A `PassThrough` for one listener. `slow`: the handler of everything else."""

    listener: Listener
    dialect: Dialect
    switchboard: Switchboard
    gatekeeper: Gatekeeper
    reader: Reader
    clock: Clock
    metrics: Metrics
    slow: Handler

    def __post_init__(self) -> None:
        self._seen = 0
        self._ways: dict[Hashable, _Way] = {}
        self._outlines = Outlines()
        self._others: set[bytes | None] = set()  # heads of no reads of data, whatever else changes

    def begin(
        self, key: bytes | None, body: bytes, draw: float, request: Callable[[], Request], answer: Answer
    ) -> GiveUp | None:
        """As of PassThrough."""
        if key in self._others:
            return None
        way, granted_seconds = self._ways.get(key), None
        if way is None or not way.holds():
            try:
                made = request()
            except UnicodeDecodeError:
                return None
            way, granted_seconds = self._way(key, made), made.timeout_seconds
            if way is None:
                return None
        if len(body) > self.listener.max_body_bytes or (reason := way.reason(draw)) is None:
            return None
        twin = None
        if way.is_sampled(draw):
            twin = way.twin
            if twin is None or not twin.may(body, request):
                return None
        elif self._is_looked_into():
            return None
        try:
            began = way.route.upstream.limit.enter()
        except Overloaded:
            return None  # whose word it is then
        read = _Read(self, way, reason, request, answer, began)
        return read.leave if read.begin(body, granted_seconds, twin) else None

    def _is_looked_into(self) -> bool:
        self._seen += 1
        return self._seen % LOOKED_INTO == 1

    def _way(self, key: bytes | None, request: Request) -> _Way | None:
        """The way of reads that begin with `key`; without one, of those that ask the same with the same headers."""
        glance = self.dialect.glance(request)
        if glance is None:
            if key is not None:
                if len(self._others) >= _WAYS:
                    self._others.clear()
                self._others.add(key)
            return None
        kept = key if key is not None else (request.method, request.path, request.query, glance, request.headers)
        way = self._ways.get(kept)
        if way is None or not way.holds():
            way = self._way_of(glance, request)
            if way is not None and way.route.config.reads.sticky != "client":
                if len(self._ways) >= _WAYS:
                    self._ways.clear()
                self._ways[kept] = way
        return way

    def _way_of(self, glance: Glance, request: Request) -> _Way | None:
        try:
            request = self.gatekeeper.admit(self.dialect, request)
            place = self.switchboard.locate(glance.collection)
        except CrossfadeError:
            return None
        route = place.route
        if route is None or route.primary_side is not Side.SOURCE or not _can_be_told(route, glance):
            return None
        passage = route.upstream.passage(request)
        if passage is None:
            return None
        twin = None
        if route.config.shadow.sample_percent:
            twin = Twin.of(self.dialect, place, glance, request, self._outlines)
        return _Way(self, place, route, glance, _facts(route, place, glance, request), passage, twin)


def _can_be_told(route: LiveRoute, glance: Glance) -> bool:
    """Whether it can be decided from the head alone who answers. A scroll that the target began stays there, whatever
    the weight."""
    config = route.config
    return not asks_for_tenants(config) and (glance.kind != "scroll" or not (config.rules or route.weight))


def _facts(route: LiveRoute, place: Place, glance: Glance, request: Request) -> Facts:
    return Facts(
        glance.kind,
        place.collection,
        place.upstream.names.aliases_of(place.collection),
        headers=headers_of(request) if route.config.rules or route.config.reads.sticky_header else {},
        client=client_host(request.client),
    )


@dataclass(eq=False)
class _Way:
    """What is settled for reads with one head."""

    path: FastPath
    place: Place
    route: LiveRoute
    glance: Glance
    facts: Facts
    passage: Passage
    twin: Twin | None

    def __post_init__(self) -> None:
        self._made_of = self._state()
        config = self.route.config
        by_chance = config.rules or self.route.weight
        self._always = None if by_chance else self._decided(0.0)
        self._counted: dict[str, tuple[Add, Add, Add, Observe, Observe]] = {}
        self._shown: dict[tuple[AnswerHead, str], AnswerHead] = {}

    def holds(self) -> bool:
        return all(map(is_, self._made_of, self._state()))

    def _state(self) -> tuple[object, ...]:
        path, route = self.path, self.route
        book = route.replicator.book
        return (
            path.switchboard.table,
            path.gatekeeper.state,
            route.config,
            book.primary,
            book.weight,
            *(upstream.names.state for upstream in path.switchboard.upstreams.values()),
        )

    def reason(self, draw: float) -> str | None:
        """Why the source answers; None if it does not."""
        return self._always or self._decided(draw)

    def is_sampled(self, draw: float) -> bool:
        """Whether the target is asked too, to compare."""
        route, collection = self.route, self.place.collection
        if not is_sampled(route.config, self.facts, draw):
            return False
        return route.obstacle(collection) is None and route.obstacle_to_find(collection) is None

    def _decided(self, draw: float) -> str | None:
        return stays_with_source(self.route.config, self.facts, draw, self.route.weight_override)

    def count(self, reason: str, seconds: float) -> None:
        """An answer that took so long."""
        counted = self._counted.get(reason)
        if counted is None:
            metrics, route, operation = self.path.metrics, self.route.name, self.glance.operation
            counted = self._counted[reason] = (
                metrics.unread.series(route),
                metrics.reads.series(route, "primary", reason),
                metrics.requests.series(self.path.listener.name, operation, route, "primary", reason, "ok"),
                metrics.request_seconds.series(operation, "primary"),
                metrics.request_seconds.series(operation, "client"),
            )
        unread, reads, requests, of_primary, of_client = counted
        unread()
        reads()
        requests()
        of_primary(seconds)
        of_client(seconds)

    def shown(self, head: AnswerHead, reason: str) -> AnswerHead:
        """An answer's head as the client sees it: with who answered, and why, if it is to know."""
        if not self.path.listener.debug_headers:
            return head
        shown = self._shown.get((head, reason))
        if shown is None:
            if len(self._shown) >= _SHOWN:
                self._shown.clear()
            headers = (*head.headers, ("x-crossfade-route", f"primary; {reason}"))
            shown = self._shown[head, reason] = AnswerHead(head.status, headers, head.message, head.trailers)
        return shown


@dataclass(slots=True, eq=False)
class _Read:
    """One read on its way. The `Heard` of its passage."""

    path: FastPath
    way: _Way
    reason: str
    request: Callable[[], Request]
    answer: Answer
    began: float
    give_up: GiveUp | None = None
    otherwise: asyncio.Task[None] | None = None
    pair: Pair | None = None

    def begin(self, body: bytes, granted_seconds: float | None, twin: Twin | None) -> bool:
        """`twin`: of a read that goes to the other store too."""
        passage = self.way.passage if twin is None else twin.passage
        self.give_up = passage.send(body, granted_seconds, self)
        if self.give_up is None:
            self.way.route.upstream.limit.give_up()
            return False
        self._count(1)
        if twin is not None:
            self.pair = twin.other.ask(body, self.request, self.began)
        return True

    def answered(self, head: AnswerHead, body: Body) -> None:
        self._ended()
        self.way.route.upstream.limit.leave(self.way.glance.operation, self.began, answered=True)
        path, way, reason = self.path, self.way, self.reason
        seconds = path.clock.now() - self.began
        way.count(reason, seconds)
        self.answer(way.shown(head, reason), body)
        if self.pair is not None:
            self.pair.first(head, body, seconds)

    def failed(self, error: CrossfadeError) -> None:
        self._ended()
        self.way.route.upstream.limit.leave(self.way.glance.operation, self.began, answered=False)
        if self.pair is not None:
            self.pair.give_up()
        seconds = self.path.clock.now() - self.began
        self.otherwise = spawn(self._otherwise(error, seconds), name="read that broke off")

    def leave(self) -> None:
        """The client is gone."""
        if self.give_up is not None:
            self.give_up()
            self._ended()
            self.way.route.upstream.limit.give_up()
        if self.pair is not None:
            self.pair.give_up()
        if self.otherwise is not None:
            self.otherwise.cancel()
        operation, route, listener = self.way.glance.operation, self.way.route.name, self.path.listener.name
        self.path.metrics.requests.add(listener, operation, route, "proxy", "client left", "given up")

    async def _otherwise(self, error: CrossfadeError, seconds: float) -> None:
        """A read may be repeated, so one that ran into a connection just being closed is; not one that took long."""
        path, request = self.path, self.request()
        try:
            over = request.timeout_seconds is not None and seconds > request.timeout_seconds * 0.9
            if isinstance(error, Unclear) and (seconds > STALE_SECONDS or over):
                raise error
            response = await path.slow(request)
        except Exception as failure:  # noqa: BLE001  somebody waits for an answer
            if failure is not error:  # a defect: handlers answer errors themselves
                _log.exception("handler failed", extra={"kind": type(failure).__name__})
                error = Unclear("internal error; the proxy's log has the details")
            operation, route = self.way.glance.operation, self.way.route.name
            path.metrics.requests.add(path.listener.name, operation, route, "proxy", type(error).__name__, "failed")
            path.metrics.request_seconds.observe(seconds, operation, "client")
            response = path.dialect.refuse(request, error)
        head = AnswerHead(response.status, response.headers, response.message, response.trailers)
        self.answer(head, response.body)

    def _ended(self) -> None:
        self.give_up = None
        self._count(-1)

    def _count(self, more: int) -> None:
        self.path.reader.under_way += more
