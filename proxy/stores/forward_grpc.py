"""Passes gRPC calls on to a server of the client's own vendor: bytes in, bytes out, any method.

Kept as they are: the method's path, the client's metadata (its key too), the message, and of the answer
initial metadata, message, status, details and trailing metadata. The transport's own metadata (`user-agent`,
`te`, `grpc-...`) is made anew for this hop.

Rules of the file:

- **A call is sent once**, also if the server has certainly done nothing of it: whether to try again is the pipeline's
  decision.
- What came of a call that is there as a whole, forward_grpc_passage.py says.
- A call whose request is a stream (`Frames`) is passed on as it comes, both ways, for as long as its client grants.
- Which connection a call goes out on, grpc_line.py says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Final

from proxy.errors import CrossfadeError, InvalidRequest
from proxy.frames import Frames
from proxy.protocols import grpc
from proxy.protocols.field_block import Field
from proxy.protocols.grpc import fields_of, metadata_in, timeout_block, timeout_field
from proxy.protocols.hpack import encode
from proxy.stores import Passage
from proxy.stores.awaited import Awaited
from proxy.stores.forward_grpc_passage import GrpcPassage, Server, Watch, of_the_client
from proxy.stores.grpc_exchange import BrokenOff, NotSent
from proxy.stores.grpc_line import GrpcLines
from proxy.stores.grpc_upstream import Call, GrpcUpstream
from proxy.telemetry.tasks import spawn
from proxy.wire import Headers, Request, Response

# Heads, and the most of one: an application says much the same each time.
_REMEMBERED: Final = 256
_REMEMBERED_BYTES: Final = 2048


class GrpcForwarder:
    """A `Forwarder` to one gRPC server. Make it inside the running event loop.

    address: "host:port". tls: None for plain text.
    timeout_seconds: longest wait for an answer; a client that grants less time gets less.
    ping_seconds: after so much silence the server is asked whether it is there; None: never.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_seconds: float = 60.0,
        ping_seconds: float | None = None,
    ) -> None:
        self.lines = GrpcLines(address, tls, ping_seconds)
        self._server = Server(address, self.lines, timeout_seconds)
        self._own: tuple[Field, ...] = (
            (b":method", b"POST"),
            (b":scheme", b"https" if tls else b"http"),
            (b":authority", address.encode()),
        )
        self._blocks: dict[tuple[str, Headers], bytes] = {}

    async def forward(self, request: Request, patience_seconds: float = 0.0, line: object = None) -> Response:
        """The server's own answer, with its gRPC status; waited for as long as `patience_seconds`, if that is longer
        than `timeout_seconds`. `line`: send it on that connection or not at all. Raises Unavailable or Unclear;
        InvalidRequest for metadata that HTTP/2 does not allow."""
        if isinstance(request.body, Frames):
            return await self._stream(request, request.body)
        seconds = max(patience_seconds, self._server.timeout_seconds)
        if request.timeout_seconds is not None:
            seconds = min(seconds, request.timeout_seconds)
        block = self._block(request.path, request.headers)  # what cannot be sent does not wait for a place
        answer = Awaited()
        try:
            free, left = self.lines.sendable(), seconds
            if free is None or (line is not None and line is not free):
                free, left = await self.lines.free(seconds, line)
            watch = Watch(self._server, free, seconds, answer, may_flow=False)
            give_up = watch.begin(block + timeout_block(round(left * 1000)), request.bytes, left)
        except NotSent as error:
            raise self._server.meaning(error) from error
        return await answer.whole(give_up)

    async def _stream(self, request: Request, asked: Frames) -> Response:
        """The answer's beginning; its body is the rest of it, and tells its status in the end."""
        granted = request.timeout_seconds
        head_block = _encoded(
            (  # what is passed on unread has to be what the client can read
                *(each for each in self._fields(request.path, request.headers) if each[0] != b"grpc-accept-encoding"),
                *(((b"grpc-encoding", asked.coding),) if asked.coding != b"identity" else ()),
                *((timeout_field(granted),) if granted is not None else ()),
            )
        )
        try:
            line, _ = await self.lines.free(self._server.timeout_seconds)
        except NotSent as error:
            raise self._server.meaning(error) from error
        line.calls += 1
        pump: asyncio.Task[None] | None = None

        def over() -> None:
            self.lines.leave(line)
            if pump is not None:
                pump.cancel()

        try:
            stream_id, exchange = line.connection.open(head_block, over)
        except NotSent as error:
            self.lines.leave(line)
            raise self._server.meaning(error) from error
        pump = spawn(_pump(asked, line.connection, stream_id), name="messages of a call")
        try:
            head = await exchange.head
        except (NotSent, BrokenOff) as error:
            raise self._server.meaning(error) from error
        except BaseException:
            line.connection.leave(stream_id)
            raise
        if exchange.answer is None:
            return self._server.answer(Call(lambda *_: None, head=head, trailers=head))[0].with_body(b"")
        return Response(grpc.OK, of_the_client(metadata_in(head.fields)), exchange.answer)

    def passage(self, request: Request) -> Passage | None:
        """As of Forwarder."""
        try:
            return GrpcPassage(self._server, self._block(request.path, request.headers))
        except InvalidRequest:
            return None

    @property
    def line(self) -> object:
        """The connection on which the next call goes out, to tell it from others; None if it is not there. Once lost it
        is not made again by itself: the next call does that."""
        return self.lines.current

    async def close(self) -> None:
        """Close every connection; calls under way end as Unclear."""
        await self.lines.close()

    # --- a call ------------------------------------------------------------------------------------------

    def _fields(self, path: str, headers: Headers) -> tuple[Field, ...]:
        """All but how long the answer is waited for. Raises InvalidRequest."""
        try:
            return (
                *self._own,
                (b":path", path.encode()),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
                (b"user-agent", b"crossfade"),
                (b"grpc-accept-encoding", grpc.ACCEPTED_CODINGS),
                *fields_of(of_the_client(headers)),
            )
        except UnicodeError as error:
            raise _not_passed_on(error) from error

    def _block(self, path: str, headers: Headers) -> bytes:
        """The head of a call, but for how long its answer is waited for. Raises InvalidRequest."""
        block = self._blocks.get((path, headers))
        if block is None:
            block = _encoded(self._fields(path, headers))
            if len(block) <= _REMEMBERED_BYTES:
                if len(self._blocks) >= _REMEMBERED:
                    self._blocks.clear()
                self._blocks[path, headers] = block
        return block


def _encoded(fields: Iterable[Field]) -> bytes:
    """Raises InvalidRequest for what HTTP/2 does not allow."""
    try:
        return encode(fields)
    except ValueError as error:
        raise _not_passed_on(error) from error


def _not_passed_on(error: ValueError) -> InvalidRequest:
    return InvalidRequest(f"the request's metadata cannot be passed on: {error}")


async def _pump(asked: Frames, connection: GrpcUpstream, stream_id: int) -> None:
    try:
        async for data in asked:
            await connection.send(stream_id, data)
        await connection.send(stream_id, b"", ends=True)
    except CrossfadeError:  # the client has left
        connection.leave(stream_id)
