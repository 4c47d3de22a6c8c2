"""What is known of the values in one collection, so that filters can rely on it: which marks its rows carry.

What this process writes is learned before it is sent. What others wrote before is found by asking the store once for
each mark that a filter needs; while the answer is not there, the mark is unknown. Nothing is ever unlearned: a mark
that no row carries any more costs a simpler expression, not exactness. Exact as long as this process is the only one
that writes to the collection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from proxy.errors import CrossfadeError
from proxy.telemetry.tasks import spawn

MAX_MARKS = 20_000

Probe = Callable[[str], Awaitable[bool]]


class Survey:
    """empty: the collection was made just now, so that a mark nobody wrote is absent."""

    def __init__(self, *, empty: bool) -> None:
        self._empty_at_first = empty
        self._present: set[str] = set()
        self._absent: set[str] = set()
        self._anything = False
        self._probes: dict[str, asyncio.Task[None]] = {}

    def learn(self, marks: Iterable[str]) -> None:
        """Rows with these marks are about to be written."""
        self._present.update(marks)
        if len(self._present) > MAX_MARKS:  # keys that are data: give up telling them apart
            self._anything = True
            self._present.clear()

    def known(self, marks: Iterable[str]) -> dict[str, bool]:
        """Whether rows may carry each of the marks, as far as it is known."""
        found = {mark: self._may_occur(mark) for mark in marks}
        return {mark: occurs for mark, occurs in found.items() if occurs is not None}

    def still_absent(self, marks: Iterable[str]) -> bool:
        return all(self._may_occur(mark) is False for mark in marks)

    async def ask(self, marks: Iterable[str], probe: Probe, wait_seconds: float) -> None:
        """Find out about the marks that are unknown. Returns when all answers are there, or after `wait_seconds`:
        the questions then go on, for the next filter."""
        unknown = [mark for mark in marks if self._may_occur(mark) is None]
        for mark in unknown:
            if mark not in self._probes:
                self._probes[mark] = spawn(self._ask(mark, probe), name="milvus survey")
        if waiting := [task for mark in unknown if (task := self._probes.get(mark)) is not None]:
            await asyncio.wait(waiting, timeout=wait_seconds)

    def _may_occur(self, mark: str) -> bool | None:
        if self._anything or mark in self._present:
            return True
        return False if self._empty_at_first or mark in self._absent else None

    async def _ask(self, mark: str, probe: Probe) -> None:
        try:
            (self._present if await probe(mark) else self._absent).add(mark)
        except CrossfadeError:
            pass  # it stays unknown, and the next filter asks again
        finally:
            del self._probes[mark]
