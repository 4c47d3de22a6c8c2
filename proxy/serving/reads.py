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

from proxy.dialects import Call, Dialect
from proxy.errors import (
    CollectionNotFound,
    InvalidRequest,
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
from proxy.shadow import ShadowRead
from proxy.telemetry.metrics import Metrics
from proxy.wire import Response, plain, readable

_SECONDARY_LIMIT_SECONDS = 5.0
_SCROLLS = 50_000
_BUSY_READS = 64
_STALE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Answered:
    """`by` is primary or secondary, `reason` why."""

    response: Response
    by: str
    reason: str


class Scrolls:
    """Which scrolls the secondary began: (collection, what is scrolled, next id)."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str, PointId], None] = OrderedDict()

    def began_on_secondary(self, collection: str, scroll: Scroll) -> bool:
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
    """For all routes of a process. `draw` gives a chance in [0, 1)."""

    def __init__(self, gatekeeper: Gatekeeper, metrics: Metrics, draw: Callable[[], float]) -> None:
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._draw = draw
        self._scrolls = Scrolls()
        self._under_way = 0

    @property
    def busy(self) -> bool:
        """So many clients wait for their answers that shadow reads, which nobody waits for, should not add to it."""
        return self._under_way > _BUSY_READS

    async def read(self, dialect: Dialect, call: Call, read: DataRead, route: LiveRoute, collection: str) -> Answered:
        """`read` asks about `collection` (resolved), which `route` has. Raises what the primary's forwarder raises."""
        self._under_way += 1
        try:
            return await self._read(dialect, call, read, route, collection)
        finally:
            self._under_way -= 1

    async def _read(self, dialect: Dialect, call: Call, read: DataRead, route: LiveRoute, collection: str) -> Answered:
        decision = self._decide(call, read, route, collection)
        reason = decision.reason
        if decision.read_from is not route.primary_side:
            answered = await self._from_secondary(dialect, call, read, route, collection, decision)
            if isinstance(answered, Answered):
                self._metrics.reads.add(route.name, answered.by, reason)
                return answered
            reason = f"{route.primary_side.value}: {answered}"
        response, seconds = await self._from_primary(call, route, decision.shadow)
        if decision.shadow:
            self._shadow_of_primary(dialect, call, read, route, collection, response, seconds)
        self._metrics.reads.add(route.name, "primary", reason)
        return Answered(response, "primary", reason)

    # --- deciding ----------------------------------------------------------------------------

    def _decide(self, call: Call, read: DataRead, route: LiveRoute, collection: str) -> Decision:
        aliases = route.upstream.names.aliases_of(collection)
        facts = facts_of(read, call.request, collection, aliases, route.config.tenant_field)
        return decide_read(
            route.config,
            facts,
            self._draw_for(read, collection),
            self._obstacle(read, route, collection),
            weight_override=route.weight_override,
            primary=route.primary_side,
        )

    def _draw_for(self, read: DataRead, collection: str) -> float:
        """A scroll that the secondary began draws the lowest chance, which every weight above 0 takes."""
        if isinstance(read, Scroll) and self._scrolls.began_on_secondary(collection, read):
            return 0.0
        return self._draw()

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
                if start is not None and not self._scrolls.began_on_secondary(collection, read):
                    return "scroll began there"
        return None

    # --- the two stores ----------------------------------------------------------------------

    async def _from_primary(self, call: Call, route: LiveRoute, to_be_read: bool) -> tuple[Response, float]:
        """The primary's answer and the seconds it took; `to_be_read`: in an encoding that we can read ourselves.

        A read may be repeated, so one that ran into a connection just being closed is: once, and not after a time-out.
        """
        request = readable(call.request) if to_be_read else call.request
        began = route.clock.now()
        try:
            response = await route.upstream.forward(request)
        except Unclear:
            if route.clock.now() - began > _STALE_SECONDS:
                raise
            response = await route.upstream.forward(request)
        seconds = route.clock.now() - began
        self._metrics.request_seconds.observe(seconds, type(call.operation).__name__.lower(), "primary")
        return response, seconds

    async def _from_secondary(
        self, dialect: Dialect, call: Call, read: DataRead, route: LiveRoute, collection: str, decision: Decision
    ) -> Answered | str:
        """The secondary's answer in the client's dialect, or why the primary has to give it."""
        name = route.name
        if not await self._gatekeeper.may_read(dialect, call.request, route.upstream, collection, name):
            self._metrics.fallbacks.add(name, "access")
            return "access"
        began = route.clock.now()
        try:
            async with asyncio.timeout(_SECONDARY_LIMIT_SECONDS):
                result = await ask(route, read, collection, route.primary_side.other)
        except Untranslatable as error:
            self._metrics.untranslatable.add(name, error.reason)
            return f"untranslatable: {error.reason}"
        except (Refused, CollectionNotFound, InvalidRequest):
            self._metrics.fallbacks.add(name, "refused")
            return "secondary refused"
        except (Unavailable, Unclear, Throttled, TimeoutError) as error:
            route.breaker.failed()
            self._metrics.store_errors.add(route.replicator.stores.label(route.primary_side.other), failure_kind(error))
            self._metrics.fallbacks.add(name, type(error).__name__.lower())
            return "secondary failed"
        route.breaker.worked()
        if isinstance(read, Fetch) and route.obstacle_to_fetch(collection, read):
            self._metrics.fallbacks.add(name, "key changed meanwhile")
            return "key not clean"
        if isinstance(read, Scroll) and isinstance(result, Page):
            self._scrolls.remember(collection, read, result.next)
        seconds = route.clock.now() - began
        self._metrics.request_seconds.observe(seconds, type(read).__name__.lower(), "secondary")
        response = dialect.encode(call, result, seconds)
        if decision.shadow:
            self._shadow_of_secondary(dialect, call, read, route, collection, result, seconds)
        return Answered(response, "secondary", decision.reason)

    # --- shadow --------------------------------------------------------------------------------

    def _shadow_of_primary(
        self,
        dialect: Dialect,
        call: Call,
        read: DataRead,
        route: LiveRoute,
        collection: str,
        response: Response,
        seconds: float,
    ) -> None:
        if not isinstance(response.body, bytes):
            return

        async def secondary() -> Result:
            return await ask(route, read, collection, route.primary_side.other)

        route.shadow.offer(
            ShadowRead(read, collection, seconds, lambda: dialect.read_reply(call, plain(response)), secondary)
        )

    def _shadow_of_secondary(
        self,
        dialect: Dialect,
        call: Call,
        read: DataRead,
        route: LiveRoute,
        collection: str,
        result: Result,
        seconds: float,
    ) -> None:
        async def primary() -> Result:
            return await ask(route, read, collection, route.primary_side)

        route.shadow.offer(ShadowRead(read, collection, seconds, lambda: result, primary))


async def ask(route: LiveRoute, read: DataRead, collection: str, side: Side) -> Result:
    """Put a read to a store through the model. Raises what the store raises."""
    store = route.replicator.stores.at(side)
    name = route.replicator.stores.name_at(side, collection)
    match read:
        case Search():
            return await store.search(replace(read, collection=name))
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
