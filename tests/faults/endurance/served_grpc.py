"""An upstream's gRPC, on the program's own HTTP/2 (at its clients' end is grpc's own). A call without a number is one
of the proxy's own: it gets what the benchmark's stub would say, or the points as they were written."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from qdrant_client import grpc as qdrant

from bench.stub import CANNED
from proxy.protocols.field_block import Field
from proxy.protocols.grpc import framed
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Data, Head, Reset, Role
from tests.faults.endurance.messages import HEADER, KINDS, METHODS, grpc_message, number_in_message, points
from tests.faults.endurance.resets import Answered, Resets

_HEAD: tuple[Field, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_KIND_OF = {METHODS[kind].encode(): kind for kind in KINDS}


class _Call:
    __slots__ = ("body", "method", "number", "plan")

    def __init__(self, fields: tuple[Field, ...]) -> None:
        named = dict(fields)
        self.method = named[b":path"]
        self.number = int(named.get(HEADER.encode(), b"0"))
        self.body = bytearray()
        self.plan = ""


class GrpcServed(asyncio.Protocol):
    """A connection."""

    way = "grpc"

    def __init__(self, resets: Resets) -> None:
        self._resets = resets
        self.answered = Answered()
        self.transport: asyncio.Transport
        self._http2 = Connection(Role.SERVER)
        self._calls: dict[int, _Call] = {}
        self._whole: list[int] = []  # streams whose request has come
        self._plan = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._resets.connections.add(self)
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        self._resets.connections.discard(self)

    def under_way(self) -> list[int]:
        return [call.number for call in self._calls.values() if call.number]

    def is_idle(self) -> bool:
        return not self._calls

    def data_received(self, data: bytes) -> None:
        self.take(data)
        self.heed()

    def heed(self) -> None:
        if self._plan:
            kind, self._plan = self._plan, ""
            self._resets.strike(self, kind)
            return
        whole, self._whole = self._whole, []
        for stream_id in whole:
            if seconds := self._resets.late_seconds():
                asyncio.get_running_loop().call_later(seconds, self._answer_late, stream_id)
            else:
                self._answer(stream_id)
        self._write()

    def take(self, data: bytes) -> None:
        for event in self._http2.receive(data, time.monotonic()):
            match event:
                case Head(stream_id=stream_id, block=block):
                    call = self._calls[stream_id] = _Call(block.fields)
                    if call.number:
                        call.plan = self._resets.drawn(call.number, self.way)
                case Data():
                    self._http2.consume(event.stream_id, event.size_bytes)
                    if (known := self._calls.get(event.stream_id)) is not None:
                        self._read(event, known)
                case Reset(stream_id=stream_id):
                    self._calls.pop(stream_id, None)
                case Broken():
                    self.transport.close()

    def _read(self, event: Data, call: _Call) -> None:
        call.body += event.data
        if not call.number and (number := number_in_message(bytes(call.body[:64]))):
            call.number = number
            call.plan = self._resets.drawn(number, self.way)
        elif not call.number and event.ends:
            call.plan = self._resets.drawn(0, self.way)
        if call.plan == "request":
            self._plan = "request" if event.ends else "body"
        elif event.ends:
            self._whole.append(event.stream_id)

    def _answer_late(self, stream_id: int) -> None:
        self._answer(stream_id)
        self._write()

    def _answer(self, stream_id: int) -> None:
        call = self._calls.get(stream_id)
        if call is None:
            return
        message = framed(_message(call))
        self._http2.send_head(stream_id, _HEAD)
        if call.plan == "answer":
            self._http2.send_data(stream_id, message[: self._resets.chance.randrange(1, len(message))])
            self._resets.soon(lambda: self._resets.strike(self, "answer"))
        else:
            self._http2.send_data(stream_id, message)
            self._http2.send_trailers(stream_id, ((b"grpc-status", b"0"),))
            self.answered.add(call.number)
            del self._calls[stream_id]

    def _write(self) -> None:
        if (written := self._http2.take()) and not self.transport.is_closing():
            self.transport.write(written)


def _message(call: _Call) -> bytes:
    kind = _KIND_OF.get(call.method)
    if kind == "fetch" and not call.number:
        asked = qdrant.GetPoints.FromString(bytes(call.body[5:]))
        found = [points()[one.num] for one in asked.ids if one.num in points()]
        return bytes(qdrant.GetResponse(result=found, time=0.0).SerializeToString())
    if kind is not None:
        return grpc_message(kind, call.number)
    return CANNED.get(call.method.decode(), b"")
