"""Answering a read: one decision, then the store that it names; the primary whenever the other one cannot.

What the secondary cannot express, refuses or fails to answer in time is asked of the primary, and counted with its
reason: a client never sees the other vendor's failure. A scroll stays with the store that began it: Qdrant's offset is
a bare id and cannot say whose it is, so first pages are remembered (bounded), and what is not remembered is primary's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from proxy.dialects import Call, Dialect
from proxy.errors import (
    CollectionNotFound,
    InvalidRequest,
    NotServed,
    Overloaded,
    Refused,
    Throttled,
    Unavailable,
    Unclear,
    Untranslatable,
)
from proxy.model import (
    Count,
    Counted,
    DataRead,
    Fetch,
    HitsBatch,
    Page,
    PointId,
    Points,
    PrimaryOnlyRead,
    Result,
    Scroll,
    Search,
    SearchBatch,
    Side,
)
from proxy.replication.site import failure_kind
from proxy.routing import Decision, decide_read, facts_of
from proxy.serving.access import Gatekeeper
from proxy.serving.live import LiveRoute
from proxy.serving.primaries import about
from proxy.shadow import ShadowRead
from proxy.telemetry.metrics import Metrics
from proxy.wire import Response, plain, readable

_SECONDARY_LIMIT_SECONDS = 5.0
_SCROLLS = 50_000
_BUSY_READS = 64
STALE_SECONDS = 0.5  # a read that breaks off earlier met a connection that was being closed


class Answered(NamedTuple):
    """`by` is primary or secondary, `reason` why."""

    response: Response
    by: str
    reason: str


class Scrolls:
    """Which scrolls the target began: (collection, what is scrolled, next id)."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str, PointId], None] = OrderedDict()

    def began_on_target(self, collection: str, scroll: Scroll) -> bool:
        return scroll.start is not None and (collection, _what(scroll), scroll.start) in self._begun

    def remember(self, collection: str, scroll: Scroll, following: PointId | None) -> None:
        if following is not None:
            key = (collection, _what(scroll), following)
            self._begun[key] = None
            self._begun.move_to_end(key)
            if len(self._begun) > _SCROLLS:
                self._begun.popitem(last=False)


def _what(scroll: Scroll) -> str:
    return repr(scroll.filter)


