"""A gRPC call that streams, on a connection to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.errors import CrossfadeError
from proxy.frames import Ending, Frames
from proxy.protocols.field_block import FieldBlock
from proxy.protocols.grpc import coding_in, metadata_in, status_in
from proxy.protocols.http2_events import Data, Event, Head, Reset, Sent, Trailers, WholeAnswer


class NotSent(CrossfadeError):
    """The server has done nothing of the call, for certain."""


class BrokenOff(CrossfadeError):
    """There is no answer; the server may have done the work."""


def meaning_of(reset: Reset) -> CrossfadeError:
    said = reset.why or f"the server reset the stream, code {reset.code}"
    return NotSent(said) if reset.refused else BrokenOff(said)


class Exchange:
    """`head` ends when the server begins to answer, and raises if it never will. `answer` comes with the head; None if
    the server said all at once. `sent` is set while the server has room. `ended` hears, once, that all is over.

    `taken`, `left` and `silence_seconds`: as of Frames."""

    def __init__(
        self,
        taken: Callable[[int], None],
        left: Callable[[], None],
        ended: Callable[[], None],
        silence_seconds: float | None = None,
    ) -> None:
        self.head: asyncio.Future[FieldBlock] = asyncio.get_running_loop().create_future()
        self.answer: Frames | None = None
        self.sent = asyncio.Event()
        self.is_over = False
        self._taken = taken
        self._left = left
        self._silence_seconds = silence_seconds
        self._ended = ended

    def on_end(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def heed(self, event: Event) -> None:
        match event:
            case Head(block=block, ends=ends):
                self._begin(block, ends)
            case Data(data=data, size_bytes=size_bytes, ends=ends):
                if self.answer is not None:
                    self.answer.feed(data, size_bytes)
                if ends:
                    self.end(BrokenOff("the answer has no status"))
            case WholeAnswer():
                self._begin(event.head, ends=False)
                assert self.answer is not None
                self.answer.feed(event.data, 0)
                self._end(event.trailers)
            case Trailers(block=block):
                self._end(block)
            case Reset():
                self.end(meaning_of(event))
            case Sent():
                self.sent.set()

    def end(self, error: CrossfadeError | None) -> None:
        """`error`: why the answer is not whole."""
        if self.is_over:
            return
        self.is_over = True
        self.sent.set()
        if error is not None and self.answer is not None:
            self.answer.fail(error)
        if error is not None and not self.head.done():
            self.head.set_exception(error)
            self.head.exception()  # nobody may be waiting
        self._ended()

    def _begin(self, block: FieldBlock, ends: bool) -> None:
        if not ends:
            coding = coding_in(block.fields)
            self.answer = Frames(coding, self._taken, self._left, self._silence_seconds)
        if not self.head.done():  # whoever waited may have been cancelled
            self.head.set_result(block)
        if ends:
            self.end(None)

    def _end(self, block: FieldBlock) -> None:
        said = status_in(block.fields)
        if self.answer is None or said is None:
            self.end(BrokenOff("the answer has no status"))
            return
        trailers = tuple(entry for entry in metadata_in(block.fields) if not entry[0].startswith("grpc-"))
        self.answer.end(Ending(*said, trailers))
        self.end(None)
