"""Figures that nobody counts on the way: gauges over live objects, the journal's commits, whether stores answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version

from proxy.clock import Clock
from proxy.errors import CrossfadeError
from proxy.replication.journal import Commit, Journal
from proxy.serving.live import LiveRoute
from proxy.stores import Store
from proxy.telemetry.instruments import Reading
from proxy.telemetry.metrics import Metrics

_PROBE_EVERY_SECONDS = 5.0
_PROBE_LIMIT_SECONDS = 2.0
_log = logging.getLogger("crossfade.stores")


class Figures:
    """Made by the app; `probe_forever` is one of its tasks."""

    def __init__(
        self,
        metrics: Metrics,
        journal: Journal,
        routes: Mapping[str, LiveRoute],
        stores: Mapping[str, Store],
        clock: Clock,
    ) -> None:
        self._metrics = metrics
        self._routes = routes
        self._stores = stores
        self._clock = clock
        self._up: dict[str, bool] = {}
        journal.on_commit = self._commit
        metrics.journal_bytes.watch(lambda: [((), float(journal.size_bytes()))])
        metrics.keys.watch(self._keys)
        metrics.oldest_seconds.watch(self._each(lambda route: route.replicator.lag().oldest_seconds))
        metrics.hint_bytes.watch(self._each(lambda route: float(route.replicator.hint_bytes())))
        metrics.secondary_readable.watch(self._each(lambda route: float(route.readable)))
        metrics.weight.watch(self._each(lambda route: route.weight))
        metrics.build.set(1, version("crossfade"))
        self.config_loaded()

    def config_loaded(self) -> None:
        self._metrics.config_loaded.set(time.time())

    async def probe_forever(self) -> None:
        """Ask every store now and then whether it is there, and say when that changes."""
        while True:
            await asyncio.gather(*(self._probe(name, store) for name, store in self._stores.items()))
            await self._clock.sleep(_PROBE_EVERY_SECONDS)

    async def _probe(self, name: str, store: Store) -> None:
        try:
            async with asyncio.timeout(_PROBE_LIMIT_SECONDS):
                await store.probe()
            up = True
        except (CrossfadeError, TimeoutError) as error:
            up = False
            if self._up.get(name, True):
                _log.warning("a store does not answer", extra={"store": name, "error": error})
        if up and self._up.get(name) is False:
            _log.info("a store answers again", extra={"store": name})
        self._up[name] = up
        self._metrics.store_up.set(float(up), name)

    def _commit(self, commit: Commit) -> None:
        self._metrics.journal_commit_seconds.observe(commit.seconds)
        self._metrics.journal_batch.observe(len(commit.records))
        for record in commit.records:
            self._metrics.journal_records.add(type(record).__name__)

    def _keys(self) -> Iterable[Reading]:
        for name, route in self._routes.items():
            lag = route.replicator.lag()
            for state in ("open", "dirty", "held", "parked"):
                yield (name, state), float(getattr(lag, state))

    def _each(self, figure: Callable[[LiveRoute], float]) -> Callable[[], list[Reading]]:
        return lambda: [((name,), figure(route)) for name, route in self._routes.items()]
