"""The door between writes and alias changes: a name must not change its meaning between look-up and use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class AliasDoor:
    """Many pass together, or one alone; whoever wants to be alone goes before those who come later."""

    def __init__(self) -> None:
        self._inside = 0
        self._changed = asyncio.Condition()
        self._alone = 0

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        if self._alone:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._alone)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if self._alone and not self._inside:
                async with self._changed:
                    self._changed.notify_all()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self._alone += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._inside)
                yield
        finally:
            self._alone -= 1
            async with self._changed:
                self._changed.notify_all()
