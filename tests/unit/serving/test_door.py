"""Many pass the door together, or one alone."""

from __future__ import annotations

import asyncio

import pytest

from proxy.serving.door import AliasDoor
from proxy.telemetry.tasks import spawn


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_who_wants_to_be_alone_waits_for_those_inside_and_goes_before_those_who_come_later() -> None:
    door, order = AliasDoor(), []
    change = asyncio.Event()

    async def alone() -> None:
        async with door.alone():
            order.append("alone")
            await change.wait()

    async def later() -> None:
        async with door.shared():
            order.append("later")

    async with door.shared(), door.shared():
        tasks = [spawn(alone(), name="alone"), spawn(later(), name="later")]
        await turns()
        assert order == []
    await turns()
    assert order == ["alone"]
    change.set()
    await asyncio.gather(*tasks)
    assert order == ["alone", "later"]


async def test_one_who_gives_up_waiting_was_never_inside() -> None:
    door, change = AliasDoor(), asyncio.Event()

    async def alone() -> None:
        async with door.alone():
            await change.wait()

    async def shared() -> None:
        async with door.shared():
            pass

    first = spawn(alone(), name="alone")
    await turns()
    waiting = spawn(shared(), name="shared")
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    change.set()
    await first
    await asyncio.wait_for(alone(), 1)  # there is nobody to wait for


async def test_a_failure_inside_leaves_the_door() -> None:
    door = AliasDoor()
    with pytest.raises(ZeroDivisionError):
        async with door.shared():
            raise ZeroDivisionError
    async with asyncio.timeout(1), door.alone():
        pass
