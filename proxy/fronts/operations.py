"""Any operation of the model, carried out on a store that answers for writes itself.

What the model cannot say (PrimaryOnlyRead, OpaqueWrite, Administration) never comes here.
"""

from __future__ import annotations

from typing import assert_never

from proxy.errors import CollectionNotFound, Untranslatable
from proxy.model import (
    Aliases,
    Batch,
    ClearPayload,
    CollectionNames,
    Count,
    Counted,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    DataRead,
    Defined,
    Definition,
    Delete,
    DeletePayload,
    DeleteVectors,
    Describe,
    DropCollection,
    DropPayloadIndex,
    Existence,
    Exists,
    Fetch,
    HitsBatch,
    ListAliases,
    ListCollections,
    MetadataRead,
    OverwritePayload,
    Page,
    Points,
    Result,
    Scroll,
    Search,
    SearchBatch,
    SetPayload,
    UpdateAliases,
    UpdateCollection,
    UpdateVectors,
    Upsert,
    id_order,
)
from proxy.stores import PrimaryStore

PointWrite = (
    Upsert
    | Delete
    | SetPayload
    | OverwritePayload
    | DeletePayload
    | ClearPayload
    | UpdateVectors
    | DeleteVectors
    | Batch
)
Served = DataRead | MetadataRead | PointWrite | Definition


async def execute(store: PrimaryStore, operation: Served) -> Result:
    """Raises RequestError and StoreError, as the store does."""
    match operation:
        case Search() | SearchBatch() | Fetch() | Scroll() | Count():
            return await _read(store, operation)
        case Describe() | Exists() | ListCollections() | ListAliases():
            return await _describe(store, operation)
        case (
            CreateCollection()
            | UpdateCollection()
            | DropCollection()
            | UpdateAliases()
            | CreatePayloadIndex()
            | DropPayloadIndex()
        ):
            return Defined(await store.define(operation))
        case _:
            return await store.apply(operation)


async def _read(store: PrimaryStore, read: DataRead) -> Result:
    match read:
        case Search():
            return await store.search(read)
        case SearchBatch(searches=searches):
            return HitsBatch(tuple([await store.search(search) for search in searches]))
        case Fetch(collection, ids, selection):
            found = await store.fetch(collection, ids, selection)
            # As asked, each once (Collection::retrieve, lib/collection/src/collection/point_ops.rs).
            return Points(tuple(found[point_id] for point_id in dict.fromkeys(ids) if point_id in found))
        case Scroll():
            return await _scroll(store, read)
        case Count(collection, filter):
            return Counted(await store.count(collection, filter))
        case _:
            assert_never(read)


async def _scroll(store: PrimaryStore, scroll: Scroll) -> Page:
    """In the order of ids. A store that has another order can only tell a page that holds everything."""
    if store.capabilities.ordered_by_id:
        return await store.scan(scroll.collection, scroll.start, scroll.limit, scroll.filter, scroll.selection)
    if scroll.start is None:
        page = await store.scan(scroll.collection, None, scroll.limit, scroll.filter, scroll.selection)
        if page.next is None:
            return Page(tuple(sorted(page.points, key=lambda point: id_order(point.id))), None)
    raise Untranslatable("scroll order")


async def _describe(store: PrimaryStore, read: MetadataRead) -> Result:
    match read:
        case Describe(collection):
            described = await store.describe(collection)
            if described is None:
                raise CollectionNotFound(collection)
            return described
        case Exists(collection):
            return Existence(await store.describe(collection) is not None)
        case ListCollections():
            return CollectionNames(await store.collections())
        case ListAliases(collection):
            aliases = await store.aliases()
            wanted = sorted(item for item in aliases.items() if collection in {None, item[1]})
            return Aliases(tuple(CreateAlias(alias, name) for alias, name in wanted))
        case _:
            assert_never(read)
