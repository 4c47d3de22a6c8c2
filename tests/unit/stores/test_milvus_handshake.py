"""The handshake, with a stand-in that answers as Milvus Lite does and takes its time to open collections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from proxy.dialects.milvus.messages import milvus as messages
from proxy.errors import Unavailable
from proxy.stores.milvus_connection import MilvusConnection


class SlowLite(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.opened = asyncio.Event()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answering(details.method.rpartition("/")[2]))

    def _answering(self, method: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def answer(_: bytes, __: Any) -> bytes:
            self.asked[method] += 1
            if method == "ShowCollections":
                await self.opened.wait()
            version = {"version": "milvus_lite-3.2.2"} if method == "GetVersion" else {}
            message: bytes = getattr(messages, f"{method}Response")(**version).SerializeToString()
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
    opened = MilvusConnection(f"127.0.0.1:{port}", None, "", tls=False, timeout_seconds=0.25)
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
