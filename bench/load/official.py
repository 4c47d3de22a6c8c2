"""Callers that are the vendors' own clients: qdrant-client (its synchronous form, both transports) and pymilvus.

With arguments as an application has them: lists of floats and models, which the client turns into a request within the
time that is measured. Several callers are a thread each, with a client of its own.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

from pymilvus import MilvusClient
from qdrant_client import QdrantClient, models

from bench.bodies import HITS, payload, queries, upserts
from bench.load import Burst, Watch

Send = Callable[[], object]


def run(burst: Burst) -> Watch:
    watch = Watch(burst)
    if burst.callers == 1:
        _call(burst, watch)
    else:
        with ThreadPoolExecutor(burst.callers) as threads:
            for ended in [threads.submit(_call, burst, watch) for _ in range(burst.callers)]:
                ended.result()
    return watch


def _call(burst: Burst, watch: Watch) -> None:
    with closing(_milvus(burst) if burst.vendor == "milvus" else _qdrant(burst)) as sends:
        while watch.is_open():
            send = next(sends)
            began = time.perf_counter()
            try:
                send()
            except Exception as error:  # noqa: BLE001 - whatever a client raises for a request that failed: told as such
                watch.failed(f"{type(error).__name__}: {error}")
            else:
                watch.ended(began)


def _qdrant(burst: Burst) -> Generator[Send, None, None]:
    host, _, port = burst.address.rpartition(":")
    by_grpc = burst.transport == "grpc"
    client = QdrantClient(
        host=host, port=int(port), grpc_port=int(port), prefer_grpc=by_grpc, check_compatibility=False, timeout=60
    )
    collection = burst.collection
    try:
        if burst.work == "search":
            for vector in itertools.cycle(queries().tolist()):
                yield partial(client.query_points, collection, vector, limit=HITS, with_payload=True)
        for points in itertools.cycle(_batches()):
            yield partial(client.upsert, collection, points, wait=True)
    finally:
        client.close()


def _batches() -> list[list[models.PointStruct]]:
    return [
        [
            models.PointStruct(id=number, vector=vector.tolist(), payload=payload(number))
            for number, vector in zip(ids, vectors, strict=True)
        ]
        for ids, vectors in upserts()
    ]


def _milvus(burst: Burst) -> Generator[Send, None, None]:
    client = MilvusClient(uri=f"http://{burst.address}")
    try:
        for vector in itertools.cycle(queries().tolist()):
            yield partial(client.search, burst.collection, [vector], limit=HITS, output_fields=list(payload(0)))
    finally:
        client.close()
