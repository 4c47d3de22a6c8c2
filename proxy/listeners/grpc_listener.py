"""The gRPC listener: our own HTTP/2 (protocols/http2.py) on asyncio, bytes in and bytes out; grpc_connection.py has
what is said on one connection.

Rules of the file:

- A method is served as unary, known or not, unless `streams` says that its messages are to be passed on as they come
  (`Frames`), both ways, until either side has ended it.
- Metadata becomes headers in their order; values of "-bin" keys are bytes. The answer's headers become initial
  metadata, its status, message and trailers the end of the call.
- A client that hangs up, or whose deadline passes, ends its stream, and a handler that may be given up (`Caller`); any
  other only the end of `stop` cancels.
- To stop is a matter of order: GOAWAY, then a ping; once that has come back, no request can be on its way that would
  not be taken; and a connection is closed by the client, who has read all, or else after a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from functools import partial

from proxy.frames import Frames
from proxy.listeners.admission import Admission
from proxy.listeners.grpc_connection import GrpcCall, GrpcConnection
from proxy.listeners.socket_listener import SocketListener
from proxy.listeners.tls import Certificate
from proxy.protocols import grpc
from proxy.protocols.grpc import MessageError
from proxy.telemetry.tasks import spawn
from proxy.wire import Caller, GiveUp, Handler, PassThrough, Request, Response

_log = logging.getLogger("crossfade.listeners.grpc")


class GrpcListener(SocketListener):
    """For gRPC. streams: whether a method is passed on as a stream. max_body_bytes: of a message of any other; the
    handler gets a body that raises BodyTooLarge. None: any size. fast: asked before the handler. admission: None takes
    any number of calls. max_age_seconds: of a connection, roughly; its client is asked to make another one then
    (GOAWAY), and the calls on it are still answered."""

    def __init__(
        self,
        handler: Handler,
        host: str,
        port: int,
        *,
        max_body_bytes: int | None = None,
        streams: Callable[[str], bool] = lambda _: False,
        backlog: int = 4096,
        sock: socket.socket | None = None,
        certificate: Certificate | None = None,
        fast: PassThrough | None = None,
        admission: Admission | None = None,
        max_age_seconds: float | None = None,
    ) -> None:
        super().__init__(host, port, backlog=backlog, sock=sock, certificate=certificate)
        self.max_body_bytes = max_body_bytes
        self.streams = streams
        self._handler = handler
        self._fast = fast
        self.admission = admission
        self.max_age_seconds = max_age_seconds
        self._connections: set[GrpcConnection] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._gone = asyncio.Event()  # a connection is

    def connection(self) -> GrpcConnection:
        return GrpcConnection(self)

    async def drain(self, drain_seconds: float, linger_seconds: float) -> None:
        deadline = time.monotonic() + drain_seconds + linger_seconds
        for connection in tuple(self._connections):
            connection.drain(linger_seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds + linger_seconds):
                while self._connections:
                    self._gone.clear()
                    await self._gone.wait()
        if self._running:  # their clients have gone, or the drain was too short
            await asyncio.wait(self._running, timeout=max(0.0, deadline - time.monotonic()))
        if self._running:
            _log.warning("requests cut off at the end of the drain", extra={"count": len(self._running)})
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)
        for connection in tuple(self._connections):
            connection.abort()

    # --- what connections tell -------------------------------------------------------------------

    def made(self, connection: GrpcConnection) -> None:
        self._connections.add(connection)

    def lost(self, connection: GrpcConnection) -> None:
        self._connections.discard(connection)
        self._gone.set()

    def called(self, connection: GrpcConnection, stream_id: int, call: GrpcCall) -> GiveUp | None:
        """The request of a stream is whole. What to do when its client leaves; None if it has been answered."""
        caller = Caller()
        try:
            request = call.request(connection.client, self.max_body_bytes, caller)
        except MessageError as error:
            connection.answer(stream_id, Response(error.status, message=str(error)), b"")
            connection.ended(stream_id)
            return None
        if self._fast is not None and isinstance(request.body, bytes):
            answer = partial(connection.passed, stream_id)
            give_up = self._fast.begin(None, request.body, request.draw, lambda: request, answer)
            if give_up is not None:
                return partial(_given_up, give_up, connection, stream_id)
        self._spawn(connection, stream_id, request)
        return caller.leave

    def streaming(self, connection: GrpcConnection, stream_id: int, call: GrpcCall, body: Frames) -> GiveUp:
        """The request of a stream begins. What to do when its client leaves."""
        caller = Caller()
        self._spawn(connection, stream_id, call.streaming(connection.client, body), leaving=caller)
        return caller.leave

    def flowing(self, connection: GrpcConnection, stream_id: int, response: Response, body: Frames) -> GiveUp:
        """An answer of the fast path begins. What to do when its client leaves."""

        async def answer(_: Request) -> Response:
            return response

        caller = Caller()
        self._spawn(connection, stream_id, Request("grpc", "", ""), answer, caller)
        return caller.leave

    def _spawn(
        self,
        connection: GrpcConnection,
        stream_id: int,
        request: Request,
        handler: Handler | None = None,
        leaving: Caller | None = None,
    ) -> None:
        """`leaving`: whose call is given up when it leaves, whatever it is."""
        answered = self._answer(connection, stream_id, request, handler or self._handler, leaving)
        task = spawn(answered, name="grpc call")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(
        self, connection: GrpcConnection, stream_id: int, request: Request, handler: Handler, leaving: Caller | None
    ) -> None:
        try:
            if leaving is not None:  # here: a task that is cancelled before it begins would not come to its end
                leaving.may_leave()
            response = await handler(request)
            if isinstance(response.body, Frames):
                await connection.stream(stream_id, response, response.body)
                return
            body = response.body if isinstance(response.body, bytes) else await _whole(response)
            connection.answer(stream_id, response, body)
        except asyncio.CancelledError:  # at the end of a drain, or of something that the handler waited for
            message = "the call was cut off here; it may have been carried out"
            connection.answer(stream_id, Response(grpc.UNKNOWN, message=message), b"")
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except Exception:  # noqa: BLE001 - a defect (handlers answer errors themselves): logged, and the client told
            _log.exception("handler failed", extra={"method": request.path})
            message = "internal error; the proxy's log has the details"
            connection.answer(stream_id, Response(grpc.INTERNAL, message=message), b"")
        finally:
            connection.ended(stream_id)


def _given_up(give_up: GiveUp, connection: GrpcConnection, stream_id: int) -> None:
    """A call on the fast path, of which nothing more is heard."""
    give_up()
    connection.ended(stream_id)


async def _whole(response: Response) -> bytes:
    assert not isinstance(response.body, bytes)
    return b"".join([chunk async for chunk in response.body])
