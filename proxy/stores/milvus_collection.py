"""Collections of a Milvus as the adapter knows them: layout, survey, lock; making them, loading them into memory.

What is known of a collection is kept until it turns out to be gone or different. A collection answers reads only while
it is loaded: one that is not (after a restart of Milvus Lite, say) is loaded when a read runs into that.

Milvus Lite keeps new rows in a table of Python objects until it is told to flush, and searches those ten times slower
than the rest. So a search that finds many of them there has them flushed, in the background.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from proxy.dialects.milvus import requests
from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.messages import common, milvus
from proxy.dialects.milvus.names import collection_name, vector_field
from proxy.dialects.milvus.requests import Place
from proxy.dialects.milvus.schema import (
    Layout,
    VectorIndex,
    check_spec,
    collection_schema,
    index_parameters,
    layout_of,
)
from proxy.dialects.milvus.status import NoIndexError, NotLoadedError
from proxy.errors import CollectionExists, CollectionNotFound, CrossfadeError, Unavailable
from proxy.model import CollectionSpec
from proxy.stores.milvus_connection import MilvusConnection
from proxy.stores.milvus_horizon import Horizon
from proxy.stores.milvus_survey import Survey
from proxy.stores.milvus_turns import Turns
from proxy.telemetry.tasks import spawn

T = TypeVar("T")

_LOADED = common.LoadState.Value("LoadStateLoaded")
_LITE_ROWS_WORTH_A_FLUSH = 1000
_FIRST_LOOK_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.5


@dataclass(slots=True)
class MilvusCollection:
    """An existing collection. `turns`: who may use it at the same time, on Milvus Lite."""

    name: str
    place: Place
    layout: Layout
    survey: Survey
    turns: Turns = field(default_factory=Turns)
    load_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unflushed_rows: int = _LITE_ROWS_WORTH_A_FLUSH  # as long as nobody knows
    flushing: bool = False


class MilvusCollections:
    def __init__(
        self, connection: MilvusConnection, horizon: Horizon, database: str, load_timeout_seconds: float
    ) -> None:
        self._connection = connection
        self._horizon = horizon
        self._database = database
        self._load_timeout_seconds = load_timeout_seconds
        self._known: dict[str, MilvusCollection] = {}

    def place(self, name: str) -> Place:
        return Place(self._database, collection_name(name))

    async def get(self, name: str) -> MilvusCollection:
        """What is known of the collection, asked for if nothing is. Raises CollectionNotFound, and Refused for one
        that cannot be used."""
        if (known := self._known.get(name)) is None:
            layout = await self._layout(name)
            self._horizon.read_strongly()  # others may have written to it
            known = self._known.setdefault(name, MilvusCollection(name, self.place(name), layout, Survey(empty=False)))
        return known

    async def renewed(self, name: str) -> MilvusCollection | None:
        """The collection asked for again; None if it is as it was known."""
        layout = await self._layout(name)
        if (known := self._known.get(name)) is not None and known.layout == layout:
            return None
        self.forget(name)
        return await self.get(name)

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    async def create(self, name: str, spec: CollectionSpec, ids: IdMapping, index: VectorIndex) -> None:
        """Make, index and load it. Raises Untranslatable, CollectionExists; what fails half-way leaves nothing."""
        server = await self._connection.server()
        check_spec(spec, several_vectors=server.several_vectors)
        place = self.place(name)
        if await self.exists(name):
            raise CollectionExists(name)
        serialized = collection_schema(place.collection, spec, ids)
        await self._call("CreateCollection", requests.create_collection(place, serialized), common.Status, name)
        try:
            for vector in spec.vectors:
                parameters = index_parameters(vector, spec, index)
                request = requests.create_index(place, vector_field(vector), parameters)
                await self._call("CreateIndex", request, common.Status, name)
            await self._load(name)
            layout = await self._layout(name)
        except BaseException:
            await self._remove_half_made(name)
            raise
        self._known[name] = MilvusCollection(name, place, layout, Survey(empty=True), unflushed_rows=0)

    async def drop(self, name: str) -> None:
        """Remove it; no error if it is not there. On Milvus Lite not beside a flush, which would go on writing files
        into the directory that is being removed."""
        known = self._known.get(name)
        turns = known.turns if known is not None else Turns()
        self.forget(name)
        async with turns.alone():
            try:
                await self._call(
                    "DropCollection", milvus.DropCollectionRequest(**self.place(name).fields()), common.Status, name
                )
            except CollectionNotFound:
                return

    async def exists(self, name: str) -> bool:
        try:
            await self._description(name)
        except CollectionNotFound:
            return False
        return True

    async def reading(self, collection: MilvusCollection, read: Callable[[], Awaitable[T]]) -> T:
        """`read`, once more after loading the collection if it was not in memory."""
        try:
            return await read()
        except NotLoadedError:
            async with collection.load_lock:
                await self._load(collection.name)
            return await read()

    def flush_if_worth_it(self, collection: MilvusCollection) -> None:
        """On Milvus Lite only."""
        if collection.unflushed_rows >= _LITE_ROWS_WORTH_A_FLUSH and not collection.flushing:
            collection.flushing = True
            spawn(self._flush(collection), name="milvus lite flush")

    async def _flush(self, collection: MilvusCollection) -> None:
        place = collection.place
        request = milvus.FlushRequest(db_name=place.database, collection_names=[place.collection])
        try:
            async with collection.turns.alone():
                await self._call("Flush", request, milvus.FlushResponse, collection.name)
                collection.unflushed_rows = 0
        except CrossfadeError:
            return  # a later search tries again
        finally:
            collection.flushing = False

    async def _load(self, name: str) -> None:
        """Returns when the collection answers reads. Raises Unavailable if that takes too long."""
        place = self.place(name)
        await self._call("LoadCollection", requests.load_collection(place), common.Status, name)
        deadline = time.monotonic() + self._load_timeout_seconds
        pause_seconds = _FIRST_LOOK_SECONDS
        while True:
            request = milvus.GetLoadStateRequest(**place.fields())
            state = (await self._call("GetLoadState", request, milvus.GetLoadStateResponse, name, writes=False)).state
            if state == _LOADED:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"collection {name!r} is not loaded after {self._load_timeout_seconds:.0f} s")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _layout(self, name: str) -> Layout:
        described = await self._description(name)
        request = milvus.DescribeIndexRequest(**self.place(name).fields())
        try:
            reply = await self._call("DescribeIndex", request, milvus.DescribeIndexResponse, name, writes=False)
            indexes = reply.index_descriptions
        except NoIndexError:
            indexes = ()
        return layout_of(name, described.schema, indexes)

    async def _description(self, name: str) -> Any:
        request = milvus.DescribeCollectionRequest(**self.place(name).fields())
        return await self._call("DescribeCollection", request, milvus.DescribeCollectionResponse, name, writes=False)

    async def _remove_half_made(self, name: str) -> None:
        try:
            await self.drop(name)
        except CrossfadeError:
            return  # the failure that led here is the one to report

    async def _call(self, method: str, request: Any, reply: Any, name: str, *, writes: bool = True) -> Any:
        try:
            return await self._connection.call(method, request, reply, collection=name, writes=writes)
        except CollectionNotFound:
            self.forget(name)
            raise
