"""One connection to a Milvus: the handshake, calls by name, and errors mapped at the door.

A server says in its handshake what it is (version, Milvus Lite or not) and gives an identifier that later calls carry.
Both are asked for again after the connection was refused: another server may stand there then.
"""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass
from typing import Any

import grpc

from proxy.dialects.milvus import requests
from proxy.dialects.milvus.messages import SERVICE, milvus
from proxy.dialects.milvus.status import ResultTooLargeError, raise_for_status
from proxy.errors import CrossfadeError, Refused, Throttled, Unavailable, Unclear
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.wire import Headers, Request, Response

_OPTIONS = (
    # An idle connection that a load balancer has dropped is noticed. Milvus allows a ping every 5 s, but Milvus Lite
    # (gRPC's defaults) one in 300 s, and closes the connection of whoever asks more often.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
_VERSION = re.compile(r"(\d+)\.(\d+)")

# gRPC status codes that a server may answer with, although Milvus says almost everything in band.
_RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
_REFUSALS = frozenset(
    code.value[0]
    for code in (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    )
)


@dataclass(frozen=True, slots=True)
class Server:
    """What answers at the address."""

    version: str
    identifier: int

    @property
    def lite(self) -> bool:
        """Milvus Lite: it wants the writes of a collection one at a time, and reads filters differently."""
        return self.version.startswith("milvus_lite-")

    @property
    def several_vectors(self) -> bool:
        """Whether a collection may have more than one vector."""
        match = _VERSION.search(self.version)
        return self.lite or (match is not None and (int(match[1]), int(match[2])) >= (2, 4))


class MilvusConnection:
    """address: "host:port"; token: an API key or "user:password". Make it inside the running event loop."""

    def __init__(self, address: str, token: str | None, database: str, tls: bool, timeout_seconds: float) -> None:
        headers: list[tuple[str, str]] = []
        if database:
            headers.append(("dbname", database))
        if token:
            headers.append(("authorization", base64.b64encode(token.encode()).decode()))
        self._headers: Headers = tuple(headers)
        self._address = address
        credentials = grpc.ssl_channel_credentials() if tls else None
        self._forwarder = GrpcForwarder(address, tls=credentials, timeout_seconds=timeout_seconds, options=_OPTIONS)
        self._server: Server | None = None
        self._handshake = asyncio.Lock()

    @property
    def known_server(self) -> Server | None:
        """The server, if it has been talked to."""
        return self._server

    async def server(self) -> Server:
        """The server behind the address. Raises Unavailable, Unclear, Refused (a key that it does not accept)."""
        if self._server is None:
            async with self._handshake:
                if self._server is None:
                    self._server = await self._connect()
        return self._server

    async def call(self, method: str, request: Any, reply: Any, *, collection: str = "", writes: bool = False) -> Any:
        """The reply (of the message class `reply`) to one RPC; its status is success. Raises what `raise_for_status`
        and `GrpcForwarder` raise. `writes`: a failure in the middle may have left something behind."""
        server = await self.server()
        try:
            return await self._call(
                method, request, reply, (("identifier", str(server.identifier)),), collection, writes
            )
        except Unavailable:
            self._server = None
            raise

    async def version(self) -> str:
        """What the server answers right now."""
        return str((await self.call("GetVersion", milvus.GetVersionRequest(), milvus.GetVersionResponse)).version)

    async def close(self) -> None:
        await self._forwarder.close()

    async def _connect(self) -> Server:
        connected = await self._call("Connect", requests.connect(), milvus.ConnectResponse)
        answered = await self._call("GetVersion", milvus.GetVersionRequest(), milvus.GetVersionResponse)
        return Server(answered.version, connected.identifier)

    async def _call(
        self, method: str, request: Any, reply: Any, headers: Headers = (), collection: str = "", writes: bool = False
    ) -> Any:
        sent = Request("grpc", "", SERVICE + method, self._headers + headers, request.SerializeToString())
        response = await self._forwarder.forward(sent)
        if response.status != 0:
            raise self._error(method, response, writes)
        message = reply.FromString(response.body)
        raise_for_status(message if hasattr(message, "error_code") else message.status, collection, writes=writes)
        return message

    def _error(self, method: str, response: Response, writes: bool) -> CrossfadeError:
        """What a status in gRPC's own terms means."""
        text = f"{self._address} answered {method} with gRPC status {response.status}: {response.message}"
        if response.status == _RESOURCE_EXHAUSTED:
            return ResultTooLargeError(text) if "larger than max" in response.message else Throttled(text)
        if response.status in _REFUSALS:
            return Refused(text)
        return Unclear(text) if writes else Unavailable(text)
