"""Names: which collection an alias stands for, as the source says. Lanes and keys use the resolved name.

Aliases are asked for again after every alias call that passes here, and every few seconds: a change that goes past
the proxy is seen late. Until the first answer nothing is resolved, and writes are refused rather than misfiled. The
collections of a route whose primary is the target have the aliases that the target gives them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proxy.clock import Clock
from proxy.errors import CrossfadeError, TryAgain
from proxy.stores import Store
from proxy.telemetry.tasks import spawn

_EVERY_SECONDS = 5.0
STALE_SECONDS = 2 * _EVERY_SECONDS  # after which every process has seen what an alias stands for
_log = logging.getLogger("crossfade.names")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A store that is the primary of some collections: those of which `has` is true, by the source's names.
    `source_name` turns the store's names into the source's."""

    store: Store
    has: Callable[[str], bool]
    source_name: Callable[[str], str]


class Names:
    """Of one source. `elsewhere` tells which stores are asked too."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.elsewhere: Callable[[], Sequence[Elsewhere]] = tuple
        self._store = store
        self._clock = clock
        self.by_alias: Mapping[str, str] = {}  # another object once a name means something else
        self._by_collection: dict[str, tuple[str, ...]] = {}
        self.known = False
        self._task = spawn(self._refresh_forever(), name="aliases")

    def resolve(self, name: str) -> str:
        return self.by_alias.get(name, name)

    def aliases_of(self, collection: str) -> tuple[str, ...]:
        return self._by_collection.get(collection, ())

    async def refresh(self) -> None:
        """Ask now. Raises what the store raises."""
        by_alias = await self._ask()
        by_collection: dict[str, tuple[str, ...]] = {}
        for alias, collection in by_alias.items():
            by_collection[collection] = (*by_collection.get(collection, ()), alias)
        if by_alias != self.by_alias:
            self.by_alias, self._by_collection = by_alias, by_collection
        self.known = True

    async def _ask(self) -> Mapping[str, str]:
        elsewhere = self.elsewhere()
        if not elsewhere:
            return await self._store.aliases()
        try:
            found = dict(await self._store.aliases())
        except CrossfadeError:  # the source may be gone by now
            found = dict(self.by_alias)
        for other in elsewhere:
            theirs = {alias: other.source_name(name) for alias, name in (await other.store.aliases()).items()}
            found = {alias: name for alias, name in found.items() if not other.has(name)}
            found.update((alias, name) for alias, name in theirs.items() if other.has(name))
        return found

    async def need(self) -> None:
        """Raises TryAgain while the source has never told its aliases."""
        if not self.known:
            try:
                await self.refresh()
            except CrossfadeError as error:
                raise TryAgain(f"the source does not answer yet, so names cannot be resolved: {error}") from error

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh_forever(self) -> None:
        while True:
            try:
                await self.refresh()
            except CrossfadeError as error:
                _log.debug("aliases could not be read", extra={"error": error})
            await self._clock.sleep(_EVERY_SECONDS if self.known else 0.5)
