"""Named points of the protocol, where tests stop or kill a process. In production nothing happens there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Hook = Callable[[str], Awaitable[None]]


async def no_hook(_: str) -> None:
    """Go on."""
