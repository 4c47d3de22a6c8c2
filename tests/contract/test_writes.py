"""The contract of stores that answer for writes themselves: every write leaves the state that the reference has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, PointNotFound, Refused, Unclear, Unstorable, Untranslatable
from proxy.model import (
    And,
    Batch,
    ClearPayload,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    Delete,
    DeletePayload,
    DeleteVectors,
    DropAlias,
    DropCollection,
    DropPayloadIndex,
    Filter,
    HasId,
    Ids,
    IsEmpty,
    Json,
    Match,
    Not,
    OpaqueWrite,
    OverwritePayload,
    Point,
    PointId,
    Range,
    RenameAlias,
    SetPayload,
    Target,
    UpdateAliases,
    UpdateVectors,
    Upsert,
    Where,
    Write,
)
from proxy.stores import PrimaryStore, Store
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from tests.support.contract_points import assert_same_point, floats, point, uuid
from tests.support.contract_stores import PLAIN, fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="session")

C = "{collection}"  # the name in a write, put in by `to`
START = (
    point(1, a=1, b={"c": [1, {"d": 2}], "e": None}, tags=["x", "y"]),
    point(2, a=2, tags=[]),
    point(3),
    point(uuid(4), a=1, tags=None),
)


# What a store that needs every vector of a point cannot keep; it refuses before anything is changed.
WITHOUT_VECTORS = {"delete vectors", "delete vectors by filter"}


@pytest.fixture
def primary(store: Store) -> PrimaryStore:
    """The store; one that only keeps whole points, as the primary that EmulatedPrimary makes of it."""
    if isinstance(store, MilvusStore):
        return EmulatedPrimary(store)
    assert isinstance(store, PrimaryStore)
    return store


async def reference_for(collection: str) -> MemoryStore:
    reference = MemoryStore()
    await reference.create(collection, PLAIN)
    await reference.upsert(collection, START)
    return reference


def to(write: Write, collection: str) -> Write:
    """The write with the collection's name in it."""
    if isinstance(write, Batch):
        return Batch(collection, tuple(replace(part, collection=collection) for part in write.writes))
    return replace(write, collection=collection)


async def takes_alike(primary: PrimaryStore, reference: MemoryStore, write: Write) -> None:
    """Both take the write or both refuse it; what the store cannot express or keep changes nothing on either."""
    try:
        taken = await is_taken(primary, write)
    except Untranslatable:
        assert primary.capabilities.vendor == "milvus"
        return
    except Unstorable:
        assert not primary.capabilities.vectors_optional
        return
    assert taken == await is_taken(reference, write)


async def is_taken(store: PrimaryStore, write: Write) -> bool:
    """Whether the store takes the write; it may refuse as a server's answer, or as what the answer means."""
    try:
        written = await store.apply(write)
    except Unstorable:
        raise
    except (InvalidRequest, PointNotFound, Refused, Unclear):
        return False
    assert len(written.operations) == (len(write.writes) if isinstance(write, Batch) else 1)
    return True


async def assert_same_state(store: Store, reference: Store, collection: str) -> None:
    found = {each.id: each for each in (await store.scan(collection, None, 1000)).points}
    expected = {each.id: each for each in (await reference.scan(collection, None, 1000)).points}
    assert set(found) == set(expected)
    for each in expected.values():
        assert_same_point(found[each.id], each, normalizes_cosine=True)


