"""One connection to a Milvus: the handshake, calls by name, and errors mapped at the door.

A server says in its handshake what it is (version, Milvus Lite or not) and gives an identifier that later calls carry.
Every new connection begins with it, before any other call: another server may stand there then.

Milvus Lite opens a collection when it is first asked for, and two requests that ask at the same time open it twice:
what the one that is forgotten had acknowledged is lost (`get_collection` of db.py, 3.2.2, looks and stores without a
lock; ShowCollections goes through it too). So the handshake has it open all of them, one after the other, and is not
begun again while that goes on; and nothing goes beside the making of a collection. That is for the calls of this
process; Lite has no way to be safe from others.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import ssl
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from proxy.dialects.milvus import requests
from proxy.dialects.milvus.messages import SERVICE, milvus
from proxy.dialects.milvus.status import ResultTooLargeError, raise_for_status
from proxy.errors import CrossfadeError, Refused, Throttled, Unavailable, Unclear
from proxy.protocols import grpc
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.turns import Turns
from proxy.telemetry.tasks import spawn
from proxy.wire import Headers, Request, Response

# An idle connection that a load balancer has dropped is noticed. Milvus allows a ping every 5 s, but Milvus Lite
# (gRPC's defaults) one in 300 s, and closes the connection of whoever asks more often.
_PING_SECONDS = 330.0
_ALONE = frozenset({"CreateCollection", "DropCollection"})  # beside them Lite opens one twice, or one that is gone
_OPENING_SECONDS = 60.0  # for Lite to open its collections, however little time a call is given
_VERSION = re.compile(r"(\d+)\.(\d+)")

# gRPC status codes that a server may answer with, although Milvus says almost everything in band.
_REFUSALS = frozenset(
    {grpc.INVALID_ARGUMENT, grpc.PERMISSION_DENIED, grpc.UNAUTHENTICATED, grpc.UNIMPLEMENTED},
)


@dataclass(frozen=True, slots=True)
class Server:
    """What answers at the address. `lite`: Milvus Lite, which wants the writes of a collection one at a time, and reads
    filters differently. `headers`: what calls to it carry."""

    version: str
    lite: bool
    headers: Headers

    @classmethod
    def of(cls, version: str, identifier: int) -> Server:
        """As its handshake has it."""
        return cls(version, version.startswith("milvus_lite-"), (("identifier", str(identifier)),))

    @property
    def several_vectors(self) -> bool:
        """Whether a collection may have more than one vector."""
        match = _VERSION.search(self.version)
        return self.lite or (match is not None and (int(match[1]), int(match[2])) >= (2, 4))


class MilvusConnection:
    """address: "host:port"; token: an API key or "user:password". Make it inside the running event loop."""

    def __init__(
        self, address: str, token: str | None, database: str, tls: ssl.SSLContext | None, timeout_seconds: float
    ) -> None:
        headers: list[tuple[str, str]] = []
        if database:
            headers.append(("dbname", database))
        if token:
            headers.append(("authorization", base64.b64encode(token.encode()).decode()))
        self._headers: Headers = tuple(headers)
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._forwarder = GrpcForwarder(address, tls=tls, timeout_seconds=timeout_seconds, ping_seconds=_PING_SECONDS)
        self._server: Server | None = None
        self._greeted: object = None  # the connection on which hands were shaken
        self._handshake: asyncio.Task[CrossfadeError | None] | None = None
        self._turns = Turns()  # on Milvus Lite

    @property
    def known_server(self) -> Server | None:
        """The server, if it has been talked to."""
        return self._server

    async def server(self) -> Server:
        """The server at the other end of the present connection. Raises Unavailable, Refused (a key that it does not
        accept)."""
        return self.present_server or (await self._line())[0]

    @property
    def present_server(self) -> Server | None:
        """The same, if hands have been shaken on that connection."""
        line = self._forwarder.line
        return self._server if line is not None and line is self._greeted else None

    async def _line(self) -> tuple[Server, object]:
        """The server, and the connection on which hands were shaken with it."""
        while (server := self._server) is None or (line := self._forwarder.line) is None or line is not self._greeted:
            handshake = self._handshake
            if handshake is None:
                handshake = self._handshake = spawn(self._shake_hands(), name=f"handshake with {self._address}")
            await asyncio.wait({handshake}, timeout=self._timeout_seconds)
            if not handshake.done():
                raise self._silent()
            if (failure := handshake.result()) is not None:
                raise failure
        return server, line

    async def call(self, method: str, request: Any, reply: Any, *, collection: str = "", writes: bool = False) -> Any:
        """The reply (of the message class `reply`) to one RPC; its status is success. Raises what `raise_for_status`
        and `GrpcForwarder` raise. `writes`: a failure in the middle may have left something behind. `request`: a
        message, or the bytes of one."""
        async with self._turns_of(await self.server(), method):
            server, line = await self._line()
            return await self._call(method, request, reply, server.headers, collection, writes, line=line)

    async def version(self) -> str:
        """What the server answers right now."""
        return str((await self.call("GetVersion", milvus.GetVersionRequest(), milvus.GetVersionResponse)).version)

    async def close(self) -> None:
        await self._forwarder.close()

    def _turns_of(self, server: Server, method: str) -> AbstractAsyncContextManager[None]:
        if not server.lite:
            return nullcontext()
        return self._turns.alone() if method in _ALONE else self._turns.together()

    async def _shake_hands(self) -> CrossfadeError | None:
        """One for all who wait, and so is its failure. None of them has sent anything: Unavailable, never Unclear."""
        self._greeted = None  # the first call makes the connection, on which nobody may send before the last
        try:
            connected = await self._call("Connect", requests.connect(), milvus.ConnectResponse)
            line = self._forwarder.line
            asking = milvus.GetVersionRequest()
            answered = await self._call("GetVersion", asking, milvus.GetVersionResponse, line=line)
            server = Server.of(answered.version, connected.identifier)
            if server.lite:
                with contextlib.suppress(Refused):  # one that cannot be opened is told of when it is asked for
                    opening = milvus.ShowCollectionsRequest()
                    shown = milvus.ShowCollectionsResponse
                    await self._call("ShowCollections", opening, shown, patience_seconds=_OPENING_SECONDS, line=line)
        except Unclear:
            return self._silent()
        except CrossfadeError as error:
            return error
        finally:
            self._handshake = None
        self._server, self._greeted = server, line
        return None

    async def _call(
        self,
        method: str,
        request: Any,
        reply: Any,
        headers: Headers = (),
        collection: str = "",
        writes: bool = False,
        patience_seconds: float = 0.0,
        line: object = None,
    ) -> Any:
        body = request if isinstance(request, bytes) else request.SerializeToString()
        sent = Request("grpc", "", SERVICE + method, self._headers + headers, body)
        response = await self._forwarder.forward(sent, patience_seconds, line)
        if response.status != 0:
            raise self._error(method, response, writes)
        message = reply.FromString(response.body)
        raise_for_status(message if hasattr(message, "error_code") else message.status, collection, writes=writes)
        return message

    def _silent(self) -> Unavailable:
        problem = "takes connections, but does not answer the handshake"
        return Unavailable(f"{self._address} {problem}; check that the store runs and is reachable")

    def _error(self, method: str, response: Response, writes: bool) -> CrossfadeError:
        """What a status in gRPC's own terms means."""
        text = f"{self._address} answered {method} with gRPC status {response.status}: {response.message}"
        if response.status == grpc.RESOURCE_EXHAUSTED:
            return ResultTooLargeError(text) if "larger than max" in response.message else Throttled(text)
        if response.status in _REFUSALS:
            return Refused(text)
        return Unclear(text) if writes else Unavailable(text)
