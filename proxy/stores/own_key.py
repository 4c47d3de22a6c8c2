"""Forwarding for clients whose key is one of the proxy's, which a server that is guarded does not know.

A request that the proxy has checked itself (`auth.mode: keys`) goes out with the key that the configuration gives the
store; the client's own is not shown to it. Any other request goes out as it came, so that the server judges its key:
with the store's key it would be let in unchecked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.stores import Forwarder, Passage
from proxy.wire import Request, Response

WithKey = Callable[[Request, str], Request]


@dataclass(frozen=True, slots=True)
class OwnKeyForwarder:
    """A `Forwarder`. `with_key`: how requests of the server's vendor carry a key."""

    forwarder: Forwarder
    key: str
    with_key: WithKey

    async def forward(self, request: Request) -> Response:
        """As of Forwarder."""
        return await self.forwarder.forward(self._with_own_key(request))

    def passage(self, request: Request) -> Passage | None:
        """As of Forwarder."""
        return self.forwarder.passage(self._with_own_key(request))

    def _with_own_key(self, request: Request) -> Request:
        return self.with_key(request, self.key) if request.access == "checked" else request

    async def close(self) -> None:
        await self.forwarder.close()
