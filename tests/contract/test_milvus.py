"""What is Milvus' own: how rows look to others, paging over segments, what a read sees, exact filters, other people's
collections. Over both engines; `reader` is the official client, which knows nothing of our conventions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient

from examples.engines import ChildProcess, MilvusLite, poll
from proxy.dialects.milvus.schema import VectorIndex
from proxy.errors import CollectionExists, Refused, Untranslatable
from proxy.model import (
    IDS_ONLY,
    And,
    CollectionSpec,
    HasId,
    Json,
    Match,
    Metric,
    Point,
    PointId,
    Range,
    Search,
    VectorSpec,
    id_order,
)
from proxy.stores import Store
from proxy.stores.milvus import MilvusStore
from tests.support.contract_points import assert_same_payload, floats, point, uuid
from tests.support.contract_stores import fresh_name

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPEC = CollectionSpec({"": VectorSpec(4, Metric.COSINE)})


@dataclass(frozen=True, slots=True)
class Milvus:
    engine: ChildProcess
    store: MilvusStore
    reader: Any

    def another_store(self, ids: Literal["integer", "text"] = "integer") -> MilvusStore:
        """As a process that starts now has it: without any memory of writes."""
        return MilvusStore(self.engine.address, ids=ids)


@pytest.fixture(scope="session", params=["milvus_lite", "milvus_server"])
def engine(request: pytest.FixtureRequest) -> ChildProcess:
    started: ChildProcess = request.getfixturevalue(request.param)
    return started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def milvus(engine: ChildProcess) -> AsyncIterator[Milvus]:
    store, reader = MilvusStore(engine.address), MilvusClient(f"http://{engine.address}")
    await store.probe()
    yield Milvus(engine, store, reader)
    reader.close()
    await store.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(milvus: Milvus) -> str:
    """One collection with integer ids, for tests that keep to ids of their own."""
    name = fresh_name()
    await milvus.store.create(name, SPEC)
    return name


async def scanned(store: Store, collection: str, limit: int) -> list[PointId]:
    found: list[PointId] = []
    start: PointId | None = None
    while True:
        page = await store.scan(collection, start, limit, None, IDS_ONLY)
        found += [each.id for each in page.points]
        if page.next is None:
            return found
        assert len(page.points) == limit
        start = page.next


# --- what others see -----------------------------------------------------------------------


async def test_the_official_client_finds_the_application_s_data_under_its_names(milvus: Milvus, shared: str) -> None:
    payload: dict[str, Json] = {"title": "ä", "price": 2.5, "tags": ["a", 1], "id": "taken", "deep": {"x": None}}
    await milvus.store.upsert(shared, [Point(1, {"": floats(3, 4, 0, 0)}, payload)])
    rows = milvus.reader.query(shared, "id == 1", output_fields=["*"], consistency_level="Strong")
    assert [dict(row, vector=list(row["vector"])) for row in rows] == [
        {
            "id": 1,
            "vector": [3.0, 4.0, 0.0, 0.0],
            "title": "ä",
            "price": 2.5,
            "tags": ["a", 1],
            "deep": {"x": None},
            "_crossfade_key_id": "taken",
            "_crossfade_id": "u64:1",
            "_crossfade_kinds": ["c:deep", "c:tags", "n:deep.x"],
        }
    ]


async def test_any_name_can_stand_on_the_server(milvus: Milvus) -> None:
    name = "0 my-döcs_x2d_"
    await milvus.store.create(name, CollectionSpec({"my vector": VectorSpec(2, Metric.EUCLID)}))
    assert name in await milvus.store.collections()
    described = await milvus.store.describe(name)
    assert described is not None
    assert described.spec.vectors == {"my vector": VectorSpec(2, Metric.EUCLID)}
    milvus.reader.create_alias(milvus_name(milvus, "d_xf6_cs"), "also_x2d_this")
    assert (await milvus.store.aliases())["also-this"] == name
    milvus.reader.drop_alias("also_x2d_this")
    await milvus.store.drop(name)
    assert name not in await milvus.store.collections()


def milvus_name(milvus: Milvus, part: str) -> str:
    return str(next(name for name in milvus.reader.list_collections() if part in name))


async def test_an_index_is_made_as_the_source_had_it(milvus: Milvus) -> None:
    name = fresh_name()
    native = {"vectors": {"size": 4, "hnsw_config": {"m": 24}}, "hnsw_config": {"m": 8, "ef_construct": 77}}
    await milvus.store.create(name, CollectionSpec(SPEC.vectors, native=native))
    index = milvus.reader.describe_index(name, "vector")
    assert (index["index_type"], index["metric_type"]) == ("HNSW", "COSINE")
    if "M" in index:  # Milvus Lite does not tell
        assert (index["M"], index["efConstruction"]) == ("24", "77")
    with pytest.raises(Untranslatable, match="exact"):
        await milvus.store.search(Search(name, floats(1, 0, 0, 0), limit=1, exact=True))
    with pytest.raises(CollectionExists):
        await milvus.store.create(name, SPEC)
    await milvus.store.drop(name)


# --- what a read sees ------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["integer", "text"])
async def test_a_scan_meets_every_row_once_over_many_segments(milvus: Milvus, ids: Literal["integer", "text"]) -> None:
    """Rows of one page come from several segments, some of them older versions or deleted."""
    name, store = fresh_name(), milvus.another_store(ids)
    await store.create(name, SPEC)
    draw = np.random.default_rng(3)
    order: list[PointId] = [
        int(number) if ids == "integer" or number % 2 else uuid(int(number)) for number in draw.permutation(900)
    ]
    alive: dict[PointId, int] = {}
    for step in range(3):
        written = order[step * 300 : (step + 1) * 300]
        await store.upsert(name, [point(each, step=step) for each in written])
        alive |= dict.fromkeys(written, step)
        milvus.reader.flush(name)
        known = order[: (step + 1) * 300]
        changed = [known[at] for at in draw.choice(len(known), 60, replace=False)]
        await store.upsert(name, [point(each, step=step + 10) for each in changed])
        alive |= dict.fromkeys(changed, step + 10)
        removed = [known[at] for at in draw.choice(len(known), 40, replace=False)]
        await store.delete(name, removed)
        for each in removed:
            alive.pop(each, None)
    expected = sorted(alive, key=id_order if ids == "integer" else str)
    for limit in (29, 1000):
        assert await scanned(store, name, limit) == expected
    whole = await store.scan(name, None, 2000)
    assert {each.id: each.payload["step"] for each in whole.points} == alive
    assert await store.count(name) == len(alive)
    await store.drop(name)
    await store.close()


async def test_every_write_that_returned_is_seen(milvus: Milvus, shared: str) -> None:
    """Writers of different points, whose upserts and deletes overlap in time."""
    store = milvus.store

    async def writer(first: int) -> None:
        for number in range(first, first + 12):
            await store.upsert(shared, [point(number, n=1)])
            assert (await store.fetch(shared, [number]))[number].payload == {"n": 1}
            await store.upsert(shared, [point(number, n=2)])
            assert (await store.fetch(shared, [number]))[number].payload == {"n": 2}
            if number % 2:
                await store.delete(shared, [number])
                assert await store.fetch(shared, [number]) == {}
        own = And((Range("n", gte=2), HasId(tuple(range(first, first + 12)))))
        assert await store.count(shared, own) == 6

    async with asyncio.TaskGroup() as group:
        for first in range(1000, 1600, 100):
            group.create_task(writer(first))


async def test_a_process_that_starts_sees_what_was_written_before(milvus: Milvus, shared: str) -> None:
    await milvus.store.upsert(shared, [point(2000, n=1), point(2001, n=1)])
    await milvus.store.delete(shared, [2001])
    later = milvus.another_store()
    assert set(await later.fetch(shared, [2000, 2001])) == {2000}
    await later.close()


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6)
SCALARS: st.SearchStrategy[Json] = st.one_of(
    *(st.none(), st.booleans(), TEXTS),
    *(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
KEYS = TEXTS | st.sampled_from(["id", "vector", "$meta", "_seq", "_partition", "_crossfade_id", "count(*)", "*", "pk"])


@given(payloads=st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=12))
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_payload_comes_back_as_it_was(milvus: Milvus, shared: str, payloads: list[dict[str, Json]]) -> None:
    points = [Point(4000 + at, {"": floats(1, at, 0, 0)}, payload) for at, payload in enumerate(payloads)]
    assert (await milvus.store.upsert(shared, points)).refused == {}
    found = await milvus.store.fetch(shared, [each.id for each in points])
    for each in points:
        assert_same_payload(found[each.id].payload, each.payload)


# --- what does not fit -------------------------------------------------------------------------


async def test_what_cannot_stand_there_exactly_is_refused_alone(milvus: Milvus, shared: str) -> None:
    bad = [
        Point(uuid(1), {"": floats(1, 0, 0, 0)}),
        point(2**63),
        point(3001, floats(0, 0, 0, 0)),
        point(3002, floats(1e-30, 0, 0, 0)),
        point(3003, text="x" * 70_000),
        point(3004, n=2**63),
        Point(3005, {}),
    ]
    good = [point(3100), point(3101, text="x" * 60_000, n=2**63 - 1)]
    report = await milvus.store.upsert(shared, [good[0], *bad, good[1]])
    assert set(report.refused) == {each.id for each in bad}
    assert all(report.refused.values())
    found = await milvus.store.fetch(shared, [each.id for each in (*good, *bad)])
    assert {each.id: dict(each.payload) for each in found.values()} == {each.id: each.payload for each in good}


async def test_a_zero_vector_can_stand_where_there_is_no_cosine(milvus: Milvus) -> None:
    name = fresh_name()
    await milvus.store.create(name, CollectionSpec({"": VectorSpec(4, Metric.DOT)}))
    assert (await milvus.store.upsert(name, [point(1, floats(0, 0, 0, 0)), point(2)])).refused == {}
    hits = (await milvus.store.search(Search(name, floats(1, 1, 1, 1), limit=5))).hits
    assert {hit.point.id for hit in hits} == {1, 2}
    await milvus.store.drop(name)


async def test_a_collection_made_anew_in_another_shape_is_looked_at_again(milvus: Milvus) -> None:
    name, other = fresh_name(), milvus.another_store()
    await milvus.store.create(name, SPEC)
    await milvus.store.upsert(name, [point(1)])
    await other.drop(name)
    await other.create(name, CollectionSpec({"": VectorSpec(2, Metric.DOT)}))
    assert set((await milvus.store.upsert(name, [point(1)])).refused) == {1}
    assert (await milvus.store.upsert(name, [point(1, floats(1, 2))])).refused == {}
    await milvus.store.drop(name)
    await other.close()


# --- filters that rest on what is known of the rows -------------------------------------------------


async def test_a_range_is_refused_once_a_row_holds_an_array(milvus: Milvus) -> None:
    name, cheap = fresh_name(), Range("price", lt=10)
    await milvus.store.create(name, SPEC)
    await milvus.store.upsert(name, [point(number, price=number) for number in range(20)])
    assert await milvus.store.count(name, cheap) == 10
    await milvus.store.upsert(name, [point(20, price=[5, 50])])
    with pytest.raises(Untranslatable, match="arrays"):
        await milvus.store.count(name, cheap)
    assert await milvus.store.count(name, Match("price", 5)) == 2

    later = milvus.another_store()  # nobody told it; it asks
    with pytest.raises(Untranslatable, match="arrays"):
        await later.count(name, cheap)
    assert await later.count(name, Range("other", lt=10)) == 0
    assert await later.count(name, Match("price", 5)) == 2
    await later.close()
    await milvus.store.drop(name)


async def test_a_filter_is_not_trusted_with_rows_of_others(milvus: Milvus) -> None:
    name = fresh_name()
    schema = milvus.reader.create_schema(auto_id=False, enable_dynamic_field=True)
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=40)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=4)
    index = milvus.reader.prepare_index_params()
    index.add_index("embedding", index_type="FLAT", metric_type="IP")
    milvus.reader.create_collection(name, schema=schema, index_params=index)
    milvus.reader.insert(name, [{"pk": key, "embedding": [1, 2, 3, 4], "n": 1} for key in ("7", str(uuid(7)), "x")])

    described = await milvus.store.describe(name)
    assert described is not None
    assert described.points == 3
    assert described.spec.vectors == {"embedding": VectorSpec(4, Metric.DOT)}
    found = await milvus.store.fetch(name, [7, uuid(7), "x", "7"])
    assert set(found) == {7, uuid(7), "x"}
    assert found[7] == Point(7, {"embedding": floats(1, 2, 3, 4)}, {"n": 1})
    assert await milvus.store.count(name, HasId((7,))) == 1
    with pytest.raises(Untranslatable, match="written by others"):
        await milvus.store.count(name, Match("n", 1))

    await milvus.store.upsert(name, list(found.values()))
    adopted = milvus.another_store()
    assert await adopted.count(name, Match("n", 1)) == 3
    await adopted.close()
    await milvus.store.drop(name)


@pytest.mark.parametrize("lack", ["dynamic field", "no index", "leaves the field 'title' empty", "the client chooses"])
async def test_a_collection_that_cannot_be_used_says_what_it_lacks(milvus: Milvus, lack: str) -> None:
    name = fresh_name()
    schema = milvus.reader.create_schema(auto_id="chooses" in lack, enable_dynamic_field="dynamic" not in lack)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    if "title" in lack:
        schema.add_field("title", DataType.VARCHAR, max_length=10)
    milvus.reader.create_collection(name, schema=schema)
    if "index" not in lack:
        index = milvus.reader.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        milvus.reader.create_index(name, index)
    with pytest.raises(Refused, match=lack):
        await milvus.store.describe(name)
    await milvus.store.drop(name)


async def test_a_flat_index_searches_exactly(milvus: Milvus) -> None:
    name, store = fresh_name(), MilvusStore(milvus.engine.address, index=VectorIndex("FLAT"))
    assert store.capabilities.exact_search
    await store.create(name, SPEC)
    await store.upsert(name, [point(number) for number in range(50)])
    found = await store.search(Search(name, floats(1, 0, 0, 0), limit=50, exact=True))
    assert len(found.hits) == 50
    await store.drop(name)
    await store.close()


async def test_searches_have_many_new_rows_flushed_on_milvus_lite(milvus: Milvus) -> None:
    """Unflushed rows are searched in Python, ten times slower; a flush writes them into files."""
    if not isinstance(milvus.engine, MilvusLite):
        pytest.skip("the full server flushes by itself")

    def files() -> int:
        return sum(1 for path in milvus.engine.directory.rglob("*.parquet") if name in path.parts)

    name = fresh_name()
    await milvus.store.create(name, SPEC)
    await milvus.store.upsert(name, [point(number) for number in range(999)])
    near = Search(name, floats(1, 0, 0, 0), limit=3)
    few = await milvus.store.search(near)
    await milvus.store.upsert(name, [point(5000, floats(-1, 0, 0, 0))])
    assert files() == 0
    assert (await milvus.store.search(near)).hits == few.hits
    assert await asyncio.to_thread(poll, lambda: files() > 0, 10)
    assert (await milvus.store.search(near)).hits == few.hits
    assert await milvus.store.count(name) == 1000
    await milvus.store.drop(name)
