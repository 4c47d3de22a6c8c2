"""A queue for places: one place, one turn; none is lost to a cancellation."""

from __future__ import annotations

import asyncio

from proxy.stores.waiting import Queue


class Waiters:
    def __init__(self, queue: Queue, group: asyncio.TaskGroup) -> None:
        self._queue = queue
        self._group = group
        self.awake: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str, again: bool = False) -> None:
        for name in names:
            self.tasks[name] = self._group.create_task(self._wait(name, again))
            await asyncio.sleep(0)

    async def _wait(self, name: str, again: bool) -> None:
        await self._queue.wait(again=again)
        self.awake.append(name)


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_place_wakes_whoever_has_waited_longest() -> None:
    queue = Queue()
    async with asyncio.TaskGroup() as group:
        waiters = Waiters(queue, group)
        await waiters.come("a", "b", "c")
        queue.wake()
        await _settle()
        assert (waiters.awake, len(queue.waiting)) == (["a"], 2)
        await waiters.come("a again", again=True)
        queue.wake()
        await _settle()
        assert waiters.awake == ["a", "a again"]
        queue.wake_all()
        await _settle()
        assert (waiters.awake, len(queue.waiting)) == (["a", "a again", "b", "c"], 0)


async def test_a_turn_that_comes_with_a_cancellation_is_the_next_ones() -> None:
    queue = Queue()
    async with asyncio.TaskGroup() as group:
        waiters = Waiters(queue, group)
        await waiters.come("a", "b")
        queue.wake()
        waiters.tasks["a"].cancel()
        await _settle()
        assert (waiters.awake, len(queue.waiting)) == (["b"], 0)


async def test_who_gives_up_waiting_takes_no_place() -> None:
    queue = Queue()
    async with asyncio.TaskGroup() as group:
        waiters = Waiters(queue, group)
        await waiters.come("a", "b", "c")
        waiters.tasks["a"].cancel()
        queue.wake()  # in the same turn
        await _settle()
        assert (waiters.awake, len(queue.waiting)) == (["b"], 1)
        waiters.tasks["c"].cancel()
        await _settle()
        assert len(queue.waiting) == 0
        queue.wake()  # for nobody
