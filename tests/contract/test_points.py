"""The contract of points: whole upserts, deletes, fetches of parts."""

from __future__ import annotations

import math

import pytest

from proxy.errors import InvalidRequest, Refused
from proxy.model import IDS_ONLY, CollectionSpec, Json, Metric, Point, PointId, Selection, VectorSpec
from proxy.stores import Store
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from tests.support.contract_points import (
    assert_same_payload,
    assert_same_point,
    assert_same_vector,
    floats,
    point,
    uuid,
)
from tests.support.contract_stores import fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def check(store: Store, collection: str, *expected: Point) -> None:
    found = await store.fetch(collection, [each.id for each in expected])
    assert set(found) == {each.id for each in expected}
    for each in expected:
        assert_same_point(found[each.id], each, store.capabilities.normalizes_cosine)


async def test_a_point_comes_back_as_it_was_put_in(store: Store, collection: str) -> None:
    payload: dict[str, Json] = {
        "s": "ä\n\"'",
        "i": 2**53 + 1,
        "f": 1.0,
        "b": True,
        "n": None,
        "l": [1, "a", None, []],
        "o": {"x.y": {}},
    }
    points = [Point(7, {"": floats(3, 0, 4, 0)}, payload), point(uuid(9)), point(8)]
    report = await store.upsert(collection, points)
    assert report.refused == {}
    await check(store, collection, *points)


async def test_ids_keep_their_kind(store: Store, collection: str) -> None:
    ids: list[PointId] = [0, 1, 2**53 + 1, 2**63 - 1, uuid(0), uuid(1), uuid(2**128 - 1)]
    await store.upsert(collection, [point(each, mark=str(each)) for each in ids])
    found = await store.fetch(collection, ids)
    assert {(type(each), each) for each in found} == {(type(each), each) for each in ids}
    assert {each.payload["mark"] for each in found.values()} == {str(each) for each in ids}
    await store.delete(collection, [1])
    assert set(await store.fetch(collection, ids)) == set(ids) - {1}


async def test_the_largest_ids_are_kept_or_refused(store: Store, collection: str) -> None:
    report = await store.upsert(collection, [point(2**64 - 1), point(2**63), point(5)])
    assert set(report.refused) <= {2**64 - 1, 2**63}
    found = await store.fetch(collection, [2**64 - 1, 2**63, 5])
    assert set(found) == {2**64 - 1, 2**63, 5} - set(report.refused)


async def test_an_upsert_replaces_the_whole_point(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(1, floats(1, 0, 0, 0), old=1, both=1)])
    await store.upsert(collection, [point(1, floats(0, 1, 0, 0), new=2, both=2)])
    await check(store, collection, point(1, floats(0, 1, 0, 0), new=2, both=2))
    assert await store.count(collection) == 1


async def test_an_upsert_is_idempotent(store: Store, collection: str) -> None:
    points = [point(number, n=number) for number in range(20)]
    for _ in range(3):
        await store.upsert(collection, points)
    assert await store.count(collection) == 20
    await check(store, collection, *points)


async def test_the_caller_keeps_its_own_payload(store: Store, collection: str) -> None:
    tags: list[str] = ["a"]
    await store.upsert(collection, [Point(1, {"": floats(1, 0, 0, 0)}, {"tags": tags})])
    tags.append("b")
    found = (await store.fetch(collection, [1]))[1]
    assert_same_payload(found.payload, {"tags": ["a"]})


async def test_a_full_batch_is_taken(store: Store, collection: str) -> None:
    count = store.capabilities.max_batch_points
    await store.upsert(collection, [point(number) for number in range(count)])
    assert await store.count(collection) == count


async def test_nothing_is_a_batch_too(store: Store, collection: str) -> None:
    assert (await store.upsert(collection, [])).refused == {}
    await store.delete(collection, [])
    assert await store.fetch(collection, []) == {}


async def test_a_delete_removes_what_is_there(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(1), point(2), point(uuid(1))])
    await store.delete(collection, [1, 99, uuid(1), uuid(99)])
    assert set(await store.fetch(collection, [1, 2, uuid(1)])) == {2}
    assert await store.count(collection) == 1
    await store.upsert(collection, [point(1, again=True)])
    await check(store, collection, point(2), point(1, again=True))


async def test_a_fetch_leaves_out_what_is_not_there(store: Store, collection: str) -> None:
    await store.upsert(collection, [point(1)])
    assert set(await store.fetch(collection, [1, 1, 2, uuid(1)])) == {1}


