"""Collections for the measurements, put into a Qdrant-shaped server by gRPC."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from qdrant_client import QdrantClient, models

from bench.bodies import matrix, upsert_message

_BATCH_POINTS = 1000


def make_collection(host_and_grpc_port: str, name: str, dimensions: int, points: int) -> None:
    """A cosine collection with the points 0..points-1, whose vectors are the same every time."""
    host, _, port = host_and_grpc_port.rpartition(":")
    client = QdrantClient(host=host, grpc_port=int(port), prefer_grpc=True, check_compatibility=False, timeout=60)
    try:
        client.create_collection(
            name, vectors_config=models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
        )
    finally:
        client.close()
    with grpc.insecure_channel(host_and_grpc_port, options=[("grpc.max_send_message_length", -1)]) as channel:
        send = channel.unary_unary("/qdrant.Points/Upsert")
        for message in _batches(name, dimensions, points):
            send(message)


def _batches(name: str, dimensions: int, points: int) -> Iterator[bytes]:
    for start in range(0, points, _BATCH_POINTS):
        ids = range(start, min(start + _BATCH_POINTS, points))
        yield upsert_message(name, ids, matrix(len(ids), dimensions, seed=start))
