"""The stores that the contract suite runs over, one line each in STORES.

A store joins with a line: its name (which says the engine behind it) and an async context manager that takes
the pytest request, for the engine's own fixtures, and yields the store. One store a session: a test gets an
emptied collection of it, or makes its own under a fresh name.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
import pytest_asyncio

from examples.engines import ChildProcess
from proxy.dialects.milvus.schema import VectorIndex
from proxy.model import IDS_ONLY, CollectionSpec, Metric, Point, PointId, VectorSpec
from proxy.stores import Store
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from proxy.stores.qdrant import QdrantStore
from proxy.stores.qdrant_edge import QdrantEdgeStore
from tests.support.contract_points import DIMENSION, dataset
from tests.support.qdrant_engines import QdrantAddress, real_qdrant

Opener = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Store]]

_RUN = uuid4().hex[:8]  # no name of an earlier run, which a server may still have
_names = itertools.count(1)


@asynccontextmanager
async def _memory(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    yield MemoryStore()


@asynccontextmanager
async def _emulated(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    yield EmulatedPrimary(MemoryStore())


@asynccontextmanager
async def _qdrant_edge(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    store = QdrantEdgeStore(factory.mktemp("qdrant_edge"))
    yield store
    await store.close()


@asynccontextmanager
async def _qdrant(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    address: QdrantAddress = request.getfixturevalue("qdrant")
    store = QdrantStore(grpc_address=address.grpc_address, api_key=address.api_key)
    yield store
    await store.close()


def _milvus(fixture: str) -> Opener:
    """Ids as text, so that UUIDs have a place; a FLAT index, so that searches can be compared."""

    @asynccontextmanager
    async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
        engine: ChildProcess = request.getfixturevalue(fixture)
        store = MilvusStore(engine.address, ids="text", index=VectorIndex("FLAT"))
        await store.probe()
        yield store
        await store.close()

    return opened


STORES: dict[str, Opener] = {
    "memory": _memory,
    "emulated": _emulated,
    "qdrant_edge": _qdrant_edge,
    "qdrant": _qdrant,
    "milvus_lite": _milvus("milvus_lite"),
    "milvus_server": _milvus("milvus_server"),
}


def is_unindexed_server(store: Store) -> bool:
    """A Qdrant server sees a null in an array, and cuts datetimes to microseconds, only where a field is indexed."""
    return isinstance(store, QdrantStore) and real_qdrant() is not None


PLAIN = CollectionSpec({"": VectorSpec(DIMENSION, Metric.COSINE)})


def fresh_name() -> str:
    """A collection name that no other test has."""
    return f"contract_{_RUN}_{next(_names)}"


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=list(STORES))
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    async with STORES[request.param](request) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def plain_collection(store: Store) -> AsyncIterator[str]:
    """One collection with an unnamed cosine vector; shared, since some engines take seconds to make one."""
    name = fresh_name()
    await store.create(name, PLAIN)
    yield name
    await store.drop(name)


@pytest_asyncio.fixture(loop_scope="session")
async def collection(store: Store, plain_collection: str) -> str:
    """The plain collection, empty."""
    while ids := [point.id for point in (await store.scan(plain_collection, None, 500, None, IDS_ONLY)).points]:
        await store.delete(plain_collection, ids)
    return plain_collection


@dataclass(frozen=True, slots=True)
class Library:
    """A collection with a data set that tries filters hard, beside the reference that holds the same points."""

    store: Store
    reference: MemoryStore
    name: str
    points: Sequence[Point]

    def ids(self) -> set[PointId]:
        return {point.id for point in self.points}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def library(store: Store) -> AsyncIterator[Library]:
    """Filled once. A point that the store cannot represent is in neither."""
    name, reference = fresh_name(), MemoryStore()
    await store.create(name, PLAIN)
    await reference.create(name, PLAIN)
    points = dataset(nulls_in_arrays=not is_unindexed_server(store))
    report = await store.upsert(name, points)
    kept = [point for point in points if point.id not in report.refused]
    await reference.upsert(name, kept)
    await store.settle(name)
    yield Library(store, reference, name, kept)
    await store.drop(name)
