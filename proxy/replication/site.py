"""What everybody who works on one collection of one route shares: its ledger, its two stores, its names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.errors import CollectionExists, Foreign, Throttled, Unavailable, Unclear, Unfinished
from proxy.model import CollectionSpec, Metric, PointId, Side
from proxy.offload import Offload
from proxy.replication import records as r
from proxy.replication.book import RouteBook
from proxy.replication.flip import Flips
from proxy.replication.hints import Hints
from proxy.replication.hooks import Hook, no_hook
from proxy.replication.journal import Journal
from proxy.replication.lanes import Lanes
from proxy.replication.ledger import Ledger
from proxy.stores import Store
from proxy.telemetry.metrics import Metrics

_TURN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says about a route's writes; may be replaced while running."""

    policy: str = "primary"  # primary | both | both-required
    policy_after_cutover: str = "both-required"
    secondary_wait_seconds: float = 0.5
    continue_without_journal: bool = False
    batch_points: int = 256
    hint_bytes: int = 64 * 1024 * 1024
    dirty_cap_keys: int = 200_000
    flip_seconds: float = 2.0
    exclusive_seconds: float = 0.2


@dataclass(slots=True)
class StorePair:
    """The route's stores by side, and how long a request to each may live. Which is primary stands in the book.

    `map_name` turns the source's name of a collection into the target's. The labels name the stores in figures; the
    addresses tell which databases they are.
    """

    source: Store
    target: Store
    source_hold_seconds: float
    target_hold_seconds: float
    map_name: Callable[[str], str] = lambda name: name
    source_label: str = "source"
    target_label: str = "target"
    source_address: str = ""
    target_address: str = ""

    def label(self, side: Side) -> str:
        return self.source_label if side is Side.SOURCE else self.target_label

    def at(self, side: Side) -> Store:
        return self.source if side is Side.SOURCE else self.target

    def hold_seconds(self, side: Side) -> float:
        return self.source_hold_seconds if side is Side.SOURCE else self.target_hold_seconds

    def name_at(self, side: Side, collection: str) -> str:
        """The store's own name of a collection, given the source's."""
        return collection if side is Side.SOURCE else self.map_name(collection)


