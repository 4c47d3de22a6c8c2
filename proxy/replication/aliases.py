"""Aliases on the secondary: those that the primary gives the collections of a route, and no other.

A change is not replayed: whenever one was made, the secondary is given what the primary has by then, so that it does
not matter how often, or in which order, or which process notices (alias_follower.py says when).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from proxy.errors import RequestError, StoreError
from proxy.model import CreateAlias, DropAlias, Side, UpdateAliases
from proxy.replication.site import StorePair
from proxy.stores import Defining


async def give_aliases(
    stores: StorePair, primary: Side, collections: Iterable[str], secondary: Defining, may: Callable[[], bool]
) -> None:
    """An alias that the secondary gives a collection of somebody else is left alone; nothing is changed where it `may`
    not be any more. Raises what the stores raise."""
    refused: UpdateAliases | None = None
    while (change := await _missing(stores, primary, tuple(collections), secondary)) is not None and may():
        try:
            await secondary.define(change)
        except (RequestError, StoreError):
            if change == refused:
                raise
            refused = change  # another process or a job may have given them meanwhile: then less is missing, or nothing


async def _missing(
    stores: StorePair, primary: Side, collections: Iterable[str], secondary: Defining
) -> UpdateAliases | None:
    """What has to be changed on the secondary."""
    theirs = await secondary.aliases()
    ours = {stores.name_at(primary, name): stores.name_at(primary.other, name) for name in collections}
    wanted = {alias: ours[name] for alias, name in (await stores.at(primary).aliases()).items() if name in ours}
    actions: list[CreateAlias | DropAlias] = []
    for alias, name in theirs.items():
        if name in ours.values() and wanted.get(alias) != name:
            actions.append(DropAlias(alias))
    free = theirs.keys() - {action.alias for action in actions if isinstance(action, DropAlias)}
    for alias, name in wanted.items():
        if theirs.get(alias) != name and alias not in free:
            actions.append(CreateAlias(alias, name))
    return UpdateAliases(tuple(actions)) if actions else None
