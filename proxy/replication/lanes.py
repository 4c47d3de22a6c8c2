"""Lanes: in this process, the writes of one key happen one after the other, in the order in which they came.

A writer takes the lanes of all its keys in one step, so two writers can never wait for each other. A waiting
writer holds up nobody but later writers of the same keys.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable, Iterable
from contextlib import AbstractAsyncContextManager

from proxy.replication.bulk import assign, has_none_of, remove


class _Ticket:
    """A context manager (one of `contextlib`'s takes thrice as long, and every write has one)."""

    __slots__ = ("_keys", "_lanes", "ahead", "crowded", "turn")

    def __init__(self, lanes: Lanes, keys: tuple[Hashable, ...]) -> None:
        self._lanes = lanes
        self._keys = keys
        self.ahead = 0  # lanes in which somebody else stands in front
        self.crowded = False  # somebody else is or was in one of its lanes
        self.turn: asyncio.Future[None] | None = None

    async def __aenter__(self) -> None:
        self._lanes.enter(self._keys, self)
        if self.ahead:
            self.turn = asyncio.get_running_loop().create_future()
            try:
                await self.turn
            except BaseException:
                self._lanes.leave(self._keys, self)
                raise

    async def __aexit__(self, *_: object) -> None:
        self._lanes.leave(self._keys, self)


class Lanes:
    """Keys are anything hashable."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, _Ticket | deque[_Ticket]] = {}  # who is there alone, or all who are, first to last

    def hold(self, keys: Iterable[Hashable]) -> AbstractAsyncContextManager[None]:
        """Wait until every lane is ours, and keep them for the block, once. Repeated keys count once."""
        return _Ticket(self, tuple(dict.fromkeys(keys)))

    def enter(self, keys: tuple[Hashable, ...], ticket: _Ticket) -> None:
        if has_none_of(self._lanes, keys):
            assign(self._lanes, keys, ticket)
            return
        ticket.crowded = True
        for key in keys:
            lane = self._lanes.get(key)
            if lane is None:
                self._lanes[key] = ticket
                continue
            if isinstance(lane, _Ticket):
                lane.crowded = True
                lane = self._lanes[key] = deque((lane,))
            ticket.ahead += 1
            lane.append(ticket)

    def leave(self, keys: tuple[Hashable, ...], ticket: _Ticket) -> None:
        if not ticket.crowded:
            remove(self._lanes, keys)
            return
        for key in keys:
            lane = self._lanes[key]
            if isinstance(lane, _Ticket):
                del self._lanes[key]
                continue
            if lane[0] is not ticket:  # given up while waiting
                lane.remove(ticket)
                continue
            lane.popleft()
            if not lane:
                del self._lanes[key]
                continue
            follower = lane[0]
            follower.ahead -= 1
            if not follower.ahead and follower.turn is not None and not follower.turn.done():
                follower.turn.set_result(None)
