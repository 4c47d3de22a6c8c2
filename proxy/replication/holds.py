"""Holds run out: the clock that the ledger does not have.

A hold is a request that may still land on a store. Its time runs only while that store answers a probe: a store that
is stopped or unreachable may carry out what it has received once it comes back. Between two answers only so much counts
as lies between them while this process runs: it may have stood still together with the store. After a restart a hold
starts again in full. Its end is a record like any other.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.errors import CrossfadeError
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.ledger import Hold
from proxy.replication.site import StorePair
from proxy.telemetry.tasks import spawn

_PROBE_LIMIT_SECONDS = 1.0
_TICK_SECONDS = 0.25
_COUNTED_SECONDS = _TICK_SECONDS + _PROBE_LIMIT_SECONDS  # at most, between two answers


@dataclass(slots=True)
class _Running:
    collection: str
    side: Side
    left_seconds: float
    answered_at: float | None = None  # when the store last answered; None: not since this hold began, or not any more


class HoldClock:
    """For one route. `add` every hold that the journal sets, and those it had when it was read."""

    def __init__(self, route: str, journal: Journal, stores: StorePair, clock: Clock) -> None:
        self._route = route
        self._journal = journal
        self._stores = stores
        self._clock = clock
        self._running: dict[tuple[str, int], _Running] = {}
        self._any = asyncio.Event()
        self._task = spawn(self._run(), name=f"holds of {route}")

    def add(self, collection: str, position: int, hold: Hold) -> None:
        self._running[(collection, position)] = _Running(collection, hold.side, hold.seconds)
        self._any.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            if not self._running:
                self._any.clear()
                await self._any.wait()
            for side in {running.side for running in self._running.values()}:
                running = [each for each in self._running.values() if each.side is side]
                self._pass_time(running, await self._answers(side))
            self._release()
            shortest = min((running.left_seconds for running in self._running.values()), default=_TICK_SECONDS)
            await self._clock.sleep(max(0.01, min(_TICK_SECONDS, shortest)))

    async def _answers(self, side: Side) -> bool:
        try:
            async with asyncio.timeout(_PROBE_LIMIT_SECONDS):
                await self._stores.at(side).probe()
        except (CrossfadeError, TimeoutError):
            return False
        return True

    def _pass_time(self, running: list[_Running], answered: bool) -> None:
        now = self._clock.now()
        for each in running:
            if answered and each.answered_at is not None:
                each.left_seconds -= min(now - each.answered_at, _COUNTED_SECONDS)
            each.answered_at = now if answered else None

    def _release(self) -> None:
        for key, running in list(self._running.items()):
            if running.left_seconds <= 0:
                del self._running[key]
                self._journal.append(r.Release(route=self._route, collection=running.collection, hold=key[1]))
