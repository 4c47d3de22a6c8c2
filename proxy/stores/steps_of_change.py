"""One change that takes several requests: once one of them is done, no failure may say that nothing was."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from proxy.errors import Refused, Throttled, Unavailable, Unclear

T = TypeVar("T")


class StepsOfChange:
    def __init__(self) -> None:
        self.done = 0

    async def step(self, request: Awaitable[T]) -> T:
        """`request`, whose failure is Unclear if something was done before it."""
        try:
            result = await request
        except (Refused, Throttled, Unavailable) as failure:
            if self.done:
                raise Unclear(f"a part of the change was made, and then: {failure}") from failure
            raise
        self.done += 1
        return result
