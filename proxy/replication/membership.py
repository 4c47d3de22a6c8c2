"""Membership: which processes work on the journal, and which of them does what only one should.

The *leader* is the one that joined first of those that are not gone. It closes the intervals of a process that is gone
(as unknown: dirty and held), takes over its dirty keys and its jobs, and starts sweeps. There is no election: everybody
reads the same order in the journal, and the kernel tells who is gone (owners.py). Should two take themselves for the
leader for a moment, they write the same records twice, which changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from proxy.clock import Clock
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.ledger import Effects
from proxy.telemetry.tasks import spawn

_LOOK_SECONDS = 0.25
_log = logging.getLogger("crossfade.owners")

T = TypeVar("T", bound=Hashable)
HoldSeconds = Callable[[str, Side], float]  # (route, side) -> how long a request to that store may live


class Membership:
    """Of this process. `hold_seconds` is asked for the intervals of those that are gone."""

    def __init__(self, journal: Journal, hold_seconds: HoldSeconds, clock: Clock) -> None:
        self._journal = journal
        self._hold_seconds = hold_seconds
        self._clock = clock
        self._listeners: list[Callable[[], None]] = []
        self._mourners: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._closed: set[int] = set()  # intervals whose Close is on its way
        self._left: set[str] = set()
        self.leads = False
        journal.subscribe(self._applied)

    @property
    def others(self) -> tuple[str, ...]:
        """The other processes that have the journal open."""
        return tuple(owner for owner in self._journal.book.owners if owner != self._journal.owner)

    def on_lead(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever this process has something to take over."""
        self._listeners.append(listener)

    def on_gone(self, mourner: Callable[[], None]) -> None:
        """Call `mourner` for every process that is found gone without having left, if this one leads."""
        self._mourners.append(mourner)

    def takes(self, owner: str) -> bool:
        """Whether work that `owner` left ("": nobody in particular) is this process's."""
        if owner == self._journal.owner:
            return True
        return self.leads and owner not in self._journal.book.owners

    def start(self) -> None:
        """Look once, now, and then for as long as the process lives."""
        self.look()
        self._task = spawn(self._watch(), name="owners")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        book, lock = self._journal.book, self._journal.lock
        gone = [owner for owner in book.owners if lock.is_gone(owner)]
        first = next((owner for owner in sorted(book.owners, key=book.owners.__getitem__) if owner not in gone), "")
        led, self.leads = self.leads, first in ("", self._journal.owner)
        if self.leads:
            self._close(lambda owner: owner in gone or owner not in book.owners)
            for owner in self._news(gone, self._left):
                _log.warning("a process is gone: what it had open is closed for it", extra={"owner": owner})
                for mourner in self._mourners:
                    mourner()
                self._journal.append(r.Leave(route="", owner=owner))
            if not led:
                self._tell()

    def _applied(self, _: int, record: r.AnyRecord, __: Effects) -> None:
        if isinstance(record, r.Leave) and self.leads:
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def _close(self, is_gone: Callable[[str], bool]) -> None:
        theirs = {
            interval.position: (route, collection, interval.record)
            for route, collection, interval in self._journal.book.open_intervals()
            if is_gone(interval.record.owner)
        }
        for position in self._news(theirs, self._closed):
            route, collection, record = theirs[position]
            side = record.secondary if isinstance(record, r.BeginReconcile | r.BeginPage) else record.primary
            seconds = self._hold_seconds(route, side)
            if isinstance(record, r.BeginScope) and record.definition:  # it may have been at work on either store
                other = self._hold_seconds(route, side.other)
                self._journal.append(
                    r.HoldSide(route=route, collection=collection, side=side.other, hold_seconds=other)
                )
            self._journal.append(r.Close(route=route, collection=collection, begin=position, hold_seconds=seconds))

    @staticmethod
    def _news(found: Iterable[T], known: set[T]) -> list[T]:
        """What is found and was not known, in order; known are from now on those that are found."""
        there = list(found)
        news = [each for each in there if each not in known]
        known.intersection_update(there)
        known.update(news)
        return news

    async def _watch(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            self.look()
