"""A Milvus that answers at once: `python -m bench.milvus_stub --port N --behind ADDRESS`. Not a database.

It passes every call on to the Milvus Lite behind it until that has answered a search. From then on searches and inserts
are answered with the bytes of the first answer to one, so that what is measured is who asks, under load. What is
inserted from then on is nowhere.
"""

from __future__ import annotations

from typing import Any

import click
import grpc
import uvloop
from pymilvus.grpc_gen import milvus_pb2

_SEARCH, _INSERT = "/milvus.proto.milvus.MilvusService/Search", "/milvus.proto.milvus.MilvusService/Insert"
_ANSWERS = {_SEARCH: milvus_pb2.SearchResults, _INSERT: milvus_pb2.MutationResult}
_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Repeating:
    """grpc's GenericRpcHandler (by shape)."""

    def __init__(self, behind: grpc.aio.Channel) -> None:
        self._behind = behind
        self._answers: dict[str, bytes] = {}

    def service(self, details: Any) -> Any:
        method = details.method
        metadata = tuple(details.invocation_metadata)
        may_repeat = method in _ANSWERS

        async def unary(message: bytes, context: Any) -> bytes:
            if may_repeat and (known := self._answers.get(method)) is not None:
                return known
            answer: bytes = await self._behind.unary_unary(method)(message, metadata=_passed_on(metadata))
            begins = method == _SEARCH or (may_repeat and _SEARCH in self._answers)
            if begins and _ANSWERS[method].FromString(answer).status.code == 0:
                self._answers.setdefault(method, answer)
            return answer

        return grpc.unary_unary_rpc_method_handler(unary)


def _passed_on(metadata: tuple[tuple[str, Any], ...]) -> list[tuple[str, Any]]:
    return [(key, value) for key, value in metadata if not key.startswith(("grpc-", "user-agent"))]


async def serve(port: int, behind: str) -> None:
    """On 127.0.0.1, until the process is killed."""
    async with grpc.aio.insecure_channel(behind, options=_UNLIMITED) as channel:
        server = grpc.aio.server(handlers=(Repeating(channel),), options=_UNLIMITED)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--behind", required=True, help="The address of a Milvus Lite.")
def main(port: int, behind: str) -> None:
    """What a Milvus Lite answered once, again and again."""
    uvloop.run(serve(port, behind))


if __name__ == "__main__":
    main()
