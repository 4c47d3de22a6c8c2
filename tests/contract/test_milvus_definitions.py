"""Definitions on Milvus: aliases and what they stand for, drops, and what is accepted because it changes no result."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from examples.engines import ChildProcess
from proxy.dialects.milvus.schema import VectorIndex
from proxy.errors import AliasNotFound, CollectionExists, CollectionNotFound, Untranslatable
from proxy.model import (
    CollectionSpec,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    DropAlias,
    DropCollection,
    DropPayloadIndex,
    Metric,
    Range,
    RenameAlias,
    UpdateAliases,
    UpdateCollection,
    VectorSpec,
)
from proxy.stores.milvus import MilvusStore
from tests.support.contract_points import point
from tests.support.contract_stores import PLAIN, fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=["milvus_lite", "milvus_server"])
async def milvus(request: pytest.FixtureRequest) -> AsyncIterator[MilvusStore]:
    engine: ChildProcess = request.getfixturevalue(request.param)
    store = MilvusStore(engine.address, index=VectorIndex("FLAT"))
    yield store
    await store.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def first(milvus: MilvusStore) -> str:
    name = f"first-{fresh_name()}"  # a name that is escaped
    await milvus.create(name, PLAIN)
    return name


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def second(milvus: MilvusStore) -> str:
    name = fresh_name()
    await milvus.create(name, PLAIN)
    return name


def fresh_alias() -> str:
    return f"alias-{fresh_name()}"


async def test_aliases_move(milvus: MilvusStore, first: str, second: str) -> None:
    one, other = fresh_alias(), fresh_alias()
    await milvus.define(UpdateAliases((CreateAlias(one, first),)))
    assert (await milvus.aliases())[one] == first
    await milvus.define(UpdateAliases((CreateAlias(one, second), CreateAlias(other, first))))
    assert {alias: name for alias, name in (await milvus.aliases()).items() if alias in (one, other)} == {
        one: second,
        other: first,
    }
    await milvus.define(UpdateAliases((RenameAlias(one, other), CreateAlias(one, first))))
    assert (await milvus.aliases())[other] == second
    assert (await milvus.aliases())[one] == first
    await milvus.define(UpdateAliases((DropAlias(one), DropAlias(other), DropAlias("nobody"))))
    assert not {one, other} & set(await milvus.aliases())


async def test_a_list_of_changes_that_cannot_be_done_changes_nothing(
    milvus: MilvusStore, first: str, second: str
) -> None:
    alias = fresh_alias()
    for last, error in (
        (CreateAlias("x", fresh_name()), CollectionNotFound),
        (CreateAlias(second, first), CollectionExists),
        (RenameAlias(fresh_name(), "x"), AliasNotFound),
        (CreateAlias("x" * 300, first), Untranslatable),
    ):
        with pytest.raises(error):
            await milvus.define(UpdateAliases((CreateAlias(alias, first), last)))
        assert alias not in await milvus.aliases()


async def test_an_alias_is_another_name_of_the_collection(milvus: MilvusStore, first: str) -> None:
    alias = fresh_alias()
    await milvus.define(UpdateAliases((CreateAlias(alias, first),)))
    await milvus.upsert(alias, [point(1, price=1)])
    assert set(await milvus.fetch(first, [1])) == {1}
    described = await milvus.describe(alias)
    assert described is not None
    assert described.collection == first
    with pytest.raises(CollectionExists):
        await milvus.define(CreateCollection(alias, PLAIN))


async def test_what_an_alias_writes_is_known_to_the_filters_of_the_collection(milvus: MilvusStore, first: str) -> None:
    """An array makes a range inexact, whichever name it was written under."""
    alias = fresh_alias()
    await milvus.define(UpdateAliases((CreateAlias(alias, first),)))
    await milvus.upsert(first, [point(1, size=1), point(2, size=2)])
    assert await milvus.count(first, Range("size", gte=1)) == 2
    await milvus.upsert(alias, [point(3, size=[7])])
    for name in (first, alias):
        with pytest.raises(Untranslatable):
            await milvus.count(name, Range("size", gte=1))


async def test_an_alias_cannot_be_dropped_as_a_collection(milvus: MilvusStore, first: str) -> None:
    alias = fresh_alias()
    await milvus.define(UpdateAliases((CreateAlias(alias, first),)))
    assert not await milvus.define(DropCollection(alias))
    await milvus.drop(alias)
    assert first in await milvus.collections()
    assert (await milvus.aliases())[alias] == first


async def test_a_dropped_collection_takes_its_aliases_with_it(milvus: MilvusStore) -> None:
    name, alias = fresh_name(), fresh_alias()
    assert await milvus.define(CreateCollection(name, PLAIN))
    await milvus.define(UpdateAliases((CreateAlias(alias, name),)))
    assert await milvus.define(DropCollection(name))
    assert alias not in await milvus.aliases()
    assert not await milvus.define(DropCollection(name))
    assert await milvus.define(CreateCollection(alias, PLAIN))  # the name is free again
    assert await milvus.define(DropCollection(alias))


async def test_what_changes_no_result_is_accepted(milvus: MilvusStore, first: str) -> None:
    missing = fresh_name()
    for make in (
        lambda name: CreatePayloadIndex(name, "price", "integer"),
        lambda name: DropPayloadIndex(name, "price"),
        lambda name: UpdateCollection(name, {"optimizers_config": {"indexing_threshold": 10}}),
    ):
        assert await milvus.define(make(first))
        with pytest.raises(CollectionNotFound):
            await milvus.define(make(missing))


async def test_a_collection_that_milvus_cannot_have_is_not_made(milvus: MilvusStore) -> None:
    name = fresh_name()
    with pytest.raises(Untranslatable, match="metric manhattan"):
        await milvus.define(CreateCollection(name, CollectionSpec({"": VectorSpec(4, Metric.MANHATTAN)})))
    assert name not in await milvus.collections()
    with pytest.raises(CollectionExists):
        first = fresh_name()
        await milvus.define(CreateCollection(first, PLAIN))
        await milvus.define(CreateCollection(first, PLAIN))


async def test_the_metric_is_known_once_the_collection_is(milvus: MilvusStore, first: str) -> None:
    await milvus.spec_of(first)
    assert milvus.metric_of(first, "") is Metric.COSINE
    assert milvus.metric_of(first, "other") is None
    assert milvus.metric_of(fresh_name(), "") is None
    with pytest.raises(CollectionNotFound):
        await milvus.spec_of(fresh_name())
