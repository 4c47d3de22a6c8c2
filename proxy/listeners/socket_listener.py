"""What listeners of all transports have in common: a socket, who accepts its connections, in which order it ends."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod

from proxy.listeners.acceptor import Acceptor
from proxy.listeners.tls import Certificate
from proxy.sockets import listening


class SocketListener(ABC):
    """A `Listener`.

    host, port: where to listen; port 0 lets the system choose (see `port`).
    backlog: connections waiting to be accepted. sock: a listening socket to use instead, of a process before this one.
    certificate: connections are encrypted.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        backlog: int = 4096,
        sock: socket.socket | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._backlog = backlog
        self._socket = sock
        self._tls = certificate.context if certificate is not None else None
        self._acceptor: Acceptor | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def socket(self) -> socket.socket | None:
        return self._socket

    async def start(self) -> None:
        if self._socket is None:
            self._socket = listening(self._host, self._port, self._backlog)
        self._port = self._socket.getsockname()[1]
        self._acceptor = Acceptor(self._socket, self.connection, self._tls)
        self._acceptor.start()

    async def stop(self, drain_seconds: float, linger_seconds: float = 0.0) -> None:
        if self._acceptor is None:
            return
        self.will_drain()
        await self._acceptor.stop(leaves_the_rest=linger_seconds > 0)
        await self.drain(drain_seconds, linger_seconds)

    @abstractmethod
    def connection(self) -> asyncio.Protocol:
        """For one that has been accepted."""

    def will_drain(self) -> None:  # noqa: B027  not everybody has to know
        """No connection is to be kept for longer than needed from here on."""

    @abstractmethod
    async def drain(self, drain_seconds: float, linger_seconds: float) -> None:
        """`Listener.stop`, once nothing more is accepted."""
