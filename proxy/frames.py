"""gRPC messages on their way through: one side reads them while the other still sends.

What is passed on as a stream is not looked into: bytes as they came, each message with its prefix, in whatever coding
its sender said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proxy.errors import Unclear
from proxy.wire import Headers

LARGE_BYTES = 32 * 1024  # worth more than a call to the system


def write_parts(transport: asyncio.WriteTransport, parts: Sequence[bytes | memoryview]) -> None:
    """All in one, unless that means to copy much."""
    if len(parts) == 1:
        transport.write(parts[0])
    elif sum(map(len, parts)) > LARGE_BYTES:
        transport.writelines(parts)
    elif parts:
        transport.write(b"".join(parts))


@dataclass(frozen=True, slots=True)
class Ending:
    """How a server ended a call."""

    status: int
    message: str = ""
    trailers: Headers = ()


class Frames:
    """The body of a `Request` or `Response` of a call that streams. `coding`: of its messages. `taken`: hears how many
    bytes have been passed on, so that as many more may come. `left`: hears, once, that nobody reads any more.
    `silence_seconds`: how long a part is waited for; None: for ever.

    `ending`: of an answer, once all of it has been read."""

    def __init__(
        self,
        coding: bytes,
        taken: Callable[[int], None],
        left: Callable[[], None] = lambda: None,
        silence_seconds: float | None = None,
    ) -> None:
        self._silence_seconds = silence_seconds
        self.coding = coding
        self.ending: Ending | None = None
        self._taken = taken
        self._left: Callable[[], None] | None = left
        self._parts: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._error: Exception | None = None
        self._moved: asyncio.Future[None] | None = None

    # --- for whom it comes from ------------------------------------------------------------------------

    def feed(self, data: bytes, size_bytes: int) -> None:
        """`size_bytes`: what it counts for, padding included."""
        if self._left is None:  # nobody reads it any more
            self._taken(size_bytes)
            return
        self._parts.append((data, size_bytes))
        self._wake()

    def end(self, ending: Ending | None = None) -> None:
        self._ended, self.ending = True, ending
        self._wake()

    def fail(self, error: Exception) -> None:
        """The rest will not come."""
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    # --- for whom it goes to ---------------------------------------------------------------------------

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> bytes:
        """Raises what it was failed with, and Unclear after too long a silence."""
        while not self._parts:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._moved = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self._silence_seconds):
                    await self._moved
            except TimeoutError:
                raise Unclear(f"nothing of the answer came for {self._silence_seconds:g} s") from None
        data, size_bytes = self._parts.popleft()
        self._taken(size_bytes)
        return data

    def close(self) -> None:
        """Nobody reads it any more."""
        left, self._left = self._left, None
        if left is None:
            return
        unread = sum(size_bytes for _, size_bytes in self._parts)
        self._parts.clear()
        if unread:
            self._taken(unread)
        left()
