"""The fast path: a read that the source answers moves as bytes, unread, without a task of its own.

Taken where all is plain: the body is there, the endpoint says that it is a read of data, the source is the primary, the
route's rules and weight (which may ask for headers, not for tenants) leave the read with it, a connection is free, and
where a shadow is due, the other store can be asked the same bytes (twin.py). Anything else, and any failure before the
answer has begun, is the slow path's (pipeline.py), which decides it from the beginning, by the same chance
(`Request.draw`).

What was found out about a read is kept for those that ask the same (ways.py).

Nobody looks into what goes this way to the source alone. So that kinds of reads that no target could answer are still
counted, one of `LOOKED_INTO` takes the slow path all the same, the first included, but no more than ten a second: to
look into one takes as long as to pass twenty.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from proxy.clock import Clock
from proxy.config import Listener
from proxy.dialects import Dialect
from proxy.errors import CrossfadeError, Overloaded, Unclear
from proxy.serving.access import Gatekeeper
from proxy.serving.reads import STALE_SECONDS, Reader
from proxy.serving.switchboard import Switchboard
from proxy.serving.twin import Twin
from proxy.serving.ways import Way, Ways
from proxy.shadow.pair import Pair
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Answer, AnswerHead, Body, GiveUp, Handler, Request

LOOKED_INTO: Final = 256
LOOKS_APART_SECONDS = 0.1
_log = logging.getLogger("crossfade.fast_path")


class Looks:
    """Which reads are looked into: the first, and then one of `LOOKED_INTO`, but for those that come too soon."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._passed = LOOKED_INTO - 1  # since one was due
        self._looked_at = float("-inf")

    def is_due(self) -> bool:
        """Asked of every read."""
        self._passed += 1
        if self._passed < LOOKED_INTO:
            return False
        self._passed = 0
        now = self._clock.now()
        if now - self._looked_at < LOOKS_APART_SECONDS:
            return False
        self._looked_at = now
        return True


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
        self._looks = Looks(self.clock)
        self._ways = Ways(self.listener, self.dialect, self.switchboard, self.gatekeeper, self.metrics)

    def begin(
        self, key: bytes | None, body: bytes, draw: float, request: Callable[[], Request], answer: Answer
    ) -> GiveUp | None:
        """As of PassThrough."""
        way, granted_seconds = self._ways.find(key, request)
        if way is None:
            return None
        if len(body) > self.listener.max_body_bytes or (reason := way.reason(draw)) is None:
            return None
        twin = None
        if way.is_sampled(draw):
            twin = way.twin
            if twin is None or not twin.may(body, request):
                return None
        elif self._looks.is_due():
            return None
        try:
            began = way.settled.route.upstream.limit.enter()
        except Overloaded:
            return None  # whose word it is then
        read = _Read(self, way, reason, request, answer, began)
        return read.leave if read.begin(body, granted_seconds, twin) else None


@dataclass(slots=True, eq=False)
class _Read:
    """One read on its way. The `Heard` of its passage."""

    path: FastPath
    way: Way
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
            self.way.settled.route.upstream.limit.give_up()
            return False
        self.path.reader.under_way += 1
        if twin is not None:
            self.pair = twin.other.ask(body, self.request, self.began)
        return True

    def answered(self, head: AnswerHead, body: Body) -> None:
        self._ended()
        self.way.settled.route.upstream.limit.leave(self.way.settled.glance.operation, self.began, answered=True)
        path, way, reason = self.path, self.way, self.reason
        seconds = path.clock.now() - self.began
        way.settled.count(reason, seconds)
        self.answer(way.settled.shown(head, reason), body)
        if self.pair is not None:
            self.pair.first(head, body, seconds)

    def failed(self, error: CrossfadeError) -> None:
        self._ended()
        self.way.settled.route.upstream.limit.leave(self.way.settled.glance.operation, self.began, answered=False)
        if self.pair is not None:
            self.pair.give_up()
        seconds = self.path.clock.now() - self.began
        self.otherwise = spawn(self._otherwise(error, seconds), name="read that broke off")

    def leave(self) -> None:
        """The client is gone."""
        if self.give_up is not None:
            self.give_up()
            self._ended()
            self.way.settled.route.upstream.limit.give_up()
        if self.pair is not None:
            self.pair.give_up()
        if self.otherwise is not None:
            self.otherwise.cancel()
        settled, metrics = self.way.settled, self.path.metrics
        asked = (self.path.listener.name, settled.glance.operation, settled.route.name)
        metrics.requests.add(*asked, "proxy", "client left", "given up")

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
            operation, route = self.way.settled.glance.operation, self.way.settled.route.name
            path.metrics.requests.add(path.listener.name, operation, route, "proxy", type(error).__name__, "failed")
            path.metrics.request_seconds.observe(seconds, operation, "client")
            response = path.dialect.refuse(request, error)
        head = AnswerHead(response.status, response.headers, response.message, response.trailers)
        self.answer(head, response.body)

    def _ended(self) -> None:
        self.give_up = None
        self.path.reader.under_way -= 1
