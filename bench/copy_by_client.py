"""What a backfill is measured against: `python -m bench.copy_by_client ...` copies a collection with the target's own
client, and prints how many points a second that took.

Pages are read from the source by the code that the proxy reads them with, one page ahead of the one that is written,
as the proxy does; only the writing is the client's: pymilvus, which gets rows as an application gives them. Nobody may
write meanwhile, nothing is remembered, and it cannot be interrupted: what a backfill does beyond that is its price.
The target collection is made by the proxy's adapter, so both write into the same schema and index.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click
import numpy as np
import uvloop
from pymilvus import MilvusClient

from proxy.dialects.milvus.schema import VectorIndex
from proxy.model import Point
from proxy.stores.milvus import MilvusStore
from proxy.stores.qdrant import QdrantStore


async def copy(source_address: str, target_address: str, collection: str, page_points: int) -> float:
    """Points per second, from the first page asked for to the last one written."""
    source, target = QdrantStore(grpc_address=source_address), MilvusStore(target_address, index=VectorIndex("HNSW"))
    described = await source.describe(collection)
    assert described is not None
    await target.create(collection, described.spec)
    client = MilvusClient(uri=f"http://{target_address}")
    fields = [field["name"] for field in client.describe_collection(collection)["fields"]]
    began, points = time.perf_counter(), 0
    page = await source.scan(collection, None, page_points)
    while True:
        rows = [_row(point, fields) for point in page.points]
        points += len(rows)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(source.scan(collection, page.next, page_points)) if page.next else None
            group.create_task(asyncio.to_thread(client.insert, collection, rows))
        if following is None:
            break
        page = following.result()
    rate = points / (time.perf_counter() - began)
    await source.close()
    await target.close()
    client.close()
    return rate


def _row(point: Point, fields: list[str]) -> dict[str, Any]:
    """A row as an application writes it: key, vector, and the payload in the dynamic field."""
    [vector] = point.vectors.values()
    assert isinstance(vector, bytes)
    return {fields[0]: point.id, fields[1]: np.frombuffer(vector, dtype="<f4").tolist(), **point.payload}


@click.command()
@click.argument("source_address")
@click.argument("target_address")
@click.argument("collection")
@click.argument("page_points", type=int)
def main(source_address: str, target_address: str, collection: str, page_points: int) -> None:
    """Copy COLLECTION with pymilvus; both addresses are gRPC ones."""
    print(uvloop.run(copy(source_address, target_address, collection, page_points)))


if __name__ == "__main__":
    main()
