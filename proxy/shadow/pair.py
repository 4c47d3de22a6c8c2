"""One search, put to both stores at once as bytes: what is held until both have answered, and how the answers compare.

    search ─┬─► source ─► answer ─► client, at once
            │                └─────────┐
            └─► target ─► answer ──────┴─► alike: agreed; else both decoded and compared in the model's terms

Rules of the file:

- Nothing here is on the way of the client's answer: a pair is told of it after it has been written.
- What is held has a bound (pairs.py); what does not fit is given up and counted as shed, as is an answer that comes as
  a stream. Of what the client leaves, or has to be answered otherwise, nothing is counted.
- The keys of the collection are clean when both are asked, which whoever begins a pair sees to. So those that differ
  are only looked at once both have answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from msgspec import structs

from proxy.dialects import Dialect, Likeness
from proxy.errors import CrossfadeError
from proxy.model import DataRead
from proxy.shadow.reader import Settled, ShadowReader
from proxy.stores import Forwarder, Passage
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead, Body, GiveUp, Request, Response, close_body, plain

_Answer = tuple[AnswerHead, bytes, float]  # and the seconds that it took
_SUCCESS: Final = {"http": 200, "grpc": 0}
_log = logging.getLogger("crossfade.shadow")


@dataclass(frozen=True, slots=True)
class Other:
    """The other store, for searches with one head. `asked`: the search as it goes there. `collection`: as the figures
    name it. `forwarder`: for when the passage has no connection that is free."""

    reader: ShadowReader
    dialect: Dialect
    collection: str
    asked: Request
    passage: Passage
    forwarder: Forwarder

    def ask(self, body: bytes, request: Callable[[], Request], began: float) -> Pair | None:
        """What the client asks by `request` with that body, and what the source was just asked. None: it was shed."""
        pair = Pair(self, request, self.collection, began)
        return pair if pair.begin(body) else None


@dataclass(slots=True, eq=False)
class Pair:
    """The `Heard` of the other store's answer."""

    other: Other
    request: Callable[[], Request]
    collection: str
    began: float
    held_bytes: int = 0
    is_over: bool = False
    give_up_other: GiveUp | None = None
    ours: _Answer | None = None
    theirs: _Answer | None = None

    @property
    def is_heard(self) -> bool:
        return self.theirs is not None

    def begin(self, body: bytes) -> bool:
        """False: nothing was asked."""
        if not self.other.reader.enter(self, len(body)):
            return False
        give_up = self.other.passage.send(body, None, self)
        self.give_up_other = give_up if give_up is not None else self._forwarding(body)
        return True

    def give_up(self) -> None:
        """The client has left, or is answered otherwise."""
        self.end("")

    def end(self, outcome: str) -> None:
        """It is counted as that, if as anything."""
        if self.is_over:
            return
        self.is_over = True
        self.other.reader.leave(self, outcome)
        give_up, self.give_up_other = self.give_up_other, None
        if give_up is not None:
            give_up()

    # --- the answers -----------------------------------------------------------------------------------

    def first(self, head: AnswerHead, body: Body, seconds: float) -> None:
        """What the client was answered, and how long that took."""
        if not isinstance(body, bytes):
            self.give_up()  # it is the client's to read
        elif not self.is_over and self._keep(body):
            self.ours = head, body, seconds
            if self.theirs is not None:
                self._compare(self.ours, self.theirs)

    def answered(self, head: AnswerHead, body: Body) -> None:
        """As of Heard."""
        self.give_up_other = None
        if not isinstance(body, bytes):
            close_body(body)
            self.end("shed")
        elif not self.is_over and self._keep(body):
            self.theirs = head, body, self.other.reader.now() - self.began
            if self.ours is not None:
                self._compare(self.ours, self.theirs)

    def failed(self, error: CrossfadeError) -> None:
        """As of Heard."""
        self.give_up_other = None
        self.end("error")

    def _forwarding(self, body: bytes) -> GiveUp:
        task = spawn(self._forward(body), name="shadow read")

        def give_up() -> None:
            task.cancel()

        return give_up

    async def _forward(self, body: bytes) -> None:
        try:
            response = await self.other.forwarder.forward(structs.replace(self.other.asked, body=body))
        except CrossfadeError as error:
            self.failed(error)
        else:
            head = AnswerHead(response.status, response.headers, response.message, response.trailers)
            self.answered(head, response.body)

    def _keep(self, body: bytes) -> bool:
        if self.other.reader.pairs.hold(self, len(body)):
            return True
        self.end("shed")
        return False

    # --- comparing ---------------------------------------------------------------------------------------

    def _compare(self, answer: _Answer, other: _Answer) -> None:
        (head, body, seconds), (other_head, other_body, other_seconds) = answer, other
        reader = self.other.reader
        self.is_over = True
        try:
            likeness = self._likeness(head, body, other_head, other_body)
        except Exception:  # noqa: BLE001 - a defect of ours must not end in somebody's connection; it is logged
            _log.exception("shadow read failed")
            reader.leave(self, "error")
            return
        ratio = other_seconds / seconds if seconds > 0 else None
        reader.leave(self, "")
        if likeness is not Likeness.UNLIKE:
            reader.agreed(self.collection, ratio, any_hit=likeness is Likeness.ALIKE)
            return
        ours, theirs = head.with_body(body), other_head.with_body(other_body)
        reader.settle(self.collection, ratio, lambda: self._settled(plain(ours), plain(theirs)))

    def _likeness(self, head: AnswerHead, body: bytes, other_head: AnswerHead, other_body: bytes) -> Likeness:
        asked, dialect = self.other.asked, self.other.dialect
        if not head.status == other_head.status == _SUCCESS[asked.transport]:
            return Likeness.UNLIKE
        if _is_packed(head) or _is_packed(other_head):
            ours, theirs = plain(head.with_body(body)).body, plain(other_head.with_body(other_body)).body
            assert isinstance(ours, bytes)
            assert isinstance(theirs, bytes)
            body, other_body = ours, theirs
        return dialect.likeness(asked.path, body, other_body)

    def _settled(self, ours: Response, theirs: Response) -> Settled | None:
        """None if the model cannot say what was asked. Raises InvalidRequest for an answer that is no success."""
        dialect = self.other.dialect
        call = dialect.decode(self.request())
        if not isinstance(call.operation, DataRead):
            return None
        return Settled(call.operation, dialect.read_reply(call, ours), dialect.read_reply(call, theirs))


def _is_packed(head: AnswerHead) -> bool:
    for name, _ in head.headers:  # noqa: SIM110  any() takes twice as long
        if name == "content-encoding":
            return True
    return False
