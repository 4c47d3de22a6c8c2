"""Waiting for the secondary: which writes are confirmed there, for the policies `both` and `both-required`.

A write is confirmed when, for each of its keys, a reconciliation that began after the write's END has ended without
overlap, with another one or with a page of the backfill (ledger.py says which keys are).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from proxy.model import PointId


class _Wait:
    __slots__ = ("after", "done", "missing")

    def __init__(self, after: int, missing: set[PointId]) -> None:
        self.after = after
        self.missing = missing
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Confirmations:
    """For one collection."""

    def __init__(self) -> None:
        self._waiting: dict[PointId, list[_Wait]] = {}

    async def wait(self, ids: Iterable[PointId], after: int, limit_seconds: float) -> bool:
        """Whether every key was reconciled by a batch that began after position `after`, within the limit."""
        wait = _Wait(after, set(ids))
        if not wait.missing:
            return True
        for point_id in wait.missing:
            self._waiting.setdefault(point_id, []).append(wait)
        try:
            async with asyncio.timeout(limit_seconds):
                await wait.done
        except TimeoutError:
            return False
        finally:
            for point_id in wait.missing:
                self._forget(point_id, wait)
        return True

    def confirmed(self, keys: Mapping[PointId, int]) -> None:
        """The secondary has these keys as they were when the reconciliation at that position began, or it parked them;
        nothing older is on its way."""
        if not self._waiting:
            return
        for point_id, began in keys.items():
            for wait in tuple(self._waiting.get(point_id, ())):
                if began > wait.after:
                    wait.missing.discard(point_id)
                    self._forget(point_id, wait)
                    if not wait.missing and not wait.done.done():
                        wait.done.set_result(None)

    def _forget(self, point_id: PointId, wait: _Wait) -> None:
        waiting = self._waiting.get(point_id)
        if waiting and wait in waiting:
            waiting.remove(wait)
            if not waiting:
                del self._waiting[point_id]
