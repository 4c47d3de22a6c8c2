"""What of a new configuration a running proxy can take, and what needs a restart.

A reload that holds one change of the second kind is refused as a whole: half a change is a state that
nobody wrote down.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from proxy.config.document import Path
from proxy.config.routes import Route
from proxy.config.shape import Config

LIVE_IN_A_ROUTE = frozenset({"reads", "rules", "shadow", "writes", "tenant_field", "backfill", "cutover"})
LIVE = frozenset({"auth", "logging"})
_WHY = {
    "workers": "each has a socket behind every port",
    "data_dir": "the journal in it is open",
    "listeners": "the sockets are open",
    "control": "its socket is open",
    "probes": "its socket is open",
    "stores": "stores are connected once, at start",
    "unknown_collections": "it decides which writes are journalled",
    "default_route": "it decides which writes are journalled",
    "default_source": "requests that belong to no route are with it",
}


class Change(NamedTuple):
    """`path`: where it stands in the new configuration."""

    path: Path
    sentence: str


def changed(old: Config, new: Config) -> tuple[Change, ...]:
    """Each difference that needs a restart; empty if `new` can be taken while running."""
    return tuple(_differences(old, new))


def _differences(old: Config, new: Config) -> Iterator[Change]:
    for key in Config.model_fields:
        if key in LIVE or key == "routes" or getattr(old, key) == getattr(new, key):
            continue
        if key == "stores":
            names = (*old.stores, *(name for name in new.stores if name not in old.stores))
            which = [name for name in names if old.stores.get(name) != new.stores.get(name)]
            sentence = f"stores.{', stores.'.join(which)} changed, and needs a restart: {_WHY[key]}"
            yield Change(("stores", which[0]), sentence)
        else:
            yield Change((key,), f"{key} changed, and needs a restart: {_WHY[key]}")
    before, after = [route.name for route in old.routes], [route.name for route in new.routes]
    if before != after:
        yield Change(
            ("routes",),
            f"the routes were {', '.join(before) or 'none'} and are {', '.join(after) or 'none'}, which needs a "
            "restart: routes and their order decide which writes are journalled",
        )
    for route in old.routes:
        other = new.route(route.name)
        if other is not None:
            yield from _route_differences(route, other, ("routes", after.index(route.name)))


def _route_differences(old: Route, new: Route, path: Path) -> Iterator[Change]:
    for key in Route.model_fields:
        if key not in LIVE_IN_A_ROUTE and getattr(old, key) != getattr(new, key):
            yield Change(
                (*path, key),
                f"{key} of the route {old.name} changed, and needs a restart: what moves, where to and how it is "
                "replicated is fixed while the route is at work",
            )
