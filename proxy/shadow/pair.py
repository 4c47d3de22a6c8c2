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
from dataclasses import dataclass, replace

from proxy.dialects import Dialect, Likeness
from proxy.errors import CrossfadeError
from proxy.model import DataRead
from proxy.shadow.reader import Settled, ShadowReader
from proxy.stores import Forwarder, Passage
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead, Body, GiveUp, Request, Response, plain

_SUCCESS = {"http": 200, "grpc": 0}
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

    def ask(self, body: bytes, request: Callable[[], Request]) -> Pair | None:
        """What the client asks by `request` with that body, when the source has just been asked. None: it was shed."""
        pair = Pair(self, request, self.reader.now())
        return pair if pair.begin(body) else None


@dataclass(slots=True, eq=False)
class Pair:
    """The `Heard` of the other store's answer."""

    other: Other
    request: Callable[[], Request]
    began: float
    held_bytes: int = 0
    is_over: bool = False
    give_up_other: GiveUp | None = None
    ours: Response | None = None
    our_seconds: float = 0.0
    theirs: Response | None = None
    their_seconds: float = 0.0

    @property
    def collection(self) -> str:
        return self.other.collection

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
            self.ours, self.our_seconds = head.with_body(body), seconds
            self._compare_both()

    def answered(self, head: AnswerHead, body: Body) -> None:
        self._take_theirs(head.with_body(body))

    def failed(self, error: CrossfadeError) -> None:
        self.give_up_other = None
        self.end("error")

    def _forwarding(self, body: bytes) -> GiveUp:
        task = spawn(self._forward(body), name="shadow read")

        def give_up() -> None:
            task.cancel()

        return give_up

    async def _forward(self, body: bytes) -> None:
        try:
            response = await self.other.forwarder.forward(replace(self.other.asked, body=body))
        except CrossfadeError as error:
            self.failed(error)
        else:
            self._take_theirs(response)

    def _take_theirs(self, response: Response) -> None:
        if isinstance(response.body, bytes):
            self.give_up_other = None
            self.other.reader.pairs.heard(self)
            if not self.is_over and self._keep(response.body):
                self.theirs, self.their_seconds = response, self.other.reader.now() - self.began
                self._compare_both()
        else:
            self.give_up_other = _leaving(response)
            self.end("shed")

    def _keep(self, body: bytes) -> bool:
        if self.other.reader.pairs.hold(self, len(body)):
            return True
        self.end("shed")
        return False

    # --- comparing ---------------------------------------------------------------------------------------

    def _compare_both(self) -> None:
        if self.ours is None or self.theirs is None:
            return
        self.is_over = True
        reader = self.other.reader
        try:
            ours, theirs = plain(self.ours), plain(self.theirs)
            likeness = self._likeness(ours, theirs)
        except Exception:  # noqa: BLE001 - a defect of ours must not end in somebody's connection; it is logged
            _log.exception("shadow read failed")
            reader.leave(self, "error")
            return
        ratio = self.their_seconds / self.our_seconds if self.our_seconds > 0 else None
        reader.leave(self, "")
        if likeness is Likeness.UNLIKE:
            reader.settle(self.collection, ratio, lambda: self._settled(ours, theirs))
        else:
            reader.agreed(self.collection, ratio, any_hit=likeness is Likeness.ALIKE)

    def _likeness(self, ours: Response, theirs: Response) -> Likeness:
        asked = self.other.asked
        if not ours.status == theirs.status == _SUCCESS[asked.transport]:
            return Likeness.UNLIKE
        assert isinstance(ours.body, bytes)
        assert isinstance(theirs.body, bytes)
        return self.other.dialect.likeness(asked.path, ours.body, theirs.body)

    def _settled(self, ours: Response, theirs: Response) -> Settled | None:
        """None if the model cannot say what was asked. Raises InvalidRequest for an answer that is no success."""
        dialect = self.other.dialect
        call = dialect.decode(self.request())
        if not isinstance(call.operation, DataRead):
            return None
        return Settled(call.operation, dialect.read_reply(call, ours), dialect.read_reply(call, theirs))


def _leaving(response: Response) -> GiveUp:
    """What ends an answer that comes as a stream."""

    def leave() -> None:
        close = getattr(response.body, "aclose", None)
        if close is not None:
            spawn(close(), name="an answer that nobody reads")

    return leave
