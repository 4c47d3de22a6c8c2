"""What surrounds the data: version, health, keys, and what the emulator says about itself."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import grpc
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as proto
from qdrant_client.common.version_check import get_server_version, is_compatible
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.inexpressible import Inexpressible
from tests.support.qdrant_clients import Remote, fresh_name
from tests.support.qdrant_engines import QdrantAddress, QdrantEmulator


async def test_the_client_takes_the_version_for_compatible(qdrant: QdrantAddress) -> None:
    version = get_server_version(qdrant.url, {}, None, 5)
    assert version is not None
    assert is_compatible("1.20.0", version)


async def test_info(remote: Remote) -> None:
    info = await remote.call("info")
    assert info.title.startswith("qdrant - vector search engine")
    assert info.version
    if not remote.address.real:
        assert remote.address.label in info.title


@pytest.mark.parametrize(
    ("path", "text"),
    [("/healthz", "healthz check passed"), ("/livez", "healthz check passed"), ("/readyz", "all shards are ready")],
)
async def test_health_over_rest(qdrant: QdrantAddress, path: str, text: str) -> None:
    async with aiohttp.ClientSession(qdrant.url) as session, session.get(path) as answer:
        assert (answer.status, await answer.text()) == (200, text)


async def test_health_over_grpc(qdrant: QdrantAddress) -> None:
    async with grpc.aio.insecure_channel(qdrant.grpc_address) as channel:
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"
        reply = await channel.unary_unary("/qdrant.Qdrant/HealthCheck")(b"")
        assert proto.HealthCheckReply.FromString(reply).version


async def test_a_key_is_asked_for(start_qdrant_emulator: Callable[..., QdrantEmulator]) -> None:
    emulator = start_qdrant_emulator(api_key="secret")
    refusals = {
        None: "Must provide an API key or an Authorization bearer token",
        "wrong": "Invalid API key or JWT",
    }
    async with aiohttp.ClientSession(emulator.url) as session:
        for key, text in refusals.items():
            headers = {} if key is None else {"api-key": key}
            async with session.get("/collections", headers=headers) as answer:
                assert (answer.status, await answer.text()) == (401, text)
        for headers in ({"api-key": "secret"}, {"authorization": "Bearer secret"}):
            async with session.get("/collections", headers=headers) as answer:
                assert answer.status == 200
        async with session.get("/") as answer:
            assert answer.status == 200
    async with grpc.aio.insecure_channel(emulator.grpc_address) as channel:
        listing = channel.unary_unary("/qdrant.Collections/List")
        for key, text in refusals.items():
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await listing(b"", metadata=() if key is None else (("api-key", key),))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert caught.value.details() == text
        await listing(b"", metadata=(("api-key", "secret"),))


async def test_what_is_not_served_says_so(remote: Remote) -> None:
    if remote.address.real:
        pytest.skip("a server serves it")
    name = fresh_name()
    config = models.VectorParams(size=2, distance=models.Distance.DOT)
    await remote.call("create_collection", name, vectors_config=config)
    await remote.call("upsert", name, [models.PointStruct(id=1, vector=[1.0, 2.0])])
    with pytest.raises((UnexpectedResponse, grpc.RpcError, Inexpressible)) as caught:
        await remote.call(
            "query_points", name, query=models.RecommendQuery(recommend=models.RecommendInput(positive=[1]))
        )
    if isinstance(caught.value, UnexpectedResponse):
        assert caught.value.status_code == 501
        assert remote.address.label in caught.value.content.decode()
    elif isinstance(caught.value, Inexpressible):
        assert caught.value.reason == "recommend"
    else:
        assert isinstance(caught.value, grpc.Call | grpc.aio.AioRpcError)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert remote.address.label in str(caught.value.details())


async def test_data_survives_a_crash(start_qdrant_emulator: Callable[..., QdrantEmulator]) -> None:
    emulator = start_qdrant_emulator()
    client = QdrantClient(url=emulator.url, check_compatibility=False)
    client.create_collection("docs", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    for number in range(50):
        client.upsert("docs", [models.PointStruct(id=number, vector=[1.0, float(number)])])
    emulator.restart()
    assert client.count("docs").count == 50
    assert client.retrieve("docs", [49], with_vectors=True)[0].vector == [1.0, 49.0]
    client.close()
