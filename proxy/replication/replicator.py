"""One route's replication: the journal's records in, work for the writers and reconcilers of its collections out.

This is the only place that knows all the parts. It acts on a record only after the journal has applied it, in the
order of positions.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from proxy.clock import Clock
from proxy.dialects import Outcome
from proxy.errors import JournalError
from proxy.model import Definition, PointId, Side, Write, written_ids
from proxy.offload import Offload
from proxy.replication import records as r
from proxy.replication.alias_follower import AliasFollower
from proxy.replication.aliases import give_aliases
from proxy.replication.confirmations import Confirmations
from proxy.replication.definitions import Definer
from proxy.replication.flip import Flips
from proxy.replication.hints import Hints
from proxy.replication.holds import HoldClock
from proxy.replication.hooks import Hook, no_hook
from proxy.replication.journal import Journal
from proxy.replication.ledger import Effects, Ledger
from proxy.replication.membership import Membership
from proxy.replication.reconciler import Reconciler
from proxy.replication.records import COMPLETE, DIRECT, DUAL_WRITE
from proxy.replication.scopes import ScopeWriter, write_to_all
from proxy.replication.site import Settings, Site, StorePair
from proxy.replication.writer import Moved, Primary, Writer, ask
from proxy.stores import Defining
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Response

Primaries = Callable[[Side], Primary]  # how to carry out a request on whichever store is the primary
_SAMPLE_SECONDS = 0.05
_SAMPLES = 50_000
_log = logging.getLogger("crossfade.replication")


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the secondary is behind. `oldest_seconds`: how long the oldest key has not been clean."""

    open: int = 0
    dirty: int = 0
    held: int = 0
    parked: int = 0
    oldest_seconds: float = 0.0

    @property
    def keys(self) -> int:
        return self.open + self.dirty + self.held

    def __add__(self, other: Lag) -> Lag:
        return Lag(
            self.open + other.open,
            self.dirty + other.dirty,
            self.held + other.held,
            self.parked + other.parked,
            max(self.oldest_seconds, other.oldest_seconds),
        )


@dataclass(slots=True)
class Unjournalled:
    """Requests of this process that change the primary and are in no journal. `changes`: how many began or ended."""

    changes: int = 0
    _open: set[asyncio.Future[None]] = field(default_factory=set)
    _may_land_until: float = 0.0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self.changes += 1
        ended = asyncio.get_running_loop().create_future()
        self._open.add(ended)
        try:
            yield
        finally:
            self._open.discard(ended)
            ended.set_result(None)

    async def those_under_way(self) -> None:
        """Return once the requests that are under way now have ended, whatever comes later."""
        if self._open:
            await asyncio.wait(set(self._open))

    def may_land(self, until: float) -> None:
        """One has ended that the primary may still carry out."""
        self._may_land_until = max(self._may_land_until, until)

    def may_be_changing(self, now: float) -> bool:
        return bool(self._open) or now < self._may_land_until


class Workshop:
    """Everything that works on one collection."""

    def __init__(self, site: Site, membership: Membership) -> None:
        self.site = site
        self.membership = membership
        self.confirmations = Confirmations()
        self.writer = Writer(site, self.confirmations)
        self.scopes = ScopeWriter(site, self.confirmations)
        self.definer = Definer(site)
        self.reconciler = Reconciler(site)
        self.users = 0  # requests that are at work here

    def applied(self, position: int, record: r.AnyRecord, effects: Effects) -> None:
        if isinstance(record, r.EndWrite):
            self.writer.applied(position, record, effects.certain)
        if effects.generation:
            self.site.hints.clear()
        if (
            effects.generation or _may_reshape(record)
        ) and effects.owner != self.site.journal.owner:  # it knows its own
            self.site.redefined()
        if effects.confirmed:
            self.confirmations.confirmed(effects.confirmed)
        self.wake(effects)

    def forget(self) -> None:
        """What was known of the primary's collection is void."""
        self.site.redefined()
        self.site.hints.clear()

    def wake(self, effects: Effects) -> None:
        """Of several processes, the one whose record left a key dirty copies it."""
        if not self.membership.takes(effects.owner):
            if effects.ready_all:
                self.reconciler.look_again()
        elif effects.ready_all:
            self.reconciler.wake_all()
        else:
            self.reconciler.wake(effects.ready)


