"""Time as an argument. Whoever waits or measures takes a `Clock`; tests pass one that they move by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now(self) -> float:
        """Monotonic seconds; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    now = staticmethod(time.monotonic)  # asked several times a request

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
