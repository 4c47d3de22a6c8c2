"""The request path on one screen: start reading here.

    bytes ─► listener ─► Request ─► `Pipeline.__call__`
                                        │  admit (access) · read the body if the dialect needs it
                                        ▼
                                     decode (dialect) ─► Call(operation)
                                        │  which collection, which route (names, routing)
              ┌─────────────────────────┼───────────────────────────┐
              ▼                         ▼                           ▼
        data read: Reader        write, definition:         everything else:
        decide, ask a store,     Replicator: journal,       the source's own answer,
        fall back, shadow        primary, secondary         byte for byte
              └─────────────────────────┼───────────────────────────┘
                                        ▼
                             Response ─► listener ─► bytes

What the primary answers goes back as it came. A read whose client has left is cancelled, a write never is. Errors of
our own are told in the client's dialect. A request of unknown effect on a mirrored collection is carried out and leaves
"needs sweep" behind: nothing diverges in silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.config import Listener
from proxy.dialects import Call, Dialect, Outcome
from proxy.errors import (
    AppliedOnPrimaryOnly,
    CrossfadeError,
    NotServed,
    Overloaded,
    RequestError,
    Unavailable,
    Unclear,
)
from proxy.model import (
    CreateAlias,
    DataRead,
    Definition,
    DropAlias,
    OpaqueWrite,
    PrimaryOnlyRead,
    RenameAlias,
    Side,
    UpdateAliases,
    Write,
    collection_of,
)
from proxy.offload import Offload
from proxy.replication.replicator import Replicator
from proxy.replication.writer import Answer, Outdated, Primary, ask
from proxy.serving.access import Gatekeeper
from proxy.serving.live import LiveRoute
from proxy.serving.names import STALE_SECONDS
from proxy.serving.primaries import about, native
from proxy.serving.reads import Answered, Reader
from proxy.serving.switchboard import Place, Switchboard
from proxy.serving.upstream import Upstream
from proxy.telemetry.metrics import NO_ROUTE, Metrics
from proxy.wire import Request, Response, collected

_log = logging.getLogger("crossfade.pipeline")

_LARGE_BYTES = 256 * 1024  # a body, to read which takes a millisecond


def _through(replicator: Replicator, reason: str, primary: Primary) -> Primary:
    """`primary`, with the collections of a route marked for a sweep around it."""

    return Primary(primary.side, lambda: replicator.write_anywhere(reason, _only(primary)), primary.judge)


def _only(primary: Primary) -> Callable[[Side], Primary]:
    """That one, as long as it is the primary."""

    def choose(side: Side) -> Primary:
        if side is not primary.side:
            raise Outdated
        return primary

    return choose


def _around_aliases(replicator: Replicator, collections: Sequence[str], primary: Primary) -> Primary:
    """`primary`, with an interval on the collections of a route around it: the primary does not move meanwhile."""
    return Primary(
        primary.side, lambda: replicator.change_aliases(collections, _only(primary), STALE_SECONDS), primary.judge
    )


async def _ask_anew(put_together: Callable[[], Primary]) -> Answer:
    """Ask the primary; once more, if it was moved before anything was sent."""
    while True:
        answer = await ask(put_together())
        if not isinstance(answer.failure, Outdated):
            return answer


def _names_in(operation: UpdateAliases) -> Iterator[str]:
    """What an alias change names: collections, and aliases that there are."""
    for action in operation.actions:
        match action:
            case CreateAlias(collection=name) | DropAlias(alias=name) | RenameAlias(old=name):
                yield name


@dataclass(slots=True)
class Pipeline:
    """Answers the requests of one listener."""

    listener: Listener
    dialect: Dialect
    switchboard: Switchboard
    gatekeeper: Gatekeeper
    reader: Reader
    clock: Clock
    metrics: Metrics
    offload: Offload

    async def __call__(self, request: Request) -> Response:
        began = self.clock.now()
        operation, route = "unknown", NO_ROUTE
        try:
            request = self.gatekeeper.admit(self.dialect, request)
            if self.dialect.wants_body(request):
                request = await collected(request, self.listener.max_body_bytes)
            call = await self._decoded(request)
            operation = type(call.operation).__name__.lower()
            place = self._place(call)
            if isinstance(call.operation, DataRead | PrimaryOnlyRead) and request.caller is not None:
                request.caller.may_leave()
            route = place.route.name if place and place.route else NO_ROUTE
            answered = await self._answer(call, place)
            status = "ok"
        except CrossfadeError as error:
            status = "refused" if isinstance(error, RequestError | Overloaded) else "failed"
            answered = Answered(self.dialect.refuse(request, error), "proxy", type(error).__name__)
        except asyncio.CancelledError:
            if request.caller is not None and request.caller.has_left:
                self.metrics.requests.add(self.listener.name, operation, route, "proxy", "client left", "given up")
            raise
        self.metrics.requests.add(self.listener.name, operation, route, answered.by, answered.reason, status)
        self.metrics.request_seconds.observe(self.clock.now() - began, operation, "client")
        if self.listener.debug_headers:
            return answered.response.with_headers(("x-crossfade-route", f"{answered.by}; {answered.reason}"))
        return answered.response

    async def _decoded(self, request: Request) -> Call:
        """What takes more than a millisecond is done beside the loop, so that others need not wait for it."""
        if not isinstance(request.body, bytes) or len(request.body) < _LARGE_BYTES:
            return self.dialect.decode(request)
        found = self.dialect.decode_large(request)
        if isinstance(found, Call):
            return found
        return Call(request, await self.offload.run(found.work, [request.body], *found.given), found.form)

    def refuse(self, request: Request) -> Response:
        """The answer to a request that is one too many."""
        error = Overloaded("as many requests are being answered as `max_in_flight` allows; try again in a moment")
        self.metrics.requests.add(self.listener.name, "unknown", NO_ROUTE, "proxy", type(error).__name__, "refused")
        return self.dialect.refuse(request, error)

    def _place(self, call: Call) -> Place | None:
        """Where the request belongs; None where it names no collection."""
        name = collection_of(call.operation)
        return self.switchboard.locate(name) if name is not None else None

    async def _answer(self, call: Call, place: Place | None) -> Answered:
        operation = call.operation
        if isinstance(operation, DataRead) and place is not None and place.route is not None:
            return await self.reader.read(self.dialect, call, operation, place.route, place.collection)
        if isinstance(operation, OpaqueWrite) and not (place and self._is_certain(operation, place)):
            return await self._write_anywhere(call, operation)
        if isinstance(operation, UpdateAliases):
            return await self._change_aliases(call, operation)
        if isinstance(operation, Write | Definition) and place is not None:
            return await self._change(call, operation)
        if isinstance(operation, PrimaryOnlyRead) and place is not None and place.route is not None:
            self.metrics.primary_only.add(place.route.name, operation.reason)
            return await self.reader.read_natively(call, operation, place.route, place.collection)
        return await self._ask_about(call, place)

    async def _ask_about(self, call: Call, place: Place | None) -> Answered:
        """What is neither data nor a change (versions, lists, descriptions): the source knows it in the client's own
        words. Once it is not the primary it may be behind with a definition, or gone: then the target tells."""
        upstream = place.upstream if place is not None else self.switchboard.default
        reason = call.operation.reason if isinstance(call.operation, PrimaryOnlyRead) else "not routed"
        moved = self._moved(place, upstream)
        front = moved.front if moved is not None else None
        if moved is None or (moved.replicator.mirroring and not moved.replicator.defining):
            try:
                return Answered(await upstream.forward(call.request), "primary", reason)
            except (Unavailable, Unclear):
                if front is None:
                    raise
        assert front is not None
        began = self.clock.now()
        result = await front.answer(about(call, place.collection) if place is not None else call)
        return Answered(self.dialect.encode(call, result, self.clock.now() - began), "primary", "source behind")

    def _moved(self, place: Place | None, upstream: Upstream) -> LiveRoute | None:
        """A route whose target can tell, since it is the primary by now."""
        if place is not None and place.route is not None:
            routes = [place.route]
        else:
            routes = self._routes_of(upstream)
        return next((route for route in routes if route.primary_side is Side.TARGET), None)

    def _routes_of(self, upstream: Upstream) -> list[LiveRoute]:
        return [route for route in self.switchboard.routes.values() if route.upstream is upstream]

    # --- what changes something -------------------------------------------------------------------

    async def _change(self, call: Call, operation: Write | Definition) -> Answered:
        """A write or definition of one collection. Its name must not change its meaning before it has arrived."""
        name = collection_of(operation)
        assert name is not None
        while True:
            place = self.switchboard.locate(name)
            if place.route is not None and place.route.replicator.mirroring and not place.upstream.names.known:
                await place.upstream.names.need()
                continue
            async with place.upstream.door.shared():
                if self.switchboard.locate(name) == place:
                    return Answered(await self._carry_out(call, operation, place), "primary", "write")

    async def _carry_out(self, call: Call, operation: Write | Definition, place: Place) -> Response:
        if place.route is None:
            return await native(place.upstream, self.dialect, call).send()
        primaries = place.route.primaries(self.dialect, call, place.collection)
        if isinstance(operation, Definition):
            return await place.route.replicator.define(place.collection, operation, primaries)
        return await place.route.replicator.write(place.collection, operation, primaries)

    async def _change_aliases(self, call: Call, operation: UpdateAliases) -> Answered:
        """Alone: running writes have arrived, later ones wait until the new names are known."""
        upstream = self.switchboard.default
        async with upstream.door.alone():
            try:
                answer = await _ask_anew(lambda: self._to_change_aliases(call, operation, upstream))
            finally:
                upstream.names.known = False
            try:
                await upstream.names.refresh()
            except CrossfadeError as error:
                _log.warning("aliases could not be read after a change", extra={"error": error})
        if answer.judgement.outcome is Outcome.ACCEPTED:
            for route in self._routes_of(upstream):
                route.replicator.aliases_changed()
        return Answered(answer.unwrap(), "primary", "write")

    def _to_change_aliases(self, call: Call, operation: UpdateAliases, upstream: Upstream) -> Primary:
        """On the one primary of all the collections that it concerns. Raises NotServed if they have several."""
        concerned: dict[str, list[str]] = {}
        for name in _names_in(operation):
            place = self.switchboard.locate(name)
            if place.route is not None and place.upstream is upstream:
                concerned.setdefault(place.route.name, []).append(place.collection)
        routes = [self.switchboard.routes[name] for name in concerned]
        primary = native(upstream, self.dialect, call)
        if any(route.primary_side is Side.TARGET for route in routes):
            if len(routes) > 1:
                raise NotServed("these aliases concern collections whose primaries differ: change them one by one")
            primary = routes[0].primaries(self.dialect, call)(Side.TARGET)
        for route in routes:
            primary = _around_aliases(route.replicator, concerned[route.name], primary)
        return primary

    @staticmethod
    def _is_certain(operation: OpaqueWrite, place: Place) -> bool:
        """Whether the write is one of that collection. What a request of an unknown kind names is only a guess: it must
        be a collection that is known."""
        if not operation.guessed:
            return True
        return place.route is not None and place.route.replicator.knows(place.collection)

    async def _write_anywhere(self, call: Call, operation: OpaqueWrite) -> Answered:
        """A write of no certain collection: every mirrored one of the source may have changed, and its names too."""
        upstream = self.switchboard.default
        mirrored = [each for each in self._routes_of(upstream) if each.replicator.mirroring]
        required = [each.name for each in mirrored if each.config.writes.policy == "both-required"]
        async with upstream.door.alone():
            try:
                answer = await _ask_anew(lambda: self._to_write_anywhere(call, operation, upstream))
            finally:
                upstream.names.known = False
        response = answer.unwrap()
        if required and answer.judgement.outcome is Outcome.ACCEPTED:
            raise AppliedOnPrimaryOnly(
                f"the request is applied on the primary; the target of {', '.join(required)} gets what it changed by a "
                f"sweep ({operation.reason})"
            )
        return Answered(response, "primary", operation.reason)

    def _to_write_anywhere(self, call: Call, operation: OpaqueWrite, upstream: Upstream) -> Primary:
        """On the source. Raises NotServed where a target is the primary."""
        routes = self._routes_of(upstream)
        if any(route.primary_side is Side.TARGET for route in routes):
            raise NotServed(f"{operation.reason}: the target, which is the primary by now, does not know it")
        primary = native(upstream, self.dialect, call)
        for route in routes:
            primary = _through(route.replicator, operation.reason, primary)
        return primary
