"""Turns at a collection of Milvus Lite: its reads go together, each write goes alone.

Lite loses writes that overlap others. And while a write moves its buffer into a segment, a read beside it can miss what
had been acknowledged before, or see the version before that: it looks at the segments without the new one, and then
at the buffer that was just emptied (engine/collection.py of milvus-lite 3.2.2: `_trigger_flush` swaps the buffer before
it takes the lock that `_read_snapshot` takes). A full Milvus needs none of this.

In order of arrival, so that neither reads nor writes starve.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Of one collection, in one event loop."""

    def __init__(self) -> None:
        self._reading = 0
        self._writing = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()  # (alone, its turn)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """With other reads, without a write."""
        await self._enter(alone=False)
        try:
            yield
        finally:
            self._reading -= 1
            self._admit()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        await self._enter(alone=True)
        try:
            yield
        finally:
            self._writing = False
            self._admit()

    async def _enter(self, *, alone: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((alone, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the turn and the cancellation came at once: give it on
                self._reading, self._writing = self._reading - (not alone), self._writing and not alone
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            alone, turn = self._waiting[0]
            if not turn.cancelled():
                if self._writing or (alone and self._reading):
                    return
                self._reading, self._writing = self._reading + (not alone), alone
                turn.set_result(None)
            self._waiting.popleft()
