"""Writes of one key happen one after the other, those of different keys do not wait."""

from __future__ import annotations

import asyncio

from proxy.replication.lanes import Lanes


async def test_a_later_writer_waits_for_the_earlier_one_of_its_key() -> None:
    lanes, order = Lanes(), []
    first_in, leave = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with lanes.hold((1, 2)):
            first_in.set()
            await leave.wait()
            order.append("first")

    async def second() -> None:
        async with lanes.hold((2, 3)):
            order.append("second")

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await first_in.wait()
        group.create_task(second())
        async with lanes.hold((4,)):
            order.append("other")
        leave.set()
    assert order == ["other", "first", "second"]


async def test_opposite_orders_of_keys_do_not_deadlock() -> None:
    lanes, done = Lanes(), []

    async def write(*keys: int) -> None:
        async with lanes.hold(keys):
            await asyncio.sleep(0)
            done.append(keys)

    await asyncio.wait_for(asyncio.gather(*(write(*k) for k in [(1, 2), (2, 1), (1, 2), (2, 1), (1, 1)])), 5)
    assert len(done) == 5
    assert not lanes._lanes


async def test_a_writer_that_gives_up_lets_its_followers_pass() -> None:
    lanes = Lanes()
    inside, leave = asyncio.Event(), asyncio.Event()

    async def holder() -> None:
        async with lanes.hold((1,)):
            inside.set()
            await leave.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(holder())
        await inside.wait()
        waiting = group.create_task(lanes.hold((1, 2)).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        async with lanes.hold((2,)):
            pass
        leave.set()
    assert not lanes._lanes
