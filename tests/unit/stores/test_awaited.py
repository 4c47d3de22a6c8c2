"""Whoever waits in a task for an answer that is watched: what becomes of it when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.errors import Unclear
from proxy.stores.awaited import Awaited
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead

HEAD = AnswerHead(200, ())


class Stream:
    def __init__(self) -> None:
        self.left = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    def leave(self) -> None:
        self.left += 1


def waiting(answer: Awaited, given_up: list[str]) -> asyncio.Task[object]:
    async def wait() -> object:
        return (await answer.whole(lambda: given_up.append("given up"))).body

    return spawn(wait(), name="who waits")


async def test_it_hears_the_answer_or_what_became_of_it() -> None:
    given_up: list[str] = []
    good, bad = Awaited(), Awaited()
    tasks = [waiting(good, given_up), waiting(bad, given_up)]
    await asyncio.sleep(0)
    good.answered(HEAD, b"body")
    bad.failed(Unclear("gone"))
    assert await tasks[0] == b"body"
    with pytest.raises(Unclear, match="gone"):
        await tasks[1]
    assert not given_up


async def test_a_request_that_nobody_waits_for_is_given_up() -> None:
    given_up: list[str] = []
    task = waiting(Awaited(), given_up)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert given_up == ["given up"]


@pytest.mark.parametrize("first", ["cancelled", "answered"])
async def test_an_answer_in_the_turn_of_the_cancellation_is_left_and_not_given_up(first: str) -> None:
    """Its connection may have gone on to another request by now."""
    given_up: list[str] = []
    answer, stream = Awaited(), Stream()
    task = waiting(answer, given_up)
    await asyncio.sleep(0)
    if first == "cancelled":
        task.cancel()
    answer.answered(HEAD, stream)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (given_up, stream.left) == ([], 1)


async def test_a_failure_in_the_turn_of_the_cancellation_is_nobodys() -> None:
    given_up: list[str] = []
    answer = Awaited()
    task = waiting(answer, given_up)
    await asyncio.sleep(0)
    task.cancel()
    answer.failed(Unclear("gone"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not given_up
