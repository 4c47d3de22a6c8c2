"""Writes whose keys only the primary can tell: by filter, or of a kind that this program cannot decode.

The primary gets the original operation, so that it decides what matches. Before it, under a collection-wide interval,
the ids that match now are paged into the journal; after it they, and every key that another interval overlapped, are
dirty. Where no filter tells the reach (an unknown endpoint, too many matches), the collection is swept instead.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxy.dialects import Judgement, Outcome
from proxy.errors import (
    AppliedOnPrimaryOnly,
    CollectionNotFound,
    CrossfadeError,
    InvalidRequest,
    JournalError,
    TryAgain,
    Untranslatable,
)
from proxy.model import IDS_ONLY, Batch, Filter, PointId, Side, Write, write_filters, written_ids
from proxy.replication import records as r
from proxy.replication.confirmations import Confirmations
from proxy.replication.ledger import Effects
from proxy.replication.site import Site
from proxy.replication.writer import Primary, ask, begin_durably, wait_for_secondary
from proxy.wire import Response

_PAGE = 1000


@dataclass(slots=True)
class ScopeWriter:
    """For one collection."""

    site: Site
    confirmations: Confirmations

    async def write(self, write: Write, primary: Primary) -> Response:
        """Carry out a write of unnamed keys. Raises as `Writer.write` does."""
        site = self.site
        begin = await self.begin(primary.side)
        policy = site.policy_at(primary.side)
        judgement = Judgement(Outcome.UNTOUCHED)  # what holds until the request is sent
        sweep = ""
        try:
            sweep = await self._name_keys(write, begin)
            await site.hook("BEGIN durable")
            judgement = Judgement(Outcome.UNKNOWN)
            answer = await ask(primary)
            judgement = answer.judgement
        finally:
            ended = self.end(begin, judgement, sweep, primary.side)
        site.metrics.writes.add(site.route, type(write).__name__.lower(), judgement.outcome.value)
        response = answer.unwrap()
        if judgement.outcome is Outcome.ACCEPTED and policy != "primary":
            effects = await ended
            ready, position = tuple(effects.ready), effects.position
            await wait_for_secondary(site, self.confirmations, ready, position, primary.side, policy)
            if sweep and policy == "both-required":
                raise AppliedOnPrimaryOnly(
                    f"the write is applied on the primary; the secondary gets it by a sweep of the collection ({sweep})"
                )
        return response

    async def begin(self, side: Side) -> int:
        """Open a collection-wide interval, durably; its position. Raises TryAgain and Moved."""
        site = self.site
        record = r.BeginScope(route=site.route, collection=site.collection, owner=site.journal.owner, primary=side)
        position = await begin_durably(site, record)
        rewrites = not site.stores.at(side).capabilities.partial_updates
        if not await site.turn(position, None, side) or site.ledger.endangered(None, side, rewrites):
            self.end(position, Judgement(Outcome.UNTOUCHED), "", side)
            raise TryAgain("the write was refused: an older request may still land on a key; try again in a moment")
        return position

    def end(self, begin: int, judgement: Judgement, sweep: str, side: Side) -> Future[Effects]:
        if sweep:  # it may have been a change of the collection's shape
            self.site.redefined()
        return self.site.journal.append(self._end(begin, judgement, sweep, side))

    def hold(self, side: Side, stale_seconds: float) -> None:
        site = self.site
        seconds = stale_seconds + site.stores.hold_seconds(side)
        here: dict[str, Any] = {"route": site.route, "collection": site.collection, "side": side}
        site.journal.append(r.HoldSide(**here, hold_seconds=seconds, copy=False))

    async def _name_keys(self, write: Write, begin: int) -> str:
        """Journal the keys that `write` can touch now. Returns why the collection must be swept instead, or ""."""
        filters = write_filters(write)
        if filters is None:
            return "a write of unknown reach"
        named = _named(write)
        await self._name(begin, named)
        count = len(named)
        for chosen in filters:
            try:
                count = await self._name_matches(begin, chosen, count)
            except CollectionNotFound:
                return ""  # the primary will say so itself
            except (Untranslatable, InvalidRequest):
                return "a write by a filter that cannot be evaluated"
            except CrossfadeError as error:
                raise TryAgain(f"the write was refused: the primary did not list what matches ({error})") from error
            if count > self.site.settings.dirty_cap_keys:
                return "a write by filter matched too many keys"
        return ""

    async def _name_matches(self, begin: int, chosen: Filter, count: int) -> int:
        site = self.site
        if site.ledger.acknowledged_at:
            await site.primary.settle(site.primary_name)
        start: PointId | None = None
        while True:
            page = await site.primary.scan(site.primary_name, start, _PAGE, chosen, IDS_ONLY)
            await self._name(begin, tuple(point.id for point in page.points))
            count += len(page.points)
            start = page.next
            if start is None or count > site.settings.dirty_cap_keys:
                return count

    async def _name(self, begin: int, ids: tuple[PointId, ...]) -> None:
        if not ids:
            return
        site = self.site
        try:
            await site.journal.append(r.NameKeys(route=site.route, collection=site.collection, begin=begin, ids=ids))
        except JournalError as error:
            raise TryAgain(f"the write was refused because it could not be journalled: {error}") from error

    def _end(self, begin: int, judgement: Judgement, sweep: str, side: Side) -> r.EndScope:
        site = self.site
        unknown = judgement.outcome is Outcome.UNKNOWN
        return r.EndScope(
            route=site.route,
            collection=site.collection,
            begin=begin,
            outcome=judgement.outcome,
            acknowledged=judgement.acknowledged,
            hold_seconds=site.stores.hold_seconds(side) if unknown else 0.0,
            sweep=sweep if judgement.outcome is not Outcome.UNTOUCHED else "",
        )


async def write_to_all(
    scopes: Sequence[ScopeWriter], reason: str, primary: Primary, stale_seconds: float = 0.0
) -> Response:
    """Carry out a request that may have changed any of these collections. Raises as `ScopeWriter.write` does.

    stale_seconds: for so long others may go on sending writes that are journalled for another collection than the one
    that they reach; the sweep waits until they have landed.
    """
    begun: list[tuple[ScopeWriter, int]] = []
    judgement = Judgement(Outcome.UNTOUCHED)  # what holds until the request is sent
    try:
        for scope in scopes:
            begin = await scope.begin(primary.side)
            begun.append((scope, begin))
        judgement = Judgement(Outcome.UNKNOWN)
        answer = await ask(primary)
        judgement = answer.judgement
    finally:
        for scope, begin in begun:
            scope.end(begin, judgement, reason, primary.side)
            if stale_seconds and judgement.outcome is not Outcome.UNTOUCHED:
                scope.hold(primary.side, stale_seconds)
    return answer.unwrap()


def _named(write: Write) -> tuple[PointId, ...]:
    """Keys that the request names itself, beside those it chooses by filter."""
    parts = write.writes if isinstance(write, Batch) else (write,)
    return tuple(point_id for part in parts for point_id in written_ids(part) or ())
