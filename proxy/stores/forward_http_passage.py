"""HTTP requests whose body is there: sent on one connection and answered without a task; and those with one head, which
can be sent on any that is idle (the fast path).

Rules of the file:

- What is sent up before the body is made once for one head. So is the answer's head, for all answers of the server
  that begin with the same bytes, whoever asked.
- Who hears of an answer hears once, unless the request is given up: the answer, or what became of the request
  otherwise.
- An answer that is longer than a connection holds is handed on as a stream. (Of it, `HttpForwarder.forward` collects
  what it is to collect.)
- Time is the store's silence, before and within the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from proxy.errors import CrossfadeError, Unclear
from proxy.protocols.http1_head import ResponseHead
from proxy.stores import Heard
from proxy.stores.forward_http_bodies import Download
from proxy.stores.http_pool import HttpPool
from proxy.stores.http_upstream import HttpUpstream
from proxy.wire import AnswerHead, GiveUp

_KNOWN_ANSWERS: Final = 512
Told = Callable[[ResponseHead], AnswerHead]


class Server:
    """What all passages to one server share. `told`: what a client is told of an answer's head."""

    def __init__(self, pool: HttpPool, silences: Silences, origin: str, told: Told) -> None:
        self.pool = pool
        self.silences = silences
        self.origin = origin
        self.told = told
        self._answers: dict[bytes, AnswerHead] = {}

    def answer(self, key: bytes, head: ResponseHead) -> AnswerHead:
        """For an answer that begins with the bytes `key`."""
        known = self._answers.get(key)
        if known is None:
            if len(self._answers) >= _KNOWN_ANSWERS:
                self._answers.clear()
            known = self._answers[key] = self.told(head)
        return known

    def download(self, connection: HttpUpstream) -> Download:
        """The body of an answer whose head has come on that connection."""
        stated_bytes = connection.head.body_bytes if connection.head is not None else None
        return Download(connection, self.pool, self.origin, self.silences.seconds, stated_bytes)


class HttpPassage(NamedTuple):
    """A `Passage`. `head`: of the request as it goes up, which states `body_bytes`."""

    server: Server
    method: bytes
    head: bytes
    body_bytes: int

    def send(self, body: bytes, granted_seconds: float | None, heard: Heard) -> GiveUp | None:
        """As of Passage; only a body of the length that the head states."""
        server = self.server
        if len(body) != self.body_bytes:
            return None
        connection = server.pool.take_idle()
        if connection is None:
            return None
        return Watch(server, connection, heard).begin(self.method, self.head, body)


class Silences:
    """How long a server has been silent to those who wait for it, for at most `seconds` each: they are kept in the
    order in which it began, and one timer looks after the first."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began: dict[Watch, float] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, watch: Watch) -> None:
        """Also anew."""
        self._began.pop(watch, None)
        self._began[watch] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self.seconds, self._look)

    def end(self, watch: Watch) -> None:
        self._began.pop(watch, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # whoever still begins is not to wait for ever

    def _look(self) -> None:
        self._timer = None
        while self._began:
            watch, began = next(iter(self._began.items()))
            left_seconds = began + self.seconds - self._loop.time()
            if left_seconds > 0:
                self._timer = self._loop.call_later(left_seconds, self._look)
                return
            del self._began[watch]
            watch.fell_silent()


class Watch:
    """An exchange, of a request whose body is there. `most_bytes`: an answer that is longer is handed on as it comes,
    as is one that is longer than a connection holds."""

    __slots__ = ("_connection", "_heard", "_most_bytes", "_server")

    def __init__(self, server: Server, connection: HttpUpstream, heard: Heard, most_bytes: int | None = None) -> None:
        self._server = server
        self._connection = connection
        self._heard = heard
        self._most_bytes = most_bytes

    def begin(self, method: bytes, head: bytes, body: bytes) -> GiveUp:
        self._server.silences.begin(self)
        self._connection.send_watched(method, head, body, self)
        return self.give_up

    # --- the connection's ----------------------------------------------------------------------------

    def whole(self, key: bytes, head: ResponseHead, body: bytes) -> None:
        self._server.silences.end(self)
        self._server.pool.give_back(self._connection)
        self._heard.answered(self._server.answer(key, head), body)

    def changed(self) -> None:
        connection, server = self._connection, self._server
        head = connection.head
        if head is not None and (body := connection.whole_body) is not None:
            self._leave()
            self._heard.answered(server.told(head), body)
        elif connection.lost:
            self._leave()
            what = "gave no answer" if head is None else "broke off its answer"
            self._heard.failed(self._unclear(f"{what} ({connection.lost}); it may have done the work"))
        elif head is not None and self._is_long(head):
            server.silences.end(self)
            connection.unwatch()
            self._heard.answered(server.told(head), server.download(connection))
        elif head is not None:
            server.silences.begin(self)

    def _is_long(self, head: ResponseHead) -> bool:
        connection, most_bytes = self._connection, self._most_bytes
        if connection.is_full:
            return True
        return most_bytes is not None and max(connection.held_bytes, head.body_bytes or 0) > most_bytes

    def fell_silent(self) -> None:
        seconds = self._server.silences.seconds
        self.give_up()
        self._heard.failed(self._unclear(f"was silent for {seconds} s; it may still do the work"))

    # --------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """The connection is of no more use: an answer may still come on it."""
        self._connection.unwatch()
        self._connection.close()
        self._leave()

    def _leave(self) -> None:
        self._server.silences.end(self)
        self._connection.unwatch()
        self._server.pool.give_back(self._connection)

    def _unclear(self, what: str) -> CrossfadeError:
        return Unclear(f"{self._server.origin} {what}")
