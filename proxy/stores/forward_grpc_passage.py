"""gRPC calls whose message is there: sent and answered without a task; and those with one head, which can be sent on
the connection that is there (the fast path).

Rules of the file:

- What the server said is an answer and passed on, whatever its code. Without one it is `Unavailable` if it has done
  nothing for certain (no connection, a stream that it refused), and `Unclear` otherwise.
- Who hears of an answer hears once, unless the call is given up.
- What the client is told of an answer is made once for all that begin and end with the same fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final

from proxy.errors import CrossfadeError, Unavailable, Unclear
from proxy.frames import Frames
from proxy.protocols import grpc
from proxy.protocols.field_block import Field, FieldBlock
from proxy.protocols.grpc import MessageError, coding_in, message_in, metadata_in, status_in, timeout_block
from proxy.stores import Heard
from proxy.stores.grpc_exchange import NotSent
from proxy.stores.grpc_line import GrpcLines, Line
from proxy.stores.grpc_upstream import Call
from proxy.wire import AnswerHead, GiveUp, Headers

_TRANSPORT_METADATA: Final = frozenset({"user-agent", "te", "content-type"})


@dataclass(frozen=True, slots=True)
class Server:
    """What all calls to one server share. `timeout_seconds`: longest wait for an answer."""

    address: str
    lines: GrpcLines
    timeout_seconds: float

    def granted(self, seconds: float | None) -> float:
        """How long an answer is waited for, if the client grants so much."""
        return self.timeout_seconds if seconds is None else min(seconds, self.timeout_seconds)

    def answer(self, call: Call) -> tuple[AnswerHead, bytes]:
        """What came back. Raises Unclear if that is no answer."""
        head, trailers = call.head, call.trailers
        told = _told(head.fields, trailers.fields) if head is not None and trailers is not None else None
        if told is None:
            status = head.pseudo.get(b":status", b"").decode() if head is not None else ""
            raise Unclear(f"{self.address} answered without a gRPC status (HTTP {status}); it may have done the work")
        answer, coding = told
        try:
            return answer, message_in(call.body, coding) if answer.status == grpc.OK else b""
        except MessageError as error:
            raise Unclear(f"{self.address} gave no message ({error}); it may have done the work") from error

    def meaning(self, error: CrossfadeError) -> CrossfadeError:
        """Of a call that ended without an answer."""
        if isinstance(error, NotSent):
            return Unavailable(f"{self.address} takes no calls ({error})")
        return Unclear(f"{self.address} gave no answer ({error}); it may have done the work")

    def silent(self, seconds: float) -> Unclear:
        return Unclear(f"{self.address} gave no answer within {seconds:.3f} s; it may still do the work")


class GrpcPassage:
    """A way for calls with the same head, on the fast path."""

    __slots__ = ("_block", "_server")

    def __init__(self, server: Server, block: bytes) -> None:
        self._server = server
        self._block = block

    def send(self, body: bytes, granted_seconds: float | None, heard: Heard) -> GiveUp | None:
        """As of Passage."""
        line = self._server.lines.sendable()
        if line is None:
            return None
        seconds = self._server.granted(granted_seconds)
        watch = Watch(self._server, line, seconds, heard)
        try:
            return watch.begin(self._block + timeout_block(round(seconds * 1000)), body, seconds)
        except NotSent:
            return None


class Watch:
    """A unary call, from its sending to its end. `seconds`: granted for it all. `may_flow`: a large answer is passed
    on as it comes."""

    __slots__ = ("_heard", "_line", "_may_flow", "_seconds", "_server", "_stream_id", "_timer")

    def __init__(self, server: Server, line: Line, seconds: float, heard: Heard, *, may_flow: bool = True) -> None:
        self._server = server
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
                raise self._server.meaning(error) from error
            head, body = self._server.answer(call)
        except CrossfadeError as failure:
            self._heard.failed(failure)
        else:
            self._heard.answered(head, body)

    def _flows(self, head: FieldBlock, answer: Frames) -> Callable[[], None]:
        self._timer.cancel()
        headers = of_the_client(metadata_in(head.fields))
        self._heard.answered(AnswerHead(grpc.OK, headers), answer)
        return partial(self._server.lines.leave, self._line)

    def _fell_silent(self) -> None:
        self._server.lines.retire(self._line)
        self._give_up()
        self._heard.failed(self._server.silent(self._seconds))

    def _leave(self) -> None:
        self._timer.cancel()
        self._server.lines.leave(self._line)


@lru_cache(512)
def _told(head: tuple[Field, ...], trailers: tuple[Field, ...]) -> tuple[AnswerHead, bytes] | None:
    """What the client is told of an answer that begins and ends with these fields, and the coding of its message; None
    if it has no status."""
    if (said := status_in(trailers)) is None:
        return None
    headers = of_the_client(metadata_in(head)) if head is not trailers else ()
    coding = coding_in(head)
    return AnswerHead(said[0], headers, said[1], of_the_client(metadata_in(trailers))), coding


def of_the_client(metadata: Iterable[tuple[str, str | bytes]]) -> Headers:
    """Without what is the transport's."""
    return tuple(
        (name, value)
        for name, value in metadata
        if name not in _TRANSPORT_METADATA and not name.startswith(("grpc-", ":"))
    )
