"""The contract of searches: order, scores, filters, thresholds, windows, selections; against the reference."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio
from msgspec import structs

from proxy.errors import CollectionNotFound, InvalidRequest, Untranslatable
from proxy.model import EVERYTHING, CollectionSpec, Hits, Match, Metric, Point, Search, Selection, VectorSpec
from proxy.stores import Store
from proxy.stores.memory import MemoryStore
from tests.support.contract_points import assert_same_point, floats, point
from tests.support.contract_stores import Library, fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="session")

QUERY = floats(0.3, -1, 0.5, 0.2)


async def search(store: Store, search: Search) -> Hits:
    """An exact search where the store has one."""
    return await store.search(replace(search, exact=store.capabilities.exact_search))


def assert_same_hits(found: Hits, expected: Hits) -> None:
    """The same scores in the same order; equal scores may swap their points."""
    assert found.metric is expected.metric
    scores = [hit.score for hit in found.hits]
    np.testing.assert_allclose(scores, [hit.score for hit in expected.hits], rtol=1e-4, atol=1e-5)
    assert scores == sorted(scores, reverse=True)
    last = expected.hits[-1].score if expected.hits else math.inf
    sure = {hit.point.id for hit in expected.hits if hit.score > last + 1e-4}
    assert sure <= {hit.point.id for hit in found.hits}


Named = tuple[dict[Metric, str], MemoryStore]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def named(store: Store) -> AsyncIterator[Named]:
    """For every metric the store has, the collection with a vector of that name, beside their reference. It is one
    collection for all where the store takes several vectors."""
    metrics = sorted(store.capabilities.metrics, key=lambda metric: metric.value)
    reference = MemoryStore()
    draw = np.random.default_rng(11)
    points = [
        Point(number, {metric.value: floats(*draw.normal(size=3)) for metric in metrics}, {"even": number % 2 == 0})
        for number in range(40)
    ]
    names: dict[Metric, str] = {}
    for together in [metrics] if store.capabilities.named_vectors else [[metric] for metric in metrics]:
        name, spec = fresh_name(), CollectionSpec({metric.value: VectorSpec(3, metric) for metric in together})
        part = [
            structs.replace(each, vectors={metric.value: each.vectors[metric.value] for metric in together})
            for each in points
        ]
        for each_store in (store, reference):
            await each_store.create(name, spec)
            await each_store.upsert(name, part)
        names |= dict.fromkeys(together, name)
    yield names, reference
    for name in set(names.values()):
        await store.drop(name)


@pytest.mark.parametrize("metric", Metric)
async def test_nearest_first_by_every_metric(store: Store, named: Named, metric: Metric) -> None:
    if metric not in store.capabilities.metrics:
        pytest.skip("not a metric of this store")
    names, reference = named
    asked = Search(names[metric], floats(0.5, -0.2, 1), limit=12, using=metric.value)
    expected = await reference.search(asked)
    assert len(expected.hits) == 12
    assert_same_hits(await search(store, asked), expected)

    middle = (expected.hits[5].score + expected.hits[6].score) / 2
    assert_same_hits(await search(store, replace(asked, score_threshold=middle)), Hits(metric, expected.hits[:6]))
    assert_same_hits(await search(store, replace(asked, offset=4, limit=5)), Hits(metric, expected.hits[4:9]))
    filtered = replace(asked, filter=Match("even", True))
    assert_same_hits(await search(store, filtered), await reference.search(filtered))


@pytest.mark.parametrize(
    ("metric", "vector", "score"),
    [
        (Metric.COSINE, floats(3, 4), 0.6),
        (Metric.DOT, floats(3, 4), 6.0),
        (Metric.EUCLID, floats(5, 4), -5.0),
        (Metric.MANHATTAN, floats(5, 4), -7.0),
    ],
)
async def test_scores_point_up(store: Store, metric: Metric, vector: bytes, score: float) -> None:
    """Higher is better, distances are negated and true (not squared)."""
    if metric not in store.capabilities.metrics:
        pytest.skip("not a metric of this store")
    name = fresh_name()
    await store.create(name, CollectionSpec({"": VectorSpec(2, metric)}))
    await store.upsert(name, [Point(1, {"": vector})])
    hits = (await search(store, Search(name, floats(2, 0), limit=1))).hits
    assert [hit.point.id for hit in hits] == [1]
    assert hits[0].score == pytest.approx(score, rel=1e-5)
    await store.drop(name)


async def test_a_search_finds_what_was_just_written(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(1, floats(1, 0, 0, 0)), point(2, floats(0, 1, 0, 0))])
    near = Search(collection, floats(1, 0.1, 0, 0), limit=1)
    assert [hit.point.id for hit in (await search(store, near)).hits] == [1]
    await store.delete(collection, [1])
    assert [hit.point.id for hit in (await search(store, near)).hits] == [2]
    await store.upsert(collection, [point(2, floats(0, -1, 0, 0)), point(3, floats(0, 1, 0, 0))])
    assert [hit.point.id for hit in (await search(store, near)).hits] == [3]


async def test_an_empty_collection_has_no_hits(store: Store, collection: str) -> None:
    assert (await search(store, Search(collection, QUERY, limit=5))).hits == ()


async def test_hits_carry_what_was_asked_for(library: Library) -> None:
    asked = Search(library.name, QUERY, limit=5)
    whole = {each.id: each for each in library.points}
    normalizes = library.store.capabilities.normalizes_cosine
    for hit in (await search(library.store, replace(asked, selection=EVERYTHING))).hits:
        assert_same_point(hit.point, whole[hit.point.id], normalizes)
    for hit in (await search(library.store, asked)).hits:
        assert hit.point == Point(hit.point.id)
    only_color = Selection(payload_include=("color",))
    for hit in (await search(library.store, replace(asked, selection=only_color))).hits:
        assert set(hit.point.payload) <= {"color"}
        assert hit.point.vectors == {}


async def test_a_window_ends_where_the_points_end(library: Library) -> None:
    total = len(library.points)
    asked = Search(library.name, QUERY, limit=50, offset=total - 3)
    assert len((await search(library.store, asked)).hits) == 3
    assert (await search(library.store, replace(asked, offset=total + 5))).hits == ()


async def test_a_window_past_the_declared_one_is_not_cut_short(library: Library) -> None:
    limit = library.store.capabilities.max_window
    if limit is None:
        pytest.skip("no limit declared")
    with pytest.raises(Untranslatable):
        await library.store.search(Search(library.name, QUERY, limit=limit + 1))


async def test_a_threshold_that_nothing_reaches(library: Library) -> None:
    asked = Search(library.name, QUERY, limit=5, score_threshold=1.5)
    assert (await search(library.store, asked)).hits == ()


@pytest.mark.parametrize("vector", [floats(1, 2, 3), floats(1, 2, 3, 4, 5)])
async def test_a_query_of_the_wrong_dimension(library: Library, vector: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await library.store.search(Search(library.name, vector, limit=1))


async def test_a_query_of_an_unknown_vector(library: Library) -> None:
    with pytest.raises(InvalidRequest):
        await library.store.search(Search(library.name, QUERY, limit=1, using="nope"))


async def test_a_query_of_an_unknown_collection(store: Store) -> None:
    with pytest.raises(CollectionNotFound):
        await store.search(Search(fresh_name(), QUERY, limit=1))


async def test_points_without_the_vector_are_not_found(store: Store) -> None:
    if not store.capabilities.vectors_optional or not store.capabilities.named_vectors:
        pytest.skip("every point has every vector")
    name = fresh_name()
    await store.create(name, CollectionSpec({"a": VectorSpec(2, Metric.DOT), "b": VectorSpec(2, Metric.DOT)}))
    await store.upsert(name, [Point(1, {"a": floats(1, 1)}), Point(2, {"b": floats(1, 1)}), Point(3)])
    hits = (await search(store, Search(name, floats(1, 1), limit=10, using="b"))).hits
    assert [hit.point.id for hit in hits] == [2]
    await store.drop(name)
