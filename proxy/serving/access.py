"""Who is answered: an answer of the other store never shows it the client's key, so the key is checked here.

`keys`: every request must carry one of the configured keys. `ask-primary`: before the target answers a read, the source
is asked whether it accepts the key for that collection; the answer is remembered for a while. Once the target is the
primary nobody is asked any more (the source may be gone), so it answers nothing then, no write either: a gate keeps
the primary from moving under that mode, and a reload from setting it afterwards, but a restart or another process may
come to it. `none`: the listener is on loopback (the configuration sees to that).

What holds for a request is settled once, when it is admitted, and stands in `Request.access`: a request that was let in
unchecked, and then waits while the mode changes, is not taken for a checked one.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from msgspec import structs

from proxy.clock import Clock
from proxy.config import Auth
from proxy.dialects import Call, Dialect
from proxy.errors import CrossfadeError, Unauthorized
from proxy.model import Result
from proxy.serving.primaries import Front
from proxy.serving.store_limit import StoreLimit
from proxy.serving.upstream import Upstream
from proxy.telemetry.metrics import Metrics
from proxy.wire import Access, Request, Response

_REMEMBERED = 10_000
_ACCESS: dict[str, Access] = {"none": "open", "keys": "checked", "ask-primary": "unchecked"}


@dataclass(slots=True)
class _Known:
    accepted: bool
    until: float


class Gatekeeper:
    """For all listeners. `auth` may be replaced while running; what was remembered is then forgotten."""

    def __init__(self, auth: Auth, clock: Clock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._known: OrderedDict[tuple[str, str, bytes], _Known] = OrderedDict()
        self.apply(auth)

    def apply(self, auth: Auth) -> None:
        self.auth = auth  # another object once somebody else may be answered
        self._keys = tuple(key.get_secret_value().encode() for key in auth.keys)
        self._known.clear()

    @property
    def mode(self) -> str:
        """`auth.mode` as it is now."""
        return self.auth.mode

    def admit(self, dialect: Dialect, request: Request) -> Request:
        """The request with what is known of its key. Mode `keys`: raises Unauthorized unless it is a configured one."""
        if self.auth.mode == "keys" and not self._is_configured(dialect.client_key(request) or ""):
            raise Unauthorized("Must provide an API key or an Authorization bearer token")
        access = _ACCESS[self.auth.mode]
        return structs.replace(request, access=access) if access != request.access else request

    def _is_configured(self, given: str) -> bool:
        accepted = [hmac.compare_digest(given.encode(), key) for key in self._keys]  # all: equal time for every key
        return any(accepted)

    async def may_read(
        self, dialect: Dialect, request: Request, upstream: Upstream, collection: str, route: str
    ) -> bool:
        """Whether the client may have an answer of the other store about `collection`. No: the primary answers."""
        if request.access != "unchecked":
            return True
        key = blake2b((dialect.client_key(request) or "").encode(), digest_size=16).digest()
        entry = (upstream.name, collection, key)
        known = self._known.get(entry)
        if known is not None and self._clock.now() < known.until:
            self._metrics.auth_checks.add(route, "cached")
            return known.accepted
        try:
            response = await upstream.forward(dialect.access_probe(request, collection))
        except CrossfadeError:
            self._metrics.auth_checks.add(route, "unchecked")
            return False
        accepted = dialect.grants_access(request, response)
        self._metrics.auth_checks.add(route, "accepted" if accepted else "refused")
        self._known[entry] = _Known(accepted, self._clock.now() + self.auth.cache_seconds)
        self._known.move_to_end(entry)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return accepted


@dataclass(frozen=True, slots=True)
class GuardedFront:
    """The target as the primary: it carries out nothing for a client whose key only the source could check, and no more
    at once than `limit` allows."""

    front: Front
    limit: StoreLimit

    async def answer(self, call: Call) -> Result:
        """As of Front. Raises Unauthorized and Overloaded, before anything was asked or changed."""
        if call.request.access == "unchecked":
            raise Unauthorized(
                "auth.mode is ask-primary, but the target is the primary by now, and does not know the source's keys: "
                "set auth.mode to keys"
            )
        return await self.limit.keep(type(call.operation).__name__, lambda: self.front.answer(call))

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        return self.front.refuse(request, error)
