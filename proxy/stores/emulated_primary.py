"""A store of whole points as a primary: every write of the model, by reading points, changing and putting them back.

What a write does to a point is write_effects.py's business, the same as in the reference store. This file decides
what is read and written, and when:

1. Which points: the ids that the write names, or all that the store finds by its filter (ids only, every page). A
   condition of an upsert is looked at on the points read.
2. Read them, whole; not for whole points put without a condition, nor for deletes.
3. Work out all parts of a batch, then ask the store which of the resulting points it cannot hold. Up to here nothing
   is changed, so Untranslatable and Unstorable mean that nothing was.
4. Put the points that stay, delete those that go.

**No update is lost** in this process: a write that names its points shares its turn at the collection, one that
chooses them by a filter, and making or dropping the collection, has it alone. Two writes that name the same point must
be put in order by the caller (lanes). Other processes are not excluded.

**Nothing is atomic** beyond what the store makes so. A crash, or a failure, between two requests to the store leaves a
part of a write applied, as it does in Qdrant. A failure after the first change is AppliedInPart, and Unclear if the
store's own answer was. A write by filter goes through its points in steps, in the order of the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

from proxy.errors import InvalidRequest, Unavailable, Unclear, Untranslatable
from proxy.model import (
    EVERYTHING,
    Batch,
    CollectionSpec,
    CreateCollection,
    Definition,
    Described,
    DropCollection,
    Filter,
    Hits,
    Metric,
    OpaqueWrite,
    Page,
    Point,
    PointId,
    Search,
    Selection,
    Write,
    Written,
    write_filters,
)
from proxy.stores import Capabilities, WholePointStore, WriteReport
from proxy.stores.memory_collection import stored
from proxy.stores.point_shape import fitting_before, misfit
from proxy.stores.turns import Turns
from proxy.stores.write_steps import WriteSteps

MAX_BATCH_POINTS = 50_000  # that the filters in one batch may choose: all of them are held in memory


class EmulatedPrimary:
    """Implements PrimaryStore and WholePointStore over `store`, whose owner closes it. One for a store.

    Aliases that somebody else changes are noticed when `aliases` is asked the next time.
    """

    def __init__(self, store: WholePointStore) -> None:
        self._store = store
        self._turns: WeakValueDictionary[str, Turns] = WeakValueDictionary()  # of collections in use
        self._aliases: Mapping[str, str] | None = None
        self._definitions = 0
        self._operations = 0

    # --- writes and definitions -----------------------------------------------------------------

    async def apply(self, write: Write) -> Written:
        parts = write.writes if isinstance(write, Batch) else (write,)
        for part in parts:
            if isinstance(part, OpaqueWrite):
                raise Untranslatable(part.reason)
        by_filter = bool(write_filters(write))
        async with self._turn(write.collection or "", alone=by_filter) as collection:
            steps = WriteSteps(self._store, collection, await self._store.spec_of(collection))
            if by_filter and isinstance(write, Batch):
                await self._require_few(collection, write)
            if by_filter and not isinstance(write, Batch):
                await steps.through(write)
            else:
                await steps.at_once(parts)
        first = self._operations
        self._operations += len(parts)
        return Written(tuple(range(first, self._operations)))

    async def define(self, definition: Definition) -> bool:
        try:
            if isinstance(definition, CreateCollection | DropCollection):
                async with self._turns_at(definition.collection).alone():
                    return await self._store.define(definition)
            return await self._store.define(definition)
        finally:
            self._aliases = None
            self._definitions += 1

    async def _require_few(self, collection: str, batch: Batch) -> None:
        chosen = 0
        for choice in write_filters(batch) or ():
            chosen += await self._store.count(collection, choice)
        if chosen > MAX_BATCH_POINTS:
            raise InvalidRequest(
                f"the filters of this batch choose {chosen} points, and a batch can change {MAX_BATCH_POINTS}; "
                "send the writes by filter alone"
            )

    @contextlib.asynccontextmanager
    async def _turn(self, name: str, *, alone: bool) -> AsyncIterator[str]:
        """A turn at the collection that `name` stands for, which is what comes out."""
        collection = await self._resolved(name)
        turns = self._turns_at(collection)
        async with turns.alone() if alone else turns.together():
            yield collection

    async def _resolved(self, name: str) -> str:
        """Of what is to be done nothing has been done yet: an answer that does not come leaves nothing unclear."""
        try:
            aliases = await self.aliases() if self._aliases is None else self._aliases
        except Unclear as error:
            raise Unavailable(f"the aliases could not be read, so nothing was asked: {error}") from error
        return aliases.get(name, name)

    def _turns_at(self, collection: str) -> Turns:
        return self._turns.setdefault(collection, Turns())

    # --- as a store -----------------------------------------------------------------------------

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._store.capabilities, normalizes_cosine=True, partial_updates=False)

    async def probe(self) -> str:
        return await self._store.probe()

    async def collections(self) -> tuple[str, ...]:
        return await self._store.collections()

    async def aliases(self) -> Mapping[str, str]:
        definitions = self._definitions
        found = await self._store.aliases()
        if definitions == self._definitions:  # else it may be from before one
            self._aliases = found
        return found

    async def describe(self, collection: str) -> Described | None:
        return await self._store.describe(await self._resolved(collection))

    async def spec_of(self, collection: str) -> CollectionSpec:
        return await self._store.spec_of(collection)

    def metric_of(self, collection: str, using: str) -> Metric | None:
        """An alias is known once anything was written or described."""
        return self._store.metric_of((self._aliases or {}).get(collection, collection), using)

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        await self._store.create(collection, spec)

    async def drop(self, collection: str) -> None:
        await self.define(DropCollection(collection))

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        async with self._turn(collection, alone=False) as own:
            spec = await self._store.spec_of(own)
            return await self._store.upsert(own, _at_unit_length(spec, points), whole=whole)

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        return await self._store.unfit(collection, points)

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        async with self._turn(collection, alone=False) as own:
            await self._store.delete(own, ids)

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        return await self._store.fetch(collection, ids, selection)

    async def scan(
        self,
        collection: str,
        start: PointId | None,
        limit: int,
        filter: Filter | None = None,
        selection: Selection = EVERYTHING,
    ) -> Page:
        return await self._store.scan(collection, start, limit, filter, selection)

    async def search(self, search: Search) -> Hits:
        return await self._store.search(search)

    async def count(self, collection: str, filter: Filter | None = None) -> int:
        return await self._store.count(collection, filter)

    async def settle(self, collection: str) -> None:
        await self._store.settle(collection)

    async def close(self) -> None:
        """The store is closed by whoever opened it."""


def _at_unit_length(spec: CollectionSpec, points: Sequence[Point]) -> list[Point]:
    """Those that fit with their cosine vectors at unit length, the others as they are."""
    fitting, reason = fitting_before(spec, points)
    if not reason:
        return stored(spec, fitting)
    return [point if misfit(spec, point) else stored(spec, [point])[0] for point in points]
