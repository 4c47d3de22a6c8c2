"""A server of canned answers: `python -m bench.stub --rest-port N --grpc-port N`. Not a database of any kind.

It has the shape of a Qdrant (REST and gRPC on two ports) and answers every search with the same ten hits and every
other request with the same success, at the least cost that Python allows, so that what is measured is what lies between
client and server. It reads no request further than to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import click
import grpc
import orjson
import uvloop
from qdrant_client import grpc as qdrant

from bench.bodies import HITS, payload, proto_payload

_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def _scored(number: int) -> dict[str, Any]:
    return {"id": number, "version": number, "score": 0.9 - number / 100, "payload": payload(number)}


def _rest(result: Any) -> bytes:
    body = orjson.dumps({"result": result, "status": "ok", "time": 0.000123})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


_REST_SEARCH = _rest({"points": [_scored(number) for number in range(HITS)]})
_REST_OTHER = _rest({"operation_id": 17, "status": "completed"})

_GRPC: dict[str, bytes] = {
    "/qdrant.Points/Query": qdrant.QueryResponse(
        result=[
            qdrant.ScoredPoint(
                id=qdrant.PointId(num=number), version=number, score=0.9 - number / 100, payload=proto_payload(number)
            )
            for number in range(HITS)
        ],
        time=0.000123,
    ).SerializeToString(),
    "/qdrant.Points/Upsert": qdrant.PointsOperationResponse(
        result=qdrant.UpdateResult(operation_id=17, status=qdrant.UpdateStatus.Completed), time=0.000123
    ).SerializeToString(),
}


class CannedHttp(asyncio.Protocol):
    """HTTP/1.1 with bodies of stated length only; a request line that ends in "/query" is a search."""

    def __init__(self) -> None:
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
                self._answer = _REST_SEARCH if b"/query " in line else _REST_OTHER
                self._missing_bytes = _length(fields)
            if not self._missing_bytes:
                self._transport.write(self._answer)


def _length(fields: bytes) -> int:
    value = fields.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(value or 0)


class CannedGrpc:
    """grpc's GenericRpcHandler (by shape). What has no canned answer gets the empty message."""

    def service(self, details: Any) -> Any:
        answer = _GRPC.get(details.method, b"")

        async def unary(message: bytes, context: Any) -> bytes:
            return answer

        handler: Callable[[bytes, Any], Awaitable[bytes]] = unary
        return grpc.unary_unary_rpc_method_handler(handler)


async def serve(rest_port: int, grpc_port: int) -> None:
    """On 127.0.0.1, until the process is killed."""
    server = grpc.aio.server(handlers=(CannedGrpc(),), options=_UNLIMITED)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    http = await asyncio.get_running_loop().create_server(CannedHttp, "127.0.0.1", rest_port, backlog=4096)
    await http.serve_forever()


@click.command()
@click.option("--rest-port", type=int, required=True)
@click.option("--grpc-port", type=int, required=True)
def main(rest_port: int, grpc_port: int) -> None:
    """Canned answers in the shape of a Qdrant server's."""
    uvloop.run(serve(rest_port, grpc_port))


if __name__ == "__main__":
    main()
