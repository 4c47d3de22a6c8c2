"""The bodies of a forwarded HTTP exchange, and how long the store may be silent while they travel.

Time counts against the store only while it is the store's turn: it stands still while the client is slow to send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable

import aiohttp

from proxy.errors import RequestError, Unclear

SLICE_BYTES = 256 * 1024


class Silence:
    """How long the store may still be silent; `timeout` is only there while its answer is awaited."""

    def __init__(self, seconds: float) -> None:
        self.timeout: asyncio.Timeout | None = None
        self._seconds = seconds

    def begin(self) -> None:
        """It is the store's turn: count from now."""
        self._reschedule(asyncio.get_running_loop().time() + self._seconds)

    def suspend(self) -> None:
        """It is the client's turn."""
        self._reschedule(None)

    def _reschedule(self, when: float | None) -> None:
        # The library's writer can outlive the wait for the answer (a server that answers early).
        if self.timeout is not None and not self.timeout.expired():
            self.timeout.reschedule(when)


class Upload:
    """A request's body on its way up. `failure` is why the client's side of it failed."""

    def __init__(self, body: bytes | AsyncIterator[bytes], silence: Silence) -> None:
        self.failure: RequestError | None = None
        self.data: bytes | AsyncIterator[bytes] | None
        if not isinstance(body, bytes):
            self.data = self._watched(body, silence)
        elif len(body) > SLICE_BYTES:
            self.data = _slices(body)
        else:
            self.data = body or None

    async def _watched(self, body: AsyncIterator[bytes], silence: Silence) -> AsyncIterator[bytes]:
        try:
            silence.suspend()
            async for chunk in body:
                silence.begin()
                yield chunk
                silence.suspend()
            silence.begin()
        except RequestError as error:
            self.failure = error
            raise


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), SLICE_BYTES):
        yield body[start : start + SLICE_BYTES]


class Download:
    """An answer's body on its way down; leaving it early closes the connection. Iterating raises Unclear."""

    def __init__(self, answer: aiohttp.ClientResponse, timeout_seconds: float) -> None:
        self._answer = answer
        self._timeout_seconds = timeout_seconds
        self._start: deque[bytes] = deque()

    def put_back(self, chunks: Iterable[bytes]) -> None:
        """Give these out (again) before what is still to come."""
        self._start.extend(chunks)

    async def read(self) -> bytes:
        """What has arrived, waiting for it if need be; empty at the end."""
        try:
            chunk = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self._answer.close()
            raise Unclear(f"{self._answer.url.origin()} broke off its answer ({told(error)})") from error
        except BaseException:
            self._answer.close()
            raise
        if not chunk:
            self._answer.release()
        return chunk

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._start:
            return self._start.popleft()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                chunk = await self.read()
        except TimeoutError as error:
            raise Unclear(f"{self._answer.url.origin()} fell silent in the middle of its answer") from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Give the rest up; a body read to its end has already given its connection back."""
        self._start.clear()
        self._answer.close()


def told(error: BaseException) -> str:
    """What an exception says, or else what it is."""
    return str(error) or type(error).__name__
