"""The gRPC listener: grpc.aio with one generic handler for every method, bytes in and bytes out.

Rules of the file:

- Every method is served as unary, known or not (the health service included): what it means is the handler's
  business.
- Metadata becomes headers in their order; values of "-bin" keys are bytes. The answer's headers become initial
  metadata, its status, message and trailers the end of the call.
- grpc.aio cancels a method when its client hangs up or its deadline passes. The handler therefore runs in a
  task of its own, which only the end of `stop` cancels.
- A connection lives for half a minute and is then told to go (GOAWAY), after which its client opens the next:
  only so does one that is never idle reach the process that has taken over. The library's own stop says
  CANCELLED to calls that arrive in its instant.
- Message sizes are unlimited and pings are tolerated at any pace: clients of several vendors send both large
  batches and frequent keepalives.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import grpc

from proxy.listeners import shared_port
from proxy.telemetry.tasks import spawn
from proxy.wire import Handler, Request, Response

_log = logging.getLogger("crossfade.listeners.grpc")

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.max_connection_age_ms", 30_000),  # give or take a tenth; what has begun may end, however long it takes
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 0),
)
# By object, not by number: grpc.aio takes the number 16 (UNAUTHENTICATED) for UNKNOWN.
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class GrpcListener:
    """A `Listener` for gRPC without TLS. Make it inside the running event loop.

    host, port: where to listen; port 0 lets the system choose (see `port`).
    reuse_port: share the port with other processes.
    """

    def __init__(self, handler: Handler, host: str, port: int, *, reuse_port: bool = False) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._running: set[asyncio.Task[Response]] = set()
        self._server = grpc.aio.server(
            handlers=(_EveryMethod(self._serve),), options=(*_OPTIONS, ("grpc.so_reuseport", int(reuse_port)))
        )

    @property
    def port(self) -> int:
        return self._port

    @property
    def socket(self) -> None:
        return None

    async def start(self) -> None:
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            self._port = self._server.add_insecure_port(f"{host}:{self._port}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{self._port}: {error}") from error
        await self._server.start()

    async def stop(self, drain_seconds: float, linger_seconds: float = 0.0) -> None:
        """With `linger_seconds` the port goes on in the hands of another process."""
        if linger_seconds:
            await shared_port.leave(self._port, linger_seconds)
        deadline = time.monotonic() + drain_seconds
        await self._server.stop(drain_seconds)
        if self._running:  # their clients have gone, or the drain was too short
            await asyncio.wait(self._running, timeout=max(0.0, deadline - time.monotonic()))
        if self._running:
            _log.warning("requests cut off at the end of the drain", extra={"count": len(self._running)})
            for task in self._running:
                task.cancel()
            await asyncio.wait(self._running)

    async def _serve(self, method: str, message: bytes, context: Any) -> bytes:
        task = spawn(self._answer(_request(method, message, context)), name="grpc call")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        response = await asyncio.shield(task)
        if response.headers:
            await context.send_initial_metadata(response.headers)
        if response.trailers:
            context.set_trailing_metadata(response.trailers)
        if response.message:
            context.set_details(response.message)
        if response.status != 0:
            context.set_code(_CODES.get(response.status, grpc.StatusCode.UNKNOWN))
            return b""
        return await _whole(response)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception:  # noqa: BLE001 - a defect (handlers answer errors themselves): logged, and the client told
            _log.exception("handler failed", extra={"method": request.path})
            return Response(
                grpc.StatusCode.INTERNAL.value[0], message="internal error; the proxy's log has the details"
            )


class _EveryMethod:
    """grpc's GenericRpcHandler (by shape): claims every method there is."""

    def __init__(self, serve: Callable[[str, bytes, Any], Awaitable[bytes]]) -> None:
        self._serve = serve

    def service(self, details: Any) -> Any:
        method: str = details.method

        async def unary(message: bytes, context: Any) -> bytes:
            return await self._serve(method, message, context)

        return grpc.unary_unary_rpc_method_handler(unary)


def _request(method: str, message: bytes, context: Any) -> Request:
    return Request(
        transport="grpc",
        method="",
        path=method,
        headers=tuple((key, value) for key, value in context.invocation_metadata()),
        body=message,
        client=_address(context.peer()),
        timeout_seconds=context.time_remaining(),
    )


async def _whole(response: Response) -> bytes:
    if isinstance(response.body, bytes):
        return response.body
    return b"".join([chunk async for chunk in response.body])


def _address(peer: str) -> str:
    """The IP address of grpc's "ipv4:1.2.3.4:56" or "ipv6:%5B::1%5D:56"."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")
