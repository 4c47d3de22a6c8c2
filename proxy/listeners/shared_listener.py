"""HTTP/1.1 and gRPC on one port: told apart by what TLS has agreed on, else by a connection's first bytes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.listeners.socket_listener import SocketListener
from proxy.listeners.tls import Certificate
from proxy.protocols.http2_frames import PREFACE

_TELLING = PREFACE[:3]  # "PRI" is a method of nothing else (RFC 9113, 11.6)


class SharedListener(SocketListener):
    """`http` and `grpc`, which are not started themselves, have the connections of their transport."""

    def __init__(
        self,
        http: HttpListener,
        grpc: GrpcListener,
        host: str,
        port: int,
        *,
        sock: socket.socket | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(host, port, sock=sock, certificate=certificate)
        self._http = http
        self._grpc = grpc
        self._undecided: set[_Undecided] = set()

    def connection(self) -> asyncio.Protocol:
        return _Undecided(self._undecided, self._http.connection, self._grpc.connection)

    def will_drain(self) -> None:
        self._http.will_drain()

    async def drain(self, drain_seconds: float, linger_seconds: float) -> None:
        for connection in tuple(self._undecided):
            connection.become_http()
        await asyncio.gather(
            self._http.drain(drain_seconds, linger_seconds), self._grpc.drain(drain_seconds, linger_seconds)
        )


class _Undecided(asyncio.Protocol):
    """A connection until it is known what it speaks."""

    def __init__(
        self,
        undecided: set[_Undecided],
        http: Callable[[], asyncio.Protocol],
        grpc: Callable[[], asyncio.Protocol],
    ) -> None:
        self._all = undecided
        self._http = http
        self._grpc = grpc
        self._came = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() == "h2":
            self._become(self._grpc())
        else:
            self._all.add(self)

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not _TELLING.startswith(self._came[: len(_TELLING)]):
            self.become_http()
        elif len(self._came) >= len(_TELLING):
            self._become(self._grpc())

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._all.discard(self)

    def become_http(self) -> None:
        self._become(self._http())

    def _become(self, protocol: asyncio.Protocol) -> None:
        self._all.discard(self)
        transport = self._transport
        if transport is None:
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._came:
            protocol.data_received(self._came)
