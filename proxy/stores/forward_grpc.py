"""Passes gRPC calls on to a server of the client's own vendor: bytes in, bytes out, any unary method.

Kept as they are: the method's path, the client's metadata (its key too), the message, and of the answer
initial metadata, message, status, details and trailing metadata. The transport's own metadata (`user-agent`,
`te`, `grpc-...`) is made anew for this hop.

Rules of the file:

- **A call is sent once**: retries are off, transparent ones too (gRFC A6), and no service configuration is
  taken from DNS.
- gRPC core reports its own failures with the same status codes that servers answer with. What a server said
  is an answer and passed on, whatever its code. What core made up is `Unavailable` if no connection was
  there to send on, and `Unclear` otherwise; in doubt it is `Unclear`. `_is_answer` says how they are told apart.
- **After a time-out the connection is given up**: later calls go out on a new one, and the old one is closed as
  soon as the calls on it have ended (each within its own time-out). Otherwise a request that waits in a dead
  connection's buffer could still land when the network comes back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from proxy.errors import Unavailable, Unclear
from proxy.wire import Headers, Request, Response

_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.absolute_max_metadata_size", 64 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the time that one attempt to connect is given
    ("grpc.max_reconnect_backoff_ms", 2000),
)
_TRANSPORT_METADATA = frozenset({"user-agent", "te", "content-type"})
_NO_CONNECTION = ("failed to connect to all addresses", "DNS resolution failed", "empty address list")
# Texts of gRPC core's transport (chttp2) for a connection or stream that broke. They can come after the server's
# initial metadata, when core names the peer although the peer gave no status.
_BROKEN = re.compile(
    r"socket closed|connection reset|broken pipe|stream removed|rst_stream|goaway|recvmsg|sendmsg|"
    r"keepalive watchdog|endpoint closing|transport closed|connection timed out|end of tcp stream|half-closed",
    re.IGNORECASE,
)


@dataclass(slots=True)
class _Line:
    """A channel (one connection) and how many calls are on it."""

    channel: Any
    calls: int = 0
    retired: bool = False


class GrpcForwarder:
    """A `Forwarder` to one gRPC server. Make it inside the running event loop.

    address: "host:port". tls: None for plain text, else `grpc.ssl_channel_credentials(...)`.
    timeout_seconds: longest wait for an answer; a client that grants less time gets less.
    options: gRPC channel arguments, after (and over) those of this file.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Any = None,
        timeout_seconds: float = 60.0,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._address = address
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._options = (*_OPTIONS, *options)
        self._line = self._open()
        self._retired: list[_Line] = []

    async def forward(self, request: Request, patience_seconds: float = 0.0) -> Response:
        """The server's own answer, with its gRPC status; waited for as long as `patience_seconds`, if that is longer
        than `timeout_seconds`. Raises Unavailable or Unclear."""
        line = self._line
        line.calls += 1
        try:
            return await self._call(line, request, max(patience_seconds, self._timeout_seconds))
        finally:
            line.calls -= 1
            if line.retired and line.calls == 0:
                await self._close(line)

    @property
    def connected(self) -> bool:
        """Whether the connection on which the next call goes out is there. Once lost it is not made again by itself:
        the next call does that."""
        return self._line.channel.get_state() is grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Close every connection; calls under way end as Unclear."""
        for line in (self._line, *self._retired):
            await line.channel.close()
        self._retired.clear()

    async def _call(self, line: _Line, request: Request, seconds: float) -> Response:
        if request.timeout_seconds is not None:
            seconds = min(seconds, request.timeout_seconds)
        call = line.channel.unary_unary(request.path)(
            request.bytes, metadata=self._metadata(request.headers), timeout=seconds
        )
        try:
            body = await call
            return Response(
                status=0,
                headers=_received(await call.initial_metadata()),
                body=body,
                message=await call.details() or "",
                trailers=_received(await call.trailing_metadata()),
            )
        except grpc.aio.AioRpcError as error:
            return self._failed(line, error, seconds)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise Unclear(f"the connection to {self._address} was closed here while it worked") from None

    def _failed(self, line: _Line, error: Any, seconds: float) -> Response:
        """What an unsuccessful call amounts to: the server's answer, or one of our errors."""
        if _is_answer(error):
            return Response(
                status=error.code().value[0],
                headers=_received(error.initial_metadata()),
                message=error.details() or "",
                trailers=_received(error.trailing_metadata()),
            )
        details = error.details() or error.code().name
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            self._retire(line)
            raise Unclear(f"{self._address} gave no answer within {seconds:.3f} s; it may still do the work") from error
        if error.code() is grpc.StatusCode.UNAVAILABLE and details.startswith(_NO_CONNECTION):
            raise Unavailable(
                f"{self._address} takes no connections ({details}); check that the store runs and is reachable"
            ) from error
        raise Unclear(f"{self._address} gave no answer ({details}); it may have done the work") from error

    def _metadata(self, headers: Headers) -> tuple[tuple[str, str | bytes], ...]:
        return _of_the_client(headers)

    def _open(self) -> _Line:
        if self._tls is None:
            return _Line(grpc.aio.insecure_channel(self._address, options=self._options))
        return _Line(grpc.aio.secure_channel(self._address, self._tls, options=self._options))

    def _retire(self, line: _Line) -> None:
        if not line.retired:
            line.retired = True
            self._retired.append(line)
            self._line = self._open()

    async def _close(self, line: _Line) -> None:
        if line in self._retired:
            self._retired.remove(line)
            await line.channel.close()


def _is_answer(error: Any) -> bool:
    """Whether a failed call carries a status that the server sent.

    Core writes "Error received from peer ADDRESS" once it has read anything of the stream, and leaves the
    address out where it made the status up itself (refused, reset, local deadline). Initial metadata that came
    before a break also leaves an address behind, hence the second test.
    """
    said_by_peer = re.match(r"\w*:?\s*Error received from peer \S+ ", error.debug_error_string() or "")
    return said_by_peer is not None and not _BROKEN.search(error.details() or "")


def _of_the_client(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    return tuple(
        (name, value)
        for name, value in metadata
        if name not in _TRANSPORT_METADATA and not name.startswith(("grpc-", ":"))
    )


def _received(metadata: Iterable[tuple[str, str | bytes]] | None) -> Headers:
    return _of_the_client((name, value) for name, value in metadata or ())
