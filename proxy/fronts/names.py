"""Names of collections and aliases, where the store's differ from the client's: of operations, results and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from proxy.errors import AliasNotFound, CollectionExists, CollectionNotFound, RequestError
from proxy.fronts.operations import Served
from proxy.model import (
    Aliases,
    Batch,
    CollectionNames,
    CreateAlias,
    Described,
    DropAlias,
    ListAliases,
    ListCollections,
    RenameAlias,
    Result,
    SearchBatch,
    UpdateAliases,
)


def _same(name: str) -> str:
    return name


@dataclass(frozen=True, slots=True)
class NameMap:
    """`to_store`: the store's name for what the client calls so. `to_client`: the inverse; None for what is none of the
    client's, and is left out of lists. Both are for collections and aliases alike."""

    to_store: Callable[[str], str] = _same
    to_client: Callable[[str], str | None] = _same

    def operation(self, operation: Served) -> Served:
        """The operation in the store's names."""
        match operation:
            case ListCollections():
                return operation
            case ListAliases(collection):
                return operation if collection is None else ListAliases(self.to_store(collection))
            case UpdateAliases(actions):
                return UpdateAliases(tuple(self._action(action) for action in actions))
            case SearchBatch(collection, searches):
                own = self.to_store(collection)
                return SearchBatch(own, tuple(replace(search, collection=own) for search in searches))
            case Batch(collection, writes):
                own = self.to_store(collection)
                return Batch(own, tuple(replace(write, collection=own) for write in writes))
            case _:
                return replace(operation, collection=self.to_store(operation.collection))

    def result(self, result: Result) -> Result:
        """The result in the client's names."""
        match result:
            case CollectionNames(names):
                own = (self.to_client(name) for name in names)
                return CollectionNames(tuple(sorted(name for name in own if name is not None)))
            case Aliases(aliases):
                pairs = ((self.to_client(one.alias), self.to_client(one.collection)) for one in aliases)
                return Aliases(tuple(CreateAlias(a, c) for a, c in pairs if a is not None and c is not None))
            case Described(collection):
                return replace(result, collection=self._shown(collection))
            case _:
                return result

    def error(self, error: CollectionNotFound | CollectionExists) -> RequestError:
        """The error in the client's names."""
        name = self._shown(error.collection)
        match error:
            case AliasNotFound():
                return AliasNotFound(name)
            case CollectionNotFound():
                return CollectionNotFound(name)
            case _:
                return CollectionExists(name)

    def _shown(self, name: str) -> str:
        own = self.to_client(name)
        return name if own is None else own

    def _action(self, action: CreateAlias | DropAlias | RenameAlias) -> CreateAlias | DropAlias | RenameAlias:
        match action:
            case CreateAlias(alias, collection):
                return CreateAlias(self.to_store(alias), self.to_store(collection))
            case DropAlias(alias):
                return DropAlias(self.to_store(alias))
            case RenameAlias(old, new):
                return RenameAlias(self.to_store(old), self.to_store(new))


SAME_NAMES = NameMap()
