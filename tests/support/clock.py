"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable


class ManualClock:
    """Implements `proxy.clock.Clock`. Sleepers wake when `advance` passes their time."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass; everybody whose time has come runs, in order, as far as it gets without waiting."""
        end = self._now + seconds
        await self._breathe()
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, woken = heapq.heappop(self._sleepers)
            self._now = max(self._now, due)
            if not woken.done():
                woken.set_result(None)
            await self._breathe()
        self._now = end
        await self._breathe()

    def freeze(self, seconds: float) -> None:
        """Time passes, and nobody runs meanwhile, as when the process is stopped."""
        self._now += seconds

    @staticmethod
    async def _breathe() -> None:
        for _ in range(20):
            await asyncio.sleep(0)


async def turns_until(condition: Callable[[], bool], turns: int = 100_000) -> None:
    """Let everybody else run until `condition` holds. Fails after so many turns of the event loop."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("the condition never came true")
