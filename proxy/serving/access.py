"""Who may read: an answer of the other store never shows it the client's key, so the key is checked here.

`keys`: every request must carry one of the configured keys. `ask-primary`: before the secondary answers, the client's
own database is asked whether it accepts the key for that collection; the answer is remembered for a while. `none`: the
listener is on loopback (the configuration sees to that).
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b

from proxy.clock import Clock
from proxy.config import Auth
from proxy.dialects import Dialect
from proxy.errors import CrossfadeError, Unauthorized
from proxy.serving.upstream import Upstream
from proxy.telemetry.metrics import Metrics
from proxy.wire import Request

_REMEMBERED = 10_000


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
        self._auth = auth
        self._keys = tuple(key.get_secret_value().encode() for key in auth.keys)
        self._known.clear()

    def admit(self, dialect: Dialect, request: Request) -> None:
        """Mode `keys`: raises Unauthorized unless the request carries a configured key."""
        if self._auth.mode != "keys":
            return
        given = (dialect.client_key(request) or "").encode()
        accepted = [hmac.compare_digest(given, key) for key in self._keys]  # all of them: equal time for every key
        if not any(accepted):
            raise Unauthorized("Must provide an API key or an Authorization bearer token")

    async def may_read(
        self, dialect: Dialect, request: Request, upstream: Upstream, collection: str, route: str
    ) -> bool:
        """Whether the client may have an answer of the other store about `collection`. No: the primary answers."""
        if self._auth.mode != "ask-primary":
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
        self._known[entry] = _Known(accepted, self._clock.now() + self._auth.cache_seconds)
        self._known.move_to_end(entry)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return accepted
