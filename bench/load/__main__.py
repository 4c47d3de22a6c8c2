"""`python -m bench.load`: see bench/load/__init__.py."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import uvloop

from bench.load import (
    Answer,
    Burst,
    Clients,
    Hold,
    Order,
    Release,
    Steady,
    clients,
    official,
    raw_grpc,
    raw_http,
    steady,
)

_RAW = {"http": raw_http, "grpc": raw_grpc}


async def obey() -> None:
    """Until the input ends."""
    release: Callable[[], Any] | None = None
    while line := await asyncio.to_thread(sys.stdin.readline):
        if release is not None:
            closing = release()
            if inspect.isawaitable(closing):
                await closing
            release = None
        order: Order = msgspec.json.decode(line, type=Order)
        answer = Answer()
        match order:
            case Burst(client="raw"):
                answer = (await _RAW[order.transport].run(order)).answer()
            case Burst():
                answer = official.run(order).answer()
            case Steady():
                answer = steady.run(order)
            case Clients():
                answer = await clients.run(order)
            case Hold():
                release = await _RAW[order.transport].hold(order)
            case Release():
                pass
        print(msgspec.json.encode(answer).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(obey())
