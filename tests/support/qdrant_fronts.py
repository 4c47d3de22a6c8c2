"""The front for Qdrant clients over other stores, in a process of its own, for the conformance tests.

`python -m tests.support.qdrant_fronts REST_PORT GRPC_PORT [MILVUS_ADDRESS]` serves one over a Milvus, or over the
reference store; each through EmulatedPrimary.
"""

from __future__ import annotations

import asyncio
import sys
import urllib.error
import urllib.request
from pathlib import Path

from examples.engines import ChildProcess, accepts, free_ports
from proxy.dialects.milvus.schema import VectorIndex
from proxy.fronts.qdrant import REST_LIMIT_BYTES, QdrantFront
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.stores import WholePointStore
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import MemoryStore
from proxy.stores.milvus import MilvusStore
from tests.support.form import python_path


class QdrantFrontProcess(ChildProcess):
    """`milvus`: the address of the Milvus behind it; None for the reference store."""

    def __init__(self, directory: Path, milvus: str | None) -> None:
        self.rest_port, self.grpc_port = free_ports(2)
        super().__init__(directory, self.rest_port)
        self._milvus = milvus

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def command(self) -> list[str]:
        ports = (str(self.rest_port), str(self.grpc_port))
        return [sys.executable, "-m", "tests.support.qdrant_fronts", *ports, *([self._milvus] if self._milvus else [])]

    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": python_path()}

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1) as reply:
                return reply.status == 200 and accepts(self.grpc_address)
        except (OSError, urllib.error.URLError):
            return False


async def serve(rest_port: int, grpc_port: int, milvus: str | None) -> None:
    store: WholePointStore = MemoryStore()
    if milvus is not None:
        store = MilvusStore(milvus, ids="text", index=VectorIndex("FLAT"))
    primary = EmulatedPrimary(store)
    front = QdrantFront(primary, primary.metric_of)
    await HttpListener(front.handle, "127.0.0.1", rest_port, max_body_bytes=REST_LIMIT_BYTES).start()
    await GrpcListener(front.handle, "127.0.0.1", grpc_port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
