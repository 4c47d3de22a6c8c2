"""When the secondary is given the primary's aliases: in the background, until it succeeded, after every change.

Which store is the primary must not change in between, or what was read of the old one would undo what the new one has
been told since: a flip waits until everything is given, and nothing is given until it is decided (flip.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from proxy.clock import Clock
from proxy.errors import CrossfadeError
from proxy.telemetry.tasks import spawn

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 30.0

_log = logging.getLogger("crossfade.replication")


class AliasFollower:
    """In the background, `give` until it succeeds, once nothing `hinders` (a collection may be on its way there)."""

    def __init__(
        self, route: str, give: Callable[[], Awaitable[None]], hinders: Callable[[], bool], clock: Clock
    ) -> None:
        self._route = route
        self._give = give
        self._hinders = hinders
        self._clock = clock
        self._changing = 0  # alias changes that are on their way to the primary
        self._changed = False
        self.paused = False
        self._settled = asyncio.Event()
        self._settled.set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def settled(self) -> bool:
        """Whether the secondary has what the primary has, as far as this process knows."""
        return self._settled.is_set()

    def changed(self) -> None:
        """The primary's aliases are others than before."""
        self._changed = True
        self._settled.clear()
        if not self._closed and (self._task is None or self._task.done()):
            self._task = spawn(self._follow(), name=f"aliases of {self._route}")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """A change is on its way to the primary; whatever comes of it, the primary is looked at afterwards."""
        self._changing += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._changing -= 1
            self.changed()

    async def pause(self) -> None:
        """Return once everything is given; nothing is given any more until `resume`."""
        await self._settled.wait()
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    async def close(self) -> None:
        """What has changed since is given after the next start."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        wait = _FIRST_RETRY_SECONDS
        while self._changed:
            if not self.paused and not self._hinders():
                self._changed = False
                try:
                    await self._give()
                    wait = _FIRST_RETRY_SECONDS
                    if not self._changed and not self._changing:
                        self._settled.set()
                    continue
                except CrossfadeError as error:
                    self._changed = True
                    wait = min(2 * wait, _LAST_RETRY_SECONDS)
                    words = {"route": self._route, "error": error, "retry_seconds": wait}
                    _log.warning("the secondary could not be given the primary's aliases yet", extra=words)
            await self._clock.sleep(wait)
