"""The handshake, with a stand-in that answers as Milvus Lite does and takes its time to open collections."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio

from proxy.dialects.milvus.messages import milvus
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
            message: bytes = getattr(milvus, f"{method}Response")(**version).SerializeToString()
            return message

        return answer


@pytest_asyncio.fixture
async def lite() -> AsyncIterator[tuple[SlowLite, MilvusConnection]]:
    handler, server = SlowLite(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = MilvusConnection(f"127.0.0.1:{port}", None, "", tls=False, timeout_seconds=0.25)
    yield handler, connection
    await connection.close()
    await server.stop(0)


async def test_collections_are_opened_once_however_long_that_takes(lite: tuple[SlowLite, MilvusConnection]) -> None:
    handler, connection = lite
    for _ in range(3):
        told = await asyncio.gather(*(connection.version() for _ in range(4)), return_exceptions=True)
        assert [type(each) for each in told] == [Unavailable] * 4
    with pytest.raises(Unavailable, match=r"does not answer the handshake; check that the store runs"):
        await connection.version()
    assert handler.asked == {"Connect": 1, "GetVersion": 1, "ShowCollections": 1}
    handler.opened.set()
    assert await connection.version() == "milvus_lite-3.2.2"
    assert handler.asked == {"Connect": 1, "GetVersion": 2, "ShowCollections": 1}
