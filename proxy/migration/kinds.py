"""The kinds of jobs: what the names backfill, sweep and verify mean for a route as it is configured now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxy.config import Route
from proxy.errors import GateClosed
from proxy.migration.backfill import Backfill, BackfillSettings
from proxy.migration.jobs import Maker, Progress, Work
from proxy.migration.phases import BACKFILL, SHADOW, VERIFY
from proxy.migration.throttle import Throttle
from proxy.migration.verify import Verify
from proxy.replication.records import COMPLETE
from proxy.serving.live import LiveRoute

CollectionsOf = Callable[[LiveRoute], Awaitable[list[str]]]


class Kinds:
    """`collections_of` gives the source's collections that a route takes."""

    def __init__(self, routes: Mapping[str, LiveRoute], collections_of: CollectionsOf) -> None:
        self._routes = routes
        self._collections_of = collections_of

    def makers(self) -> dict[str, Maker]:
        makers: dict[str, Maker] = {"backfill": self.backfill, "sweep": self.sweep, "verify": self.verify}
        return {kind: self._before_the_end(maker) for kind, maker in makers.items()}

    def _before_the_end(self, maker: Maker) -> Maker:
        """After `complete` the old primary is nobody's business any more: it is neither read nor written."""

        def checked(route: str, options: Mapping[str, Any]) -> Work:
            book = self._routes[route].replicator.book
            if book.phase == COMPLETE:
                raise GateClosed(f"the migration of {route!r} is complete: the {book.primary.other.value} is let go")
            return maker(route, options)

        return checked

    def backfill(self, route: str, options: Mapping[str, Any]) -> Work:
        """Options: `adopt` (points that are on the target already may be replaced or removed)."""
        live = self._routes[route]
        if (found := live.drift.bypassed) and not live.replicator.mirroring:
            raise GateClosed(
                f"backfill of {route!r} is refused: bypass: {found} (point every application at the proxy, or begin "
                f"with crossfade mirror {route} --force REASON)"
            )

        async def collections() -> list[str]:
            """Those that are gone, too, where it is not known whether the secondary's are: a sweep finds out."""
            names, replicator = list(await self._collections_of(live)), live.replicator
            ledgers = replicator.book.ledgers.items() if replicator.mirroring else ()
            return [*names, *(name for name, ledger in ledgers if ledger.unswept and name not in names)]

        copy = Backfill(live.replicator, collections, _settings(live.config, options))

        async def work(progress: Progress) -> Mapping[str, Any]:
            result = await copy(progress)
            await live.replicator.give_aliases()
            return result

        return work

    def sweep(self, route: str, options: Mapping[str, Any]) -> Work:
        """Options: `collections` (default: all of the route)."""
        live = self._routes[route]

        async def collections() -> list[str]:
            return list(options.get("collections") or await self._collections_of(live))

        return Backfill(live.replicator, collections, _settings(live.config, options))

    def verify(self, route: str, options: Mapping[str, Any]) -> Work:
        """Options: `repair` (mark what differs, and look once more)."""
        live = self._routes[route]
        backfill = live.config.backfill

        async def collections() -> list[str]:
            """Those that are gone, too, if they are still to be verified: else nothing ever finds them equal."""
            names, ledgers = list(await self._collections_of(live)), live.replicator.book.ledgers
            return [*names, *(name for name, ledger in ledgers.items() if ledger.unverified and name not in names)]

        compare = Verify(
            live.replicator,
            collections,
            backfill.page_points,
            Throttle(backfill.requests_per_second),
            bool(options.get("repair")),
        )

        async def work(progress: Progress) -> Mapping[str, Any]:
            replicator = live.replicator
            if replicator.book.phase == BACKFILL:
                await replicator.set_phase(VERIFY)
            result = await compare(progress)
            if not (result["different"] or result["unchecked"]) and replicator.book.phase == VERIFY:
                await replicator.set_phase(SHADOW)
            return result

        return work


def _settings(route: Route, options: Mapping[str, Any]) -> BackfillSettings:
    return BackfillSettings(
        page_points=route.backfill.page_points,
        requests_per_second=route.backfill.requests_per_second,
        target_page_seconds=route.backfill.target_latency_ms / 1000,
        adopt=bool(options.get("adopt")),
    )
