"""Shadow reads on the fast path: where the other store is one of the client's own vendor, it is asked the same bytes.

Rules of the file:

- What goes to the other store has nothing of the client's but what is asked: no key, no header. Where that store wants
  a key, only searches that the proxy has checked itself go there with it; all others are shadowed on the slow path,
  which asks the target once the source has answered.
- Only what the model could say is compared, as on the slow path; so what is asked is decoded, once for all searches
  that differ in nothing but their vector.
- Only while the collection is at rest: every key is clean when the stores are asked. Otherwise the slow path knows
  which keys are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec import structs

from proxy.dialects import Dialect, Glance
from proxy.errors import CrossfadeError
from proxy.model import DataRead
from proxy.routing import target_name
from proxy.serving.live import LiveRoute
from proxy.serving.switchboard import Place
from proxy.shadow.pair import Other
from proxy.stores import Passage
from proxy.stores.own_key import OwnKeyForwarder
from proxy.wire import Request, readable

_OUTLINES: Final = 4096
_OUTLINE_BYTES: Final = 2048  # longer ones are not remembered


@dataclass(slots=True)
class Outlines:
    """What the model can say, by path and outline. Bounded."""

    known: set[tuple[str, bytes]] = field(default_factory=set)

    def add(self, asked: tuple[str, bytes]) -> None:
        if len(asked[1]) > _OUTLINE_BYTES:
            return
        if len(self.known) >= _OUTLINES:
            self.known.clear()
        self.known.add(asked)


@dataclass(slots=True, eq=False)
class Twin:
    """For searches with one head. `passage`: to the source, in a coding that can be undone here."""

    dialect: Dialect
    route: LiveRoute
    passage: Passage
    other: Other
    outlines: Outlines

    @classmethod
    def of(cls, dialect: Dialect, place: Place, glance: Glance, request: Request, outlines: Outlines) -> Twin | None:
        """None if they cannot go to both as bytes."""
        route = place.route
        forwarder = route.target_forwarders.get(request.transport) if route is not None else None
        if route is None or forwarder is None or route.replicator.stores.target.capabilities.vendor != dialect.vendor:
            return None
        if request.access == "unchecked" or (request.access == "open" and isinstance(forwarder, OwnKeyForwarder)):
            return None
        asked = dialect.alone(request, glance, target_name(route.config, place.collection))
        passage = place.upstream.passage(readable(request))
        if asked is None or passage is None:
            return None
        asked = structs.replace(asked, access=request.access)
        there = forwarder.passage(asked)
        if there is None:
            return None
        asked = structs.replace(asked, body=b"")  # which was that of the first one
        other = Other(route.shadow, dialect, place.collection, asked, there, forwarder)
        return cls(dialect, route, passage, other, outlines)

    def may(self, body: bytes, request: Callable[[], Request]) -> bool:
        """Whether that search can go to both now, and be compared."""
        ledger = self.route.replicator.ledger(self.other.collection)
        if not ledger.at_rest or ledger.parked:
            return False
        outline = self.dialect.outline(self.other.asked, body)
        if outline is None:
            return False
        asked = (self.other.asked.path, outline)
        if asked in self.outlines.known:
            return True
        try:
            operation = self.dialect.decode(request()).operation
        except CrossfadeError:
            return False
        if not isinstance(operation, DataRead):
            return False
        self.outlines.add(asked)
        return True
