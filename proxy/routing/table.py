"""Which route a collection belongs to, by its own name or by an alias of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

from proxy.config import Config, Route


@dataclass(frozen=True, slots=True)
class Unrouted:
    """No route has the collection. `refused`: nobody answers; otherwise the store `source` does, alone."""

    refused: bool
    source: str


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The routes in order, with their patterns compiled. Made anew for each configuration."""

    _routes: tuple[tuple[re.Pattern[str], Route], ...]
    _otherwise: Route | Unrouted
    _unrouted: Unrouted

    @classmethod
    def of(cls, config: Config) -> RouteTable:
        otherwise: Route | None = None
        if config.unknown_collections == "mirror" and config.default_route is not None:
            otherwise = config.route(config.default_route)
        unrouted = Unrouted(config.unknown_collections == "refuse", config.source_of_the_rest)
        compiled = tuple((re.compile("|".join(map(translate, route.collections))), route) for route in config.routes)
        return cls(compiled, otherwise or unrouted, unrouted)

    def find(self, collection: str, aliases: Iterable[str] = ()) -> Route | Unrouted:
        """The first route one of whose patterns matches the resolved `collection` or one of its `aliases`. None has "",
        which is no name of a collection, though a pattern may match it: the source says so to whoever asks for it."""
        if not collection:
            return self._unrouted
        names = (collection, *aliases)
        for pattern, route in self._routes:
            for name in names:  # any() takes thrice as long
                if pattern.match(name):
                    return route
        return self._otherwise


def target_name(route: Route, collection: str) -> str:
    """What the target calls the source's `collection`."""
    return route.names.get(collection, collection)


def source_name(route: Route, collection: str) -> str:
    """What the source calls the target's `collection`; the inverse of `target_name`."""
    return next((source for source, target in route.names.items() if target == collection), collection)
