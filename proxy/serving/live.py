"""A route at work: its configuration (replaced by a reload), its replicator, and whether its secondary can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy.clock import Clock
from proxy.config import Route
from proxy.dialects import Call, Dialect
from proxy.model import Fetch, PointId, Side
from proxy.replication import records as r
from proxy.replication.ledger import NEVER_SWEPT
from proxy.replication.replicator import Replicator
from proxy.replication.site import Settings
from proxy.replication.writer import Primary
from proxy.routing import LagGate
from proxy.serving.drift import Drift
from proxy.serving.primaries import Front, about, native, translated
from proxy.serving.store_limit import StoreLimit
from proxy.serving.upstream import Upstream
from proxy.shadow import ShadowReader
from proxy.stores import Forwarder, Store
from proxy.wire import Transport

_MEASURE_EVERY_SECONDS = 0.05
_FAILURES_TO_TRIP: Final = 3
_TRIPPED_SECONDS = 2.0


@dataclass(slots=True)
class Breaker:
    """Leaves a store alone for a moment after several failures in a row, so that readers do not wait for it."""

    clock: Clock
    failures: int = 0
    open_until: float = 0.0

    @property
    def tripped(self) -> bool:
        return self.failures >= _FAILURES_TO_TRIP and self.clock.now() < self.open_until

    def failed(self) -> None:
        self.failures += 1
        self.open_until = self.clock.now() + _TRIPPED_SECONDS

    def worked(self) -> None:
        self.failures = 0


@dataclass(slots=True)
class _Gate:
    gate: LagGate = field(default_factory=LagGate)
    measured_at: float = -1e9


@dataclass(slots=True)
class LiveRoute:
    """`config` is a value; `apply` swaps it."""

    config: Route
    upstream: Upstream
    shadow: ShadowReader
    replicator: Replicator
    clock: Clock
    breaker: Breaker
    drift: Drift
    target_limit: StoreLimit
    front: Front | None = None  # the target, answering in the source's vendor's words; None if it cannot
    target_forwarders: Mapping[Transport, Forwarder] = field(default_factory=dict)  # of its vendor's own protocols
    _gates: dict[str, _Gate] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def primary_side(self) -> Side:
        return self.replicator.book.primary

    @property
    def secondary(self) -> Store:
        return self.replicator.stores.at(self.primary_side.other)

    @property
    def weight_override(self) -> float | None:
        return self.replicator.book.weight

    @property
    def weight(self) -> float:
        """Percent of reads meant for the target, an operator's override included."""
        return self.config.reads.weight if self.weight_override is None else self.weight_override

    @property
    def readable(self) -> bool:
        """Whether the secondary can be read in every collection that it can have."""
        ledgers = self.replicator.book.ledgers
        possible = [collection for collection, ledger in ledgers.items() if not ledger.parked_whole]
        return bool(possible) and all(self.obstacle(collection) is None for collection in possible)

    def apply(self, config: Route, *, first: bool = True) -> None:
        """Take an edited configuration. An operator's weight is gone with the next edit of the route's reads, which of
        several workers the `first` process says: another may hear of the edit when the next weight has been set."""
        if first and config.reads != self.config.reads and self.weight_override is not None:
            self.replicator.journal.append(r.SetWeight(route=self.name, weight=None))
        self.config = config
        self.replicator.apply_settings(settings_of(config))

    def obstacle(self, collection: str) -> str | None:
        """Why the secondary cannot answer any read of the collection now; None if it can."""
        if not self.replicator.mirroring:
            return "not mirrored"
        if self.replicator.journal.error:
            return "journal"
        ledger = self.replicator.ledger(collection)
        if ledger.parked_whole:
            return "collection parked"
        if ledger.unswept:
            return "not backfilled" if ledger.unswept == NEVER_SWEPT else "needs sweep"
        if ledger.unverified:
            return "needs verify"
        if not self._gate(collection).open:
            return "lag"
        if self.breaker.tripped:
            return "secondary failing"
        return None

    def primaries(self, dialect: Dialect, call: Call, collection: str | None = None) -> Callable[[Side], Primary]:
        """How to carry out `call`, which is about `collection` (resolved), on whichever side is the primary."""

        def primary(side: Side) -> Primary:
            if side is Side.SOURCE:
                return native(self.upstream, dialect, call)
            assert self.front is not None  # a gate of cutover
            return translated(self.front, dialect, about(call, collection) if collection else call, self.clock)

        return primary

    def unclean(self, collection: str, ids: Iterable[PointId]) -> set[PointId]:
        """Which of these keys the secondary may hold otherwise."""
        return {point_id for point_id in ids if not self.replicator.is_clean(collection, point_id)}

    def obstacle_to_find(self, collection: str) -> str | None:
        """Why the secondary's answer to a search, scroll or count could lack something; None if it cannot."""
        parked = self.replicator.ledger(collection).parked
        return "parked points" if parked and self.config.reads.parked_points == "primary" else None

    def obstacle_to_fetch(self, collection: str, fetch: Fetch) -> str | None:
        clean = self.replicator.is_clean
        return None if all(clean(collection, point_id) for point_id in fetch.ids) else "key not clean"

    def _gate(self, collection: str) -> LagGate:
        gate = self._gates.setdefault(collection, _Gate())
        now = self.clock.now()
        if now - gate.measured_at >= _MEASURE_EVERY_SECONDS:
            gate.measured_at = now
            lag = self.replicator.lag(collection)
            gate.gate = gate.gate.after(self.config.reads, lag.keys, lag.oldest_seconds)
        return gate.gate


def settings_of(route: Route) -> Settings:
    """What replication needs of a route's configuration."""
    return Settings(
        policy=route.writes.policy,
        secondary_wait_seconds=route.writes.secondary_wait_ms / 1000,
        continue_without_journal=route.writes.on_journal_loss == "continue",
        batch_points=route.replication.reconcile_batch_points,
        hint_bytes=route.replication.hint_bytes,
        dirty_cap_keys=route.replication.dirty_cap_keys,
        policy_after_cutover=route.cutover.policy,
        flip_seconds=route.cutover.hold_ms / 1000,
    )