@dataclass(slots=True)
class Site:
    """One collection. `collection` is the source's resolved name, under which the journal knows it."""

    route: str
    collection: str
    journal: Journal
    book: RouteBook
    stores: StorePair
    settings: Settings
    clock: Clock
    metrics: Metrics
    hints: Hints
    flips: Flips
    lanes: Lanes = field(default_factory=Lanes)
    hook: Hook = no_hook
    offload: Offload | None = None
    spec: CollectionSpec | None = None  # the primary's description; None until somebody asked, and after a definition
    _definitions: int = 0
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def ledger(self) -> Ledger:
        return self.book.ledger(self.collection)

    @property
    def primary(self) -> Store:
        return self.stores.at(self.primary_side)

    @property
    def secondary(self) -> Store:
        return self.stores.at(self.secondary_side)

    @property
    def primary_side(self) -> Side:
        return self.book.primary

    @property
    def secondary_side(self) -> Side:
        return self.book.primary.other

    @property
    def policy(self) -> str:
        return self.policy_at(self.primary_side)

    def at_leisure(self, policy: str) -> bool:
        """Whether nobody waits for what is copied, or for the end of what has been carried out, under that policy."""
        return policy == "primary" and self.book.flip is None

    def policy_at(self, primary: Side) -> str:
        """What a write was promised that was begun for that primary, whichever it is by now."""
        return self.settings.policy if primary is Side.SOURCE else self.settings.policy_after_cutover

    @property
    def primary_name(self) -> str:
        return self.stores.name_at(self.primary_side, self.collection)

    @property
    def secondary_name(self) -> str:
        return self.stores.name_at(self.secondary_side, self.collection)

    async def turn(self, position: int, ids: tuple[PointId, ...] | None, side: Side) -> bool:
        """Where the primary's adapter rewrites whole points: wait until the writes of other processes that began before
        have ended, since either would undo the other's part. False if they do not end in time."""
        if self.stores.at(side).capabilities.partial_updates:
            return True
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                while self.ledger.before(position, ids, self.journal.owner):
                    await self.flips.news()
        except TimeoutError:
            return False
        return True

    async def known_spec(self) -> CollectionSpec | None:
        """The primary's description of the collection, cached; None if there is no such collection."""
        while self.spec is None:
            definitions = self._definitions
            described = await self.primary.describe(self.primary_name)
            if described is None:
                return None
            if definitions == self._definitions:  # else it may be from before a definition
                self.spec = described.spec
        return self.spec

    def redefined(self) -> None:
        """A definition has reached the primary: what was known of the collection is no longer true."""
        self.spec = None
        self._definitions += 1

    async def claim(self, adopt: bool = False) -> bool:
        """Make the secondary's collection this route's own before anything is written to it: made if it is not there,
        taken if it is empty, or with `adopt`. True if it holds nothing.

        Raises Foreign if it holds points of which this route knows nothing, Untranslatable if the secondary's vendor
        cannot have it, and what the stores raise.
        """
        async with self._claiming:
            empty = await self.make_secondary() or await self._reshape_secondary()
            if self.ledger.claimed:
                return empty
            if not empty:
                described = await self.secondary.describe(self.secondary_name)
                points = described.points if described is not None else 0
                if points and not adopt:
                    raise Foreign(self._foreign(points))
                empty = described is not None and not points
            if await self.known_spec() is not None:
                await self.journal.append(r.Claim(route=self.route, collection=self.collection))
            return empty

    async def _reshape_secondary(self) -> bool:
        """A collection that is there in another shape is made anew, if it is this route's own or holds nothing. True if
        it was; it then has to be swept."""
        spec, described = await self.known_spec(), await self.secondary.describe(self.secondary_name)
        if spec is None or described is None or shape(spec) == shape(described.spec):
            return False
        if described.points and not self.ledger.claimed:
            return False
        reason = "the collection had another shape on the secondary"
        await self.journal.append(r.Unswept(route=self.route, collection=self.collection, reason=reason))
        await self.secondary.drop(self.secondary_name)
        return await self.make_secondary()

    async def refuse_foreign_points(self) -> None:
        """Raises Foreign if the secondary's collection is not this route's own and holds points."""
        if not self.ledger.claimed:
            described = await self.secondary.describe(self.secondary_name)
            if described is not None and described.points:
                raise Foreign(self._foreign(described.points))

    def _foreign(self, points: int) -> str:
        return (
            f"collection {self.secondary_name!r} on the {self.secondary_side.value} already holds {points} points. "
            f"Empty it, or run `crossfade backfill {self.route} --adopt`: then points that the "
            f"{self.primary_side.value} lacks are removed from it"
        )

    async def hold_secondary(self) -> None:
        """A request of ours that touches all of the collection may still land there."""
        side = self.secondary_side
        await self.journal.append(
            r.HoldSide(
                route=self.route, collection=self.collection, side=side, hold_seconds=self.stores.hold_seconds(side)
            )
        )

    async def park(self, reason: str) -> None:
        """The secondary cannot have the collection: it stays with the primary, and reconciliation leaves it alone."""
        if self.ledger.parked_whole != reason:
            await self.journal.append(r.ParkCollection(route=self.route, collection=self.collection, reason=reason))

    async def make_secondary(self) -> bool:
        """Create the collection on the secondary if the primary has it and the secondary does not, or finish one whose
        making broke off. True if it made one.

        Raises what the stores raise; Untranslatable if the secondary's vendor has no equivalent. One at a time: a job
        and a reconciliation may both find that it is missing.
        """
        async with self._making:
            unfinished = False
            try:
                if await self.secondary.describe(self.secondary_name) is not None:
                    return False
            except Unfinished:
                unfinished = True
            self.redefined()
            spec = await self.known_spec()
            if spec is None:
                return False
            try:
                await self.secondary.create(self.secondary_name, spec)
            except CollectionExists:
                if not unfinished:
                    raise
            return not unfinished


def shape(spec: CollectionSpec) -> dict[str, tuple[str, int, Metric]]:
    """What two collections must have in common to hold the same points."""
    return {name: (vector.kind, vector.size, vector.metric) for name, vector in spec.vectors.items()}


def failure_kind(error: Exception) -> str:
    """A short stable word for a store's failure, for logs and metrics."""
    match error:
        case Unavailable():
            return "unavailable"
        case Unclear() | TimeoutError():
            return "unclear"
        case Throttled():
            return "throttled"
        case _:
            return "refused"
