"""A request's body while it comes: what has come and nobody has read yet, and who waits for more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final

from proxy.errors import BodyTooLarge, InvalidRequest

WAITING_BYTES: Final = 256 * 1024  # that wait for the handler
SILENCE_SECONDS = 60.0  # of a client in the middle of its body


class BodyStream:
    """A body while it comes. Its reader gets InvalidRequest if it does not come whole, BodyTooLarge past the limit."""

    __slots__ = (
        "_came_at",
        "_changed",
        "_continue",
        "_error",
        "_is_collected",
        "_limit_bytes",
        "_moved",
        "_parts",
        "_read",
        "_room",
        "_waiting",
        "ended",
    )

    def __init__(
        self, changed: Callable[[], None], grant_continue: Callable[[], None] | None, limit_bytes: int | None
    ) -> None:
        self._changed = changed
        self._continue = grant_continue
        self._limit_bytes = limit_bytes
        self._parts: deque[bytes] = deque()
        self._waiting = 0  # bytes
        self._room = WAITING_BYTES
        self._is_collected = False
        self._came_at = 0.0  # while it is collected: when something of it came last
        self._read = 0
        self._error = ""
        self._moved: asyncio.Future[None] | None = None
        self.ended = False

    @classmethod
    def of(cls, payload: bytes) -> BodyStream:
        """One that has come whole."""
        body = cls(lambda: None, None, None)
        if payload:
            body.feed(payload)
        body.end()
        return body

    @property
    def is_full(self) -> bool:
        return self._waiting > self._room

    @property
    def is_broken(self) -> bool:
        """Whether the rest of it will not come."""
        return bool(self._error)

    def feed(self, payload: bytes) -> None:
        self._continue = None
        self._parts.append(payload)
        self._waiting += len(payload)
        if self._is_collected:
            self._came_at = asyncio.get_running_loop().time()
        if self.is_full or not self._is_collected:
            self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def fail(self, why: str) -> None:
        self._error = why
        self._wake()

    def cancel_continue(self) -> None:
        """The answer comes first."""
        self._continue = None

    def whole(self) -> bytes:
        """All of it, once it has ended."""
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def collected(self, limit_bytes: int) -> bytes:
        """All of it, once it has come: nothing holds the client up meanwhile, and the reader is woken once. Raises
        InvalidRequest if it does not come whole, BodyTooLarge past the lower of both limits."""
        self._is_collected = True
        self._room = limit_bytes if self._limit_bytes is None else min(limit_bytes, self._limit_bytes)
        self._came_at = asyncio.get_running_loop().time()
        self._changed()
        while not (self.ended or self.is_full):
            await self._more(self._came_at)
        if self.is_full:
            raise BodyTooLarge(self._room)
        payload = self.whole()
        self._parts.clear()
        self._waiting = 0
        return payload

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._parts:
            if self.ended:
                raise StopAsyncIteration
            await self._more(asyncio.get_running_loop().time())
        payload = self._parts.popleft()
        self._waiting -= len(payload)
        self._read += len(payload)
        if self._limit_bytes is not None and self._read > self._limit_bytes:
            raise BodyTooLarge(self._limit_bytes)
        self._changed()
        return payload

    async def _more(self, since: float) -> None:
        """Wait until something has happened, or nothing has come since then for too long."""
        if self._error:
            raise InvalidRequest(f"the request ended before its body was complete ({self._error})")
        if self._continue is not None:
            self._continue()
            self._continue = None
        self._moved = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(since + SILENCE_SECONDS):
                await self._moved
        except TimeoutError:
            if self._came_at <= since:
                self._error = f"nothing of it came for {SILENCE_SECONDS:g} s"

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)
