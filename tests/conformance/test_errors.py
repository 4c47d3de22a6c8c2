"""What a Qdrant answers to a request that it cannot take: status, and text where it does not come out of a library.

Texts are those of Qdrant 1.19.0; each case names the file that they are from, relative to the server's repository.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from qdrant_client import grpc as proto

from tests.support.qdrant_clients import fresh_name
from tests.support.qdrant_engines import QdrantAddress

CONVERSIONS = "lib/api/src/grpc/conversions.rs"
NAMES = "lib/common/common/src/validation.rs"
OPERATION = "lib/segment/src/common/operation_error.rs"
POINT_OPS = "lib/collection/src/collection/point_ops.rs"
STORAGE = "lib/storage/src/content_manager/collections_ops.rs"
TYPES = "lib/segment/src/types.rs"
VALIDATION = "lib/collection/src/operations/validation.rs, src/actix/mod.rs"


@dataclass(frozen=True, slots=True)
class Case:
    """A request below /collections/{a collection of 4-dimensional vectors}; `{other}` is a name that nobody has."""

    method: str
    path: str
    body: Any
    status: int
    text: str  # the whole text, or with "..." at the end its beginning
    source: str


POINT = {"id": 1, "vector": [1, 2, 3, 4]}
REST = {
    "unknown collection: describe": Case("GET", "../{other}", None, 404,
        "Not found: Collection `{other}` doesn't exist!", STORAGE),
    "unknown collection: upsert": Case("PUT", "../{other}/points?wait=true", {"points": [POINT]}, 404,
        "Not found: Collection `{other}` doesn't exist!", STORAGE),
    "unknown collection: query": Case("POST", "../{other}/points/query", {"query": [1, 2]}, 404,
        "Not found: Collection `{other}` doesn't exist!", STORAGE),
    "unknown collection: scroll": Case("POST", "../{other}/points/scroll", {}, 404,
        "Not found: Collection `{other}` doesn't exist!", STORAGE),
    "collection exists": Case("PUT", "", {"vectors": {"size": 4, "distance": "Dot"}}, 409,
        "Wrong input: Collection `{name}` already exists!", STORAGE),
    "bad collection name": Case("PUT", "../a%3Cb", {"vectors": {"size": 4, "distance": "Dot"}}, 422,
        'Validation error in path parameters: [collection_name: collection name cannot contain "<" char]', NAMES),
    "wrong dimension: upsert": Case("PUT", "points?wait=true", {"points": [{"id": 1, "vector": [1]}]}, 400,
        "Wrong input: Vector dimension error: expected dim: 4, got 1", OPERATION),
    "wrong dimension: query": Case("POST", "points/query", {"query": [1, 2]}, 400,
        "Wrong input: Vector dimension error: expected dim: 4, got 2", OPERATION),
    "wrong dimension: search": Case("POST", "points/search", {"vector": [1, 2], "limit": 1}, 400,
        "Wrong input: Vector dimension error: expected dim: 4, got 2", OPERATION),
    "unknown vector: upsert": Case("PUT", "points?wait=true", {"points": [{"id": 1, "vector": {"x": [1]}}]}, 400,
        "Wrong input: Not existing vector name error: x", OPERATION),
    "unknown vector: query": Case("POST", "points/query", {"query": [1, 2, 3, 4], "using": "x"}, 400,
        "Wrong input: Not existing vector name error: x", OPERATION),
    "missing point": Case("POST", "points/payload?wait=true", {"payload": {"a": 1}, "points": [99]}, 404,
        "Not found: No point with id 99 found", OPERATION),
    "one missing point": Case("GET", "points/99", None, 404,
        "Not found: Point with id 99 does not exists!", "src/actix/api/retrieve_api.rs"),
    "malformed id in the path": Case("GET", "points/abc", None, 400,
        'Wrong input: Can not recognize "abc" as point id', "src/actix/api/retrieve_api.rs"),
    "negative id": Case("PUT", "points?wait=true", {"points": [{"id": -1, "vector": [1, 2, 3, 4]}]}, 400,
        "Format error in JSON body: ...", TYPES),
    "malformed id": Case("POST", "points", {"ids": ["abc"]}, 400,
        'Format error in JSON body: value "abc" is not a valid point ID, valid values are either an unsigned integer or'
        " a UUID...", TYPES),
    "malformed JSON": Case("PUT", "points?wait=true", b'{"points": [', 400,
        "Format error in JSON body: ...", VALIDATION),
    "empty body": Case("POST", "points/query", b"", 400, "Format error in JSON body: ...", VALIDATION),
    "a body of the wrong form": Case("POST", "points/scroll", {"limit": "ten"}, 400,
        "Format error in JSON body: ...", VALIDATION),
    "empty upsert": Case("PUT", "points?wait=true", {"points": []}, 400,
        "Bad request: Empty update request", POINT_OPS),
    "limit 0: query": Case("POST", "points/query", {"query": [1, 2, 3, 4], "limit": 0}, 422,
        "Validation error in JSON body: [internal.limit: value 0 invalid, must be 1 or larger]", VALIDATION),
    "limit 0: scroll": Case("POST", "points/scroll", {"limit": 0}, 422,
        "Validation error in JSON body: [scroll_request.limit: value 0 invalid, must be 1 or larger]", VALIDATION),
    "limit 0: search": Case("POST", "points/search", {"vector": [1, 2, 3, 4], "limit": 0}, 422,
        "Validation error in JSON body: [search_request.limit: value 0 invalid, must be 1 or larger]", VALIDATION),
    "limit 0: batch": Case("POST", "points/query/batch", {"searches": [{"query": [1, 2, 3, 4], "limit": 0}]}, 422,
        "Validation error in JSON body: [searches[0].internal.limit: value 0 invalid, must be 1 or larger]",
        VALIDATION),
    "no points to update": Case("PUT", "points/vectors?wait=true", {"points": []}, 422,
        "Validation error in JSON body: [points: must specify points to update]", "lib/api/src/rest/schema.rs"),
    "an unknown alias renamed": Case("POST", "../aliases",
        {"actions": [{"rename_alias": {"old_alias_name": "{other}", "new_alias_name": "b"}}]}, 404,
        "Not found: Alias {other} does not exists!", "lib/storage/src/content_manager/alias_mapping.rs"),
    "an alias with the name of a collection": Case("POST", "../aliases",
        {"actions": [{"create_alias": {"alias_name": "{name}", "collection_name": "{name}"}}]}, 409,
        "Wrong input: Collection `{name}` already exists!", STORAGE),
    "an alias of an unknown collection": Case("POST", "../aliases",
        {"actions": [{"create_alias": {"alias_name": "a", "collection_name": "{other}"}}]}, 404,
        "Not found: Collection `{other}` doesn't exist!", STORAGE),
}  # fmt: skip


@pytest_asyncio.fixture
async def rest(qdrant: QdrantAddress) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"api-key": qdrant.api_key} if qdrant.api_key else {}
    async with aiohttp.ClientSession(qdrant.url, headers=headers) as session:
        yield session


@pytest_asyncio.fixture
async def collection(rest: aiohttp.ClientSession) -> AsyncIterator[str]:
    name = fresh_name("errors")
    body = {"vectors": {"size": 4, "distance": "Cosine"}}
    async with rest.put(f"/collections/{name}", json=body) as answer:
        assert answer.status == 200
    yield name
    async with rest.delete(f"/collections/{name}") as answer:
        assert answer.status == 200


def filled(value: Any, names: dict[str, str]) -> Any:
    """`value` with the names put in."""
    if isinstance(value, str):
        for key, name in names.items():
            value = value.replace("{" + key + "}", name)
        return value
    if isinstance(value, dict):
        return {key: filled(inner, names) for key, inner in value.items()}
    return [filled(inner, names) for inner in value] if isinstance(value, list) else value


def assert_text(found: str, expected: str) -> None:
    if expected.endswith("..."):
        assert found.startswith(expected.removesuffix("..."))
    else:
        assert found == expected


@pytest.mark.parametrize("label", REST)
async def test_rest(rest: aiohttp.ClientSession, collection: str, label: str) -> None:
    case = REST[label]
    names = {"name": collection, "other": fresh_name("nobody")}
    path = filled(case.path, names)
    url = f"/collections/{path[3:]}" if path.startswith("../") else f"/collections/{collection}/{path}".rstrip("/")
    body = (
        case.body
        if isinstance(case.body, bytes) or case.body is None
        else aiohttp.JsonPayload(filled(case.body, names))
    )
    async with rest.request(case.method, url, data=body, headers={"content-type": "application/json"}) as answer:
        said = await answer.json()
        assert (answer.status, set(said) >= {"status", "time"}) == (case.status, True)
        assert_text(said["status"]["error"], filled(case.text, names))


async def test_a_write_waits_only_if_told_to(rest: aiohttp.ClientSession, collection: str) -> None:
    """UpdateParams in src/actix/api/update_api.rs; the official client always says which."""
    for query, status in {"": "acknowledged", "?wait=false": "acknowledged", "?wait=true": "completed"}.items():
        async with rest.put(f"/collections/{collection}/points{query}", json={"points": [POINT]}) as answer:
            assert (answer.status, (await answer.json())["result"]["status"]) == (200, status)


# --- gRPC --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    message: Any
    code: grpc.StatusCode
    text: str
    source: str


def numbered(*numbers: int) -> list[Any]:
    return [proto.PointId(num=number) for number in numbers]


def dense(*values: float) -> Any:
    return proto.Vectors(vector=proto.Vector(dense=proto.DenseVector(data=values)))


def nearest(*values: float) -> Any:
    return proto.Query(nearest=proto.VectorInput(dense=proto.DenseVector(data=values)))


INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
GRPC = {
    "unknown collection": Call("Points/Upsert", proto.UpsertPoints(collection_name="{other}", wait=True,
        points=[proto.PointStruct(id=numbered(1)[0], vectors=dense(1))]), NOT_FOUND,
        "Not found: Collection `{other}` doesn't exist!", STORAGE),
    "collection exists": Call("Collections/Create", proto.CreateCollection(collection_name="{name}",
        vectors_config=proto.VectorsConfig(params=proto.VectorParams(size=4, distance=proto.Dot))),
        grpc.StatusCode.ALREADY_EXISTS, "Wrong input: Collection `{name}` already exists!", STORAGE),
    "wrong dimension": Call("Points/Upsert", proto.UpsertPoints(collection_name="{name}", wait=True,
        points=[proto.PointStruct(id=numbered(1)[0], vectors=dense(1))]), INVALID,
        "Wrong input: Vector dimension error: expected dim: 4, got 1", OPERATION),
    "wrong dimension of a query": Call("Points/Query", proto.QueryPoints(collection_name="{name}", query=nearest(1)),
        INVALID, "Wrong input: Vector dimension error: expected dim: 4, got 1", OPERATION),
    "unknown vector": Call("Points/Query", proto.QueryPoints(collection_name="{name}", using="x",
        query=nearest(1, 2, 3, 4)), INVALID, "Wrong input: Not existing vector name error: x", OPERATION),
    "missing point": Call("Points/ClearPayload", proto.ClearPayloadPoints(collection_name="{name}", wait=True,
        points=proto.PointsSelector(points=proto.PointsIdsList(ids=numbered(99)))), NOT_FOUND,
        "Not found: No point with id 99 found", OPERATION),
    "malformed id": Call("Points/Get", proto.GetPoints(collection_name="{name}", ids=[proto.PointId(uuid="abc")]),
        INVALID, "Unable to parse UUID: abc", CONVERSIONS),
    "no id": Call("Points/Get", proto.GetPoints(collection_name="{name}", ids=[proto.PointId()]),
        INVALID, "No ID options provided", CONVERSIONS),
    "limit 0": Call("Points/Query", proto.QueryPoints(collection_name="{name}", query=nearest(1, 2, 3, 4), limit=0),
        INVALID, "Validation error in body: [limit: value 0 invalid, must be 1 or larger]", "lib/api/build.rs"),
    "limit 0 of a page": Call("Points/Scroll", proto.ScrollPoints(collection_name="{name}", limit=0),
        INVALID, "Validation error in body: [limit: value 0 invalid, must be 1 or larger]", "lib/api/build.rs"),
    "empty upsert": Call("Points/Upsert", proto.UpsertPoints(collection_name="{name}", wait=True), INVALID,
        "Bad request: Empty update request", POINT_OPS),
    "no message": Call("Points/Upsert", b"\xff\xff\xff", grpc.StatusCode.INTERNAL,
        "failed to decode Protobuf message: ...", "tonic"),
}  # fmt: skip


@pytest.mark.parametrize("label", GRPC)
async def test_grpc(qdrant: QdrantAddress, collection: str, label: str) -> None:
    case = GRPC[label]
    names = {"name": collection, "other": fresh_name("nobody")}
    body = copy.deepcopy(case.message)
    if not isinstance(body, bytes):
        body.collection_name = filled(body.collection_name, names)
        body = body.SerializeToString()
    metadata = (("api-key", qdrant.api_key),) if qdrant.api_key else ()
    async with grpc.aio.insecure_channel(qdrant.grpc_address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(f"/qdrant.{case.method}")(body, metadata=metadata)
    assert caught.value.code() is case.code
    assert_text(caught.value.details() or "", filled(case.text, names))
