"""Collections of a Milvus as the adapter knows them: layout, survey, lock; making them, loading them into memory.

What is known of a collection is kept until it turns out to be gone or different. A collection answers reads only while
it is loaded: one that is not (after a restart of Milvus Lite, say) is loaded when a read runs into that.

Milvus Lite keeps new rows in a table of Python objects until it is told to flush, and searches those ten times slower
than the rest. So a search that finds many of them there has them flushed, in the background.

There, the reads of a collection go together and each write goes alone. Lite loses writes that overlap others. And
while a write moves its buffer into a segment, a read beside it can miss what had been acknowledged before, or see the
version before that: it looks at the segments without the new one, and then at the buffer that was just emptied
(engine/collection.py of milvus-lite 3.2.2: `_trigger_flush` swaps the buffer before it takes the lock that
`_read_snapshot` takes). A full Milvus needs none of this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from proxy.dialects.milvus import requests
from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.messages import common, milvus
from proxy.dialects.milvus.names import collection_name, name_of_collection, vector_field
from proxy.dialects.milvus.requests import Place
from proxy.dialects.milvus.schema import (
    Layout,
    VectorIndex,
    check_spec,
    collection_schema,
    has_fields,
    index_parameters,
    layout_of,
)
from proxy.dialects.milvus.status import NoIndexError, NotLoadedError
from proxy.errors import CollectionExists, CollectionNotFound, CrossfadeError, Unavailable, Unclear
from proxy.model import CollectionSpec
from proxy.stores.milvus_connection import MilvusConnection
from proxy.stores.milvus_horizon import Horizon
from proxy.stores.milvus_survey import Survey
from proxy.stores.steps_of_change import StepsOfChange
from proxy.stores.turns import Turns
from proxy.telemetry.tasks import spawn

_LOADED = common.LoadState.Value("LoadStateLoaded")
_LITE_ROWS_WORTH_A_FLUSH = 1000
_FIRST_LOOK_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.5


@dataclass(slots=True)
class MilvusCollection:
    """An existing collection, under its own name. `turns`: who may use it at the same time, on Milvus Lite."""

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
        """What is known of the collection, asked for if nothing is; an alias is asked for each time. Raises
        CollectionNotFound, and Refused for one that cannot be used."""
        if (known := self._known.get(name)) is None:
            described = await self._description(name)
            if (own := own_name(described)) != name:
                return await self.get(own)
            layout = await self._layout(name, described)
            self._horizon.read_strongly()  # others may have written to it
            known = self._known.setdefault(name, MilvusCollection(name, self.place(name), layout, Survey(empty=False)))
        return known

    def if_known(self, name: str) -> MilvusCollection | None:
        """Without asking."""
        return self._known.get(name)

    async def renewed(self, name: str) -> MilvusCollection | None:
        """The collection asked for again; None if it is as it was known."""
        described = await self._description(name)
        own = own_name(described)
        layout = await self._layout(own, described)
        if (known := self._known.get(own)) is not None and known.layout == layout:
            return None
        self.forget(own)
        return await self.get(own)

    def forget(self, name: str) -> None:
        self._known.pop(name, None)

    async def create(self, name: str, spec: CollectionSpec, ids: IdMapping, index: VectorIndex) -> None:
        """Make, index and load it. Raises Untranslatable, CollectionExists; what fails half-way leaves nothing, or is
        Unclear. Of an existing one that nobody finished, all indexes are made first."""
        server = await self._connection.server()
        check_spec(spec, several_vectors=server.several_vectors)
        place = self.place(name)
        serialized = collection_schema(place.collection, spec, ids)
        if (existing := await self._existing(name)) is not None:
            if has_fields(existing.schema, serialized):
                await self._index(name, spec, index, {each.field_name for each in await self._indexes(name)})
            raise CollectionExists(name)
        await self.call("CreateCollection", requests.create_collection(place, serialized), common.Status, name)
        try:
            await self._index(name, spec, index, set())
            await self._load(name)
            layout = await self._layout(name, await self._description(name))
        except BaseException as failure:
            if not await self._remove_half_made(name) and isinstance(failure, CrossfadeError):
                raise Unclear(f"collection {name!r} was made only in part, and is still there: {failure}") from failure
            raise
        self._known[name] = MilvusCollection(name, place, layout, Survey(empty=True), unflushed_rows=0)

    async def drop(self, name: str) -> bool:
        """Remove it and its aliases; False if there is no collection of this very name (Milvus Lite would take an alias
        for it). On Milvus Lite not beside a flush, which would go on writing files into the directory that is being
        removed."""
        known = self._known.get(name)
        turns = known.turns if known is not None else Turns()
        self.forget(name)
        place = self.place(name)
        async with turns.alone():
            try:
                described = await self._description(name)
                if own_name(described) != name:
                    return False
                steps = StepsOfChange()
                for alias in described.aliases:  # Lite names none here, and drops them itself
                    request = milvus.DropAliasRequest(db_name=self._database, alias=alias)
                    await steps.step(self.call("DropAlias", request, common.Status, name))
                request = milvus.DropCollectionRequest(**place.fields())
                await steps.step(self.call("DropCollection", request, common.Status, name))
            except CollectionNotFound:
                return False
        return True

    async def exists(self, name: str) -> bool:
        return await self._existing(name) is not None

    async def _existing(self, name: str) -> Any:
        """Its description, or None."""
        try:
            return await self._description(name)
        except CollectionNotFound:
            return None

    async def _index(self, name: str, spec: CollectionSpec, index: VectorIndex, there: Collection[str]) -> None:
        """Index each vector whose field is not `there`."""
        for vector in spec.vectors:
            if vector_field(vector) not in there:
                parameters = index_parameters(vector, spec, index)
                request = requests.create_index(self.place(name), vector_field(vector), parameters)
                await self.call("CreateIndex", request, common.Status, name)

    async def read(self, collection: MilvusCollection, method: str, request: Any, reply: Any) -> Any:
        """One RPC that reads the collection, in its turn; once more after loading it if it was not in memory."""
        name = collection.name
        async with await self.turn(collection, alone=False):
            try:
                return await self.call(method, request, reply, name, writes=False)
            except NotLoadedError:
                async with collection.load_lock:
                    await self._load(name)
                return await self.call(method, request, reply, name, writes=False)

    async def turn(self, collection: MilvusCollection, *, alone: bool) -> AbstractAsyncContextManager[None]:
        """A turn at the collection, on Milvus Lite. Whoever waits for the server to be known does so before it."""
        if not (self._connection.present_server or await self._connection.server()).lite:
            return nullcontext()
        return collection.turns.alone() if alone else collection.turns.together()

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
                await self.call("Flush", request, milvus.FlushResponse, collection.name)
                collection.unflushed_rows = 0
        except CrossfadeError:
            return  # a later search tries again
        finally:
            collection.flushing = False

    async def _load(self, name: str) -> None:
        """Returns when the collection answers reads. Raises Unavailable if that takes too long."""
        place = self.place(name)
        await self.call("LoadCollection", requests.load_collection(place), common.Status, name)
        deadline = time.monotonic() + self._load_timeout_seconds
        pause_seconds = _FIRST_LOOK_SECONDS
        while True:
            request = milvus.GetLoadStateRequest(**place.fields())
            state = (await self.call("GetLoadState", request, milvus.GetLoadStateResponse, name, writes=False)).state
            if state == _LOADED:
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"collection {name!r} is not loaded after {self._load_timeout_seconds:.0f} s")
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _layout(self, name: str, described: Any) -> Layout:
        return layout_of(name, described.schema, await self._indexes(name))

    async def _indexes(self, name: str) -> Iterable[Any]:
        request = milvus.DescribeIndexRequest(**self.place(name).fields())
        try:
            reply = await self.call("DescribeIndex", request, milvus.DescribeIndexResponse, name, writes=False)
        except NoIndexError:
            return ()
        return tuple(reply.index_descriptions)

    async def _description(self, name: str) -> Any:
        request = milvus.DescribeCollectionRequest(**self.place(name).fields())
        return await self.call("DescribeCollection", request, milvus.DescribeCollectionResponse, name, writes=False)

    async def _remove_half_made(self, name: str) -> bool:
        """Whether it is gone; the failure that led here is the one to report."""
        try:
            await self.drop(name)
        except CrossfadeError:
            return False
        return True

    async def call(self, method: str, request: Any, reply: Any, name: str, *, writes: bool = True) -> Any:
        """One RPC about the collection `name`, which is forgotten if it turns out to be gone."""
        try:
            return await self._connection.call(method, request, reply, collection=name, writes=writes)
        except CollectionNotFound:
            self.forget(name)
            raise


def own_name(described: Any) -> str:
    """The collection's own name, whichever it was described under: the full server repeats an alias, but not here."""
    return name_of_collection(described.schema.name)