async def test_a_fetch_returns_the_parts_asked_for(store: Store, collection: str) -> None:
    await store.upsert(
        collection, [Point(1, {"": floats(1, 0, 0, 0)}, {"a": {"b": 1, "c": [1, {"d": 2, "e": 3}]}, "f": 4})]
    )

    async def part(selection: Selection) -> Point:
        return (await store.fetch(collection, [1], selection))[1]

    assert await part(IDS_ONLY) == Point(1)
    only_vector = await part(Selection(payload=False, vectors=True))
    assert_same_payload(only_vector.payload, {})
    assert_same_vector(only_vector.vectors[""], floats(1, 0, 0, 0))
    assert (await part(Selection(vectors=True, vector_names=()))).vectors == {}
    parts: list[tuple[tuple[str, ...] | None, tuple[str, ...] | None, dict[str, Json]]] = [
        (("f",), None, {"f": 4}),
        (("a.b", "zz"), None, {"a": {"b": 1}}),
        (("a.c[].d",), None, {"a": {"c": [1, {"d": 2}]}}),
        ((), None, {}),
        (None, ("a",), {"f": 4}),
        (None, ("a.c", "f"), {"a": {"b": 1}}),
        (None, ("a.c[].e",), {"a": {"b": 1, "c": [1, {"d": 2}]}, "f": 4}),
    ]
    for include, exclude, expected in parts:
        found = await part(Selection(payload_include=include, payload_exclude=exclude))
        assert found.vectors == {}
        assert_same_payload(found.payload, expected)


async def test_one_that_does_not_fit_keeps_the_others_out_where_all_are_wanted(store: Store, collection: str) -> None:
    if not isinstance(store, MemoryStore | EmulatedPrimary | MilvusStore):
        pytest.skip("not of whole points")
    points = [point(1), Point(2, {"": floats(1.0)}), point(3)]
    report = await store.upsert(collection, points, whole=True)
    assert (set(report.refused), report.put) == ({2}, False)
    assert await store.count(collection) == 0
    report = await store.upsert(collection, points)
    assert (set(report.refused), report.put) == ({2}, True)
    assert set(await store.fetch(collection, [1, 2, 3])) == {1, 3}
    assert (await store.upsert(collection, [point(4)], whole=True)).refused == {}
    assert set(await store.fetch(collection, [4])) == {4}


async def refused(store: Store, collection: str, bad: Point) -> None:
    """The bad point is named in the report, or the call refused; either way it is not stored."""
    try:
        report = await store.upsert(collection, [bad])
    except (InvalidRequest, Refused):
        pass
    else:
        assert set(report.refused) == {bad.id}
        assert report.refused[bad.id]
    assert await store.fetch(collection, [bad.id]) == {}


@pytest.mark.parametrize(
    "vector", [floats(1, 2, 3), floats(1, 2, 3, 4, 5), b"", floats(1, 2, 3, math.nan), floats(1, 2, 3, math.inf)]
)
async def test_a_vector_that_does_not_fit_is_refused(store: Store, collection: str, vector: bytes) -> None:
    await refused(store, collection, point(1, vector))


async def test_an_unknown_vector_name_is_refused(store: Store, collection: str) -> None:
    await refused(store, collection, Point(1, {"nope": floats(1, 2, 3, 4)}))


async def test_a_point_that_does_not_fit_takes_no_other_with_it(store: Store, collection: str) -> None:
    try:
        report = await store.upsert(collection, [point(1), point(2, floats(1)), point(3)])
    except (InvalidRequest, Refused):
        return
    assert set(report.refused) == {2}
    await check(store, collection, point(1), point(3))


async def test_a_point_without_vectors_is_kept_where_declared(store: Store, collection: str) -> None:
    bare = Point(1, {}, {"a": 1})
    if store.capabilities.vectors_optional:
        await store.upsert(collection, [bare])
        await check(store, collection, bare)
    else:
        await refused(store, collection, bare)


async def test_a_zero_vector_is_kept_or_refused(store: Store, collection: str) -> None:
    report = await store.upsert(collection, [point(1, floats(0, 0, 0, 0))])
    found = await store.fetch(collection, [1])
    assert set(found) == {1} - set(report.refused)
    if found:
        assert_same_vector(found[1].vectors[""], floats(0, 0, 0, 0))


async def test_named_vectors_come_back_by_name(store: Store) -> None:
    if not store.capabilities.named_vectors:
        pytest.skip("no named vectors")
    name = fresh_name()
    metric = Metric.DOT
    await store.create(name, CollectionSpec({"a": VectorSpec(2, metric), "b": VectorSpec(3, metric)}))
    whole = Point(1, {"a": floats(3, 4), "b": floats(1, 2, 3)}, {"x": 1})
    await store.upsert(name, [whole])
    found = await store.fetch(name, [1])
    assert_same_point(found[1], whole, False, metric)
    part = (await store.fetch(name, [1], Selection(payload=False, vectors=True, vector_names=("b",))))[1]
    assert set(part.vectors) == {"b"}
    if store.capabilities.vectors_optional:
        half = Point(1, {"a": floats(5, 6)})
        await store.upsert(name, [half])
        assert_same_point((await store.fetch(name, [1]))[1], half, False, metric)
    await store.drop(name)