class Reader:
    """For all routes of a process."""

    def __init__(self, gatekeeper: Gatekeeper, metrics: Metrics) -> None:
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._scrolls = Scrolls()
        self.under_way = 0

    def is_busy(self) -> bool:
        """So many clients wait for their answers that shadow reads, which nobody waits for, should not add to it."""
        return self.under_way > _BUSY_READS

    async def read(self, dialect: Dialect, call: Call, read: DataRead, route: LiveRoute, collection: str) -> Answered:
        """`read` asks about `collection` (resolved), which `route` has. Raises what the primary's forwarder raises."""
        self.under_way += 1
        try:
            return await self._read(dialect, call, read, route, collection)
        finally:
            self.under_way -= 1

    async def read_natively(self, call: Call, read: PrimaryOnlyRead, route: LiveRoute, collection: str) -> Answered:
        """A read that only a store of the client's vendor can answer: the source, as primary or while it is in step."""
        if route.primary_side is Side.SOURCE:
            return Answered((await self._from_source(call, route, False))[0], "primary", read.reason)
        if (obstacle := route.obstacle(collection)) is not None:
            raise NotServed(
                f"{read.reason}: the target, now the primary, cannot do that; the source is behind: {obstacle}"
            )
        return Answered((await self._from_source(call, route, False))[0], "secondary", read.reason)

    async def _read(self, dialect: Dialect, call: Call, read: DataRead, route: LiveRoute, collection: str) -> Answered:
        decision = self._decide(call, read, route, collection)
        asked = _Asked(dialect, call, read, route, collection, decision.shadow)
        primary = route.primary_side
        if decision.read_from is primary:
            return await self._from_primary(asked, decision.reason)
        answered = await self._from_secondary(asked, decision.reason)
        if isinstance(answered, Answered):
            self._metrics.reads.add(route.name, answered.by, decision.reason)
            return answered
        return await self._from_primary(asked, f"{primary.value}: {answered}")

    # --- deciding ----------------------------------------------------------------------------

    def _decide(self, call: Call, read: DataRead, route: LiveRoute, collection: str) -> Decision:
        aliases = route.upstream.names.aliases_of(collection)
        facts = facts_of(read, call.request, collection, aliases, route.config.tenant_field)
        return decide_read(
            route.config,
            facts,
            self._draw_for(call, read, collection),
            self._obstacle(read, route, collection),
            weight_override=route.weight_override,
            primary=route.primary_side,
        )

    def _draw_for(self, call: Call, read: DataRead, collection: str) -> float:
        """A scroll that the target began draws the lowest chance, which every weight above 0 takes."""
        if isinstance(read, Scroll) and self._scrolls.began_on_target(collection, read):
            return 0.0
        return call.request.draw

    def _obstacle(self, read: DataRead, route: LiveRoute, collection: str) -> str | None:
        obstacle = route.obstacle(collection)
        if obstacle is not None:
            return obstacle
        match read:
            case Fetch():
                return route.obstacle_to_fetch(collection, read)
            case Search() | SearchBatch() | Count():
                return route.obstacle_to_find(collection)
            case Scroll(start=start):
                if (parked := route.obstacle_to_find(collection)) is not None:
                    return parked
                if not route.secondary.capabilities.ordered_by_id:
                    return "scroll order"
                there = self._scrolls.began_on_target(collection, read)
                if start is not None and there is not (route.primary_side is Side.SOURCE):
                    return "scroll began there"
        return None

    # --- primary and secondary -----------------------------------------------------------------

    async def _from_primary(self, asked: _Asked, reason: str) -> Answered:
        """Raises what the store raises: nobody else may answer, but for a source in step to what the target cannot."""
        route, name = asked.route, asked.route.name
        if route.primary_side is Side.SOURCE:
            response, seconds = await self._from_source(asked.call, route, asked.shadow)
            self._observe(asked, "primary", seconds)
            if asked.shadow and isinstance(response.body, bytes):
                asked.offer(Side.SOURCE, seconds, lambda: asked.dialect.read_reply(asked.call, plain(response)))
        else:
            try:
                response, seconds = await self._from_target(asked)
            except Untranslatable as error:
                return await self._what_the_target_cannot(asked, error)
            self._observe(asked, "primary", seconds)
        self._metrics.reads.add(name, "primary", reason)
        return Answered(response, "primary", reason)

    async def _what_the_target_cannot(self, asked: _Asked, error: Untranslatable) -> Answered:
        """The target is the primary, and has no exact equivalent: the source answers as long as it is in step."""
        self._metrics.untranslatable.add(asked.route.name, error.reason)
        reason = f"untranslatable: {error.reason}"
        obstacle = self._obstacle(asked.read, asked.route, asked.collection)
        if obstacle is not None:
            raise NotServed(f"{reason}; and the source is not in step: {obstacle}") from error
        response, seconds = await self._from_source(asked.call, asked.route, False)
        self._observe(asked, "secondary", seconds)
        self._metrics.reads.add(asked.route.name, "secondary", reason)
        return Answered(response, "secondary", reason)

    async def _from_secondary(self, asked: _Asked, reason: str) -> Answered | str:
        """The secondary's answer in the client's dialect, or why the primary has to give it."""
        route, name = asked.route, asked.route.name
        if route.primary_side is Side.SOURCE and not await self._gatekeeper.may_read(
            asked.dialect, asked.call.request, route.upstream, asked.collection, name
        ):
            self._metrics.fallbacks.add(name, "access")
            return "access"
        try:
            async with asyncio.timeout(_SECONDARY_LIMIT_SECONDS):
                if route.primary_side is Side.SOURCE:
                    response, seconds = await self._from_target(asked)
                else:
                    response, seconds = await self._from_source(asked.call, route, False)
        except Untranslatable as error:
            self._metrics.untranslatable.add(name, error.reason)
            return f"untranslatable: {error.reason}"
        except (Refused, CollectionNotFound, InvalidRequest):
            self._metrics.fallbacks.add(name, "refused")
            return "secondary refused"
        except Overloaded:  # it works, and is asked enough
            self._metrics.fallbacks.add(name, "overloaded")
            return "secondary overloaded"
        except (Unavailable, Unclear, Throttled, TimeoutError) as error:
            route.breaker.failed()
            self._metrics.store_errors.add(route.replicator.stores.label(route.primary_side.other), failure_kind(error))
            self._metrics.fallbacks.add(name, type(error).__name__.lower())
            return "secondary failed"
        route.breaker.worked()
        if isinstance(asked.read, Fetch) and route.obstacle_to_fetch(asked.collection, asked.read):
            self._metrics.fallbacks.add(name, "key changed meanwhile")
            return "key not clean"
        self._observe(asked, "secondary", seconds)
        return Answered(response, "secondary", reason)

    # --- source and target -----------------------------------------------------------------------

    async def _from_source(self, call: Call, route: LiveRoute, to_be_read: bool) -> tuple[Response, float]:
        """The source's answer, byte for byte, and the seconds it took; `to_be_read`: in an encoding that we can read.

        A read may be repeated, so one that ran into a connection just being closed is: once, and not after a time-out.
        """
        request = readable(call.request) if to_be_read else call.request
        began = route.clock.now()
        try:
            response = await route.upstream.forward(request)
        except Unclear:
            again = isinstance(request.body, bytes)  # a stream is gone by now
            if not again or route.clock.now() - began > STALE_SECONDS:
                raise
            response = await route.upstream.forward(request)
        return response, route.clock.now() - began

    async def _from_target(self, asked: _Asked) -> tuple[Response, float]:
        """The target's answer through the model, in the client's dialect, and the seconds it took."""
        route = asked.route
        began = route.clock.now()
        if route.primary_side is Side.TARGET:
            assert route.front is not None  # a gate of cutover
            result = await route.front.answer(about(asked.call, asked.collection))
        else:
            kind = type(asked.read).__name__
            result = await route.target_limit.keep(kind, lambda: ask(route, asked.read, asked.collection, Side.TARGET))
        seconds = route.clock.now() - began
        if isinstance(asked.read, Scroll) and isinstance(result, Page):
            self._scrolls.remember(asked.collection, asked.read, result.next)
        response = asked.dialect.encode(asked.call, result, seconds)
        if asked.shadow:
            asked.offer(Side.TARGET, seconds, lambda: result)
        return response, seconds

    def _observe(self, asked: _Asked, by: str, seconds: float) -> None:
        self._metrics.request_seconds.observe(seconds, type(asked.read).__name__.lower(), by)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A read, and where it belongs. `shadow`: the other side is asked too, off the client's path."""

    dialect: Dialect
    call: Call
    read: DataRead
    route: LiveRoute
    collection: str
    shadow: bool

    def offer(self, by: Side, seconds: float, result: Callable[[], Result]) -> None:
        """Have the answer of `by`, which `result` gives, compared with the other side's."""

        async def other() -> Result:
            return await ask(self.route, self.read, self.collection, by.other)

        self.route.shadow.offer(ShadowRead(self.read, self.collection, seconds, result, other))


async def ask(route: LiveRoute, read: DataRead, collection: str, side: Side) -> Result:
    """Put a read to a store through the model. Raises what the store raises."""
    store = route.replicator.stores.at(side)
    name = route.replicator.stores.name_at(side, collection)
    match read:
        case Search():
            return await store.search(read if read.collection == name else replace(read, collection=name))
        case SearchBatch(searches=searches):
            asked = (store.search(replace(search, collection=name)) for search in searches)
            return HitsBatch(tuple(await asyncio.gather(*asked)))
        case Fetch(ids=ids, selection=selection):
            found = await store.fetch(name, ids, selection)
            return Points(tuple(found[point_id] for point_id in dict.fromkeys(ids) if point_id in found))
        case Scroll(limit=limit, start=start, filter=chosen, selection=selection):
            return await store.scan(name, start, limit, chosen, selection)
        case Count(filter=chosen):
            return Counted(await store.count(name, chosen))
