"""Definitions on Milvus: collections, aliases, and what of a Qdrant's definitions has no meaning there.

- **Aliases** are Milvus' own. A list of changes is worked out beforehand, by the rules of alias_changes.py, and what
  differs in the end is then done one by one: moves and new ones first, so that no name that stays is missing for a
  moment; then what has to go. A failure in between leaves a part of it done, and is Unclear.
- **Payload indexes and parameters** change no result, only speed, and Milvus has its own: they are accepted for a
  collection that is there, and nothing is done or remembered.
- **An alias is no collection**: it cannot be dropped as one, nor can one be made under its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.messages import common, milvus
from proxy.dialects.milvus.names import collection_name, name_of_collection
from proxy.dialects.milvus.schema import VectorIndex
from proxy.errors import CollectionNotFound
from proxy.model import (
    CollectionSpec,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    Definition,
    DropAlias,
    DropCollection,
    DropPayloadIndex,
    RenameAlias,
    UpdateAliases,
    UpdateCollection,
)
from proxy.stores.alias_changes import changed_aliases
from proxy.stores.milvus_collection import MilvusCollections
from proxy.stores.milvus_connection import MilvusConnection
from proxy.stores.steps_of_change import StepsOfChange


class MilvusDefinitions:
    """Of one database. `ids`, `index`: of collections that are made."""

    def __init__(
        self,
        connection: MilvusConnection,
        collections: MilvusCollections,
        database: str,
        ids: IdMapping,
        index: VectorIndex,
    ) -> None:
        self._connection = connection
        self._collections = collections
        self._database = database
        self._ids = ids
        self._index = index

    async def collections(self) -> tuple[str, ...]:
        request = milvus.ShowCollectionsRequest(db_name=self._database)
        reply = await self._connection.call("ShowCollections", request, milvus.ShowCollectionsResponse)
        return tuple(sorted(name_of_collection(name) for name in reply.collection_names))

    async def aliases(self) -> Mapping[str, str]:
        call, database = self._connection.call, self._database
        listed = await call("ListAliases", milvus.ListAliasesRequest(db_name=database), milvus.ListAliasesResponse)
        found: dict[str, str] = {}
        for alias in listed.aliases:
            request = milvus.DescribeAliasRequest(db_name=database, alias=alias)
            with contextlib.suppress(CollectionNotFound):  # dropped since
                described = await call("DescribeAlias", request, milvus.DescribeAliasResponse)
                found[name_of_collection(alias)] = name_of_collection(described.collection)
        return found

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        await self._collections.create(collection, spec, self._ids, self._index)

    async def define(self, definition: Definition) -> bool:
        match definition:
            case CreateCollection(collection, spec):
                await self.create(collection, spec)
            case DropCollection(collection):
                return await self._collections.drop(collection)
            case UpdateAliases(actions):
                await self._change_aliases(actions)
            case UpdateCollection() | CreatePayloadIndex() | DropPayloadIndex():
                if not await self._collections.exists(definition.collection):
                    raise CollectionNotFound(definition.collection)
            case _:
                assert_never(definition)
        return True

    async def _change_aliases(self, actions: Iterable[CreateAlias | DropAlias | RenameAlias]) -> None:
        before = await self.aliases()
        after = changed_aliases(before, await self.collections(), actions)
        names = {alias: collection_name(alias) for alias in (*before, *after)}  # Untranslatable before anything is done
        steps = StepsOfChange()
        for alias, collection in after.items():
            if before.get(alias) != collection:
                message = milvus.AlterAliasRequest if alias in before else milvus.CreateAliasRequest
                request = message(
                    db_name=self._database, alias=names[alias], collection_name=collection_name(collection)
                )
                method = "AlterAlias" if alias in before else "CreateAlias"
                await steps.step(self._write(method, request, collection))
        for alias in before.keys() - after.keys():
            request = milvus.DropAliasRequest(db_name=self._database, alias=names[alias])
            await steps.step(self._write("DropAlias", request, alias))

    async def _write(self, method: str, request: Any, name: str) -> None:
        await self._connection.call(method, request, common.Status, collection=name, writes=True)
