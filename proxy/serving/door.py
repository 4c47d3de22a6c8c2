"""The door between writes and alias changes: a name must not change its meaning between look-up and use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager


class _Shared:
    """A context manager (one of `contextlib`'s takes several times as long, and every write has one)."""

    __slots__ = ("_door",)

    def __init__(self, door: AliasDoor) -> None:
        self._door = door

    async def __aenter__(self) -> None:
        await self._door.enter()

    async def __aexit__(self, *_: object) -> None:
        await self._door.leave()


class AliasDoor:
    """Many pass together, or one alone; whoever wants to be alone goes before those who come later."""

    def __init__(self) -> None:
        self._inside = 0
        self._changed = asyncio.Condition()
        self._alone = 0

    def shared(self) -> AbstractAsyncContextManager[None]:
        return _Shared(self)

    async def enter(self) -> None:
        if self._alone:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._alone)
        self._inside += 1

    async def leave(self) -> None:
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
