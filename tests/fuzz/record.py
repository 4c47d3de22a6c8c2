"""`python -m tests.fuzz.record`: the corpus of HTTP/2, from real clients and servers.

Qdrant's client against the emulator, pymilvus against Milvus Lite, with a relay between them that writes down what
passes, a file for each connection and direction. (That of HTTP/1.1 was taken from a socket: heads of curl, httpx,
qdrant-client, aiohttp, requests, urllib; those called `typed_` were written by hand after their kind.)
"""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from pymilvus import MilvusClient
from qdrant_client import QdrantClient, models

from examples.engines import MilvusLite
from tests.fuzz.__main__ import CORPUS
from tests.support.qdrant_engines import QdrantEmulator

_MOST_BYTES = 6000
_CUT = b"\x01\x23"


class Recorder:
    """Passes bytes on to 127.0.0.1:`port`; `sent` and `answered` are what went by, by connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent: list[bytearray] = []
        self.answered: list[bytearray] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._to))
            for source, sink, kept in ((client, server, self.sent), (server, client, self.answered)):
                kept.append(bytearray())
                threading.Thread(target=_pump, args=(source, sink, kept[-1]), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            kept += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def _use(client: QdrantClient) -> None:
    client.create_collection("c", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    client.upsert("c", [models.PointStruct(id=i, vector=[0.5, i, 1, 2], payload={"n": i}) for i in range(3)])
    client.query_points("c", query=[0.1, 0.2, 0.3, 0.4], limit=2, with_payload=True)
    client.count("c")
    client.scroll("c", limit=2)
    with suppress(Exception):
        client.retrieve("nothing", [1])
    client.delete_collection("c")
    client.close()


def _keep(target: str, name: str, streams: list[bytearray], *, skip: int = 0) -> None:
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    for number, stream in enumerate(streams):
        if stream:
            (directory / f"{name}-{number}").write_bytes(_CUT + bytes(stream[skip : skip + _MOST_BYTES]))


def main() -> None:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crossfade-record-")))
        qdrant = stack.enter_context(QdrantEmulator(directory / "qdrant"))
        grpc = Recorder(qdrant.grpc_port)
        _use(QdrantClient(port=qdrant.rest_port, grpc_port=grpc.port, prefer_grpc=True, check_compatibility=False))
        milvus = stack.enter_context(MilvusLite(directory / "milvus"))
        vectors = Recorder(int(milvus.address.rpartition(":")[2]))
        client = MilvusClient(f"http://127.0.0.1:{vectors.port}")
        client.create_collection("c", dimension=4)
        client.insert("c", [{"id": 1, "vector": [0.5, 1, 2, 3]}])
        client.search("c", [[0.5, 1, 2, 3]])
        client.close()
        preface = 24  # which the targets send themselves
        _keep("http2_server", "qdrant-client", grpc.sent, skip=preface)
        _keep("http2_server", "pymilvus", vectors.sent, skip=preface)
        _keep("http2_client", "emulator", grpc.answered)
        _keep("http2_client", "milvus-lite", vectors.answered)
        _keep("hpack", "qdrant-client", [bytearray(stream[60:]) for stream in grpc.sent])


if __name__ == "__main__":
    main()