ONE, TWO, SOME = Ids((1,)), Ids((1, 2)), Where(Match("a", 1))
V = floats(0, 0, 1, 0)
WRITES: dict[str, Write] = {
    "upsert": Upsert(C, (point(1, V, new=1), point(9, V))),
    "upsert the same twice": Upsert(C, (point(9, V, n=1), point(9, V, n=2))),
    "insert the same twice": Upsert(C, (point(9, V, n=1), point(9, V, n=2)), mode="insert_only"),
    "update the same twice": Upsert(C, (point(1, V, a=2), point(1, V, a=1)), condition=Match("a", 1)),
    "insert only": Upsert(C, (point(1, V, new=1), point(9, V)), mode="insert_only"),
    "update only": Upsert(C, (point(1, V, new=1), point(9, V)), mode="update_only"),
    "upsert under a condition": Upsert(C, (point(1, V, n=1), point(2, V, n=1), point(9, V)), condition=Match("a", 1)),
    "delete": Delete(C, Ids((1, 99))),
    "delete by filter": Delete(C, SOME),
    "set payload": SetPayload(C, {"a": 5, "z": {"y": 1}}, TWO),
    "set payload with null": SetPayload(C, {"a": None, "q": [None]}, TWO),
    "set payload below a key": SetPayload(C, {"n": 1}, TWO, key="b.c"),
    "set payload in every element": SetPayload(C, {"n": 1}, TWO, key="b.c[]"),
    "set payload in one element": SetPayload(C, {"n": 1}, TWO, key="b.c[1].d"),
    "set payload past the end": SetPayload(C, {"n": 1}, TWO, key="b.c[7]"),
    "set payload at a new path": SetPayload(C, {"n": 1}, TWO, key="p.q.r"),
    "set payload in a new array": SetPayload(C, {"n": 1}, TWO, key="p[].r"),
    "set payload by filter": SetPayload(C, {"n": 1}, SOME),
    "overwrite payload": OverwritePayload(C, {"only": [1, None]}, TWO),
    "overwrite payload by filter": OverwritePayload(C, {"only": 1}, SOME),
    "delete payload": DeletePayload(C, ("a", "b.e", "zz"), TWO),
    "delete payload in an array": DeletePayload(C, ("b.c[].d", "tags[]", "b.c[0]"), TWO),
    "delete payload by filter": DeletePayload(C, ("a",), SOME),
    "clear payload": ClearPayload(C, TWO),
    "clear payload by filter": ClearPayload(C, SOME),
    "update vectors": UpdateVectors(C, (Point(1, {"": V}),)),
    "update vectors under a condition": UpdateVectors(C, (Point(1, {"": V}), Point(2, {"": V})), Match("a", 1)),
    "delete vectors": DeleteVectors(C, ("",), TWO),
    "delete vectors by filter": DeleteVectors(C, ("",), SOME),
    "a batch": Batch(C, (Upsert(C, (point(9, V),)), SetPayload(C, {"n": 1}, Ids((9, 1))), Delete(C, ONE))),
    "set payload of a missing point": SetPayload(C, {"n": 1}, Ids((1, 99, 2))),
    "overwrite payload of a missing point": OverwritePayload(C, {"n": 1}, Ids((1, 99))),
    "delete payload of a missing point": DeletePayload(C, ("a",), Ids((1, 99))),
    "clear payload of a missing point": ClearPayload(C, Ids((1, 99))),
    "update vectors of a missing point": UpdateVectors(C, (Point(1, {"": V}), Point(99, {"": V}))),
    "upsert with a wrong dimension": Upsert(C, (point(9, floats(1)),)),
    "upsert with an unknown vector": Upsert(C, (Point(9, {"nope": V}),)),
    "update vectors with a wrong dimension": UpdateVectors(C, (Point(1, {"": floats(1)}),)),
    "delete an unknown vector": DeleteVectors(C, ("nope",), ONE),
}
REFUSED = {name for name in WRITES if any(word in name for word in ("missing", "wrong", "unknown"))}


@pytest.mark.parametrize("name", WRITES)
async def test_every_write(primary: PrimaryStore, collection: str, name: str) -> None:
    reference = await reference_for(collection)
    await primary.upsert(collection, START)
    write = to(WRITES[name], collection)
    if name in WITHOUT_VECTORS and not primary.capabilities.vectors_optional:
        with pytest.raises(Unstorable, match="point 1: the point has no vector ''"):
            await primary.apply(write)
        await assert_same_state(primary, reference, collection)
        return
    assert await is_taken(reference, write) == (name not in REFUSED)
    assert await is_taken(primary, write) == (name not in REFUSED)
    await assert_same_state(primary, reference, collection)


async def test_a_write_that_cannot_be_told_is_refused(primary: PrimaryStore, collection: str) -> None:
    with pytest.raises(Untranslatable):
        await primary.apply(OpaqueWrite(collection, None, "inference"))


