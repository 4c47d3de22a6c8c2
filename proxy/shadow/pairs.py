"""Which searches both stores have been asked, and what is held of them: bounded in bytes and in time.

Time is the other store's: a pair whose other answer has come may wait for its own as long as the source takes.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from proxy.clock import Clock

HELD_BYTES: Final = 4 * 1024 * 1024  # of searches and of answers that wait for the other one, by route


class Waiting(Protocol):
    """A search that both stores have been asked. `began`: when, by the clock of `Pairs`. `is_heard`: the other store
    has answered."""

    collection: str
    began: float
    held_bytes: int

    @property
    def is_heard(self) -> bool: ...

    def end(self, outcome: str) -> None:
        """Give it up; it is counted as that, "" as nothing."""
        ...


class Pairs:
    """Of one route. `timeout_seconds`: longest wait for the other store."""

    def __init__(self, clock: Clock, timeout_seconds: float) -> None:
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._all: dict[Waiting, None] = {}  # in the order in which they began
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._none_left: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._all)

    @property
    def room_bytes(self) -> int:
        """How much more can be held."""
        return HELD_BYTES - self._held_bytes

    def add(self, pair: Waiting, size_bytes: int) -> bool:
        """One more, with a search of that size; False if it does not fit."""
        if not self.hold(pair, size_bytes):
            return False
        self._all[pair] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_seconds, self._look)
        return True

    def hold(self, pair: Waiting, size_bytes: int) -> bool:
        """So much more for it, if that fits."""
        held_bytes = self._held_bytes + size_bytes
        if held_bytes > HELD_BYTES:
            return False
        pair.held_bytes += size_bytes
        self._held_bytes = held_bytes
        return True

    def remove(self, pair: Waiting) -> None:
        """It is over, and no longer held. Once is enough; more do nothing."""
        if pair not in self._all:
            return
        del self._all[pair]
        self._held_bytes -= pair.held_bytes
        if not self._all and self._none_left is not None:
            self._none_left.set_result(None)
            self._none_left = None

    async def gone(self) -> None:
        """Return when there is none."""
        if self._all:
            self._none_left = self._none_left or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._none_left)

    def close(self) -> None:
        """Give up all."""
        for pair in tuple(self._all):
            pair.end("")
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Give up those whom the other store has not answered in time."""
        self._timer = None
        now = self._clock.now()
        for pair in [pair for pair in self._all if not pair.is_heard]:
            left_seconds = pair.began + self._timeout_seconds - now
            if left_seconds > 0:
                self._timer = asyncio.get_running_loop().call_later(left_seconds, self._look)
                return
            pair.end("error")
