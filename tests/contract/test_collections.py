"""The contract of collections: made, described, dropped, listed."""

from __future__ import annotations

import pytest

from proxy.errors import CollectionExists, CollectionNotFound, Untranslatable
from proxy.model import CollectionSpec, Metric, VectorSpec
from proxy.stores import Store
from proxy.stores.qdrant import QdrantStore
from tests.support.contract_points import floats, point
from tests.support.contract_stores import PLAIN, fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_probe_names_a_version(store: Store) -> None:
    assert await store.probe()


async def test_a_collection_is_there_from_create_to_drop(store: Store) -> None:
    name = fresh_name()
    assert await store.describe(name) is None
    assert name not in await store.collections()

    await store.create(name, PLAIN)
    assert name in await store.collections()
    described = await store.describe(name)
    assert described is not None
    assert described.collection == name
    assert described.points == 0
    assert described.spec.vectors == PLAIN.vectors

    await store.upsert(name, [point(1)])
    assert await store.count(name) == 1

    await store.drop(name)
    assert await store.describe(name) is None
    assert name not in await store.collections()


async def test_a_dropped_collection_comes_back_empty(store: Store) -> None:
    name = fresh_name()
    await store.create(name, PLAIN)
    await store.upsert(name, [point(1), point(2)])
    await store.drop(name)
    await store.create(name, PLAIN)
    assert await store.count(name) == 0
    assert await store.fetch(name, [1, 2]) == {}
    await store.drop(name)


async def test_making_a_collection_twice_is_refused(store: Store, plain_collection: str) -> None:
    with pytest.raises(CollectionExists):
        await store.create(plain_collection, PLAIN)


async def test_dropping_what_is_not_there_is_no_error(store: Store) -> None:
    await store.drop(fresh_name())


async def test_describe_counts_points(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(number) for number in range(5)])
    await store.settle(collection)
    assert await store.count(collection) == 5


@pytest.mark.parametrize("metric", Metric)
async def test_a_metric_is_kept_or_refused(store: Store, metric: Metric) -> None:
    name = fresh_name()
    spec = CollectionSpec({"": VectorSpec(3, metric)})
    if metric not in store.capabilities.metrics:
        with pytest.raises(Untranslatable):
            await store.create(name, spec)
        assert await store.describe(name) is None
        return
    await store.create(name, spec)
    described = await store.describe(name)
    assert described is not None
    assert described.spec.vectors[""].metric is metric
    await store.drop(name)


@pytest.mark.parametrize("kind", ["sparse", "multi"])
async def test_an_undeclared_kind_of_vector_is_refused(store: Store, kind: str) -> None:
    if kind in store.capabilities.vector_kinds:
        pytest.skip(f"{kind} vectors are declared")
    name = fresh_name()
    with pytest.raises(Untranslatable):
        await store.create(name, CollectionSpec({"v": VectorSpec(3, Metric.DOT, kind)}))
    assert await store.describe(name) is None


async def test_named_vectors_are_described_or_refused(store: Store) -> None:
    name = fresh_name()
    spec = CollectionSpec({"title": VectorSpec(2, Metric.DOT), "body": VectorSpec(3, Metric.EUCLID)})
    if not store.capabilities.named_vectors or not {Metric.DOT, Metric.EUCLID} <= store.capabilities.metrics:
        with pytest.raises(Untranslatable):
            await store.create(name, spec)
        return
    await store.create(name, spec)
    described = await store.describe(name)
    assert described is not None
    assert described.spec.vectors == spec.vectors
    await store.drop(name)


@pytest.mark.parametrize(
    "name", ["with space", "Ünïcode", "a.b", "..", "per%cent", "UPPER", "0digit", "dash-under_", "x" * 250]
)
async def test_collection_names_are_free(store: Store, name: str) -> None:
    if store.capabilities.vendor == "milvus":
        pytest.skip("escaped, and making one takes seconds: tests/contract/test_milvus.py")
    if name == ".." and isinstance(store, QdrantStore):
        pytest.skip("a server makes a directory of that name")
    await store.create(name, PLAIN)
    await store.upsert(name, [point(1, floats(1, 0, 0, 0))])
    assert name in await store.collections()
    assert await store.count(name) == 1
    await store.drop(name)


async def test_every_call_on_an_unknown_collection_says_so(store: Store) -> None:
    name = fresh_name()
    with pytest.raises(CollectionNotFound):
        await store.upsert(name, [point(1)])
    with pytest.raises(CollectionNotFound):
        await store.delete(name, [1])
    with pytest.raises(CollectionNotFound):
        await store.fetch(name, [1])
    with pytest.raises(CollectionNotFound):
        await store.scan(name, None, 10)
    with pytest.raises(CollectionNotFound):
        await store.count(name)
