"""Where a collection is: under which name, on which source, and on which route."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from proxy.errors import CrossfadeError, NotServed
from proxy.model import Metric
from proxy.replication.site import Site
from proxy.routing import RouteTable, Unrouted
from proxy.serving.live import LiveRoute
from proxy.serving.upstream import Upstream
from proxy.telemetry.tasks import spawn


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collection is: its resolved name, its source, and the route that has it (None: no route does)."""

    collection: str
    upstream: Upstream
    route: LiveRoute | None


@dataclass(slots=True)
class Switchboard:
    """All routes and sources of the process; `table` is replaced by a reload."""

    table: RouteTable
    routes: Mapping[str, LiveRoute]
    upstreams: Mapping[str, Upstream]
    default: Upstream  # answers what belongs to no collection

    def locate(self, name: str) -> Place:
        """Where the collection is that a client calls `name`. Raises NotServed if the configuration refuses it."""
        for source, upstream in self.upstreams.items():
            collection = upstream.names.resolve(name)
            found = self.table.find(collection, upstream.names.aliases_of(collection))
            if not isinstance(found, Unrouted) and found.source == source:
                return Place(collection, upstream, self.routes[found.name])
        if isinstance(found, Unrouted) and found.refused:
            raise NotServed(f"collection {name!r} belongs to no route, and unknown_collections is `refuse`")
        upstream = self.upstreams[found.source]
        return Place(upstream.names.resolve(name), upstream, None)

    def metric_of(self, name: str, using: str) -> Metric | None:
        """The metric of a vector of the collection that a client calls `name`; None while it is not known. Dialects
        need it to understand a score threshold; asking for it starts finding it out."""
        try:
            place = self.locate(name)
        except NotServed:
            return None
        if place.route is None or not place.route.replicator.knows(place.collection):
            return None
        site = place.route.replicator.workshop(place.collection).site
        if site.spec is None:
            spawn(_learn(site), name="description of a collection")
            return None
        vector = site.spec.vectors.get(using)
        return vector.metric if vector is not None else None


async def _learn(site: Site) -> None:
    with contextlib.suppress(CrossfadeError):  # the next request asks again
        await site.known_spec()
