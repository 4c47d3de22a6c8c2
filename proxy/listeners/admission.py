"""Admission: how many requests of a listener are answered at once, of all clients and of each, and how much memory
their bodies may take. Whoever is too many is told so at once, in the vendor's words.

Fair: up to half of what is allowed anybody may have; beyond it each client (by address) its share of requests and of
bytes, and no more, so that one that sends without end does not keep the others out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.wire import Request, Response


@dataclass(slots=True)
class _Client:
    requests: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Admission:
    """`largest_bytes`: what one body counts at most, and one of unknown length. `refuse`: the answer to who is not
    admitted. A request that is alone may have a body of any size."""

    max_requests: int
    max_bytes: int
    largest_bytes: int
    refuse: Callable[[Request], Response]
    requests: int = 0
    bytes: int = 0
    _clients: dict[str, _Client] = field(default_factory=dict)

    def enter(self, client: str, body_bytes: int | None = 0) -> int | None:
        """What the request's body (None: of unknown length) counts, to be given back by `leave`; None if the request
        is not taken."""
        size = self.largest_bytes if body_bytes is None else min(body_bytes, self.largest_bytes)
        known = self._clients.get(client) or _Client()
        clients = len(self._clients) + (not known.requests)
        if self.requests * 2 >= self.max_requests and (
            self.requests >= self.max_requests or known.requests >= max(1, self.max_requests // clients)
        ):
            return None
        total = self.bytes + size
        share = max(self.max_bytes // clients, size)
        if (
            size
            and self.requests
            and total * 2 > self.max_bytes
            and (total > self.max_bytes or known.bytes + size > share)
        ):
            return None
        self._clients[client] = known
        known.requests += 1
        known.bytes += size
        self.requests += 1
        self.bytes += size
        return size

    def leave(self, client: str, size_bytes: int) -> None:
        self.requests -= 1
        self.bytes -= size_bytes
        known = self._clients[client]
        known.requests -= 1
        known.bytes -= size_bytes
        if not known.requests:
            del self._clients[client]

    def grow(self, size_bytes: int, of_body_bytes: int) -> bool:
        """So much more has come of a body before its request is taken, of which there are so many bytes by now. Whether
        there is room; `shrink` gives them back in any case."""
        self.bytes += size_bytes
        return self.bytes <= self.max_bytes or self.bytes == of_body_bytes

    def shrink(self, size_bytes: int) -> None:
        self.bytes -= size_bytes
