"""Aliases on the secondary: those that the primary gives the collections of a route, and no other.

A change is not replayed: whenever one was made, the secondary is given what the primary has by then, so that it does
not matter how often, or in which order, or which process notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from proxy.clock import Clock
from proxy.errors import CrossfadeError
from proxy.model import CreateAlias, DropAlias, Side, UpdateAliases
from proxy.replication.site import StorePair
from proxy.stores import Defining
from proxy.telemetry.tasks import spawn

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 30.0

_log = logging.getLogger("crossfade.replication")


async def give_aliases(stores: StorePair, primary: Side, collections: Iterable[str], secondary: Defining) -> None:
    """An alias that the secondary gives a collection of somebody else is left alone. Raises what the stores raise."""
    theirs = await secondary.aliases()
    ours = {stores.name_at(primary, name): stores.name_at(primary.other, name) for name in collections}
    wanted = {alias: ours[name] for alias, name in (await stores.at(primary).aliases()).items() if name in ours}
    actions: list[CreateAlias | DropAlias] = []
    for alias, name in theirs.items():
        if name in ours.values() and wanted.get(alias) != name:
            actions.append(DropAlias(alias))
    free = theirs.keys() - {action.alias for action in actions if isinstance(action, DropAlias)}
    for alias, name in wanted.items():
        if theirs.get(alias) != name and alias not in free:
            actions.append(CreateAlias(alias, name))
    if actions:
        await secondary.define(UpdateAliases(tuple(actions)))


class AliasFollower:
    """In the background, `give` until it succeeds, once nothing `hinders` (a collection may be on its way there)."""

    def __init__(
        self, route: str, give: Callable[[], Awaitable[None]], hinders: Callable[[], bool], clock: Clock
    ) -> None:
        self._route = route
        self._give = give
        self._hinders = hinders
        self._clock = clock
        self._changed = False
        self._task: asyncio.Task[None] | None = None

    def changed(self) -> None:
        """The primary's aliases are others than before."""
        self._changed = True
        if self._task is None or self._task.done():
            self._task = spawn(self._follow(), name=f"aliases of {self._route}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        wait = _FIRST_RETRY_SECONDS
        while self._changed:
            if not self._hinders():
                self._changed = False
                try:
                    await self._give()
                    wait = _FIRST_RETRY_SECONDS
                    continue
                except CrossfadeError as error:
                    self._changed = True
                    wait = min(2 * wait, _LAST_RETRY_SECONDS)
                    words = {"route": self._route, "error": error, "retry_seconds": wait}
                    _log.warning("the secondary could not be given the primary's aliases yet", extra=words)
            await self._clock.sleep(wait)
