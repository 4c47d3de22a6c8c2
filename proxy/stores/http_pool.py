"""Connections to one HTTP/1.1 server, of which those between two exchanges are kept.

Rule of the file: an idle one is dropped before the server would drop it (`keepalive_seconds`), so that a request rarely
meets a connection that is being closed; the one used last is taken first.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from proxy.errors import CrossfadeError
from proxy.stores.http_upstream import HttpUpstream


class NoConnection(CrossfadeError):
    """There is none: nothing was sent."""


class _Places:
    """A semaphore of which a place can be taken without waiting: `free` is there to be counted down."""

    __slots__ = ("_waiting", "free")

    def __init__(self, free: int) -> None:
        self.free = free
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, at_most_seconds: float) -> None:
        """Raises TimeoutError."""
        if self.free:
            self.free -= 1
            return
        given = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            async with asyncio.timeout(at_most_seconds):
                await given
        except BaseException:
            if given.done() and not given.cancelled():  # both at once
                self.give_back()
            raise

    def give_back(self) -> None:
        """To who waits longest, if anybody does."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(None)
                return
        self.free += 1


class HttpPool:
    """Connections to one address. `connect_seconds`: the longest wait for one, to be made or to become free."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        connect_seconds: float,
        keepalive_seconds: float,
        max_connections: int,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._keepalive_seconds = keepalive_seconds
        self._idle: list[HttpUpstream] = []  # the one used last comes last
        self._busy: set[HttpUpstream] = set()
        self._places = _Places(max_connections)
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    def take_idle(self) -> HttpUpstream | None:
        """One that is usable, to be given back; None if none is idle."""
        connection = self._usable() if self._places.free else None
        if connection is not None:
            self._places.free -= 1
            self._busy.add(connection)
        return connection

    async def take(self) -> HttpUpstream:
        """One that is usable, to be given back. Raises NoConnection."""
        try:
            await self._places.take(self._connect_seconds)
        except TimeoutError as error:
            raise NoConnection("all connections are in use") from error
        try:
            connection = self._usable() or await self._connect()
        except BaseException:
            self._places.give_back()
            raise
        self._busy.add(connection)
        return connection

    def give_back(self, connection: HttpUpstream) -> None:
        """Keep it for the next request if it can serve one, else close it. Giving it back twice does nothing."""
        if connection not in self._busy:
            return
        self._busy.discard(connection)
        self._places.give_back()
        if self._closed or not connection.is_usable or connection.is_sending:
            connection.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._keepalive_seconds, self._drop_idle)

    async def close(self) -> None:
        """Exchanges under way break off."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # their sockets are closed in the next turn

    def _usable(self) -> HttpUpstream | None:
        oldest = self._loop.time() - self._keepalive_seconds
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> HttpUpstream:
        if self._closed:
            raise NoConnection("the program is stopping")
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await self._loop.create_connection(HttpUpstream, self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError, UnicodeError) as error:  # UnicodeError: of a name that cannot be one
            raise NoConnection(str(error) or f"no connection within {self._connect_seconds:g} s") from error
        if self._closed or not connection.is_usable:  # lost, before whoever waited for it had its turn
            why = "the program is stopping" if self._closed else connection.lost
            connection.close()
            raise NoConnection(why or "the server closed the connection at once")
        return connection

    def _drop_idle(self) -> None:
        oldest = self._loop.time() - self._keepalive_seconds
        while self._idle and (self._idle[0].idle_since <= oldest or not self._idle[0].is_usable):
            self._idle.pop(0).close()
        self._sweep = None
        if self._idle:
            seconds = self._idle[0].idle_since - oldest
            self._sweep = self._loop.call_later(max(seconds, 0.01), self._drop_idle)
