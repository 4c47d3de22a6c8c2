"""Connections out of a listening socket, none of which is dropped when no more are wanted.

asyncio's server drops what it accepted just before it is closed, and the system what nobody had accepted: a client that
is connected by then has sent its request, and cannot know that nobody saw it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from proxy.listeners.tls_protocol import GOODBYE_SECONDS, TlsProtocol
from proxy.telemetry.tasks import spawn

_AT_ONCE = 64  # before others have their turn
_AT_THE_END = 65_536  # longer than any queue
_PAUSE_SECONDS = 1.0  # where the process has no descriptor left
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
_log = logging.getLogger("crossfade.listeners")


class Acceptor:
    """Gives each connection to a protocol that `make` makes; has `sock` from here on, and closes it.

    tls: what the next one is encrypted with.
    """

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[], asyncio.BaseProtocol],
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._socket = sock
        self._make = make
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop.add_reader(self._socket, self._accept)

    async def stop(self, leaves_the_rest: bool = False) -> None:
        """Accept what has come, and no more; returns once it is with its protocol. `leaves_the_rest`: another process
        listens on the same socket, and accepts what has come."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            if self._pause is not None:
                self._pause.cancel()
            if not leaves_the_rest:
                with contextlib.suppress(OSError):
                    self._accept_up_to(_AT_THE_END)
            self._socket.close()
        if self._arriving:  # where it is encrypted, some may not have said a word
            _, silent = await asyncio.wait(self._arriving, timeout=GOODBYE_SECONDS)
            for task in silent:
                task.cancel()
            if silent:
                await asyncio.wait(silent)

    def _accept(self) -> None:
        try:
            self._accept_up_to(_AT_ONCE)
        except OSError as error:
            _log.warning("no connection can be accepted for a while", extra={"error": error})
            self._loop.remove_reader(self._socket)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self.start)

    def _accept_up_to(self, most: int) -> None:
        """Raises OSError if there is one that cannot be accepted."""
        for _ in range(most):
            try:
                connection, _ = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:  # it has gone again
                continue
            task = spawn(self._arrive(connection), name="connection")
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _arrive(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(connection)
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._make, connection)
            else:
                await self._encrypted(TlsProtocol(self._make, self._tls()), connection)
        except (OSError, asyncio.CancelledError) as error:
            connection.close()
            _log.info("a connection was gone before it was served", extra={"error": error})

    async def _encrypted(self, protocol: TlsProtocol, connection: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: protocol, connection)
        try:
            await protocol.ready
        except asyncio.CancelledError:
            protocol.abort()
            raise


def _keep_alive(connection: socket.socket) -> None:
    """A client that vanishes without a word must not keep its connection for ever."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if (number := getattr(socket, option, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, number, value)
