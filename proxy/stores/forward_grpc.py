"""Passes gRPC calls on to a server of the client's own vendor: bytes in, bytes out, any method.

Kept as they are: the method's path, the client's metadata (its key too), the message, and of the answer
initial metadata, message, status, details and trailing metadata. The transport's own metadata (`user-agent`,
`te`, `grpc-...`) is made anew for this hop.

Rules of the file:

- **A call is sent once**, also if the server has certainly done nothing of it: whether to try again is the pipeline's
  decision.
- What the server said is an answer and passed on, whatever its code. Without one it is `Unavailable` if it has done
  nothing for certain (no connection, a stream that it refused), and `Unclear` otherwise.
- A call whose request is a stream (`Frames`) is passed on as it comes, both ways, for as long as its client grants.
- There is one connection. While it cannot be made, calls fail at once but for one try every now and then.
- **After a time-out the connection is given up**: later calls go out on a new one, and the old one is closed as
  soon as the calls on it have ended (each within its own time-out). Otherwise a request that waits in a dead
  connection's buffer could still land when the network comes back.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

from proxy.errors import CrossfadeError, InvalidRequest, Unavailable, Unclear
from proxy.frames import Frames
from proxy.protocols import grpc
from proxy.protocols.grpc import (
    MessageError,
    coding_in,
    fields_of,
    message_in,
    metadata_in,
    status_in,
    timeout_block,
    timeout_field,
)
from proxy.protocols.hpack import Field, FieldBlock, encode
from proxy.stores import Heard, Passage
from proxy.stores.awaited import Awaited
from proxy.stores.grpc_exchange import BrokenOff, NotSent
from proxy.stores.grpc_upstream import Call, GrpcUpstream
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead, GiveUp, Headers, Request, Response

_CONNECT_SECONDS = 1.0
_BACKOFF_SECONDS = (0.1, 0.2, 0.5, 1.0)  # between tries to connect
_REMEMBERED, _REMEMBERED_BYTES = 256, 2048  # heads, and the most of one: an application says much the same each time
_TRANSPORT_METADATA = frozenset({"user-agent", "te", "content-type"})


@dataclass(slots=True)
class _Line:
    """A connection and how many calls are on it."""

    connection: GrpcUpstream
    calls: int = 0
    retired: bool = False


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
        self._address = address
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._ping_seconds = ping_seconds
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._own: tuple[Field, ...] = (
            (b":method", b"POST"),
            (b":scheme", b"https" if tls else b"http"),
            (b":authority", address.encode()),
        )
        self._line: _Line | None = None
        self._retired: set[GrpcUpstream] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._failure = ""  # why the last try to connect failed
        self._closed = False
        self._blocks: dict[tuple[str, Headers], bytes] = {}

    async def forward(self, request: Request, patience_seconds: float = 0.0, line: object = None) -> Response:
        """The server's own answer, with its gRPC status; waited for as long as `patience_seconds`, if that is longer
        than `timeout_seconds`. `line`: send it on that connection or not at all. Raises Unavailable or Unclear;
        InvalidRequest for metadata that HTTP/2 does not allow."""
        if isinstance(request.body, Frames):
            return await self._stream(request, request.body)
        seconds = max(patience_seconds, self._timeout_seconds)
        if request.timeout_seconds is not None:
            seconds = min(seconds, request.timeout_seconds)
        block = self._block(request.path, request.headers)  # what cannot be sent does not wait for a place
        answer = Awaited()
        try:
            free, left = self.sendable(), seconds
            if free is None or (line is not None and line is not free):
                free, left = await self._free_line(seconds, line)
            watch = _Watch(self, free, seconds, answer, may_flow=False)
            give_up = watch.begin(block + timeout_block(round(left * 1000)), request.bytes, left)
        except NotSent as error:
            raise self.meaning(error) from error
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
            line, _ = await self._free_line(self._timeout_seconds)
        except NotSent as error:
            raise self.meaning(error) from error
        line.calls += 1
        pump: asyncio.Task[None] | None = None

        def over() -> None:
            self.leave(line)
            if pump is not None:
                pump.cancel()

        try:
            stream_id, exchange = line.connection.open(head_block, over)
        except NotSent as error:
            self.leave(line)
            raise self.meaning(error) from error
        pump = spawn(_pump(asked, line.connection, stream_id), name="messages of a call")
        try:
            head = await exchange.head
        except (NotSent, BrokenOff) as error:
            raise self.meaning(error) from error
        except BaseException:
            line.connection.leave(stream_id)
            raise
        if exchange.answer is None:
            return self.answer(Call(lambda *_: None, head=head, trailers=head))[0].with_body(b"")
        return Response(grpc.OK, _of_the_client(metadata_in(head.fields)), exchange.answer)

    def passage(self, request: Request) -> Passage | None:
        """As of Forwarder."""
        try:
            return _Passage(self, self._block(request.path, request.headers))
        except InvalidRequest:
            return None

    def sendable(self) -> _Line | None:
        """The line on which a call can go out now; None if there is none."""
        line = self._line
        return line if line is not None and line.connection.has_room else None

    def granted(self, seconds: float | None) -> float:
        """How long an answer is waited for, if the client grants so much."""
        return self._timeout_seconds if seconds is None else min(seconds, self._timeout_seconds)

    @property
    def line(self) -> object:
        """The connection on which the next call goes out, to tell it from others; None if it is not there. Once lost it
        is not made again by itself: the next call does that."""
        return self._line if self._line is not None and self._line.connection.is_usable else None

    async def close(self) -> None:
        """Close every connection; calls under way end as Unclear."""
        self._closed = True
        for connection in (*([self._line.connection] if self._line else []), *self._retired):
            connection.close()
        self._retired.clear()
        if self._connecting is not None:
            await self._connecting
        await asyncio.sleep(0)  # sockets are closed in the next turn

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
                *fields_of(_of_the_client(headers)),
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

    def leave(self, line: _Line) -> None:
        """A call on it has ended."""
        line.calls -= 1
        if line.retired and not line.calls:
            self._retired.discard(line.connection)
            line.connection.close()

    def answer(self, call: Call) -> tuple[AnswerHead, bytes]:
        """What came back. Raises Unclear if that is no answer."""
        head, trailers = call.head, call.trailers
        told = _told(head.fields, trailers.fields) if head is not None and trailers is not None else None
        if told is None:
            status = head.pseudo.get(b":status", b"").decode() if head is not None else ""
            raise Unclear(f"{self._address} answered without a gRPC status (HTTP {status}); it may have done the work")
        answer, coding = told
        try:
            return answer, message_in(call.body, coding) if answer.status == grpc.OK else b""
        except MessageError as error:
            raise Unclear(f"{self._address} gave no message ({error}); it may have done the work") from error

    def meaning(self, error: CrossfadeError) -> CrossfadeError:
        """Of a call that ended without an answer."""
        if isinstance(error, NotSent):
            return Unavailable(f"{self._address} takes no calls ({error})")
        return Unclear(f"{self._address} gave no answer ({error}); it may have done the work")

    def silent(self, seconds: float) -> Unclear:
        return Unclear(f"{self._address} gave no answer within {seconds:.3f} s; it may still do the work")

    # --- the connection ------------------------------------------------------------------------------------

    async def _free_line(self, seconds: float, line: object = None) -> tuple[_Line, float]:
        """A line that takes a call now (only `line`, if that is given), and how many of the seconds are left. Raises
        Unavailable, NotSent."""
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                if line is not None and line is not self.line:
                    raise NotSent("the connection is gone")
                free = await self._connected()
                await free.connection.room()
        except TimeoutError as error:
            raise Unavailable(f"{self._address} took no call within {seconds:.3f} s") from error
        return free, max(0.0, seconds - (asyncio.get_running_loop().time() - began))

    async def _connected(self) -> _Line:
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
        self._line = _Line(connection)

    def _unavailable(self) -> Unavailable:
        return Unavailable(
            f"{self._address} takes no connections ({self._failure}); check that the store runs and is reachable"
        )

    def retire(self, line: _Line) -> None:
        if not line.retired:
            line.retired = True
            if line is self._line:
                self._line = None
            if line.calls:
                self._retired.add(line.connection)
            else:
                line.connection.close()


def _encoded(fields: Iterable[Field]) -> bytes:
    """Raises InvalidRequest for what HTTP/2 does not allow."""
    try:
        return encode(fields)
    except ValueError as error:
        raise _not_passed_on(error) from error


def _not_passed_on(error: ValueError) -> InvalidRequest:
    return InvalidRequest(f"the request's metadata cannot be passed on: {error}")


class _Passage:
    """A way for calls with the same head, on the fast path."""

    __slots__ = ("_block", "_owner")

    def __init__(self, owner: GrpcForwarder, block: bytes) -> None:
        self._owner = owner
        self._block = block

    def send(self, body: bytes, granted_seconds: float | None, heard: Heard) -> GiveUp | None:
        """As of Passage."""
        line = self._owner.sendable()
        if line is None:
            return None
        seconds = self._owner.granted(granted_seconds)
        watch = _Watch(self._owner, line, seconds, heard)
        try:
            return watch.begin(self._block + timeout_block(round(seconds * 1000)), body, seconds)
        except NotSent:
            return None


class _Watch:
    """A unary call, from its sending to its end. `seconds`: granted for it all. `may_flow`: a large answer is passed
    on as it comes."""

    __slots__ = ("_heard", "_line", "_may_flow", "_owner", "_seconds", "_stream_id", "_timer")

    def __init__(
        self, owner: GrpcForwarder, line: _Line, seconds: float, heard: Heard, *, may_flow: bool = True
    ) -> None:
        self._owner = owner
        self._line = line
        self._seconds = seconds
        self._heard = heard
        self._may_flow = may_flow

    def begin(self, head: bytes, body: bytes, left_seconds: float) -> GiveUp:
        """Raises NotSent."""
        flows = self._flows if self._may_flow else None
        self._stream_id = self._line.connection.begin(head, body, self._ended, flows, self._seconds)
        self._line.calls += 1
        self._timer = asyncio.get_running_loop().call_later(left_seconds, self._fell_silent)
        return self._give_up

    def _give_up(self) -> None:
        self._line.connection.give_up(self._stream_id)
        self._leave()

    def _ended(self, call: Call, error: CrossfadeError | None) -> None:
        self._leave()
        try:
            if error is not None:
                raise self._owner.meaning(error) from error
            head, body = self._owner.answer(call)
        except CrossfadeError as failure:
            self._heard.failed(failure)
        else:
            self._heard.answered(head, body)

    def _flows(self, head: FieldBlock, answer: Frames) -> Callable[[], None]:
        self._timer.cancel()
        headers = _of_the_client(metadata_in(head.fields))
        self._heard.answered(AnswerHead(grpc.OK, headers), answer)
        return partial(self._owner.leave, self._line)

    def _fell_silent(self) -> None:
        self._owner.retire(self._line)
        self._give_up()
        self._heard.failed(self._owner.silent(self._seconds))

    def _leave(self) -> None:
        self._timer.cancel()
        self._owner.leave(self._line)


async def _pump(asked: Frames, connection: GrpcUpstream, stream_id: int) -> None:
    try:
        async for data in asked:
            await connection.send(stream_id, data)
        await connection.send(stream_id, b"", ends=True)
    except CrossfadeError:  # the client has left
        connection.leave(stream_id)


@lru_cache(512)
def _told(head: tuple[Field, ...], trailers: tuple[Field, ...]) -> tuple[AnswerHead, bytes] | None:
    """What the client is told of an answer that begins and ends with these fields, and the coding of its message; None
    if it has no status."""
    if (said := status_in(trailers)) is None:
        return None
    headers = _of_the_client(metadata_in(head)) if head is not trailers else ()
    coding = coding_in(head)
    return AnswerHead(said[0], headers, said[1], _of_the_client(metadata_in(trailers))), coding


def _of_the_client(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    return tuple(
        (name, value)
        for name, value in metadata
        if name not in _TRANSPORT_METADATA and not name.startswith(("grpc-", ":"))
    )
