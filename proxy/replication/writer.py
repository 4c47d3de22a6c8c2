"""The path of a client's write, for one collection.

1. Take the lanes of all its keys in one step.
2. Append BEGIN; durable before anything is sent.
3. Send the client's own request to the primary; append END with what the answer says of the primary's state.
4. Answer in the primary's own words: at once (policy `primary`), or when the secondary has confirmed it.

The answer never waits for END to be durable: a crash in between leaves the interval open, and the next owner closes
it as unknown (dirty and held). A write whose keys only the primary can tell is in scopes.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.dialects import Judgement, Outcome
from proxy.errors import (
    AppliedOnPrimaryOnly,
    CrossfadeError,
    JournalError,
    TryAgain,
    Unavailable,
)
from proxy.model import PointId, Side, Write
from proxy.replication import records as r
from proxy.replication.confirmations import Confirmations
from proxy.replication.hints import Keeping, is_whole, left_by
from proxy.replication.hooks import no_hook
from proxy.replication.ledger import Effects
from proxy.replication.site import Site
from proxy.wire import Response


@dataclass(frozen=True, slots=True)
class Primary:
    """How to carry out one request on the store of `side`, and to judge the answer."""

    side: Side
    send: Callable[[], Awaitable[Response]]
    judge: Callable[[Response], Judgement]


@dataclass(slots=True)
class Answer:
    """What came of sending: an answer, or the failure to raise after END was written."""

    judgement: Judgement
    response: Response | None = None
    failure: BaseException | None = None

    def unwrap(self) -> Response:
        if self.failure is not None:
            raise self.failure
        assert self.response is not None
        return self.response


async def ask(primary: Primary) -> Answer:
    """Send, and say what is certain about the primary afterwards. Whatever is not an answer is kept as failure."""
    try:
        response = await primary.send()
    except (Unavailable, TryAgain, Outdated) as error:
        return Answer(Judgement(Outcome.UNTOUCHED), failure=error)
    except BaseException as error:  # noqa: BLE001  unknown outcome; raised again by `unwrap` once END is appended
        return Answer(Judgement(Outcome.UNKNOWN), failure=error)
    return Answer(primary.judge(response), response)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """What the primary has taken, and how it keeps points, as far as that was known when the write began."""

    write: Write
    keeping: Keeping | None


@dataclass(slots=True)
class Writer:
    """Writes whose keys are named in the request."""

    site: Site
    confirmations: Confirmations = field(default_factory=Confirmations)
    _accepted: dict[int, _Accepted] = field(default_factory=dict)  # by BEGIN, until END is applied
    _gap: asyncio.Future[Effects] | None = None  # what tells of writes that went on without the journal

    async def write(self, write: Write, ids: tuple[PointId, ...], primary: Primary) -> Response:
        """Carry out `write`. Raises what sending raised, JournalError-as-TryAgain, or AppliedOnPrimaryOnly."""
        site = self.site
        waited_from = site.clock.now()
        async with site.lanes.hold(ids):
            site.metrics.lane_wait_seconds.observe(site.clock.now() - waited_from, site.route)
            keeping = await self._keeping(primary.side)
            policy = site.policy_at(primary.side)
            try:
                begin = await self._begin(ids, primary.side)
            except TryAgain:
                if not (site.journal.error and site.settings.continue_without_journal):
                    raise
                return await self.without_journal(primary)
            answer = await ask(primary)
            await site.hook("primary answered")
            if answer.judgement.outcome is Outcome.ACCEPTED:
                self._accepted[begin] = _Accepted(write, keeping)
            end = self._end(begin, answer.judgement, primary.side, is_whole(write))
            ended = site.journal.append(end, at_leisure=site.at_leisure(policy))
        site.metrics.writes.add(site.route, type(write).__name__.lower(), answer.judgement.outcome.value)
        if site.hook is not no_hook:
            await ended
            await site.hook("END durable")
        response = answer.unwrap()
        if answer.judgement.outcome is Outcome.ACCEPTED and policy != "primary":
            await wait_for_secondary(site, self.confirmations, ids, (await ended).position, primary.side, policy)
        return response

    def applied(self, position: int, record: r.EndWrite, certain: tuple[PointId, ...]) -> None:
        """END has reached the ledger: keep the hints of the keys it calls certain, and nothing of the others."""
        accepted = self._accepted.pop(record.begin, None)
        if accepted is not None and certain:
            left = left_by(accepted.write)
            if len(certain) < len(left):
                left = {point_id: left[point_id] for point_id in certain if point_id in left}
            whole = accepted.write if len(left) <= self.site.settings.batch_points else None
            kept, dropped = self.site.hints.put(position, left, accepted.keeping, whole)
            self.site.metrics.hints.add(self.site.route, "kept", amount=kept)
            self.site.metrics.hints.add(self.site.route, "dropped", amount=dropped)

    async def without_journal(self, primary: Primary) -> Response:
        """The operator chose to go on: the write is sent, and the collection is held, and marked for a sweep. (The
        journal keeps these records until they are durable; reads stay with the primary while the journal fails.)"""
        site = self.site
        if self._gap is None or self._gap.done():
            reason = "writes went on without the journal"
            here: dict[str, Any] = {"route": site.route, "collection": site.collection}
            hold = site.stores.hold_seconds(primary.side)
            site.journal.append(r.HoldSide(**here, side=primary.side, hold_seconds=hold, copy=False))
            self._gap = site.journal.append(r.Unswept(**here, reason=reason))
        policy = site.policy_at(primary.side)
        answer = await ask(primary)
        response = answer.unwrap()
        if answer.judgement.outcome is Outcome.ACCEPTED and policy == "both-required":
            raise AppliedOnPrimaryOnly(
                "the write is applied on the primary; the journal cannot be written, and the secondary will be swept"
            )
        return response

    async def _keeping(self, side: Side) -> Keeping | None:
        try:
            spec = await self.site.known_spec()
        except CrossfadeError:
            return None  # the hint only saves a read
        if spec is None:
            return None
        here, there = (self.site.stores.at(one).capabilities for one in (side, side.other))
        scaled_here = here.normalizes_cosine and not there.normalizes_cosine
        return Keeping(spec, scaled_here, takes_native=here.native and there.native)

    async def _begin(self, ids: tuple[PointId, ...], side: Side) -> int:
        site = self.site
        begin = r.BeginWrite(
            route=site.route,
            collection=site.collection,
            owner=site.journal.owner,
            ids=ids,
            primary=side,
        )
        position = await begin_durably(site, begin)
        rewrites = not site.stores.at(side).capabilities.partial_updates
        if not await site.turn(position, ids, side) or site.ledger.endangered(ids, side, rewrites):
            site.journal.append(self._end(position, Judgement(Outcome.UNTOUCHED), side))
            raise TryAgain("the write was refused: an older request may still land on the key; try again in a moment")
        await site.hook("BEGIN durable")
        return position

    def _end(self, begin: int, judgement: Judgement, side: Side, whole: bool = False) -> r.EndWrite:
        site = self.site
        unknown = judgement.outcome is Outcome.UNKNOWN
        return r.EndWrite(
            route=site.route,
            collection=site.collection,
            begin=begin,
            outcome=judgement.outcome,
            acknowledged=judgement.acknowledged,
            hold_seconds=site.stores.hold_seconds(side) if unknown else 0.0,
            whole=whole,
        )


class Outdated(CrossfadeError):
    """The request was put together for a store that is the primary no more: nothing was sent, and whoever put it
    together does so anew."""


class Moved(CrossfadeError):
    """The primary is being moved, or has been since the write was begun: nothing was sent, and it begins anew."""


async def begin_durably(site: Site, record: r.BeginWrite | r.BeginScope) -> int:
    """Append a begin and wait until it is durable; its position. Raises TryAgain if the journal cannot be written:
    nothing was sent, so the client may try again. Raises Moved."""
    try:
        position = (await site.journal.append(record)).position
    except JournalError as error:
        site.metrics.journal_errors.add()
        raise TryAgain(f"the write was refused because it could not be journalled: {error}") from error
    if site.flips.came_too_late(position, record.primary):
        kind = r.EndWrite if isinstance(record, r.BeginWrite) else r.EndScope
        site.journal.append(
            kind(route=site.route, collection=site.collection, begin=position, outcome=Outcome.UNTOUCHED)
        )
        raise Moved
    return position


async def wait_for_secondary(
    site: Site, confirmations: Confirmations, ids: tuple[PointId, ...], after: int, side: Side, policy: str
) -> None:
    """`policy`: `both` or `both-required`, as it was when the write was sent. Raises AppliedOnPrimaryOnly for the
    latter when the time is up, when a key is one that the secondary cannot hold, or when `side`, which took the write,
    was left in an emergency before."""
    possible = not site.ledger.parked_whole
    confirmed = possible and await confirmations.wait(ids, after, site.settings.secondary_wait_seconds)
    site.metrics.secondary_waits.add(site.route, "confirmed" if confirmed else "late")
    if policy != "both-required":
        return
    ledger = site.ledger
    if side is not site.primary_side and (ledger.behind_all or any(point_id in ledger.behind for point_id in ids)):
        raise AppliedOnPrimaryOnly(
            f"the write is applied on the {side.value}, which was left in an emergency before the {side.other.value} "
            f"had it; it is listed as behind"
        )
    if not possible:
        raise AppliedOnPrimaryOnly(
            f"the write is applied on the primary; the secondary cannot have the collection: {site.ledger.parked_whole}"
        )
    if not confirmed:
        raise AppliedOnPrimaryOnly(
            f"the write is applied on the primary; the secondary did not confirm it within "
            f"{site.settings.secondary_wait_seconds:g} s and will follow. Reading it back shows it"
        )
    if any(point_id in site.ledger.parked for point_id in ids):
        raise AppliedOnPrimaryOnly("the write is applied on the primary; the secondary cannot hold it and it is parked")
