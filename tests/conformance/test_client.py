"""The official client against a Qdrant, call by call as its own local mode answers.

Runs against the emulator, or against the server that QDRANT_URL and QDRANT_GRPC name. The local mode is the client's
own idea of a server, made by the vendor; where it is known to differ from one, the call is not in here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import models

from tests.support.inexpressible import as_listed
from tests.support.qdrant_clients import Pair, fresh_name

# What the local mode says of itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]

SIZE = 6
DISTANCES = list(models.Distance)


def vector(seed: int) -> list[float]:
    """Components that a float32 holds exactly."""
    return [float(value) for value in np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)]


def uuid(number: int) -> str:
    return str(UUID(int=number))


PAYLOADS: list[dict[str, Any]] = [
    {"city": "Berlin", "n": 1, "tags": ["a", "b"], "flag": True, "at": "2024-01-01T00:00:00Z"},
    {"city": "London", "n": 2, "tags": ["b"], "flag": False, "nested": {"x": [{"y": 1}, {"y": 2}]}},
    {"city": ["Berlin", "Moscow"], "n": 2.5, "tags": [], "at": "2024-06-01T12:00:00+02:00"},
    {"n": -3, "place": {"lon": 13.4, "lat": 52.5}, "ünï": 'çödé \n " \\'},
    {},
    {"city": None, "n": None},
    {"city": "Paris", "n": 10**12, "big": 2**53 + 1, "f": 1.0, "deep": {"a": {"b": {"c": [1, [2, 3]]}}}},
]
POINTS = [
    models.PointStruct(
        id=number if number % 2 else uuid(number), vector=vector(number), payload=PAYLOADS[number % len(PAYLOADS)]
    )
    for number in range(1, 19)
]
IDS: list[int | str] = [each.id for each in POINTS if isinstance(each.id, int | str)]


async def filled(pair: Pair, distance: models.Distance = models.Distance.COSINE) -> str:
    name = fresh_name()
    await pair.same("create_collection", name, vectors_config=models.VectorParams(size=SIZE, distance=distance))
    await pair.same("upsert", name, POINTS)
    return name


async def state(pair: Pair, name: str) -> None:
    """Everything in the collection is the same on both sides."""
    await pair.same("scroll", name, limit=100, with_payload=True, with_vectors=True)


# --- collections -------------------------------------------------------------------------


async def test_collections(pair: Pair) -> None:
    name = fresh_name()
    config = models.VectorParams(size=SIZE, distance=models.Distance.DOT)
    assert not await pair.same("collection_exists", name)
    await pair.same("create_collection", name, vectors_config=config)
    assert await pair.same("collection_exists", name)
    listed = await pair.both("get_collections")
    assert name in {each.name for each in listed.collections}

    info = await pair.both("get_collection", name)
    assert info.status == models.CollectionStatus.GREEN
    assert info.optimizer_status == models.OptimizersStatusOneOf.OK
    assert (info.points_count, info.config.params.vectors) == (0, config)
    await pair.same("upsert", name, POINTS[:3])
    assert (await pair.both("get_collection", name)).points_count == 3

    assert await pair.both(
        "update_collection", name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=10)
    )
    info = await pair.remote.call("get_collection", name)
    assert info.config.optimizer_config.indexing_threshold == 10

    await pair.same("delete_collection", name)
    assert not await pair.same("collection_exists", name)


@pytest.mark.parametrize("distance", DISTANCES)
async def test_a_description_says_what_was_asked_for(pair: Pair, distance: models.Distance) -> None:
    name = fresh_name()
    config = {
        "one": models.VectorParams(size=3, distance=distance, on_disk=True),
        "two": models.VectorParams(
            size=4,
            distance=distance,
            hnsw_config=models.HnswConfigDiff(m=8),
            datatype=models.Datatype.FLOAT16,
        ),
    }
    await pair.remote.call(
        "create_collection", name, vectors_config=config, hnsw_config=models.HnswConfigDiff(ef_construct=77)
    )
    info = await pair.remote.call("get_collection", name)
    assert info.config.params.vectors == config
    assert info.config.hnsw_config.ef_construct == 77
    await pair.remote.call("delete_collection", name)


async def test_aliases(pair: Pair) -> None:
    first, second, alias, other = fresh_name(), fresh_name(), fresh_name("alias"), fresh_name("alias")
    config = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    for name in (first, second):
        await pair.same("create_collection", name, vectors_config=config)

    async def change(*actions: models.AliasOperations) -> None:
        await pair.same("update_collection_aliases", change_aliases_operations=list(actions))

    def create(alias_name: str, collection: str) -> models.CreateAliasOperation:
        return models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection, alias_name=alias_name)
        )

    await change(create(alias, first))
    await pair.same("get_collection_aliases", first)
    await pair.same("upsert", alias, POINTS[:4])
    assert (await pair.same("count", first)).count == 4
    await change(
        models.RenameAliasOperation(rename_alias=models.RenameAlias(old_alias_name=alias, new_alias_name=other)),
        create(alias, second),
    )
    assert (await pair.same("count", other)).count == 4
    assert (await pair.same("count", alias)).count == 0
    listed = await pair.both("get_aliases")
    assert {(each.alias_name, each.collection_name) for each in listed.aliases} >= {(other, first), (alias, second)}
    await change(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
    await pair.same("get_collection_aliases", second)


async def test_payload_indexes(pair: Pair) -> None:
    name = await filled(pair)
    kinds = models.PayloadSchemaType
    for field, kind in {"city": kinds.KEYWORD, "n": kinds.INTEGER, "f": kinds.FLOAT, "flag": kinds.BOOL,
                        "at": kinds.DATETIME, "place": kinds.GEO, "id": kinds.UUID}.items():  # fmt: skip
        done = await pair.both("create_payload_index", name, field_name=field, field_schema=kind, wait=True)
        assert done.status == models.UpdateStatus.COMPLETED
    text = models.TextIndexParams(
        type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD, min_token_len=2, lowercase=True
    )
    await pair.remote.call("create_payload_index", name, field_name="title", field_schema=text, wait=True)
    info = await pair.remote.call("get_collection", name)
    assert {field: schema.data_type.value for field, schema in info.payload_schema.items()} == {
        "city": "keyword", "n": "integer", "f": "float", "flag": "bool", "at": "datetime", "place": "geo",
        "id": "uuid", "title": "text",
    }  # fmt: skip
    await pair.same("count", name, count_filter=models.Filter(must=[match("city", "Berlin")]))
    await pair.both("delete_payload_index", name, field_name="city", wait=True)
    assert "city" not in (await pair.remote.call("get_collection", name)).payload_schema


# --- points ------------------------------------------------------------------------------


async def test_points_come_back(pair: Pair) -> None:
    name = await filled(pair)
    await pair.same("retrieve", name, ids=IDS, with_payload=True, with_vectors=True)
    await pair.same("retrieve", name, ids=[IDS[3], IDS[0], 999, uuid(999)])
    # The local mode repeats a point that is named twice, a server does not (lib/collection/src/collection/
    # point_ops.rs, retrieve).
    twice = await pair.remote.call("retrieve", name, ids=[7, 1, 7, uuid(2), 1])
    assert [each.id for each in twice] == [7, 1, uuid(2)]
    await pair.same("retrieve", name, ids=IDS[:3], with_payload=False)
    await pair.same("retrieve", name, ids=[1], with_payload=["city", "n"])
    await pair.same("retrieve", name, ids=[1], with_payload=models.PayloadSelectorInclude(include=["city"]))
    await pair.same("retrieve", name, ids=[1], with_payload=models.PayloadSelectorExclude(exclude=["city"]))
    await pair.same("retrieve", name, ids=["0" * 31 + "2"])  # a UUID without hyphens
    await pair.same("count", name)
    await state(pair, name)


async def test_upserts_replace(pair: Pair) -> None:
    name = await filled(pair)
    await pair.same("upsert", name, [models.PointStruct(id=1, vector=vector(99), payload={"new": 1})])
    await pair.same("upsert", name, models.Batch(ids=[2, uuid(2)], vectors=[vector(7), vector(8)]))
    await pair.same(
        "upsert", name, models.Batch(ids=[3, 4], vectors=[vector(9), vector(10)], payloads=[{"a": 1}, {"b": [None]}])
    )
    await state(pair, name)


async def test_deletes(pair: Pair) -> None:
    name = await filled(pair)
    await pair.same("delete", name, points_selector=[1, uuid(2), 999])
    await pair.same("delete", name, points_selector=models.PointIdsList(points=[3]))
    await state(pair, name)
    await pair.same(
        "delete", name, points_selector=models.FilterSelector(filter=models.Filter(must=[match("city", "Berlin")]))
    )
    await state(pair, name)


async def test_payload_changes(pair: Pair) -> None:
    name = await filled(pair)
    some = models.Filter(must=[match("city", "London")])
    await pair.same("set_payload", name, payload={"n": 5, "new": {"a": [1]}}, points=[1, uuid(2)])
    await pair.same("set_payload", name, payload={"by": "filter"}, points=some)
    await pair.same("set_payload", name, payload={"z": 1}, points=[1], key="new")
    await state(pair, name)
    await pair.same("overwrite_payload", name, payload={"only": True}, points=[3])
    await pair.same("overwrite_payload", name, payload={"only": 2}, points=some)
    await pair.same("delete_payload", name, keys=["n", "nope"], points=[1, uuid(6)])
    await pair.same("clear_payload", name, points_selector=[5, uuid(8)])
    await state(pair, name)


async def test_vector_changes(pair: Pair) -> None:
    name = fresh_name()
    config = {
        "a": models.VectorParams(size=SIZE, distance=models.Distance.COSINE),
        "b": models.VectorParams(size=SIZE, distance=models.Distance.EUCLID),
    }
    await pair.same("create_collection", name, vectors_config=config)
    points = [
        models.PointStruct(id=1, vector={"a": vector(1), "b": vector(2)}, payload={"x": 1}),
        models.PointStruct(id=uuid(1), vector={"a": vector(3)}),
        models.PointStruct(id=3, vector={"b": vector(4)}),
    ]
    await pair.same("upsert", name, points)
    await state(pair, name)
    await pair.same("retrieve", name, ids=[1], with_vectors=["b"])
    await pair.same("query_points", name, query=vector(5), using="a", with_vectors=True, limit=5)
    await pair.same("query_points", name, query=vector(5), using="b", with_vectors=["a"], limit=5)
    await pair.same("update_vectors", name, points=[models.PointVectors(id=3, vector={"a": vector(6)})])
    await pair.same("delete_vectors", name, vectors=["b"], points=[1, 3])
    await state(pair, name)


async def test_several_writes_at_once(pair: Pair) -> None:
    name = await filled(pair)
    operations: list[Any] = [
        models.UpsertOperation(upsert=models.PointsList(points=[models.PointStruct(id=50, vector=vector(50))])),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload={"p": 1}, points=[50, 1])),
        models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["city"], points=[1])),
        models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload={"q": 1}, points=[3])),
        models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[5])),
        models.UpdateVectorsOperation(
            update_vectors=models.UpdateVectors(points=[models.PointVectors(id=7, vector=vector(70))])
        ),
        models.DeleteOperation(delete=models.PointIdsList(points=[9])),
    ]
    await pair.same("batch_update_points", name, update_operations=operations)
    await state(pair, name)


async def test_conditional_upserts(pair: Pair) -> None:
    name = await filled(pair)
    points = [models.PointStruct(id=i, vector=vector(i + 100), payload={"new": i}) for i in (1, 3, 500)]
    await pair.same("upsert", name, points, update_filter=models.Filter(must=[match("city", "Berlin")]))
    await state(pair, name)
    for mode in (models.UpdateMode.INSERT_ONLY, models.UpdateMode.UPDATE_ONLY):
        more = [models.PointStruct(id=i, vector=vector(i + 200), payload={"mode": mode.value}) for i in (1, 600)]
        await pair.same("upsert", name, more, update_mode=mode)
        await state(pair, name)


async def test_a_write_that_is_not_waited_for_is_acknowledged(pair: Pair) -> None:
    name = await filled(pair)
    done = await pair.remote.call("upsert", name, [models.PointStruct(id=1, vector=vector(1))], wait=False)
    assert done.status == models.UpdateStatus.ACKNOWLEDGED
    dropped = await pair.remote.call("upsert", name, [models.PointStruct(id=77, vector=[1.0])], wait=False)
    assert dropped.status == models.UpdateStatus.ACKNOWLEDGED
    await pair.remote.call("upsert", name, [models.PointStruct(id=2, vector=vector(2))], wait=True)
    assert [each.id for each in await pair.remote.call("retrieve", name, ids=[1, 2, 77])] == [1, 2]


# --- reads -------------------------------------------------------------------------------


def match(key: str, value: bool | int | str) -> models.FieldCondition:
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


BERLIN = models.GeoPoint(lon=13.4, lat=52.5)
FILTERS = {
    "keyword": models.Filter(must=[match("city", "Berlin")]),
    "integer": models.Filter(must=[match("n", 2)]),
    "bool": models.Filter(must=[match("flag", True)]),
    "nested path": models.Filter(must=[match("nested.x[].y", 2)]),
    "any": models.Filter(must=[field("city", match=models.MatchAny(any=["London", "Moscow"]))]),
    "any integer": models.Filter(must=[field("n", match=models.MatchAny(any=[1, 10**12]))]),
    "except": models.Filter(must=[field("city", match=models.MatchExcept(**{"except": ["London"]}))]),
    "range": models.Filter(must=[field("n", range=models.Range(gt=1, lte=2.5))]),
    "datetime": models.Filter(must=[field("at", range=models.DatetimeRange(gte=datetime(2024, 6, 1, 10, tzinfo=UTC)))]),
    "values count": models.Filter(must=[field("tags", values_count=models.ValuesCount(gte=2))]),
    "empty": models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="tags"))]),
    "null": models.Filter(must_not=[models.IsNullCondition(is_null=models.PayloadField(key="city"))]),
    "ids": models.Filter(must=[models.HasIdCondition(has_id=[1, uuid(2), 999])]),
    "has vector": models.Filter(must=[models.HasVectorCondition(has_vector="")]),
    "geo radius": models.Filter(must=[field("place", geo_radius=models.GeoRadius(center=BERLIN, radius=1000))]),
    "geo box": models.Filter(
        must=[
            field(
                "place",
                geo_bounding_box=models.GeoBoundingBox(
                    top_left=models.GeoPoint(lon=10, lat=60), bottom_right=models.GeoPoint(lon=20, lat=50)
                ),
            )
        ]
    ),
    "nested": models.Filter(
        must=[
            models.NestedCondition(
                nested=models.Nested(
                    key="nested.x", filter=models.Filter(must=[match("y", 1)], must_not=[match("y", 2)])
                )
            )
        ]
    ),
    "should": models.Filter(should=[match("city", "Paris"), match("n", 2)]),
    "must not": models.Filter(must_not=[match("city", "Berlin")]),
    "all kinds": models.Filter(
        must=[field("n", range=models.Range(gte=0))],
        should=[match("city", "Berlin"), match("city", "Paris")],
        must_not=[match("flag", True)],
    ),
    "min should": models.Filter(
        min_should=models.MinShould(
            conditions=[match("city", "Berlin"), match("n", 1), match("flag", True)], min_count=2
        )
    ),
    "filter in filter": models.Filter(must=[models.Filter(should=[match("n", 1), match("n", 2)])]),
}


async def test_filters(pair: Pair) -> None:
    name = await filled(pair)
    for label, condition in FILTERS.items():
        with as_listed(pair.remote.address.engine, f"test_filters: {label}"):
            found = await pair.same("count", name, count_filter=condition)
            assert label == "has vector" or 0 < found.count < len(POINTS), label
            await pair.same("scroll", name, scroll_filter=condition, limit=50)
            await pair.same("query_points", name, query=vector(1), query_filter=condition, limit=50)


async def test_scroll_pages(pair: Pair) -> None:
    name = await filled(pair)
    offset: Any = None
    seen: list[Any] = []
    while True:
        page, offset = await pair.same("scroll", name, limit=4, offset=offset, with_payload=["city"], with_vectors=True)
        seen += [each.id for each in page]
        if offset is None:
            break
    assert len(seen) == len(set(seen)) == len(POINTS)
    await pair.same("scroll", name, limit=3, offset=7)
    await pair.same("scroll", name, limit=3, offset=uuid(9))
    await pair.same("scroll", name, limit=50, with_payload=False)


@pytest.mark.parametrize("distance", DISTANCES)
async def test_searches(pair: Pair, distance: models.Distance) -> None:
    name = await filled(pair, distance)
    found = await pair.same("query_points", name, query=vector(50), limit=7, with_payload=True, with_vectors=True)
    middle = (found.points[3].score + found.points[4].score) / 2
    assert len((await pair.same("query_points", name, query=vector(50), score_threshold=middle, limit=50)).points) == 4
    await pair.same("query_points", name, query=vector(50))
    await pair.same("query_points", name, query=vector(50), limit=5, offset=4, with_payload=["n"])
    await pair.same("query_points", name, query=models.NearestQuery(nearest=vector(51)), limit=3)
    await pair.same("query_points", name, query=np.array(vector(52)), limit=3)
    await pair.same(
        "query_points", name, query=vector(53), limit=3, search_params=models.SearchParams(exact=True, hnsw_ef=64)
    )
    requests = [
        models.QueryRequest(query=vector(54), limit=2, with_payload=True),
        models.QueryRequest(query=vector(55), limit=3, filter=FILTERS["keyword"], score_threshold=None),
        models.QueryRequest(query=vector(56), limit=1, offset=1, with_vector=True),
    ]
    await pair.same("query_batch_points", name, requests=requests)


async def test_bulk_upload(pair: Pair) -> None:
    """The helper that sends many points in batches, without waiting."""
    if pair.remote.form.endswith("async"):
        pytest.skip("a coroutine in no form of the client")
    name = fresh_name()
    config = models.VectorParams(size=SIZE, distance=models.Distance.COSINE)
    await pair.same("create_collection", name, vectors_config=config)
    points = [models.PointStruct(id=number, vector=vector(number), payload={"n": number}) for number in range(300)]
    await pair.both("upload_points", name, points=points, batch_size=64, wait=True)
    await pair.same("count", name)
    await pair.same("query_points", name, query=vector(1), limit=20, with_payload=True)
