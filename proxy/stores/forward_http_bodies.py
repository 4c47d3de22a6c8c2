"""How long a store may be silent while a client's body goes up to it, and its answer's body on its way down.

Time counts against the store only while it is the store's turn: it stands still while the client is slow to send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

from proxy.errors import Unclear
from proxy.stores.http_pool import HttpPool
from proxy.stores.http_upstream import BrokenOff, HttpUpstream


class Silence:
    """How long the store may still be silent while a body goes up; `timeout` is only there until its answer begins."""

    def __init__(self, seconds: float) -> None:
        self.timeout: asyncio.Timeout | None = None
        self._seconds = seconds

    def begin(self) -> None:
        """It is the store's turn: count from now."""
        self._reschedule(asyncio.get_running_loop().time() + self._seconds)

    def suspend(self) -> None:
        """It is the client's turn."""
        self._reschedule(None)

    def _reschedule(self, when: float | None) -> None:
        if self.timeout is not None and not self.timeout.expired():
            self.timeout.reschedule(when)


class Download:
    """An answer's body on its way down; one that is closed early costs its connection. Iterating raises Unclear.
    `stated_bytes`: how long it is to be, if its head said."""

    def __init__(
        self, connection: HttpUpstream, pool: HttpPool, origin: str, timeout_seconds: float, stated_bytes: int | None
    ) -> None:
        self.stated_bytes = stated_bytes
        self._connection = connection
        self._pool = pool
        self._origin = origin
        self._timeout_seconds = timeout_seconds
        self._start: deque[bytes] = deque()
        self._done = False

    def put_back(self, parts: Iterable[bytes]) -> None:
        """Give these out (again) before what is still to come."""
        self._start.extend(parts)

    async def read(self) -> bytes:
        """What has arrived, waiting for it if need be; empty at the end. Raises Unclear."""
        if self._start:
            return self._start.popleft()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._read()
        except TimeoutError as error:
            raise Unclear(f"{self._origin} fell silent in the middle of its answer") from error

    async def _read(self) -> bytes:
        if self._done:  # its connection may be another request's by now
            return b""
        try:
            payload = await self._connection.read()
        except BrokenOff as error:
            self.close()
            raise Unclear(f"{self._origin} broke off its answer ({error})") from error
        except BaseException:
            self.close()
            raise
        if not payload:
            self._done = True
            self._pool.give_back(self._connection)
        return payload

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        payload = await self.read()
        if not payload:
            raise StopAsyncIteration
        return payload

    def close(self) -> None:
        """Give the rest up; a body read to its end has already given its connection back."""
        self._start.clear()
        if not self._done:
            self._done = True
            self._connection.close()
            self._pool.give_back(self._connection)
