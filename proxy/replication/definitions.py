"""Definitions (DDL): create, drop, alias changes, payload indexes.

A definition that changes what a collection holds (create, drop) is a collection-wide interval from before the primary
until the secondary has it; one at a time per collection, in the order of the journal. What overlaps it is dirty in the
new generation. If the secondary cannot follow, the collection is marked for a sweep, which makes it anew.

The client waits for the primary only. Indexes and parameters change no point: they are passed on to a secondary that
understands them, and a failure there is logged and counted, not hidden as success of the mirror.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

from proxy.dialects import Outcome
from proxy.errors import CollectionExists, CrossfadeError, Foreign, TryAgain, Unclear, Untranslatable
from proxy.model import (
    CreateCollection,
    CreatePayloadIndex,
    Definition,
    DropCollection,
    DropPayloadIndex,
    Side,
    UpdateCollection,
)
from proxy.replication import records as r
from proxy.replication.site import Site, failure_kind
from proxy.replication.writer import Answer, Moved, Primary, ask, begin_durably
from proxy.stores import Defining
from proxy.telemetry.tasks import spawn
from proxy.wire import Response

_FROM_NOW_ON = 2**63  # a position after every other
_log = logging.getLogger("crossfade.definitions")


@dataclass(frozen=True, slots=True)
class Match:
    """How the secondary followed. `sweep`: why the collection has to be swept, "" if it need not; `equal`: both sides
    hold nothing; `gone`: the secondary has no such collection; `parked`: why it cannot have it."""

    sweep: str = ""
    equal: bool = False
    gone: bool = False
    parked: str = ""


@dataclass(slots=True)
class Definer:
    """For one collection."""

    site: Site
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def define(self, definition: Definition, primary: Primary) -> Response:
        """Carry out `definition` on the primary; the secondary follows in the background."""
        await self._turn.acquire()
        try:
            begin = await self._begin(definition, primary.side)
            answer = await ask(primary)
        except BaseException:
            self._turn.release()
            raise
        self._end_turn_with(self._follow(definition, answer, begin, primary.side))
        return answer.unwrap()

    async def follow_absence(self) -> None:
        """For a sweep: the primary has no such collection, so the secondary's is dropped if it is this route's own.
        Raises Moved, and TryAgain if the journal cannot be written; once begun, it ends though the caller gives up."""
        drop = DropCollection(self.site.collection)
        await self._turn.acquire()
        try:
            side = self.site.primary_side
            begin = await self._begin(drop, side)
            assert begin is not None
        except BaseException:
            self._turn.release()
            raise
        await asyncio.shield(self._end_turn_with(self._settle(drop, Outcome.ACCEPTED, begin, side)))

    def _end_turn_with(self, following: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        follower = spawn(following, name="definition on the secondary")
        follower.add_done_callback(lambda _: self._turn.release())
        return follower

    async def _begin(self, definition: Definition, side: Side) -> int | None:
        site = self.site
        if not isinstance(definition, CreateCollection | DropCollection):
            if site.flips.came_too_late(_FROM_NOW_ON, side):
                raise Moved
            return None
        record = r.BeginScope(
            route=site.route,
            collection=site.collection,
            owner=site.journal.owner,
            primary=side,
            definition=True,
        )
        begin = await begin_durably(site, record)
        if site.ledger.endangered(None, side, rewrites=False):  # since an emergency
            end = r.EndScope(route=site.route, collection=site.collection, begin=begin, outcome=Outcome.UNTOUCHED)
            await site.journal.append(end)
            raise TryAgain("the definition was refused: an older copy may still land; try again in a moment")
        return begin

    async def _follow(self, definition: Definition, answer: Answer, begin: int | None, side: Side) -> None:
        site = self.site
        outcome = answer.judgement.outcome
        site.redefined()
        site.metrics.writes.add(site.route, type(definition).__name__.lower(), outcome.value)
        if begin is not None:
            await self._settle(definition, outcome, begin, side)
        elif outcome is Outcome.ACCEPTED:
            await self.pass_on(definition)

    async def _settle(self, definition: Definition, outcome: Outcome, begin: int, side: Side) -> None:
        """Make the secondary follow, and end the interval."""
        site = self.site
        match = Match("the definition's outcome is unknown")
        try:
            if side is not site.primary_side:
                match = Match("the primary was moved during a definition")
            elif outcome in (Outcome.ACCEPTED, Outcome.FAILED):
                match = await self._match(definition, outcome)
        finally:
            unknown = outcome is Outcome.UNKNOWN
            await site.journal.append(
                r.EndScope(
                    route=site.route,
                    collection=site.collection,
                    begin=begin,
                    outcome=outcome,
                    hold_seconds=site.stores.hold_seconds(side) if unknown else 0.0,
                    sweep="" if outcome is Outcome.UNTOUCHED else match.sweep,
                    equal=match.equal,
                    gone=match.gone,
                )
            )
        if match.parked:
            await site.park(match.parked)

    async def _match(self, definition: Definition, outcome: Outcome) -> Match:
        site = self.site
        try:
            if isinstance(definition, DropCollection):
                return await self._drop()
            if await site.claim():
                if outcome is Outcome.ACCEPTED:  # so the primary's is new, too
                    return Match(equal=True)
                return Match("a create that the primary did not carry out")
        except CollectionExists:
            pass
        except (Foreign, Untranslatable) as error:
            return Match("the secondary cannot have the collection", parked=str(error))
        except CrossfadeError as error:
            words = {"route": site.route, "collection": site.collection, "error": error}
            _log.warning("the secondary did not follow a definition", extra=words)
            if isinstance(error, Unclear):  # it may still land, after whatever comes next
                await site.hold_secondary()
            return Match(f"the secondary did not follow a definition ({failure_kind(error)})")
        return Match("the collection was already on the secondary")

    async def _drop(self) -> Match:
        """What is not this route's own on the secondary stays there."""
        site = self.site
        if await site.primary.describe(site.primary_name) is not None:
            return Match("a drop that the primary did not carry out")
        if site.ledger.claimed:
            await site.secondary.drop(site.secondary_name)
        return Match(equal=True, gone=True)

    async def pass_on(self, definition: Definition) -> None:
        """Indexes and parameters, to a secondary that has such things."""
        site = self.site
        secondary = site.secondary
        if not isinstance(secondary, Defining):
            return
        if isinstance(definition, CreatePayloadIndex | DropPayloadIndex | UpdateCollection):
            mapped = replace(definition, collection=site.secondary_name)
        else:
            return
        try:
            await secondary.define(mapped)
        except CrossfadeError as error:
            site.metrics.store_errors.add(site.stores.label(site.secondary_side), failure_kind(error))
            words = {"route": site.route, "collection": site.collection, "error": error}
            _log.warning("the secondary did not follow an index or parameter change", extra=words)
