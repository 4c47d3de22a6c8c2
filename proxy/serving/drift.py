"""Drift: whether somebody writes past the proxy. Watched for as long as a route lives.

Every few seconds, for each collection:

- *bypass*: the number of points on the primary has changed, or the collection is gone from it, although nothing that
  changes it passed the proxy in between. Nobody is judged while something that passed may still be changing it;
- *drift*: both stores are at rest as far as the journal knows, and differ: in their numbers of points, or in one page,
  the next in turn, so that in the end every point has been looked at. A collection that is gone from the secondary, or
  has another shape than the primary's, is swept at once.

The cost is an exact count on each store and one small page. What was found of a collection stands until a verify finds
both equal, or it is made anew or dropped through the proxy while it is mirrored.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.errors import CollectionNotFound, CrossfadeError, Untranslatable
from proxy.model import EVERYTHING, PointId, Side
from proxy.replication import records as r
from proxy.replication.comparison import difference
from proxy.replication.ledger import Effects
from proxy.replication.replicator import Replicator
from proxy.replication.site import Site, shape

_EVERY_SECONDS = 5.0
_PAGE_POINTS = 64
_LOOKS = 2
_WRITES = (r.BeginWrite, r.BeginScope)
_CHANGES = (*_WRITES, r.BeginPage, r.HoldSide)  # what is open or held is asked for beside: it has no count of its own
_log = logging.getLogger("crossfade.drift")


@dataclass(slots=True)
class _Seen:
    """What was seen of one collection. `changes`: how often something began that changes the primary."""

    changes: int = 0
    points: int | None = None  # on the primary, when `changes` was `at`
    at: int = -1
    settled_at: int = 0  # position of the last write, only acknowledged, for which the primary was waited for
    cursor: PointId | None = None
    suspicions: int = 0


@dataclass(slots=True)
class Drift:
    """Of one route."""

    replicator: Replicator
    clock: Clock
    collections: Callable[[], Awaitable[Sequence[str]]]  # of the source, that the route takes
    _found: dict[str, str] = field(default_factory=dict)  # by collection
    _bypassed: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replicator.journal.subscribe(self._applied)

    @property
    def found(self) -> str:
        """Which collections differ, and how; "" if none does."""
        return "; ".join(self._found.values())

    @property
    def bypassed(self) -> str:
        """Which collections somebody changed past the proxy, and how that was seen; "" if nobody was."""
        return "; ".join(self._bypassed.values())

    async def watch(self) -> None:
        """Look, one collection after the other, for as long as the process lives."""
        while True:
            await self.clock.sleep(_EVERY_SECONDS)
            await self.look_at_all()

    async def look_at_all(self) -> None:
        """Look at each collection once. A store that does not answer is told elsewhere."""
        try:
            watched = await self._watched()
        except (CrossfadeError, TimeoutError):
            return
        for collection in watched:
            try:
                await self.look(collection)
            except (CrossfadeError, TimeoutError):
                continue

    async def _watched(self) -> Sequence[str]:
        replicator = self.replicator
        if replicator.book.phase == r.COMPLETE:
            return ()
        if not replicator.mirroring:
            return await self.collections()
        return [name for name, ledger in replicator.book.ledgers.items() if not ledger.parked_whole]

    async def look(self, collection: str) -> None:
        """Look at one collection once. Raises what the stores raise."""
        seen = self._seen.setdefault(collection, _Seen())
        changes, side = self._changes(seen), self.replicator.book.primary
        if self._may_be_changing(collection, side):
            return
        points = await self._count(collection, seen, side)
        if self._changes(seen) != changes or self._may_be_changing(collection, side):
            return
        if seen.at == changes and seen.points not in (None, points) and await self._is_all_read(collection, seen):
            has = "is gone from it" if points is None else f"has {points}"
            self._tell_bypass(collection, f"{collection} had {seen.points} points on the {side.value} and {has}")
        seen.points, seen.at = points, changes
        ledger = self.replicator.ledger(collection)
        if points is None or not self.replicator.mirroring or not ledger.at_rest or ledger.parked:
            return
        site = self.replicator.workshop(collection).site
        if what := await self._is_another(site):
            if self._is_quiet(site, seen, changes):  # else the proxy may have done it
                await self._have_swept(site, what)
            return
        problem = await self._compare(site, seen, points)
        seen.suspicions = seen.suspicions + 1 if problem and self._is_quiet(site, seen, changes) else 0
        if seen.suspicions >= _LOOKS:
            self._tell_drift(collection, f"{collection}: {problem}")

    async def _count(self, collection: str, seen: _Seen, side: Side) -> int | None:
        """Points on the primary, with all that it has acknowledged; None if it has no such collection."""
        store, name = self.replicator.stores.at(side), self.replicator.stores.name_at(side, collection)
        acknowledged = self.replicator.ledger(collection).acknowledged_at
        try:
            if acknowledged > seen.settled_at:
                await store.settle(name)
                seen.settled_at = acknowledged
            return await store.count(name)
        except CollectionNotFound:
            return None

    def _may_be_changing(self, collection: str, side: Side) -> bool:
        """Whether something that passed the proxy may be changing the collection on `side` right now."""
        replicator = self.replicator
        if replicator.journal.error:
            return True  # the policy may be to go on without it
        if not replicator.mirroring:  # what other processes send now is in no journal
            return bool(replicator.membership.others) or replicator.unjournalled.may_be_changing(self.clock.now())
        ledger = replicator.ledger(collection)
        return any(hold.side is side for hold in ledger.holds.values()) or any(
            (interval.record.primary if isinstance(interval.record, _WRITES) else interval.record.secondary) is side
            for interval in ledger.intervals.values()
        )

    async def _is_all_read(self, collection: str, seen: _Seen) -> bool:
        """Whether no other process has begun anything meanwhile either: a record that is applied comes after theirs."""
        changes = self._changes(seen)
        if self.replicator.membership.others:
            await self.replicator.journal.append(r.Mark(route=self.replicator.route, collection=collection, ids=()))
        return self._changes(seen) == changes

    def _is_quiet(self, site: Site, seen: _Seen, changes: int) -> bool:
        return self._changes(seen) == changes and site.ledger.at_rest

    @staticmethod
    async def _is_another(site: Site) -> str:
        """What somebody has done to the secondary's collection, so that it is not the one that was made for the route;
        "" if nothing."""
        spec, described = await site.known_spec(), await site.secondary.describe(site.secondary_name)
        if spec is None:
            return ""
        if described is None:
            return "dropped the collection"
        return "made the collection anew" if shape(spec) != shape(described.spec) else ""

    async def _have_swept(self, site: Site, what: str) -> None:
        """Reads leave the collection, and the sweep makes it as the primary has it."""
        reason = f"somebody has {what} on the {site.secondary_side.value}"
        words = {"route": self.replicator.route, "collection": site.collection, "problem": reason}
        _log.warning("a collection of the secondary was changed past the proxy: it is swept", extra=words)
        self._tell_drift(site.collection, f"{site.collection}: {reason}")
        record = r.Unswept(route=self.replicator.route, collection=site.collection, reason=reason)
        await self.replicator.journal.append(record)

    async def _compare(self, site: Site, seen: _Seen, points: int) -> str:
        """What differs, "" if nothing does. The page is looked at again if something did."""
        there = await site.secondary.count(site.secondary_name)
        if there != points:
            return f"{points} points on the {site.primary_side.value}, {there} on the {site.secondary_side.value}"
        spec = await site.known_spec()
        page = await site.primary.scan(site.primary_name, seen.cursor, _PAGE_POINTS, None, EVERYTHING)
        ids = [point.id for point in page.points]
        try:
            found = await site.secondary.fetch(site.secondary_name, ids) if ids else {}
        except Untranslatable:
            return ""
        by_direction = any(store.capabilities.normalizes_cosine for store in (site.primary, site.secondary))
        if spec is not None:
            for point in page.points:
                if what := difference(point, found.get(point.id), spec, by_direction):
                    return f"a point is not the same on both sides ({what})"
        seen.cursor = page.next
        return ""

    def _changes(self, seen: _Seen) -> int:
        """Grows whenever something begins that changes the primary, journalled or not."""
        return seen.changes + self.replicator.unjournalled.changes

    def _tell_drift(self, collection: str, what: str) -> None:
        if collection not in self._found:
            self._found[collection] = what
            _log.warning("the stores differ although nothing is outstanding", extra=self._words(what))

    def _tell_bypass(self, collection: str, what: str) -> None:
        if collection not in self._bypassed:
            self._bypassed[collection] = what = f"{what}, without a write through the proxy"
            _log.warning("somebody writes past the proxy", extra=self._words(what))

    def _words(self, problem: str) -> dict[str, object]:
        return {"route": self.replicator.route, "problem": problem}

    def _applied(self, _: int, record: r.AnyRecord, __: Effects) -> None:
        if isinstance(record, r.Leave | r.Join | r.SetPhase | r.Commit):
            self._seen.clear()
        elif record.route != self.replicator.route:
            return
        elif isinstance(record, r.Verified) or (isinstance(record, r.EndScope) and record.equal):
            self._found.pop(record.collection, None)
            self._bypassed.pop(record.collection, None)
        elif isinstance(record, _CHANGES) or (isinstance(record, r.BeginReconcile) and record.recovery):
            self._seen.setdefault(record.collection, _Seen()).changes += 1