def _is_of_a_start(record: r.AnyRecord) -> bool:
    """Whether the route begins or ends to mirror, or the hold with which it began is over."""
    if isinstance(record, r.SetPhase):
        return record.phase == DIRECT or record.hold_seconds > 0
    return isinstance(record, r.Release) and not record.collection


def _may_reshape(record: r.AnyRecord) -> bool:
    """Whether the primary's collection may have another shape than before, by whichever process."""
    return isinstance(record, r.Release) or (isinstance(record, r.EndScope) and bool(record.sweep))


class Replicator:
    """Made once a route; `close` lets running batches end."""

    def __init__(
        self,
        route: str,
        journal: Journal,
        stores: StorePair,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        membership: Membership,
        hook: Hook = no_hook,
        offload: Offload | None = None,
    ) -> None:
        self.route = route
        self.journal = journal
        self.membership = membership
        self.stores = stores
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.book = journal.book.route(route)
        self._hook = hook
        self._offload = offload
        self._workshops: dict[str, Workshop] = {}
        self._holds = HoldClock(route, journal, stores, clock)
        self._positions = [journal.position]  # when records were applied: a sample of positions, and its times
        self._moments = [clock.now()]
        self._collapsing: set[str] = set()
        self.unjournalled = Unjournalled()
        self._aliases = AliasFollower(route, self._give_aliases, lambda: self.defining, clock)
        self.flips = Flips(route, journal, self.book, self._aliases, clock, hook, settings.flip_seconds)
        journal.subscribe(self._applied)
        membership.on_lead(self._take_over)
        membership.on_gone(self._distrust)
        self._recover()

    # --- the life of the route -------------------------------------------------------------

    async def bind(self) -> None:
        """Before the first request: say which databases the stores are, where that is news. Raises JournalError."""
        addresses = (self.stores.source_address, self.stores.target_address)
        if self.book.bound != addresses:
            if self.book.bound is not None:
                problem = f"its stores were {' -> '.join(self.book.bound)} and are {' -> '.join(addresses)}"
                words = {"route": self.route, "problem": problem}
                _log.warning("the collections of a route have to be swept", extra=words)
            await self.journal.append(r.Bind(route=self.route, source=addresses[0], target=addresses[1]))

    @property
    def mirroring(self) -> bool:
        """Whether writes are journalled and reach the secondary."""
        return self.book.phase not in (DIRECT, COMPLETE)

    async def start_mirroring(self) -> None:
        """Leave phase `direct`. Writes that were sent before may still be landing: their keys are held."""
        if self.book.phase == DIRECT:
            hold = self.stores.hold_seconds(self.book.primary)
            await self.journal.append(r.SetPhase(route=self.route, phase=DUAL_WRITE, hold_seconds=hold))

    async def set_phase(self, phase: str) -> None:
        if self.book.phase != phase:
            await self.journal.append(r.SetPhase(route=self.route, phase=phase))

    async def give_aliases(self) -> None:
        """Have the secondary give the route's collections that it has the aliases that the primary gives them, if it
        has such things. The primary does not move meanwhile. Raises what the stores raise."""
        with self._aliases.changing():
            await self._give_aliases()

    async def _give_aliases(self) -> None:
        primary = self.book.primary
        secondary = self.stores.at(primary.other)
        if self.mirroring and isinstance(secondary, Defining):
            ledgers = self.book.ledgers.items()
            there = [name for name, ledger in ledgers if ledger.claimed and not ledger.parked_whole]
            await give_aliases(self.stores, primary, there, secondary, lambda: self._may_give_those_of(primary))

    def _may_give_those_of(self, primary: Side) -> bool:
        return primary is self.book.primary and not self._aliases.paused

    @property
    def aliases_settled(self) -> bool:
        """Whether the secondary has the primary's aliases, as far as this process knows."""
        return self._aliases.settled

    def apply_settings(self, settings: Settings) -> None:
        """Take new settings while running."""
        self.settings = settings
        self.flips.bound_seconds = settings.flip_seconds
        for workshop in self._workshops.values():
            workshop.site.settings = settings
            workshop.site.hints.limit_bytes = settings.hint_bytes

    async def close(self) -> None:
        await self.flips.close()
        await self._aliases.close()
        await self._holds.close()
        await asyncio.gather(*(workshop.reconciler.close() for workshop in self._workshops.values()))

    # --- what the request path asks --------------------------------------------------------

    async def write(self, collection: str, write: Write, primaries: Primaries) -> Response:
        """Carry out a client's write on the collection of that (resolved) name, and have the secondary follow."""
        ids = written_ids(write)
        if ids is not None and not self.mirroring and self._rewrites_points:
            with self._at_work(collection) as workshop:
                async with workshop.site.lanes.hold(ids):
                    if not self.mirroring:
                        return await self._without_mirroring(primaries(self.book.primary))

        async def carry_out(primary: Primary) -> Response:
            with self._at_work(collection) as workshop:
                if ids is None:
                    return await workshop.scopes.write(write, primary)
                return await workshop.writer.write(write, ids, primary)

        return await self._on_the_primary(carry_out, primaries)

    async def write_anywhere(self, reason: str, primaries: Primaries) -> Response:
        """Carry out a request that may have changed any collection of the route, for `reason`: all are swept."""

        async def carry_out(primary: Primary) -> Response:
            with ExitStack() as stack:
                workshops = [stack.enter_context(self._at_work(name)) for name in tuple(self.book.ledgers)]
                return await write_to_all([workshop.scopes for workshop in workshops], reason, primary)

        return await self._on_the_primary(carry_out, primaries)

    async def change_aliases(self, collections: Sequence[str], primaries: Primaries, stale_seconds: float) -> Response:
        """Carry out an alias change that concerns these collections. Its caller keeps this process's writes out; those
        of other processes may be journalled under the old name for `stale_seconds` more: nothing is known of them, and
        the sweep waits until they have landed."""
        reason = "an alias changed beside other processes" if self.membership.others else ""

        async def carry_out(primary: Primary) -> Response:
            with self._aliases.changing(), ExitStack() as stack:
                known = [name for name in collections if self.knows(name)]
                workshops = [stack.enter_context(self._at_work(name)) for name in known]
                scopes = [workshop.scopes for workshop in workshops]
                return await write_to_all(scopes, reason, primary, stale_seconds if reason else 0.0)

        return await self._on_the_primary(carry_out, primaries)

    @property
    def defining(self) -> bool:
        """Whether the secondary still follows a definition."""
        return any(ledger.is_defining for ledger in self.book.ledgers.values())

    async def define(self, collection: str, definition: Definition, primaries: Primaries) -> Response:
        """Carry out a definition on the primary, and have the secondary follow."""

        async def carry_out(primary: Primary) -> Response:
            with self._at_work(collection) as workshop:
                return await workshop.definer.define(definition, primary)

        return await self._on_the_primary(carry_out, primaries)

    async def _on_the_primary(
        self, carry_out: Callable[[Primary], Awaitable[Response]], primaries: Primaries
    ) -> Response:
        """Wait while the primary is being moved, and begin anew if it was moved in between."""
        while True:
            await self.flips.passage()
            primary = primaries(self.book.primary)
            if not self.mirroring:
                return await self._without_mirroring(primary)
            try:
                return await carry_out(primary)
            except Moved:
                continue

    @property
    def _rewrites_points(self) -> bool:
        """Whether a partial update is put together from what was read: then writes of a point must come one by one."""
        return not self.stores.at(self.book.primary).capabilities.partial_updates

    async def _without_mirroring(self, primary: Primary) -> Response:
        with self.unjournalled.under_way():
            answer = await ask(primary)
            if answer.judgement.acknowledged or answer.judgement.outcome is Outcome.UNKNOWN:
                self.unjournalled.may_land(self.clock.now() + self.stores.hold_seconds(primary.side))
        return answer.unwrap()

    def aliases_changed(self) -> None:
        """The primary took an alias change: a secondary that has aliases follows, in the background."""
        if self.mirroring:
            self._aliases.changed()

    def is_clean(self, collection: str, point_id: PointId) -> bool:
        ledger = self.book.ledgers.get(collection)
        return ledger is not None and ledger.is_clean(point_id)

    def ledger(self, collection: str) -> Ledger:
        """What is known of a collection; blank, and not kept, if nothing is."""
        return self.book.ledgers.get(collection) or Ledger()

    def knows(self, collection: str) -> bool:
        return collection in self.book.ledgers

    def lag(self, collection: str | None = None) -> Lag:
        """Of one collection, or of the whole route."""
        names = self.book.ledgers if collection is None else (collection,)
        return sum((self._lag(self.ledger(name)) for name in names), Lag())

    def _lag(self, ledger: Ledger) -> Lag:
        if ledger.parked_whole:  # nothing of it is on its way to the secondary
            return Lag()
        oldest = ledger.oldest
        age = 0.0 if oldest is None else self.clock.now() - self._time_of(oldest)
        return Lag(ledger.open_count, len(ledger.marks), ledger.held_count, len(ledger.parked), age)

    def _time_of(self, position: int) -> float:
        """When the record at `position` was applied, by the nearest remembered time before it."""
        return self._moments[max(0, bisect_right(self._positions, position) - 1)]

    def _remember_time(self, position: int) -> None:
        now = self.clock.now()
        if now - self._moments[-1] >= _SAMPLE_SECONDS:
            self._positions.append(position)
            self._moments.append(now)
            if len(self._positions) > _SAMPLES:  # what is older than half of them counts as old as that
                del self._positions[: _SAMPLES // 2], self._moments[: _SAMPLES // 2]

    def hint_bytes(self) -> int:
        return sum(workshop.site.hints.size_bytes for workshop in self._workshops.values())

    # --- the parts -------------------------------------------------------------------------

    def workshop(self, collection: str) -> Workshop:
        """Everything that works on one collection; made when first asked for."""
        workshop = self._workshops.get(collection)
        if workshop is None:
            site = Site(
                route=self.route,
                collection=collection,
                journal=self.journal,
                book=self.book,
                stores=self.stores,
                settings=self.settings,
                clock=self.clock,
                metrics=self.metrics,
                hints=Hints(self.settings.hint_bytes),
                flips=self.flips,
                hook=self._hook,
                offload=self._offload,
            )
            workshop = self._workshops[collection] = Workshop(site, self.membership)
            if self.membership.leads:
                workshop.reconciler.wake_all()
        return workshop

    @contextmanager
    def _at_work(self, collection: str) -> Iterator[Workshop]:
        """The workshop, which stays what it is (its lanes, who waits for confirmations) while somebody works in it."""
        workshop = self.workshop(collection)
        workshop.users += 1
        try:
            yield workshop
        finally:
            workshop.users -= 1
            self._dismiss_if_blank(collection)

    def _dismiss_if_blank(self, collection: str) -> None:
        """A name that turned out to be no collection must not take memory for ever."""
        ledger = self.book.ledgers.get(collection)
        workshop = self._workshops.get(collection)
        if workshop is None or workshop.users or not (ledger is None or ledger.blank):
            return
        self.book.ledgers.pop(collection, None)
        del self._workshops[collection]
        spawn(workshop.reconciler.close(), name="a collection that is none")

    def _recover(self) -> None:
        """Start the holds again, in full. What earlier processes left open is closed by whoever leads."""
        for collection, ledger in list(self.book.ledgers.items()):
            for position, hold in ledger.holds.items():
                if position not in self.book.starts:
                    self._holds.add(collection, position, hold)
            if self.mirroring:
                self.workshop(collection)
        for position, start in self.book.starts.items():
            self._holds.add("", position, start.hold)

    def _distrust(self) -> None:
        """A process ended without a word. Where it was allowed to write without the journal, it may have."""
        if self.settings.continue_without_journal and self.mirroring:
            side = self.book.primary
            seconds = self.stores.hold_seconds(side)
            for collection in self.book.ledgers:
                here: dict[str, Any] = {"route": self.route, "collection": collection}
                self.journal.append(r.HoldSide(**here, side=side, hold_seconds=seconds, copy=False))
                reason = "a process that could write without the journal is gone"
                self.journal.append(r.Unswept(**here, reason=reason))

    def _take_over(self) -> None:
        """What others left dirty is this process's now; and they may have changed aliases."""
        for workshop in self._workshops.values():
            workshop.reconciler.wake_all()
        self.aliases_changed()

    def _applied(self, position: int, record: r.AnyRecord, effects: Effects) -> None:
        if record.collection:
            if record.route == self.route:
                self.flips.tell()
                self._heed(position, record, effects)
                self._act(position, record, effects)
            return
        if record.route not in ("", self.route):
            return
        if isinstance(record, r.Commit) and effects.generation:
            for workshop in self._workshops.values():
                workshop.forget()
        self.flips.applied(record)
        if isinstance(record, r.SetPhase | r.Ready | r.Leave):
            self._holds.look_at_starts()
        if _is_of_a_start(record):  # unjournalled, it may have been made anew
            for workshop in self._workshops.values():
                workshop.forget()
        if not record.route:
            return
        if isinstance(record, r.SetPhase) and position in self.book.starts:  # this process journals from here on
            spawn(self._say_that_it_journals(position), name="ready to mirror")
        self._heed(position, record, effects)
        if effects.ready_all:
            for workshop in self._workshops.values():
                workshop.wake(effects)

    def _heed(self, position: int, record: r.AnyRecord, effects: Effects) -> None:
        self._remember_time(position)
        if effects.held is not None:
            self._holds.add(record.collection, position, effects.held)

    async def _say_that_it_journals(self, start: int) -> None:
        """Once what was begun before is sent, so that the hold, which begins then, is as long as it may live."""
        await self.unjournalled.those_under_way()
        with suppress(JournalError):  # it is stopping
            self.journal.append(r.Ready(route=self.route, epoch=start, owner=self.journal.owner))

    def _act(self, position: int, record: r.AnyRecord, effects: Effects) -> None:
        collection = record.collection
        if isinstance(record, r.Claim) and self.membership.leads:  # it may have aliases from before
            self.aliases_changed()
        if collection in self.book.ledgers:
            self.workshop(collection).applied(position, record, effects)
            self._collapse_if_due(collection)
        elif (workshop := self._workshops.get(collection)) is not None:
            workshop.applied(position, record, effects)
            self._dismiss_if_blank(collection)

    def _collapse_if_due(self, collection: str) -> None:
        if (
            self.book.ledgers[collection].collapsible > self.settings.dirty_cap_keys
            and collection not in self._collapsing
        ):
            self._collapsing.add(collection)
            spawn(self._collapse(collection), name="collapse")

    async def _collapse(self, collection: str) -> None:
        words = {"route": self.route, "collection": collection, "cap": self.settings.dirty_cap_keys}
        _log.warning("too many dirty keys: the collection will be swept instead", extra=words)
        try:
            await self.journal.append(r.Collapse(route=self.route, collection=collection))
        finally:
            self._collapsing.discard(collection)
