"""What a list of alias changes makes of the aliases there are.

The rules are Qdrant's (1.19, lib/storage/src/content_manager/toc/collection_meta_ops.rs, update_aliases, and
alias_mapping.rs), except that a list which fails halfway changes nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import assert_never

from proxy.errors import AliasNotFound, CollectionExists, CollectionNotFound
from proxy.model import CreateAlias, DropAlias, RenameAlias


def changed_aliases(
    aliases: Mapping[str, str],
    collections: Collection[str],
    actions: Iterable[CreateAlias | DropAlias | RenameAlias],
) -> dict[str, str]:
    """The aliases after all actions. Making an alias that is there moves it; dropping one that is not does nothing.

    Raises CollectionNotFound, CollectionExists (a collection has the alias's name), AliasNotFound (to rename).
    """
    after = dict(aliases)
    for action in actions:
        match action:
            case CreateAlias(alias, collection):
                if collection not in collections:
                    raise CollectionNotFound(collection)
                if alias in collections:
                    raise CollectionExists(alias)
                after[alias] = collection
            case DropAlias(alias):
                after.pop(alias, None)
            case RenameAlias(old, new):
                if old not in after:
                    raise AliasNotFound(old)
                after[new] = after.pop(old)
            case _:
                assert_never(action)
    return after


def without_collection(aliases: Mapping[str, str], collection: str) -> dict[str, str]:
    """The aliases that remain when a collection is gone."""
    return {alias: name for alias, name in aliases.items() if name != collection}
