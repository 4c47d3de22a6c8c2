"""A server of canned answers: `python -m bench.stub --rest-port N --grpc-port N`. Not a database of any kind.

It has the shape of a Qdrant (REST and gRPC on two ports) and answers every search with the same ten hits and every
other request with the same success, at the least cost that Python allows, so that what is measured is what lies between
client and server. It reads no request further than to its end. With a delay it answers writes that much later.

Two exceptions, so that it can stand at either end of a route that copies writes: over gRPC every collection is one of
768 dimensions, and a point that is fetched by its number is the one that bodies.upserts() writes there. It names the
collections that it is told to. `GET /searches` gives how many searches it has answered, over both protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, cast

import click
import grpc
import orjson
import uvloop
from qdrant_client import grpc as qdrant

from bench.bodies import DIMENSIONS, HITS, payload, proto_payload, upserts

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def _scored(number: int) -> dict[str, Any]:
    return {"id": number, "version": number, "score": 0.9 - number / 100, "payload": payload(number)}


TOOK_SECONDS = 0.000123  # that it says a search took, unless told otherwise


def _rest(result: Any, took_seconds: float = TOOK_SECONDS) -> bytes:
    body = orjson.dumps({"result": result, "status": "ok", "time": took_seconds})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def rest_search(took_seconds: float = TOOK_SECONDS) -> bytes:
    return _rest({"points": [_scored(number) for number in range(HITS)]}, took_seconds)


_REST_OTHER = _rest({"operation_id": 17, "status": "completed"})

_WRITTEN = qdrant.PointsOperationResponse(
    result=qdrant.UpdateResult(operation_id=17, status=qdrant.UpdateStatus.Completed), time=0.000123
).SerializeToString()


def grpc_search(took_seconds: float = TOOK_SECONDS) -> bytes:
    found = [
        qdrant.ScoredPoint(
            id=qdrant.PointId(num=number), version=number, score=0.9 - number / 100, payload=proto_payload(number)
        )
        for number in range(HITS)
    ]
    return bytes(qdrant.QueryResponse(result=found, time=took_seconds).SerializeToString())


_SEARCH = "/qdrant.Points/Query"
_GRPC: dict[str, bytes] = {
    **dict.fromkeys(("/qdrant.Points/Upsert", "/qdrant.Points/Delete", "/qdrant.Points/DeletePayload"), _WRITTEN),
    "/qdrant.Collections/Get": qdrant.GetCollectionInfoResponse(
        result=qdrant.CollectionInfo(
            status=qdrant.CollectionStatus.Green,
            optimizer_status=qdrant.OptimizerStatus(ok=True),
            segments_count=1,
            config=qdrant.CollectionConfig(
                params=qdrant.CollectionParams(
                    shard_number=1,
                    vectors_config=qdrant.VectorsConfig(
                        params=qdrant.VectorParams(size=DIMENSIONS, distance=qdrant.Distance.Cosine)
                    ),
                )
            ),
        )
    ).SerializeToString(),
}
CANNED = {**_GRPC, _SEARCH: grpc_search()}


@cache
def _points() -> dict[int, qdrant.RetrievedPoint]:
    return {
        number: qdrant.RetrievedPoint(
            id=qdrant.PointId(num=number),
            payload=proto_payload(number),
            vectors=qdrant.VectorsOutput(vector=qdrant.VectorOutput(dense=qdrant.DenseVector(data=vector.tolist()))),
        )
        for ids, vectors in upserts()
        for number, vector in zip(ids, vectors, strict=True)
    }


def fetched(message: bytes) -> bytes:
    """GetResponse to a GetPoints, which asks for everything of each point."""
    asked = [one.num for one in qdrant.GetPoints.FromString(message).ids]
    found = [_points()[number] for number in asked if number in _points()]
    return bytes(qdrant.GetResponse(result=found, time=0.000123).SerializeToString())


@dataclass(slots=True)
class Canned:
    """What both protocols answer, and how many searches they have. `delay_seconds`: of answers to writes."""

    delay_seconds: float
    took_seconds: float
    collections: Sequence[str] = ()
    searches: int = 0

    def __post_init__(self) -> None:
        listed = [qdrant.CollectionDescription(name=name) for name in self.collections]
        self.rest_search = rest_search(self.took_seconds)
        self.grpc = {
            **CANNED,
            _SEARCH: grpc_search(self.took_seconds),
            "/qdrant.Collections/List": qdrant.ListCollectionsResponse(collections=listed).SerializeToString(),
        }

    rest_search: bytes = field(init=False)
    grpc: dict[str, bytes] = field(init=False)


class CannedHttp(asyncio.Protocol):
    """HTTP/1.1 with bodies of stated length only; a request line that ends in "/query" is a search."""

    def __init__(self, canned: Canned) -> None:
        self._canned = canned
        self._transport: asyncio.Transport
        self._answer = b""
        self._head = b""
        self._missing_bytes = 0  # of the present request's body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # of uvloop, which derives from nothing

    def data_received(self, data: bytes) -> None:
        while data:
            if self._missing_bytes:
                taken = min(self._missing_bytes, len(data))
                self._missing_bytes -= taken
                data = data[taken:]
            else:
                head, end, data = (self._head + data).partition(b"\r\n\r\n")
                self._head = b"" if end else head
                if not end:
                    return
                line, _, fields = head.partition(b"\r\n")
                self._answer = self._answer_to(line)
                self._missing_bytes = _length(fields)
            if not self._missing_bytes:
                self._reply()

    def _answer_to(self, line: bytes) -> bytes:
        if b"/query " in line:
            self._canned.searches += 1
            return self._canned.rest_search
        return _rest(self._canned.searches) if line.startswith(b"GET /searches ") else _REST_OTHER

    def _reply(self) -> None:
        delay_seconds = self._canned.delay_seconds
        if delay_seconds and self._answer is _REST_OTHER:
            asyncio.get_running_loop().call_later(delay_seconds, self._transport.write, self._answer)
        else:
            self._transport.write(self._answer)


def _length(fields: bytes) -> int:
    value = fields.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(value or 0)


class CannedGrpc:
    """grpc's GenericRpcHandler (by shape). What has no canned answer gets the empty message."""

    def __init__(self, canned: Canned) -> None:
        self._canned = canned

    def service(self, details: Any) -> Any:
        canned = self._canned
        answer = canned.grpc.get(details.method, b"")
        fetches, searches = details.method == "/qdrant.Points/Get", details.method == _SEARCH
        delay_seconds = canned.delay_seconds if answer is _WRITTEN else 0.0

        async def unary(message: bytes, context: Any) -> bytes:
            canned.searches += searches
            if delay_seconds:
                await asyncio.sleep(delay_seconds)
            return fetched(message) if fetches else answer

        handler: Callable[[bytes, Any], Awaitable[bytes]] = unary
        return grpc.unary_unary_rpc_method_handler(handler)


async def serve(rest_port: int, grpc_port: int, canned: Canned) -> None:
    """On 127.0.0.1, until the process is killed."""
    server = grpc.aio.server(handlers=(CannedGrpc(canned),), options=_UNLIMITED)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    made = partial(CannedHttp, canned)
    http = await asyncio.get_running_loop().create_server(made, "127.0.0.1", rest_port, backlog=4096)
    await http.serve_forever()


@click.command()
@click.option("--rest-port", type=int, required=True)
@click.option("--grpc-port", type=int, required=True)
@click.option("--delay-seconds", type=float, default=0.0, help="Of the answers to writes; to a millisecond.")
@click.option("--took-seconds", type=float, default=TOOK_SECONDS, help="What searches are said to have taken.")
@click.option("--collection", "collections", multiple=True, help="A collection that it names when it is asked.")
def main(
    rest_port: int, grpc_port: int, delay_seconds: float, took_seconds: float, collections: tuple[str, ...]
) -> None:
    """Canned answers in the shape of a Qdrant server's."""
    uvloop.run(serve(rest_port, grpc_port, Canned(delay_seconds, took_seconds, collections)))


if __name__ == "__main__":
    main()
