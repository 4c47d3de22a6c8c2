"""Drift: whether somebody writes past the proxy. Watched for as long as a route lives.

Every few seconds, for each collection:

- *bypass*: the number of points on the primary has changed, although no write passed the proxy in between;
- *drift*: both stores are at rest as far as the journal knows, and differ: in their numbers of points, or in one page,
  the next in turn, so that in the end every point has been looked at. A collection that has another shape than the
  primary's is swept at once.

The cost is an exact count on each store and one small page. What was found stands until a verify finds both equal.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.errors import CrossfadeError, Untranslatable
from proxy.model import EVERYTHING, PointId
from proxy.replication import records as r
from proxy.replication.comparison import difference
from proxy.replication.ledger import Effects
from proxy.replication.replicator import Replicator
from proxy.replication.site import Site, shape

_EVERY_SECONDS = 5.0
_PAGE_POINTS = 64
_LOOKS = 2
_log = logging.getLogger("crossfade.drift")


@dataclass(slots=True)
class _Seen:
    """What was seen of one collection. `changes`: records of it so far."""

    changes: int = 0
    points: int | None = None  # on the primary, when `changes` was `at`
    at: int = -1
    cursor: PointId | None = None
    suspicions: int = 0


@dataclass(slots=True)
class Drift:
    """Of one route. `found`, `bypassed`: what was seen, "" if nothing."""

    replicator: Replicator
    clock: Clock
    collections: Callable[[], Awaitable[Sequence[str]]]  # of the source, that the route takes
    found: str = ""
    bypassed: str = ""
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.replicator.journal.subscribe(self._applied)

    async def watch(self) -> None:
        """Look, one collection after the other, for as long as the process lives."""
        while True:
            await self.clock.sleep(_EVERY_SECONDS)
            try:
                for collection in await self._watched():
                    await self.look(collection)
            except (CrossfadeError, TimeoutError):
                continue  # a store that does not answer is told elsewhere

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
        stores, side = self.replicator.stores, self.replicator.book.primary
        changes = self._changes(seen)
        points = await stores.at(side).count(stores.name_at(side, collection))
        if self._changes(seen) != changes:
            return
        if seen.at == changes and seen.points not in (None, points):
            self._tell_bypass(f"{collection} had {seen.points} points on the {side.value} and has {points}")
        seen.points, seen.at = points, changes
        ledger = self.replicator.ledger(collection)
        if not self.replicator.mirroring or not ledger.at_rest or ledger.parked:
            return
        site = self.replicator.workshop(collection).site
        if await self._is_another(site):
            await self._have_swept(site)
            return
        problem = await self._compare(site, seen, points)
        quiet = self._changes(seen) == changes and site.ledger.at_rest
        seen.suspicions = seen.suspicions + 1 if problem and quiet else 0
        if seen.suspicions >= _LOOKS and not self.found:
            self.found = f"{collection}: {problem}"
            _log.warning("the stores differ although nothing is outstanding", extra=self._words(self.found))

    @staticmethod
    async def _is_another(site: Site) -> bool:
        """Whether the secondary's collection is not the one that was made for the route: it has another shape."""
        spec, described = await site.known_spec(), await site.secondary.describe(site.secondary_name)
        return spec is not None and described is not None and shape(spec) != shape(described.spec)

    async def _have_swept(self, site: Site) -> None:
        """Reads leave the collection, and the sweep makes it as the primary has it."""
        reason = "somebody has made the collection anew on the secondary"
        words = {"route": self.replicator.route, "collection": site.collection}
        _log.warning("somebody has made a collection anew on the secondary: it is swept", extra=words)
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
        """Grows with every write that passes, journalled or not."""
        return seen.changes + self.replicator.unjournalled

    def _tell_bypass(self, what: str) -> None:
        if not self.bypassed:
            self.bypassed = f"{what}, without a write through the proxy"
            _log.warning("somebody writes past the proxy", extra=self._words(self.bypassed))

    def _words(self, problem: str) -> dict[str, object]:
        return {"route": self.replicator.route, "problem": problem}

    def _applied(self, _: int, record: r.AnyRecord, __: Effects) -> None:
        if record.route == self.replicator.route and isinstance(record, r.BeginWrite | r.BeginScope | r.BeginPage):
            self._seen.setdefault(record.collection, _Seen()).changes += 1
        elif isinstance(record, r.Leave | r.Join | r.SetPhase | r.Commit):
            self._seen.clear()
        elif isinstance(record, r.Verified) and record.route == self.replicator.route:
            self.found = self.bypassed = ""
