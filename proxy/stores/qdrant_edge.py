"""The embedded Qdrant engine as a store: the real engine, in this process, without a server.

The engine is synchronous and keeps Python's lock while it works, so its calls run one after another in a
thread of their own (qdrant_edge_engine.py); the event loop goes on between them, not during them. Serve it
from a process of its own where latency matters (proxy/emulator.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar, assert_never

from proxy.model import (
    EVERYTHING,
    Batch,
    CollectionSpec,
    CreateCollection,
    CreatePayloadIndex,
    Definition,
    Described,
    DropCollection,
    DropPayloadIndex,
    Filter,
    Hits,
    Metric,
    Page,
    Point,
    PointId,
    Search,
    Selection,
    UpdateAliases,
    UpdateCollection,
    Write,
    Written,
)
from proxy.stores import Capabilities, WriteReport
from proxy.stores.qdrant_edge_engine import EdgeEngine
from proxy.stores.qdrant_edge_files import EdgeFiles

T = TypeVar("T")

CAPABILITIES = Capabilities(
    vendor="qdrant",
    metrics=frozenset(Metric),
    vector_kinds=frozenset({"dense", "sparse", "multi"}),
    vectors_optional=True,
    normalizes_cosine=True,
)


class QdrantEdgeStore:
    """Implements Store and PrimaryStore over the collections below `path`.

    Nothing is read before the first call, which raises Unavailable while another process has the directory
    open. A write that has returned survives the death of the process.
    """

    def __init__(self, path: Path | str) -> None:
        self._engine = EdgeEngine(EdgeFiles(Path(path)))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qdrant-edge")
        self._opened = False

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def probe(self) -> str:
        return await self._run(lambda: version("qdrant-edge-py"))

    async def collections(self) -> tuple[str, ...]:
        return await self._run(self._engine.collections)

    async def aliases(self) -> Mapping[str, str]:
        return await self._run(self._engine.aliases)

    async def describe(self, collection: str) -> Described | None:
        return await self._run(lambda: self._engine.describe(collection))

    def metric_of(self, collection: str, using: str) -> Metric | None:
        """The metric of a vector, if there is such a one; without waiting for calls that are under way."""
        return self._engine.metric_of(collection, using)

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        await self._run(lambda: self._engine.create(collection, spec))

    async def drop(self, collection: str) -> None:
        await self._run(lambda: self._engine.drop(collection))

    async def upsert(self, collection: str, points: Sequence[Point]) -> WriteReport:
        return await self._run(lambda: self._engine.upsert(collection, points))

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        await self._run(lambda: self._engine.delete(collection, ids))

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        return await self._run(lambda: self._engine.fetch(collection, ids, selection))

    async def scan(
        self,
        collection: str,
        start: PointId | None,
        limit: int,
        filter: Filter | None = None,
        selection: Selection = EVERYTHING,
    ) -> Page:
        return await self._run(lambda: self._engine.scan(collection, start, limit, filter, selection))

    async def search(self, search: Search) -> Hits:
        return await self._run(lambda: self._engine.search(search))

    async def count(self, collection: str, filter: Filter | None = None) -> int:
        return await self._run(lambda: self._engine.count(collection, filter))

    async def settle(self, collection: str) -> None:
        """Calls run in order, so this one comes after every write."""
        await self._run(self._engine.collections)

    async def close(self) -> None:
        """Sync to disk and release the directory; the store is not used afterwards."""
        await self._run(self._engine.close)
        self._thread.shutdown()

    async def apply(self, write: Write) -> Written:
        writes = write.writes if isinstance(write, Batch) else (write,)
        return Written(await self._run(lambda: self._engine.write(write.collection or "", writes)))

    async def define(self, definition: Definition) -> bool:
        return await self._run(lambda: self._define(definition))

    def _define(self, definition: Definition) -> bool:
        match definition:
            case CreateCollection(collection, spec):
                self._engine.create(collection, spec)
            case DropCollection(collection):
                return self._engine.drop(collection)
            case UpdateCollection(collection, native):
                self._engine.update_native(collection, native)
            case UpdateAliases(actions):
                self._engine.change_aliases(actions)
            case CreatePayloadIndex(collection, field_name, kind, native):
                self._engine.create_index(collection, field_name, kind, native.get("field_schema"))
            case DropPayloadIndex(collection, field_name):
                self._engine.drop_index(collection, field_name)
            case _:
                assert_never(definition)
        return True

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._opened_call, call)

    def _opened_call(self, call: Callable[[], T]) -> T:
        if not self._opened:
            self._engine.open()
            self._opened = True
        return call()
