"""Who waits for a place that becomes free, in order of arrival. A place wakes one: if it woke all, of whom one gets it,
each place would cost as much as there are who wait."""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Queue:
    """In one event loop."""

    def __init__(self) -> None:
        self.waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # empty: nobody does
        self.due = 0  # turns that have come, of whoever has not gone on yet: nobody else is to take their places

    async def wait(self, *, again: bool = False) -> None:
        """Until one's turn has come. The place may be somebody else's by then: so wait `again`, before all others."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting[turn] = None
        if again:
            self.waiting.move_to_end(turn, last=False)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self.waiting:
                del self.waiting[turn]
            elif not turn.cancelled():  # it had come: it is the next one's
                self.due -= 1
                self.wake()
            raise
        self.due -= 1

    def wake(self) -> None:
        """A place has become free: the turn of whoever has waited longest."""
        while self.waiting:
            turn, _ = self.waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                self.due += 1
                return

    def wake_all(self) -> None:
        """All have something to learn."""
        while self.waiting:
            self.wake()
