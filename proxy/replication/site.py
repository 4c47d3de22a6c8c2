"""What everybody who works on one collection of one route shares: its ledger, its two stores, its names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.errors import Throttled, Unavailable, Unclear
from proxy.model import CollectionSpec, Side
from proxy.replication.hints import Hints
from proxy.replication.journal import Journal
from proxy.replication.lanes import Lanes
from proxy.replication.ledger import Ledger
from proxy.stores import Store
from proxy.telemetry.metrics import Metrics

Hook = Callable[[str], Awaitable[None]]


async def no_hook(_: str) -> None:
    """Nothing happens at the named points of the protocol."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says about a route's writes; may be replaced while running."""

    policy: str = "primary"  # primary | both | both-required
    secondary_wait_seconds: float = 0.5
    continue_without_journal: bool = False
    batch_points: int = 256
    hint_bytes: int = 64 * 1024 * 1024
    dirty_cap_keys: int = 200_000
    exclusive_seconds: float = 0.2


@dataclass(slots=True)
class StorePair:
    """The route's stores by side, how long a request to each may live, and which of them is primary.

    `map_name` turns the source's name of a collection into the target's. The labels name the stores in figures.
    """

    source: Store
    target: Store
    source_hold_seconds: float
    target_hold_seconds: float
    map_name: Callable[[str], str] = lambda name: name
    primary_side: Side = Side.SOURCE
    source_label: str = "source"
    target_label: str = "target"

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
    ledger: Ledger
    stores: StorePair
    settings: Settings
    clock: Clock
    metrics: Metrics
    hints: Hints
    lanes: Lanes = field(default_factory=Lanes)
    hook: Hook = no_hook
    spec: CollectionSpec | None = None  # the primary's description; None until somebody asked, and after a definition
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def primary(self) -> Store:
        return self.stores.at(self.stores.primary_side)

    @property
    def secondary(self) -> Store:
        return self.stores.at(self.stores.primary_side.other)

    @property
    def primary_side(self) -> Side:
        return self.stores.primary_side

    @property
    def secondary_side(self) -> Side:
        return self.stores.primary_side.other

    @property
    def primary_name(self) -> str:
        return self.stores.name_at(self.primary_side, self.collection)

    @property
    def secondary_name(self) -> str:
        return self.stores.name_at(self.secondary_side, self.collection)

    async def known_spec(self) -> CollectionSpec | None:
        """The primary's description of the collection, cached; None if there is no such collection."""
        if self.spec is None and (described := await self.primary.describe(self.primary_name)) is not None:
            self.spec = described.spec
        return self.spec

    async def make_secondary(self) -> bool:
        """Create the collection on the secondary if the primary has it and the secondary does not. True if it made one.

        Raises what the stores raise; Untranslatable if the secondary's vendor has no equivalent. One at a time: a job
        and a reconciliation may both find that it is missing.
        """
        async with self._making:
            if await self.secondary.describe(self.secondary_name) is not None:
                return False
            self.spec = None
            spec = await self.known_spec()
            if spec is None:
                return False
            await self.secondary.create(self.secondary_name, spec)
            return True


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
