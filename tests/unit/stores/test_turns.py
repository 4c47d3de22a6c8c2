"""Turns: reads together, a write alone, in order of arrival, and none lost to a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from proxy.stores.turns import Turns


class Users:
    """Tasks that take a turn and hold it until they are let go."""

    def __init__(self, group: asyncio.TaskGroup, turns: Turns) -> None:
        self._group = group
        self._turns = turns
        self.inside: list[str] = []
        self.release: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, *names: str) -> None:
        """Names that begin with w want to write."""
        for name in names:
            self.release[name] = asyncio.Event()
            self.tasks[name] = self._group.create_task(self._use(name))
            await _settle()

    async def go(self, *names: str) -> None:
        for name in names:
            self.release[name].set()
        await _settle()

    async def _use(self, name: str) -> None:
        async with self._turns.alone() if name.startswith("w") else self._turns.together():
            self.inside.append(name)
            await self.release[name].wait()
            self.inside.remove(name)


async def _settle() -> None:
    """Until nothing moves any more: a turn takes a few rounds of the event loop."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_reads_go_together_and_a_write_alone() -> None:
    async with asyncio.TaskGroup() as group:
        users = Users(group, Turns())
        await users.come("r1", "r2", "w1", "r3", "w2")
        assert users.inside == ["r1", "r2"]
        await users.go("r1")
        assert users.inside == ["r2"]
        await users.go("r2")
        assert users.inside == ["w1"]
        await users.go("w1")
        assert users.inside == ["r3"]  # came before the second write
        await users.go("r3")
        assert users.inside == ["w2"]
        await users.go("w2")


@pytest.mark.parametrize("name", ["w1", "r2"])
async def test_one_who_gives_up_waiting_holds_nobody_up(name: str) -> None:
    async with asyncio.TaskGroup() as group:
        users = Users(group, Turns())
        first = "r1" if name == "w1" else "w0"
        await users.come(first, name, "r3")
        users.tasks[name].cancel()
        await _settle()
        await users.go(first)
        assert users.inside == ["r3"]
        await users.come("w9")
        await users.go("r3")
        assert users.inside == ["w9"]
        await users.go("w9")


async def test_a_turn_that_comes_with_a_cancellation_is_given_on() -> None:
    async with asyncio.TaskGroup() as group:
        users = Users(group, Turns())
        await users.come("w1", "w2", "r1")
        users.release["w1"].set()
        for _ in range(10):  # until w1 has left, and w2 been told, but not further
            if users.inside:
                await asyncio.sleep(0)
        users.tasks["w2"].cancel()
        await _settle()
        assert users.inside == ["r1"]
        await users.come("w3")
        await users.go("r1")
        assert users.inside == ["w3"]
        await users.go("w3")
