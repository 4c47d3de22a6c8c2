"""Turns at a collection: some go together, some alone.

In order of arrival, so that neither those who share nor those who want to be alone starve.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Of one collection, in one event loop."""

    def __init__(self) -> None:
        self._together = 0
        self._alone = False
        self._waiting: deque[tuple[bool, asyncio.Future[None]]] = deque()  # (alone, its turn)
        self._turns = Turn(self, alone=False), Turn(self, alone=True)

    def together(self) -> Turn:
        """With others that go together, beside nobody who is alone."""
        return self._turns[0]

    def alone(self) -> Turn:
        return self._turns[1]

    def take(self, *, alone: bool) -> bool:
        """Take one, if it is free; whether it was."""
        if self._waiting or self._alone or (alone and self._together):
            return False
        self._together, self._alone = self._together + (not alone), alone
        return True

    def give_back(self, *, alone: bool) -> None:
        """One that was taken or waited for."""
        self._together, self._alone = self._together - (not alone), self._alone and not alone
        if self._waiting:
            self._admit()

    async def wait(self, *, alone: bool) -> None:
        """Take one, in order of arrival."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((alone, turn))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the turn and the cancellation came at once: give it on
                self.give_back(alone=alone)
            self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting:
            alone, turn = self._waiting[0]
            if not turn.cancelled():
                if self._alone or (alone and self._together):
                    return
                self._together, self._alone = self._together + (not alone), alone
                turn.set_result(None)
            self._waiting.popleft()


class Turn:
    """To be taken by `async with`, by any number. (No generator: two of them stand around every read of a Milvus
    Lite.)"""

    __slots__ = ("_alone", "_turns")

    def __init__(self, turns: Turns, *, alone: bool) -> None:
        self._turns = turns
        self._alone = alone

    async def __aenter__(self) -> None:
        if not self._turns.take(alone=self._alone):
            await self._turns.wait(alone=self._alone)

    async def __aexit__(self, *_: object) -> None:
        self._turns.give_back(alone=self._alone)
