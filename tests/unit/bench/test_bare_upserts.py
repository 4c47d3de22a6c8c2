"""What the floor of upserts is measured with writes to both stores, and answers as the first one does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from bench.bodies import Transport
from bench.measurements.peers.floors import BareUpserts
from bench.processes import address
from examples.demo.processes import QdrantEmulator

NAME = "docs"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[QdrantEmulator]]:
    made = [QdrantEmulator(tmp_path_factory.mktemp(name)) for name in ("first", "second")]
    for store in made:
        store.start()
        _client(store.address, store.grpc_port).create_collection(
            NAME, models.VectorParams(size=2, distance=models.Distance.DOT)
        )
    yield made
    for store in made:
        store.kill()


@pytest.mark.parametrize(("transport", "number"), [("http", 1), ("grpc", 2)])
def test_an_upsert_reaches_both(
    tmp_path: Path, stores: list[QdrantEmulator], transport: Transport, number: int
) -> None:
    with BareUpserts(tmp_path, transport, [address(store, transport) for store in stores]) as bare:
        port = int(bare.address.rpartition(":")[2])
        client = _client(bare.address, port, prefer_grpc=transport == "grpc")
        answer = client.upsert(NAME, [models.PointStruct(id=number, vector=[0.5, 1.0])], wait=True)
    assert answer.status == models.UpdateStatus.COMPLETED
    held = [_client(store.address, store.grpc_port).retrieve(NAME, [number], with_vectors=True) for store in stores]
    assert [[(point.id, point.vector) for point in points] for points in held] == [[(number, [0.5, 1.0])]] * 2


def _client(rest: str, grpc_port: int, *, prefer_grpc: bool = False) -> QdrantClient:
    return QdrantClient(url=f"http://{rest}", grpc_port=grpc_port, prefer_grpc=prefer_grpc, check_compatibility=False)
