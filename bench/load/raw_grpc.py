"""Raw callers over gRPC: grpc.aio with prepared messages, whose answers nobody parses.

Callers share connections as an application's do. grpc.aio itself is the larger part of what they cost: about as much a
call as the proxy's own two ends together.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc

from bench.bodies import Prepared, prepared
from bench.load import Burst, Hold, Watch

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)
_CALLERS_ON_A_CONNECTION = 8
_OPENING_AT_ONCE = 50


async def run(burst: Burst) -> Watch:
    requests = prepared("grpc", burst.work, burst.collection, burst.address)
    watch = Watch(burst)
    connections = -(-burst.callers // _CALLERS_ON_A_CONNECTION)
    channels = [grpc.aio.insecure_channel(burst.address, options=_OPTIONS) for _ in range(connections)]
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(burst.callers):
                call = channels[number % connections].unary_unary(requests[0].path)
                rotated = requests[number % len(requests) :] + requests
                group.create_task(
                    _call_on(call, rotated, watch, timeouts(number) if burst.deadlines else itertools.repeat(None))
                )
    finally:
        for channel in channels:
            await channel.close()
    return watch


async def hold(order: Hold) -> Callable[[], Any]:
    """Open the connections; returns what closes them. Raises grpc's error if one is not served."""
    [request, *_] = prepared("grpc", "search", order.collection, order.address)
    held: list[Any] = []

    async def open_one() -> None:
        channel = grpc.aio.insecure_channel(order.address, options=_OPTIONS)
        held.append(channel)
        await channel.unary_unary(request.path)(request.body)

    for start in range(0, order.connections, _OPENING_AT_ONCE):
        await asyncio.gather(*(open_one() for _ in range(min(_OPENING_AT_ONCE, order.connections - start))))
    return lambda: asyncio.gather(*(channel.close() for channel in held))


def timeouts(caller: int) -> Iterator[float]:
    """Seconds between three and ten, none twice within 700 calls: grpc sends them in steps of 10 ms."""
    return (3 + (caller * 101 + number * 3) % 700 / 100 for number in itertools.count())


async def _call_on(
    call: Any, requests: Sequence[Prepared], watch: Watch, timeouts_seconds: Iterator[float | None]
) -> None:
    for request, timeout_seconds in zip(itertools.cycle(requests), timeouts_seconds, strict=False):
        if not watch.is_open():
            return
        began = time.perf_counter()
        try:
            await call(request.body, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            watch.failed(f"{error.code().name}: {error.details()}")
            return
        watch.ended(began)
