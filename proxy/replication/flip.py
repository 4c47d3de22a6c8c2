"""Moving the primary: two records in the journal, and a hold of new writes between them. For one route.

1. PREPARE. Whoever reads it begins no write from there on, gives the secondary the last of the primary's aliases, and
   says so (READY). What was begun before goes on.
2. Wait until every process is ready, nothing is open, and nothing is dirty or held.
3. COMMIT: the first decision of the epoch counts, and a COMMIT while anything is outstanding is none (book.py). Past
   the bound anyone may append ABORT, with the reason.
4. Writes that were held go to the primary that there is then.

A held write leaves only on reading the decision; if none can be read in time, it is refused and the client may try
again. So no write fails because of a flip, unless the journal is gone. A process that dies in between leaves an open
PREPARE behind; whoever is there, or starts next, aborts it when the bound has passed.

In an emergency nothing is waited for: the COMMIT follows the PREPARE at once, and counts.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.errors import GateClosed, JournalError, TryAgain
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.alias_follower import AliasFollower
from proxy.replication.book import Flip, RouteBook
from proxy.replication.hooks import Hook
from proxy.replication.journal import Journal
from proxy.telemetry.tasks import spawn

_GRACE_SECONDS = 1.0  # for the one who began it to append its own ABORT
_log = logging.getLogger("crossfade.flip")


@dataclass(frozen=True, slots=True)
class Flipped:
    """`held_seconds`: from PREPARE to the decision; no write waited longer."""

    primary: Side
    held_seconds: float


class Flips:
    """The flips of one route, as this process takes part in them."""

    def __init__(
        self,
        route: str,
        journal: Journal,
        book: RouteBook,
        aliases: AliasFollower,
        clock: Clock,
        hook: Hook,
        bound_seconds: float,
    ) -> None:
        self.bound_seconds = bound_seconds
        self._route = route
        self._journal = journal
        self._book = book
        self._aliases = aliases
        self._clock = clock
        self._hook = hook
        self._passable = asyncio.Event()
        self._news = asyncio.Event()
        self._told: asyncio.Event | None = None  # set once, with the next record, if somebody waits for it
        self._tasks: tuple[asyncio.Task[None], ...] = ()  # while a flip is under way
        if book.flip is not None:
            self._hold(book.flip)
        else:
            self._passable.set()

    # --- writes ------------------------------------------------------------------------------

    async def passage(self) -> None:
        """Return when a write may begin. Raises TryAgain if no decision of a flip can be read in time."""
        if self._passable.is_set():
            return
        try:
            async with asyncio.timeout(self.bound_seconds + 2 * _GRACE_SECONDS):
                await self._passable.wait()
        except TimeoutError:
            raise TryAgain("the write was refused: the primary is being moved, and no decision can be read") from None

    def came_too_late(self, begin: int, primary: Side) -> bool:
        """Whether a write that was begun at `begin` for `primary` must not be sent: there was a PREPARE before it, or
        the primary is another one by now."""
        flip = self._book.flip
        return primary is not self._book.primary or (flip is not None and flip.epoch < begin)

    async def news(self) -> None:
        """Return when the journal has said something more of the route."""
        if self._told is None:
            self._told = asyncio.Event()
        await self._told.wait()

    # --- what the journal says -----------------------------------------------------------------

    def tell(self) -> None:
        """The journal has said something more of the route."""
        self._news.set()
        if self._told is not None:
            self._told.set()
            self._told = None

    def applied(self, record: r.AnyRecord) -> None:
        """Every record of the route as a whole, and those of owners, after the book has taken it."""
        self.tell()
        flip = self._book.flip
        match record:
            case r.Prepare() if flip is not None and self._passable.is_set():
                self._hold(flip)
            case r.Commit() | r.Abort() if flip is None and not self._passable.is_set():
                self._release(record)
            case r.Commit(emergency=True):
                self._release(record)
            case r.Leave(owner=owner) if flip is not None and flip.owner == owner:
                self._abort(flip, "the process that began it is gone")

    def _hold(self, flip: Flip) -> None:
        self._passable.clear()
        self._tasks = (
            spawn(self._get_ready(flip), name="ready for a flip"),
            spawn(self._abort_in_time(flip), name="flip"),
        )

    async def _get_ready(self, flip: Flip) -> None:
        await self._aliases.pause()
        self._journal.append(r.Ready(route=self._route, epoch=flip.epoch, owner=self._journal.owner))

    def _release(self, record: r.AnyRecord) -> None:
        for task in self._tasks:
            task.cancel()
        self._aliases.resume()
        self._passable.set()
        words = {"route": self._route, "primary": self._book.primary.value}
        if isinstance(record, r.Abort):
            _log.warning("the primary was not moved", extra=words | {"reason": record.reason})
        else:
            _log.warning("the primary was moved", extra=words)

    async def _abort_in_time(self, flip: Flip) -> None:
        await self._clock.sleep(self.bound_seconds + _GRACE_SECONDS)
        self._abort(flip, f"no decision within {self.bound_seconds + _GRACE_SECONDS:g} s")

    def _abort(self, flip: Flip, reason: str) -> None:
        with suppress(JournalError):  # this process is stopping: another one sees to it
            self._journal.append(r.Abort(route=self._route, epoch=flip.epoch, reason=reason))

    # --- the one who moves it --------------------------------------------------------------------

    async def move(self, to: Side, phase: str) -> Flipped:
        """Make `to` the primary, in order. Raises GateClosed with what was outstanding if it cannot be done in time;
        then nothing has changed."""
        began = self._clock.now()
        prepared = await self._journal.append(r.Prepare(route=self._route, owner=self._journal.owner, to=to))
        epoch = prepared.position
        if self._book.flip is None or self._book.flip.epoch != epoch:
            raise GateClosed(f"the primary of {self._route!r} is {self._book.primary.value}, or is being moved already")
        await self._hook("PREPARE durable")
        try:
            async with asyncio.timeout(self.bound_seconds):
                await self._decide(epoch, to, phase)
        except TimeoutError:
            reason = f"after {self.bound_seconds:g} s {self._outstanding()}"
            await self._journal.append(r.Abort(route=self._route, epoch=epoch, reason=reason))
            if self._book.primary is not to:
                raise GateClosed(f"the primary was not moved, and nothing was changed: {reason}") from None
        if self._book.primary is not to:
            raise GateClosed("the primary was not moved, and nothing was changed: another process decided so")
        await self._hook("COMMIT durable")
        return Flipped(to, self._clock.now() - began)

    async def _decide(self, epoch: int, to: Side, phase: str) -> None:
        """A COMMIT that something came before is none, so it is tried again."""
        while self._book.flip is not None and self._book.flip.epoch == epoch:
            while not self._rests(epoch):
                self._news.clear()
                await self._news.wait()
            await self._hook("all acknowledged")
            await self._journal.append(r.Commit(route=self._route, epoch=epoch, to=to, phase=phase))

    async def move_now(self, to: Side, phase: str) -> None:
        """Make `to` the primary in an emergency, whatever is outstanding. Raises JournalError; then nothing has
        changed."""
        # for the file beside the journal: it must not name the old primary when the journal is lost after COMMIT
        prepared = await self._journal.append(r.Prepare(route=self._route, owner=self._journal.owner, to=to))
        try:
            await self._journal.append(r.Commit(route=self._route, epoch=0, to=to, phase=phase, emergency=True))
        except BaseException as error:  # nothing may stay held
            reason = f"in an emergency: {error}"
            self._journal.append(r.Abort(route=self._route, epoch=prepared.position, reason=reason))
            raise

    def _rests(self, epoch: int) -> bool:
        flip = self._book.flip
        if flip is None or flip.epoch != epoch:
            return True  # somebody has decided
        return flip.ready >= self._journal.book.owners.keys() and self._book.at_rest

    def _outstanding(self) -> str:
        """What keeps the primary from being moved, in words."""
        if self._journal.unsaved:
            return f"the file beside the journal could not be written ({self._journal.unsaved}): see to its disk"
        flip = self._book.flip
        silent = self._journal.book.owners.keys() - flip.ready if flip is not None else set()
        if silent:
            of = f"{len(silent)} of {len(self._journal.book.owners)} processes"
            return f"{of} had not stopped their writes and given the aliases"
        for name, ledger in self._book.ledgers.items():
            if not ledger.at_rest or ledger.parked or ledger.parked_whole:
                return (
                    f"the collection {name!r} had {ledger.open_count} open, {len(ledger.marks)} dirty, "
                    f"{ledger.held_count} held and {len(ledger.parked)} parked keys"
                )
        return "requests from before the mirror may still be landing"

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
