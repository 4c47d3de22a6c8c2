"""A client's call that is passed on as it comes, both ways, on its HTTP/2 connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.errors import CrossfadeError
from proxy.frames import Ending, Frames
from proxy.protocols import grpc
from proxy.protocols.field_block import Field
from proxy.protocols.grpc import coding_in, fields_of, status_fields
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Data, Event, Head, Sent, Trailers
from proxy.wire import Response


class GrpcStream:
    """`written`: hears that there is something to write."""

    def __init__(self, http2: Connection, stream_id: int, written: Callable[[], None]) -> None:
        self._http2 = http2
        self._stream_id = stream_id
        self._written = written
        self._room = asyncio.Event()  # set once the client has room for more
        self._asked: Frames | None = None  # what the client sends
        self.has_begun = False  # to answer

    def begin(self, head: Head) -> Frames:
        """A request that streams: what the client sends, from its `head` on."""
        coding = coding_in(head.block.fields)
        self._asked = asked = Frames(coding, self._taken)
        if head.ends:
            asked.end()
        return asked

    def heed(self, event: Event) -> None:
        match event:
            case Data(data=data, size_bytes=size_bytes, ends=ends) if self._asked is not None:
                self._asked.feed(data, size_bytes)
                if ends:
                    self._asked.end()
            case Data(size_bytes=size_bytes):
                self._http2.consume(self._stream_id, size_bytes)
            case Trailers() if self._asked is not None:
                self._asked.end()
            case Sent():
                self._room.set()

    async def answer(self, fields: tuple[Field, ...], response: Response, body: Frames) -> None:
        """Pass an answer on while it comes; `fields` begin its head. Raises ValueError for metadata that HTTP/2 does
        not allow."""
        coding = ((b"grpc-encoding", body.coding),) if body.coding != b"identity" else ()
        try:
            self._http2.send_head(self._stream_id, (*fields, *coding, *fields_of(response.headers)))
            self.has_begun = True
            async for data in body:
                await self._send(data)
            ending = body.ending or Ending(grpc.UNKNOWN, "the answer has no status")
        except CrossfadeError as error:
            ending = Ending(grpc.UNAVAILABLE, str(error))
        finally:
            body.close()
        last = fields_of(ending.trailers) + status_fields(ending.status, ending.message)
        self._http2.send_trailers(self._stream_id, last)
        self._written()

    def close(self) -> None:
        """It has ended: what its client still sends goes nowhere."""
        if self._asked is not None:
            self._asked.close()

    async def _send(self, data: bytes) -> None:
        self._room.clear()
        self._http2.send_data(self._stream_id, data)
        self._written()
        if self._http2.waiting_bytes(self._stream_id):
            await self._room.wait()

    def _taken(self, size_bytes: int) -> None:
        self._http2.consume(self._stream_id, size_bytes)
        self._written()