def sequences() -> st.SearchStrategy[list[Write]]:
    ids: st.SearchStrategy[PointId] = st.sampled_from([1, 2, 3, 5, uuid(4)])
    vectors = st.sampled_from([floats(1, 0, 0, 0), floats(0, 2, 0, 0), floats(1, 1, 1, 1)])
    values: st.SearchStrategy[Json] = st.sampled_from([1, 2, 2.5, "x", None, True, [1, None], {"c": 1}, [{"d": 1}]])
    payloads = st.dictionaries(st.sampled_from(["a", "b", "tags"]), values, max_size=2)
    paths = st.sampled_from(["a", "b", "b.c", "tags[]", "tags[0].d", "tags[].d", "new.x"])
    conditions: st.SearchStrategy[Filter] = st.sampled_from(
        [Match("a", 1), Range("a", gte=2), IsEmpty("tags"), Not(IsEmpty("b")), HasId((1, uuid(4))), And(())]
    )
    targets: st.SearchStrategy[Target] = st.builds(Where, conditions) | st.lists(ids, min_size=1, max_size=2).map(
        lambda some: Ids(tuple(some))
    )
    points = st.lists(st.builds(lambda i, v, p: Point(i, {"": v}, p), ids, vectors, payloads), min_size=1, max_size=2)
    moved = st.lists(st.builds(lambda i, v: Point(i, {"": v}), ids, vectors), min_size=1, max_size=2)
    write: st.SearchStrategy[Write] = st.one_of(
        st.builds(lambda p, c, m: Upsert(C, tuple(p), c, m), points, st.none() | conditions, st.just("upsert")),
        st.builds(lambda p, m: Upsert(C, tuple(p), None, m), points, st.sampled_from(["insert_only", "update_only"])),
        st.builds(Delete, st.just(C), targets),
        st.builds(SetPayload, st.just(C), payloads, targets, st.none() | paths),
        st.builds(OverwritePayload, st.just(C), payloads, targets),
        st.builds(lambda k, t: DeletePayload(C, (k,), t), paths, targets),
        st.builds(ClearPayload, st.just(C), targets),
        st.builds(lambda p, c: UpdateVectors(C, tuple(p), c), moved, st.none() | conditions),
        st.builds(lambda t: DeleteVectors(C, ("",), t), targets),
    )
    return st.lists(write, min_size=1, max_size=8)


@given(writes=sequences())
@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_sequences_of_writes(primary: PrimaryStore, collection: str, writes: Sequence[Write]) -> None:
    reference = await reference_for(collection)
    await primary.delete(collection, [1, 2, 3, 5, uuid(4)])
    await primary.upsert(collection, START)
    for write in writes:
        await takes_alike(primary, reference, to(write, collection))
        await assert_same_state(primary, reference, collection)


async def test_definitions(primary: PrimaryStore) -> None:
    first, second, alias = fresh_name(), fresh_name(), fresh_name()
    assert await primary.define(CreateCollection(first, PLAIN))
    assert await primary.define(CreateCollection(second, PLAIN))
    await primary.upsert(first, [point(1, k="a")])

    assert await primary.define(UpdateAliases((CreateAlias(alias, first),)))
    assert dict(await primary.aliases())[alias] == first
    assert set(await primary.fetch(alias, [1])) == {1}
    assert await primary.describe(alias) is not None

    other = fresh_name()
    await primary.define(UpdateAliases((RenameAlias(alias, other), CreateAlias(alias, second))))
    assert await primary.count(other) == 1
    assert await primary.count(alias) == 0
    await primary.define(UpdateAliases((DropAlias(alias), DropAlias("not there"))))
    assert alias not in await primary.aliases()

    assert await primary.define(CreatePayloadIndex(first, "k", "keyword"))
    described = await primary.describe(first)
    assert described is not None
    assert described.spec.payload_indexes == ({"k": "keyword"} if primary.capabilities.payload_indexes else {})
    assert await primary.count(first, Match("k", "a")) == 1
    assert await primary.define(DropPayloadIndex(first, "k"))

    assert await primary.define(DropCollection(first))
    assert not await primary.define(DropCollection(first))
    assert other not in await primary.aliases()
    assert await primary.define(DropCollection(second))
