"""Admission: how many requests of a listener are answered at once, of all clients and of each, and how much memory
their bodies may take. Whoever is too many is told so at once, in the vendor's words, and keeps its connection.

Fair: up to half of what is allowed anybody may have; beyond it each client (by address) its share and no more, so that
one that sends without end does not keep the others out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.wire import Request, Response


@dataclass(slots=True)
class Admission:
    """`refuse`: the answer to who is not admitted. A request that is alone may have a body of any size."""

    max_requests: int
    max_bytes: int
    refuse: Callable[[Request], Response]
    requests: int = 0
    bytes: int = 0
    _by_client: dict[str, int] = field(default_factory=dict)

    def enter(self, client: str, body_bytes: int = 0) -> bool:
        """Whether the client's request is taken; then `leave` follows, with as many bytes as came in by then."""
        of_client = self._by_client.get(client, 0)
        if self.requests * 2 >= self.max_requests:
            clients = len(self._by_client) + (of_client == 0)
            if self.requests >= self.max_requests or of_client >= max(1, self.max_requests // clients):
                return False
        if self.requests and self.bytes + body_bytes > self.max_bytes:
            return False
        self._by_client[client] = of_client + 1
        self.requests += 1
        self.bytes += body_bytes
        return True

    def grow(self, size_bytes: int) -> bool:
        """More of a body has come. Whether there is room for it; it counts in any case."""
        self.bytes += size_bytes
        return self.bytes <= self.max_bytes or self.requests == 1

    def leave(self, client: str, body_bytes: int = 0) -> None:
        self.requests -= 1
        self.bytes -= body_bytes
        left = self._by_client[client] - 1
        if left:
            self._by_client[client] = left
        else:
            del self._by_client[client]
