"""The handshake, with a stand-in that answers as Milvus Lite does and takes its time to open collections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.messages import common
from proxy.dialects.milvus.messages import milvus as messages
from proxy.dialects.milvus.schema import Layout
from proxy.errors import Unavailable
from proxy.stores.milvus_collection import MilvusCollection, MilvusCollections
from proxy.stores.milvus_connection import MilvusConnection
from proxy.stores.milvus_horizon import Horizon
from proxy.stores.milvus_survey import Survey
from proxy.telemetry.tasks import spawn

DEFINITIONS = ("CreateCollection", "DropCollection")


class SlowLite(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.opened = asyncio.Event()
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._news.clear()
            await self._news.wait()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answering(details.method.rpartition("/")[2]))

    def _answering(self, method: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def answer(_: bytes, __: Any) -> bytes:
            self.asked[method] += 1
            self._news.set()
            if method == "ShowCollections":
                await self.opened.wait()
            version = {"version": "milvus_lite-3.2.2"} if method == "GetVersion" else {}
            reply = common.Status if method in DEFINITIONS else getattr(messages, f"{method}Response")
            message: bytes = reply(**version).SerializeToString()
            return message

        return answer


Serve = Callable[[int], Awaitable[tuple[SlowLite, int]]]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts a stand-in at a port (0: any), in place of the one before."""
    servers: list[Any] = []

    async def start(port: int) -> tuple[SlowLite, int]:
        for before in servers:
            await before.stop(0)
        handler, server = SlowLite(), grpc.aio.server()
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        servers.append(server)
        await server.start()
        return handler, port

    yield start
    await servers[-1].stop(0)


@pytest_asyncio.fixture
async def connection(serve: Serve) -> AsyncIterator[tuple[MilvusConnection, SlowLite, int]]:
    handler, port = await serve(0)
    opened = MilvusConnection(f"127.0.0.1:{port}", None, "", tls=None, timeout_seconds=0.25)
    yield opened, handler, port
    await opened.close()


async def nothing_is_sent_until_all_is_open(connection: MilvusConnection, lite: SlowLite) -> None:
    for _ in range(3):
        told = await asyncio.gather(*(connection.version() for _ in range(4)), return_exceptions=True)
        assert [type(each) for each in told] == [Unavailable] * 4
    with pytest.raises(Unavailable, match=r"does not answer the handshake; check that the store runs"):
        await connection.version()
    assert lite.asked == {"Connect": 1, "GetVersion": 1, "ShowCollections": 1}
    lite.opened.set()
    assert await connection.version() == "milvus_lite-3.2.2"
    assert lite.asked == {"Connect": 1, "GetVersion": 2, "ShowCollections": 1}


async def test_collections_are_opened_once_however_long_that_takes(
    connection: tuple[MilvusConnection, SlowLite, int], serve: Serve
) -> None:
    milvus, lite, port = connection
    await nothing_is_sent_until_all_is_open(milvus, lite)
    lite, _ = await serve(port)
    await nothing_is_sent_until_all_is_open(milvus, lite)


async def test_those_who_wait_for_the_handshake_wait_together(
    connection: tuple[MilvusConnection, SlowLite, int],
) -> None:
    """And not one after the other, each in its turn at the collection."""
    milvus, _, _ = connection
    collections = MilvusCollections(milvus, Horizon(), "", load_timeout_seconds=1)
    layout = Layout("id", IdMapping.INTEGER, 0, {})
    collection = MilvusCollection("c", collections.place("c"), layout, Survey(empty=True))

    async def write() -> None:
        async with await collections.turn(collection, alone=True):
            await milvus.version()

    async with asyncio.timeout(2):  # a quarter of a second for all of them, and not for each
        told = await asyncio.gather(*(write() for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in told] == [Unavailable] * 20


@pytest.mark.parametrize("method", DEFINITIONS)
async def test_a_collection_is_made_and_dropped_beside_nothing_else(serve: Serve, method: str) -> None:
    """A look at all of them would open it a second time, or find it gone."""
    lite, port = await serve(0)
    milvus = MilvusConnection(f"127.0.0.1:{port}", None, "", tls=None, timeout_seconds=30)
    lite.opened.set()
    await milvus.version()
    lite.opened.clear()
    request, reply = messages.ShowCollectionsRequest(), messages.ShowCollectionsResponse
    look = spawn(milvus.call("ShowCollections", request, reply), name="look")
    await lite.until(lambda: lite.asked["ShowCollections"] == 2)
    change = spawn(milvus.call(method, getattr(messages, f"{method}Request")(), common.Status), name="change")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await lite.until(lambda: lite.asked[method] > 0)
    lite.opened.set()
    await asyncio.gather(look, change)
    assert lite.asked[method] == 1
    await milvus.close()
