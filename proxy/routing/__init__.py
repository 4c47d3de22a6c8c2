"""Routing: what is known of a read, and the route's settings -> which side answers, and why. Pure.

    request ─► `RouteTable.find` ─► Route ─► `facts_of` ─► `decide_read` ─► Decision(side, reason, shadow)

After the decision nobody looks at the request again to choose a store. Neither clock nor chance is in
here: lag comes in as an obstacle that `LagGate` found, chance as a `draw`. What is sticky is decided by a
hash of it (`bucket`), so that raising a weight only ever moves clients forward, and every proxy of a
route decides alike. Writes are not routed: they go to the primary.
"""

from __future__ import annotations

from proxy.routing.decide import Decision, asks_for_tenants, decide_read, is_sampled, stays_with_source
from proxy.routing.facts import Facts, client_host, facts_of, headers_of, tenant_of
from proxy.routing.lag import LagGate
from proxy.routing.table import RouteTable, Unrouted, source_name, target_name

__all__ = [
    "Decision",
    "Facts",
    "LagGate",
    "RouteTable",
    "Unrouted",
    "asks_for_tenants",
    "client_host",
    "decide_read",
    "facts_of",
    "headers_of",
    "is_sampled",
    "source_name",
    "stays_with_source",
    "target_name",
    "tenant_of",
]
