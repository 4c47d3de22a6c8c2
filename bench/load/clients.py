"""What an application's own process pays to speak to both vendors: the CPU time of their clients.

A search is asked of Qdrant (AsyncQdrantClient, gRPC) and of Milvus (AsyncMilvusClient), one after the other. An upsert
is read from its message into lists, and written from them as pymilvus writes rows; it is sent to nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from pymilvus import AsyncMilvusClient, DataType
from pymilvus.client.prepare import Prepare
from qdrant_client import AsyncQdrantClient
from qdrant_client import grpc as qdrant

from bench.bodies import DIMENSIONS, HITS, payload, prepared, queries
from bench.load import Answer, Clients

Task = Callable[[], Awaitable[object]]

_WARM = 5  # tasks: clients connect, and look at the collection, with their first
_FIELDS = [
    {"name": "id", "type": DataType.INT64, "is_primary": True},
    {"name": "vector", "type": DataType.FLOAT_VECTOR, "params": {"dim": DIMENSIONS}},
]


async def run(order: Clients) -> Answer:
    async with _searches(order) if order.work == "search" else _upserts(order) as tasks:
        for task in itertools.islice(tasks, _WARM):
            await task()
        left = itertools.islice(tasks, order.times)

        async def call() -> None:
            for task in left:
                await task()

        began = time.process_time()
        await asyncio.gather(*(call() for _ in range(order.callers)))
        used = time.process_time() - began
    return Answer(requests=order.times, in_all=order.times, cpu_seconds=used)


@asynccontextmanager
async def _searches(order: Clients) -> AsyncIterator[itertools.cycle[Task]]:
    host, _, port = order.addresses[0].rpartition(":")
    source = AsyncQdrantClient(
        host=host, port=int(port), grpc_port=int(port), prefer_grpc=True, check_compatibility=False, timeout=60
    )
    target = AsyncMilvusClient(uri=f"http://{order.addresses[1]}")

    async def both(vector: list[float]) -> None:
        await source.query_points(order.collection, vector, limit=HITS, with_payload=True)
        await target.search(order.collection, [vector], limit=HITS, output_fields=list(payload(0)))

    try:
        yield itertools.cycle([partial(both, vector) for vector in queries().tolist()])
    finally:
        await source.close()
        await target.close()


@asynccontextmanager
async def _upserts(order: Clients) -> AsyncIterator[itertools.cycle[Task]]:
    async def through_lists(message: bytes) -> None:
        written(order.collection, read(message))

    messages = [one.body for one in prepared("grpc", "upsert", order.collection, "")]
    yield itertools.cycle([partial(through_lists, message) for message in messages])


def read(message: bytes) -> list[dict[str, Any]]:
    """The points of an UpsertPoints as rows of plain values."""
    return [
        {
            "id": point.id.num,
            "vector": list(point.vectors.vector.dense.data),
            **{key: _plain(value) for key, value in point.payload.items()},
        }
        for point in qdrant.UpsertPoints.FromString(message).points
    ]


def written(collection: str, rows: list[dict[str, Any]]) -> bytes:
    """The request that pymilvus makes of them."""
    request = Prepare.row_insert_param(collection, rows, "", fields_info=_FIELDS, enable_dynamic=True)
    return bytes(request.SerializeToString())


def _plain(value: Any) -> object:
    return getattr(value, value.WhichOneof("kind"))
