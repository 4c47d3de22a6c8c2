"""Listeners: sockets in, one for each transport, and nothing of the transport beyond them.

A listener reads a client's request, hands a `wire.Request` to its handler and writes the `wire.Response` that
comes back. It neither routes nor decodes, adds no header of its own beyond what frames the message, and knows
no vendor: errors in a vendor's form are the handler's business. What a listener answers by itself is neutral
(a handler that raised, bytes that are not HTTP).

One rule above all: **a client that goes away never cancels its handler.** What the handler began at the primary
is finished and journalled, whoever is still there to hear of it.
"""

from __future__ import annotations

from socket import socket
from typing import Protocol


class Listener(Protocol):
    """What the program does with a listener of any transport."""

    @property
    def port(self) -> int:
        """The port in use; only after `start` (it differs from the one asked for if that was 0)."""
        ...

    async def start(self) -> None:
        """Accept connections. Raises OSError if the address cannot be bound."""
        ...

    @property
    def socket(self) -> socket | None:
        """The listening socket, if another process can take it over; only after `start`."""
        ...

    async def stop(self, drain_seconds: float, linger_seconds: float = 0.0) -> None:
        """Accept nothing more, let what is under way finish for up to `drain_seconds`, then close everything.
        Handlers that are still running at that point are cancelled. Idle connections are closed at once, or stay for
        up to `linger_seconds`: a client may be about to use one, and is told to close it with the answer."""
        ...
