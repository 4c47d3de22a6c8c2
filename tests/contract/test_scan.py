"""The contract of scans and counts: every point exactly once, in pages."""

from __future__ import annotations

import pytest

from proxy.errors import Untranslatable
from proxy.model import IDS_ONLY, Filter, Match, Not, PointId, Range, id_order
from proxy.stores import Store
from tests.support.contract_points import assert_same_point, point, uuid
from tests.support.contract_stores import Library

pytestmark = pytest.mark.asyncio(loop_scope="session")

IDS: list[PointId] = [*range(10), 2**40, *(uuid(number) for number in (3, 1, 2**127))]


async def pages(store: Store, collection: str, limit: int, filter: Filter | None = None) -> list[list[PointId]]:
    found: list[list[PointId]] = []
    start: PointId | None = None
    while True:
        page = await store.scan(collection, start, limit, filter, IDS_ONLY)
        found.append([each.id for each in page.points])
        if page.next is None:
            return found
        start = page.next


@pytest.mark.parametrize("limit", [1, 3, 13, 1000])
async def test_every_point_once(store: Store, collection: str, limit: int) -> None:
    await store.upsert(collection, [point(each) for each in IDS])
    found = await pages(store, collection, limit)
    assert all(len(page) == limit for page in found[:-1])
    flat = [each for page in found for each in page]
    assert sorted(flat, key=id_order) == sorted(IDS, key=id_order)
    if store.capabilities.ordered_by_id:
        assert flat == sorted(IDS, key=id_order)


async def test_an_empty_collection_is_one_empty_page(store: Store, collection: str) -> None:
    assert await pages(store, collection, 10) == [[]]


async def test_a_scan_starts_at_the_id_given(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(each) for each in IDS])
    everything = (await store.scan(collection, None, 100, None, IDS_ONLY)).points
    page = await store.scan(collection, everything[4].id, 3, None, IDS_ONLY)
    assert page.points == everything[4:7]
    assert page.next == everything[7].id


async def test_the_start_need_not_exist(store: Store, collection: str) -> None:
    if not store.capabilities.ordered_by_id:
        pytest.skip("the order is the store's own")
    await store.upsert(collection, [point(1), point(5), point(9)])
    page = await store.scan(collection, 4, 10, None, IDS_ONLY)
    assert [each.id for each in page.points] == [5, 9]


async def test_points_come_whole(store: Store, collection: str) -> None:
    points = {each: point(each, n=1.5, t=["a"]) for each in IDS}
    await store.upsert(collection, list(points.values()))
    page = await store.scan(collection, None, 100)
    assert len(page.points) == len(IDS)
    for found in page.points:
        assert_same_point(found, points[found.id], store.capabilities.normalizes_cosine)


async def test_points_that_stay_are_found_while_others_come_and_go(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(number) for number in range(0, 40, 2)])
    seen: list[PointId] = []
    start: PointId | None = None
    for step in range(100):
        page = await store.scan(collection, start, 3, None, IDS_ONLY)
        seen += [each.id for each in page.points]
        start = page.next
        if start is None:
            break
        await store.upsert(collection, [point(1000 + step), point(2 * step + 1)])
        await store.delete(collection, [1000 + step])
    assert start is None
    stayed = [each for each in seen if isinstance(each, int) and each % 2 == 0 and each < 40]
    assert sorted(stayed) == list(range(0, 40, 2))


async def test_a_filter_holds_on_every_page(library: Library) -> None:
    store, name = library.store, library.name
    for condition in (Match("color", "red"), Not(Range("size", gte=0))):
        expected = {each.id for each in (await library.reference.scan(name, None, 1000, condition, IDS_ONLY)).points}
        try:
            found = [each for page in await pages(store, name, 7, condition) for each in page]
        except Untranslatable:
            continue
        assert len(found) == len(set(found))
        assert set(found) == expected
        assert await store.count(name, condition) == len(expected)


async def test_count_counts(library: Library) -> None:
    assert await library.store.count(library.name) == len(library.points)
