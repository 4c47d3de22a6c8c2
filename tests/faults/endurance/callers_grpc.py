"""The clients over gRPC: grpc's own channels, whose calls may be cancelled, or dropped with their channel; and
connections of our own that end, by FIN or by RST, anywhere in what a client writes for one call.

A call that is not answered with the right message, to the last byte, is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Callable
from typing import Any

import grpc

from proxy.protocols.grpc import framed
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Role
from tests.faults.endurance.callers_http import LONGEST_SECONDS
from tests.faults.endurance.messages import HEADER, METHODS, Asked, grpc_message
from tests.faults.endurance.tally import Sent, Tally

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_WAIT_SECONDS = 0.006  # at most, from a call's beginning to its end by the client
CUTS = ("cancel", "channel", "connection")


class _Channel:
    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self.calls = {path: self.channel.unary_unary(path) for path in METHODS.values()}
        self.under_way: set[Sent] = set()


class Channels:
    """`most`: calls at once. `room` is called when one more can be made."""

    def __init__(self, address: str, size: int, most: int, tally: Tally, room: Callable[[], None]) -> None:
        self._address = address
        self._most = most
        self._tally = tally
        self._room = room
        self._chance = random.Random(address)
        self._channels = [_Channel(address) for _ in range(size)]
        self._calls = 0
        self._closed = False
        self._tasks: asyncio.TaskGroup

    async def open(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks
        await asyncio.gather(*(one.channel.channel_ready() for one in self._channels))

    async def close(self) -> None:
        """What is under way gets no answer any more, and is not told of."""
        self._closed = True
        for one in self._channels:
            await one.channel.close()

    def is_closed(self) -> bool:
        return self._closed

    @property
    def has_room(self) -> bool:
        return self._calls < self._most

    def send(self, sent: Sent, asked: Asked, in_body: bool) -> None:
        """Only where there is room."""
        self._calls += 1
        self._tally.begin(sent)
        if sent.cut == "connection":
            self._tasks.create_task(self._half_a_call(sent, asked))
        else:
            self._tasks.create_task(self._call(sent, asked, in_body))

    async def _call(self, sent: Sent, asked: Asked, in_body: bool) -> None:
        if self.is_closed():
            return
        channel = self._chance.choice(self._channels)
        metadata = () if in_body else ((HEADER, str(sent.number)),)
        call = channel.calls[asked.path](asked.body, metadata=metadata, timeout=LONGEST_SECONDS)
        channel.under_way.add(sent)
        if sent.cut:
            after = self._chance.uniform(0, _WAIT_SECONDS)
            asyncio.get_running_loop().call_later(after, self._break_off, sent, channel, call)
        try:
            answer = await call
        except (grpc.aio.AioRpcError, asyncio.CancelledError) as error:
            if self.is_closed():
                return
            if sent.broken_off:
                self._tally.broken_off(sent)
            elif isinstance(error, grpc.aio.AioRpcError):
                self._tally.failed(sent, error.code().name, error.details() or "")
            else:
                self._tally.failed(sent, "cancelled", "by nobody here")
        else:
            if answer == grpc_message(sent.kind, sent.number):
                self._tally.answered(sent)
            else:
                text = f"{len(answer)} bytes: {answer[:100]!r} ... {answer[-100:]!r}"
                self._tally.failed(sent, "another answer than was given", text)
        finally:
            channel.under_way.discard(sent)
            self._end()

    def _break_off(self, sent: Sent, channel: _Channel, call: Any) -> None:
        if sent not in channel.under_way:
            return  # it was answered before
        if sent.cut == "cancel":
            sent.broken_off = True
            call.cancel()
        elif channel in self._channels:
            for one in channel.under_way:
                one.broken_off, one.cut = True, "channel"
            self._channels[self._channels.index(channel)] = _Channel(self._address)
            self._tasks.create_task(channel.channel.close())

    async def _half_a_call(self, sent: Sent, asked: Asked) -> None:
        """A connection that brings part of a call, and ends."""
        connection = Connection(Role.CLIENT)
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", self._address.encode()),
            (b":path", asked.path.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (HEADER.encode(), b"%d" % sent.number),
        )
        stream_id = connection.open(fields)
        connection.send_data(stream_id, framed(asked.body), ends=True)
        written = connection.take()
        host, _, port = self._address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(written[: self._chance.randrange(1, len(written) + 1)])
            await asyncio.sleep(self._chance.uniform(0, _WAIT_SECONDS))
            if self._chance.random() < 0.5:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        except OSError as error:
            self._tally.noted(f"a connection to {self._address} was refused: {error}")
        self._tally.broken_off(sent)
        self._end()

    def _end(self) -> None:
        self._calls -= 1
        self._room()
