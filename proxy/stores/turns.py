"""Turns at a collection: some go together, some alone.

In order of arrival, so that neither those who share nor those who want to be alone starve.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Of one collection, in one event loop."""

    def __init__(self) -> None:
        self._together = 0
        self._alone = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()  # (alone, its turn)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """With others that go together, beside nobody who is alone."""
        await self._enter(alone=False)
        try:
            yield
        finally:
            self._together -= 1
            self._admit()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        await self._enter(alone=True)
        try:
            yield
        finally:
            self._alone = False
            self._admit()

    async def _enter(self, *, alone: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((alone, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the turn and the cancellation came at once: give it on
                self._together, self._alone = self._together - (not alone), self._alone and not alone
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            alone, turn = self._waiting[0]
            if not turn.cancelled():
                if self._alone or (alone and self._together):
                    return
                self._together, self._alone = self._together + (not alone), alone
                turn.set_result(None)
            self._waiting.popleft()
