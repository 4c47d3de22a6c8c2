"""Sweeps without being asked: a collection that was in step once, and of which single keys are no longer known.

A collection that was never backfilled is left to the operator, who knows whether the target may be written to; so is
one that the secondary cannot have, and one that may be behind after an emergency.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from proxy.clock import Clock
from proxy.errors import CrossfadeError
from proxy.migration.jobs import DONE, Jobs
from proxy.replication.ledger import NEVER_SWEPT
from proxy.replication.membership import Membership
from proxy.serving.live import LiveRoute

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 30.0  # after a sweep that failed
_log = logging.getLogger("crossfade.sweep")


class Sweeper:
    """Looks at every route once a second; one sweep at a time, of the process that leads."""

    def __init__(self, jobs: Jobs, membership: Membership, routes: Mapping[str, LiveRoute], clock: Clock) -> None:
        self._jobs = jobs
        self._membership = membership
        self._routes = routes
        self._clock = clock
        self._failed_at: dict[str, float] = {}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            for name, route in self._routes.items() if self._membership.leads else ():
                if (collections := self._needing(route)) and self._may_start(name):
                    await self._sweep(name, collections)

    @staticmethod
    def _needing(route: LiveRoute) -> list[str]:
        if not route.replicator.mirroring:
            return []
        ledgers = route.replicator.book.ledgers
        return [
            name
            for name, ledger in ledgers.items()
            if ledger.unswept
            and ledger.unswept != NEVER_SWEPT
            and not (ledger.parked_whole or ledger.behind)
            and not ledger.behind_all
        ]

    def _may_start(self, route: str) -> bool:
        if any(state.route == route and not state.ended for state in self._jobs.all()):
            return False
        failed_at = self._failed_at.get(route)
        return failed_at is None or self._clock.now() - failed_at >= _AGAIN_SECONDS

    async def _sweep(self, route: str, collections: list[str]) -> None:
        _log.warning("collections have to be swept", extra={"route": route, "count": len(collections)})
        try:
            state = await self._jobs.start("sweep", route, {"collections": collections, "restart": True})
            done = (await self._jobs.wait(state.id)).status == DONE
        except CrossfadeError as error:
            _log.warning("a sweep could not be started", extra={"route": route, "error": error})
            done = False
        if done:
            self._failed_at.pop(route, None)
        else:
            self._failed_at[route] = self._clock.now()
