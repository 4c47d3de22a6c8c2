"""What the fast path has found out about reads, kept for as long as nothing has changed of what it was made of
(configuration, names, weight, primary).

`Settled` is what holds for all reads that ask the same of one collection, `Way` for those of them that also have one
head. Heads may never come again (a client that traces gives each request a number of its own), so a way is kept from
the second time on that its head is seen, and is cheap to make.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from proxy.config import Listener
from proxy.dialects import Dialect, Glance
from proxy.errors import CrossfadeError
from proxy.model import Side
from proxy.routing import Facts, asks_for_tenants, client_host, headers_of, is_sampled, stays_with_source
from proxy.serving.access import Gatekeeper
from proxy.serving.live import LiveRoute
from proxy.serving.switchboard import Place, Switchboard
from proxy.serving.twin import Outlines, Twin
from proxy.stores import Passage
from proxy.telemetry.instruments import Number, Observe
from proxy.telemetry.metrics import Metrics
from proxy.wire import AnswerHead, Request

_WAYS: Final = 1024
_SEEN: Final = 4096
_SHOWN: Final = 512


class Ways:
    """Of one listener. Bounded."""

    def __init__(
        self, listener: Listener, dialect: Dialect, switchboard: Switchboard, gatekeeper: Gatekeeper, metrics: Metrics
    ) -> None:
        self.listener = listener
        self.metrics = metrics
        self.switchboard = switchboard
        self.gatekeeper = gatekeeper
        self._dialect = dialect
        self._kept: dict[Hashable, Way] = {}
        self._settled: dict[Glance, Settled] = {}
        self._seen: set[int] = set()  # hashes of heads
        self._others: set[bytes] = set()  # heads of no reads of data, whatever else changes
        self._outlines = Outlines()

    def find(self, key: bytes | None, request: Callable[[], Request]) -> tuple[Way | None, float | None]:
        """The way of reads that begin with `key`; without one, of those that ask the same with the same headers. None
        if it has to be looked into. And how long the client waits, if that had to be looked at."""
        if key is not None:
            way = self._kept.get(key)
            if way is not None and way.settled.holds():
                return way, None
            if key in self._others:
                return None, None
        try:
            made = request()
        except UnicodeDecodeError:
            return None, None
        return self._way(key, made), made.timeout_seconds

    def _way(self, key: bytes | None, request: Request) -> Way | None:
        glance = self._dialect.glance(request)
        if glance is None:
            if key is not None:
                _room_in(self._others, _WAYS).add(key)
            return None
        kept = key if key is not None else (request.method, request.path, request.query, glance, request.headers)
        way = self._kept.get(kept) if key is None else None
        if way is None or not way.settled.holds():
            way = self._way_of(glance, request)
            if way is not None and way.settled.config.reads.sticky != "client" and self._is_seen_again(kept):
                _room_in(self._kept, _WAYS)[kept] = way
        return way

    def _is_seen_again(self, head: Hashable) -> bool:
        number = hash(head)
        if number in self._seen:
            return True
        _room_in(self._seen, _SEEN).add(number)
        return False

    def _way_of(self, glance: Glance, request: Request) -> Way | None:
        try:
            request = self.gatekeeper.admit(self._dialect, request)
            settled = self._settled_for(glance)
        except CrossfadeError:
            return None
        passage = settled.route.upstream.passage(request) if settled is not None else None
        if settled is None or passage is None:
            return None
        twin = None
        if settled.config.shadow.sample_percent:
            twin = Twin.of(self._dialect, settled.place, glance, request, self._outlines)
        facts = settled.facts if settled.always is not None else settled.facts_with(request)
        return Way(settled, facts, passage, twin)

    def _settled_for(self, glance: Glance) -> Settled | None:
        """None: somebody has to look. Raises CrossfadeError: somebody has to say so."""
        settled = self._settled.get(glance)
        if settled is not None and settled.holds():
            return settled
        place = self.switchboard.locate(glance.collection)
        route = place.route
        if route is None or route.primary_side is not Side.SOURCE or not _can_be_told(route, glance):
            return None
        settled = _room_in(self._settled, _WAYS)[glance] = Settled(self, place, route, glance)
        return settled


def _can_be_told(route: LiveRoute, glance: Glance) -> bool:
    """Whether it can be decided from the head alone who answers. A scroll that the target began stays there, whatever
    the weight."""
    config = route.config
    return not asks_for_tenants(config) and (glance.kind != "scroll" or not (config.rules or route.weight))


Bounded = TypeVar("Bounded", dict[Any, Any], set[Any])


def _room_in(kept: Bounded, most: int) -> Bounded:
    """The same, with room for one more; when it is full it begins anew."""
    if len(kept) >= most:
        kept.clear()
    return kept


class Settled:
    """For reads that ask the same of one collection. `always`: why the source answers all of them, whatever their
    heads and by no chance; None if that is not settled."""

    __slots__ = (
        "_allowed",
        "_book",
        "_counted",
        "_names",
        "_primary",
        "_shown",
        "_table",
        "_ways",
        "_weight",
        "always",
        "config",
        "facts",
        "glance",
        "place",
        "route",
    )

    def __init__(self, ways: Ways, place: Place, route: LiveRoute, glance: Glance) -> None:
        self._ways = ways
        self.place = place
        self.route = route
        self.glance = glance
        self.config = route.config
        self.facts = Facts(glance.kind, place.collection, place.upstream.names.aliases_of(place.collection))
        self._book = route.replicator.book
        self._table, self._allowed = ways.switchboard.table, ways.gatekeeper.auth
        self._primary, self._weight = self._book.primary, self._book.weight
        self._names = [(upstream.names, upstream.names.by_alias) for upstream in ways.switchboard.upstreams.values()]
        by_chance = self.config.rules or route.weight
        self.always = None if by_chance else self.decided(self.facts, 0.0)
        self._counted: dict[str, tuple[Number, Number, Number, Observe]] = {}
        self._shown: dict[tuple[AnswerHead, str], AnswerHead] = {}

    def holds(self) -> bool:
        """Asked of every read: whether everything is still the object that this was made of."""
        ways, book = self._ways, self._book
        if (
            ways.switchboard.table is not self._table
            or ways.gatekeeper.auth is not self._allowed
            or self.route.config is not self.config
            or book.primary is not self._primary
            or book.weight is not self._weight
        ):
            return False
        for names, by_alias in self._names:  # noqa: SIM110  all() takes twice as long
            if names.by_alias is not by_alias:
                return False
        return True

    def facts_with(self, request: Request) -> Facts:
        """With what rules and stickiness may ask of a head."""
        by_headers = self.config.rules or self.config.reads.sticky_header
        headers = headers_of(request) if by_headers else {}
        return replace(self.facts, headers=headers, client=client_host(request.client))

    def decided(self, facts: Facts, draw: float) -> str | None:
        """Why the source answers such a read; None if it does not."""
        return stays_with_source(self.config, facts, draw, self.route.weight_override)

    def count(self, reason: str, seconds: float) -> None:
        """An answer that took so long."""
        counted = self._counted.get(reason)
        if counted is None:
            metrics, route, operation = self._ways.metrics, self.route.name, self.glance.operation
            counted = self._counted[reason] = (
                metrics.unread.series(route),
                metrics.reads.series(route, "primary", reason),
                metrics.requests.series(self._ways.listener.name, operation, route, "primary", reason, "ok"),
                metrics.request_seconds.series((operation, "primary"), (operation, "client")),
            )
        unread, reads, requests, took = counted
        unread[0] += 1.0
        reads[0] += 1.0
        requests[0] += 1.0
        took(seconds)

    def shown(self, head: AnswerHead, reason: str) -> AnswerHead:
        """An answer's head as the client sees it: with who answered, and why, if it is to know."""
        if not self._ways.listener.debug_headers:
            return head
        shown = self._shown.get((head, reason))
        if shown is None:
            headers = (*head.headers, ("x-crossfade-route", f"primary; {reason}"))
            shown = AnswerHead(head.status, headers, head.message, head.trailers)
            _room_in(self._shown, _SHOWN)[head, reason] = shown
        return shown


class Way(NamedTuple):
    """For reads with one head."""

    settled: Settled
    facts: Facts
    passage: Passage
    twin: Twin | None

    def reason(self, draw: float) -> str | None:
        """Why the source answers; None if it does not."""
        return self.settled.always or self.settled.decided(self.facts, draw)

    def is_sampled(self, draw: float) -> bool:
        """Whether the target is asked too, to compare."""
        settled = self.settled
        if not settled.config.shadow.sample_percent or not is_sampled(settled.config, self.facts, draw):
            return False
        route, collection = settled.route, settled.place.collection
        return route.obstacle(collection) is None and route.obstacle_to_find(collection) is None
