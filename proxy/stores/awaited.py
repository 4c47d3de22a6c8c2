"""Somebody who waits in a task for an answer that is watched without one."""

from __future__ import annotations

import asyncio

from proxy.errors import CrossfadeError
from proxy.wire import AnswerHead, Body, GiveUp, Response


class Awaited:
    """The `Heard` of one request."""

    __slots__ = ("_answer", "_body", "_is_told")

    def __init__(self) -> None:
        self._answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._body: Body = b""
        self._is_told = False

    def answered(self, head: AnswerHead, body: Body) -> None:
        self._is_told = True
        self._body = body
        if not self._answer.done():  # cancelled in this turn
            self._answer.set_result(head.with_body(body))

    def failed(self, error: CrossfadeError) -> None:
        self._is_told = True
        if not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # whoever waits may be cancelled in this turn

    async def whole(self, give_up: GiveUp) -> Response:
        """The answer. Raises what came of the request otherwise. `give_up`: of the request, if nobody waits any
        more."""
        try:
            return await self._answer
        except asyncio.CancelledError:
            if not self._is_told:
                give_up()
            elif (leave := getattr(self._body, "leave", None)) is not None:  # a stream that nobody reads
                leave()
            raise
