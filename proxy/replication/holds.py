"""Holds run out: the clock that the ledger does not have.

A hold is a request that may still land on a store. Its time runs only while that store answers a probe: a store that
is stopped or unreachable may carry out what it has received once it comes back. Between two answers only so much counts
as lies between them while this process runs: it may have stood still together with the store. After a restart a hold
starts again in full. Its end is a record like any other.

The hold with which mirroring begins covers writes that are in no journal. It starts again in full with every process
that says that it sends no more of them, or is gone, and does not end before all have.
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
        self._starts = journal.book.route(route).starts
        self._stores = stores
        self._clock = clock
        self._unaware = {position: len(start.unaware) for position, start in self._starts.items()}
        self._running: dict[tuple[str, int], _Running] = {}
        self._any = asyncio.Event()
        self._task = spawn(self._run(), name=f"holds of {route}")

    def add(self, collection: str, position: int, hold: Hold) -> None:
        self._running[(collection, position)] = _Running(collection, hold.side, hold.seconds)
        self._any.set()

    def look_at_starts(self) -> None:
        """Where one more process is aware that mirroring has begun, or is gone, what it sent may still be landing."""
        for position, start in self._starts.items():
            if position in self._unaware and self._unaware[position] != len(start.unaware):
                self.add("", position, start.hold)
            self._unaware[position] = len(start.unaware)
        for position in self._unaware.keys() - self._starts.keys():
            del self._unaware[position]

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
            left = [each.left_seconds for each in self._running.values() if each.left_seconds > 0]
            await self._clock.sleep(max(0.01, min(_TICK_SECONDS, *left)) if left else _TICK_SECONDS)

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

    def _has_unaware(self, position: int) -> bool:
        start = self._starts.get(position)
        return start is not None and bool(start.unaware)

    def _release(self) -> None:
        for key, running in list(self._running.items()):
            if running.left_seconds <= 0 and not self._has_unaware(key[1]):
                del self._running[key]
                self._journal.append(r.Release(route=self._route, collection=running.collection, hold=key[1]))
