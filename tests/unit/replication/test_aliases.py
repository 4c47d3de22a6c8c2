"""The secondary is given the primary's aliases, though somebody else may be giving them at the same time."""

from __future__ import annotations

import asyncio

import pytest

from proxy.errors import Refused
from proxy.model import CollectionSpec, CreateAlias, Definition, DropAlias, Metric, Side, UpdateAliases, VectorSpec
from proxy.replication.aliases import give_aliases
from proxy.replication.site import StorePair
from proxy.stores.memory import MemoryStore

BLUE, GREEN = "blue", "green"
SPEC = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT)})
LIVE = UpdateAliases((CreateAlias("live", BLUE), CreateAlias("next", GREEN)))


class MilvusLike(MemoryStore):
    """Refuses an alias that is there (as Milvus: "alias already exists"), after all actions before it."""

    refusing = False

    async def define(self, definition: Definition) -> bool:
        if isinstance(definition, UpdateAliases):
            for action in definition.actions:
                await asyncio.sleep(0)
                taken = isinstance(action, CreateAlias) and action.alias in await self.aliases()
                if self.refusing or taken:
                    raise Refused(f"alias {action} already exists")
                await super().define(UpdateAliases((action,)))
            return True
        return await super().define(definition)


@pytest.fixture
async def pair() -> tuple[MemoryStore, MilvusLike]:
    source, target = MemoryStore(), MilvusLike()
    for store in (source, target):
        for collection in (BLUE, GREEN):
            await store.create(collection, SPEC)
    await source.define(LIVE)
    return source, target


async def give(source: MemoryStore, target: MilvusLike, may: bool = True) -> None:
    stores = StorePair(source, target, source_hold_seconds=1, target_hold_seconds=1)
    await give_aliases(stores, Side.SOURCE, (BLUE, GREEN), target, lambda: may)


async def test_two_at_once_give_what_is_missing_and_neither_fails(pair: tuple[MemoryStore, MilvusLike]) -> None:
    """As a backfill and what follows the changes in the background, or two processes."""
    source, target = pair
    await asyncio.gather(give(source, target), give(source, target))
    assert await target.aliases() == {"live": BLUE, "next": GREEN}


async def test_one_that_points_elsewhere_and_one_that_is_gone_follow(pair: tuple[MemoryStore, MilvusLike]) -> None:
    source, target = pair
    await give(source, target)
    await source.define(UpdateAliases((CreateAlias("live", GREEN), DropAlias("next"))))
    await asyncio.gather(give(source, target), give(source, target))
    assert await target.aliases() == {"live": GREEN}


async def test_nothing_is_changed_where_it_may_not_be_any_more(pair: tuple[MemoryStore, MilvusLike]) -> None:
    """The primary is being moved, or is another one."""
    source, target = pair
    await give(source, target, may=False)
    assert await target.aliases() == {}


async def test_a_refusal_that_stays_is_told(pair: tuple[MemoryStore, MilvusLike]) -> None:
    source, target = pair
    target.refusing = True
    with pytest.raises(Refused, match="already exists"):
        await asyncio.wait_for(give(source, target), 5)
