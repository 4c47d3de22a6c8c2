"""The connection to one gRPC server on which calls go out, and those that are only waited for.

Rules of the file:

- There is one connection. While it cannot be made, calls fail at once but for one try every now and then.
- **After a time-out the connection is given up**: later calls go out on a new one, and the old one is closed as
  soon as the calls on it have ended (each within its own time-out). Otherwise a request that waits in a dead
  connection's buffer could still land when the network comes back.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass

from proxy.errors import Unavailable
from proxy.stores.grpc_exchange import NotSent
from proxy.stores.grpc_upstream import GrpcUpstream
from proxy.telemetry.tasks import spawn

_CONNECT_SECONDS = 1.0
_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0)  # between tries to connect


@dataclass(slots=True, eq=False)
class Line:
    """A connection and how many calls are on it."""

    connection: GrpcUpstream
    calls: int = 0
    retired: bool = False


class GrpcLines:
    """address: "host:port". tls, ping_seconds: as of GrpcForwarder."""

    def __init__(self, address: str, tls: ssl.SSLContext | None, ping_seconds: float | None) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._host, self._port = host.strip("[]"), int(port)
        self._tls = tls
        self._ping_seconds = ping_seconds
        self._line: Line | None = None
        self._retired: set[GrpcUpstream] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._failure = ""  # why the last try to connect failed
        self._closed = False

    @property
    def current(self) -> Line | None:
        """The one on which the next call goes out; None if it is not there."""
        return self._line if self._line is not None and self._line.connection.is_usable else None

    def sendable(self) -> Line | None:
        """The one on which a call can go out now; None if there is none."""
        line = self._line
        return line if line is not None and line.connection.has_room else None

    async def free(self, seconds: float, line: object = None) -> tuple[Line, float]:
        """One that takes a call now (only `line`, if that is given), and how many of the seconds are left. Raises
        Unavailable, NotSent."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                if line is not None and line is not self.current:
                    raise NotSent("the connection is gone")
                free = await self._connected()
                await free.connection.room()
        except TimeoutError as error:
            raise Unavailable(f"{self._address} took no call within {seconds:.3f} s") from error
        return free, max(0.0, seconds - (asyncio.get_running_loop().time() - began))

    def leave(self, line: Line) -> None:
        """A call on it has ended."""
        line.calls -= 1
        if line.retired and not line.calls:
            self._retired.discard(line.connection)
            line.connection.close()

    def retire(self, line: Line) -> None:
        """No more calls on it."""
        if not line.retired:
            line.retired = True
            if line is self._line:
                self._line = None
            if line.calls:
                self._retired.add(line.connection)
            else:
                line.connection.close()

    async def close(self) -> None:
        """Calls under way break off."""
        self._closed = True
        for connection in (*([self._line.connection] if self._line else []), *self._retired):
            connection.close()
        self._retired.clear()
        if self._connecting is not None:
            await self._connecting
        await asyncio.sleep(0)  # sockets are closed in the next turn

    # --- connecting ----------------------------------------------------------------------------------------

    async def _connected(self) -> Line:
        """The line for the next call. Raises Unavailable."""
        while True:
            if self._line is not None:
                if self._line.connection.is_usable:
                    return self._line
                self.retire(self._line)  # calls under way go on
            if self._connecting is None:
                self._check_backoff()
                self._connecting = spawn(self._connect(), name=f"connection to {self._address}")
            await asyncio.wait({self._connecting})
            if self._connecting is not None and self._connecting.done():
                self._connecting = None
            if self._line is None and self._failure:
                raise self._unavailable()

    def _check_backoff(self) -> None:
        pause = _BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS)) - 1] if self._failures else 0.0
        if self._failure and asyncio.get_running_loop().time() - self._failed_at < pause:
            raise self._unavailable()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        connection: GrpcUpstream | None = None
        try:
            if self._closed:
                raise OSError("the program is stopping")
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: GrpcUpstream(self._ping_seconds), self._host, self._port, ssl=self._tls
                )
                await connection.ready
        except (OSError, TimeoutError, UnicodeError, NotSent) as error:  # UnicodeError: of a name that cannot be one
            if connection is not None:
                connection.close()
            self._failures += 1
            self._failed_at = loop.time()
            self._failure = str(error) or f"no connection within {_CONNECT_SECONDS:g} s"
            return
        self._failures, self._failure = 0, ""
        self._line = Line(connection)

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            f"{self._address} takes no connections ({self._failure}); check that the store runs and is reachable"
        )
