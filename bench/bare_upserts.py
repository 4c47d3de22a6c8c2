"""What an upsert to two stores costs without replication: `python -m bench.bare_upserts --transport grpc --port N --to
ADDRESS --to ADDRESS`.

The product's own listener, dialect and connections to stores, and nothing between them: a request comes in, the ids of
its points are read, its bytes go to both stores, and the first one's answer goes back. No order of writes to a key, no
journal, nobody who knows what a store lacks: not a proxy, but what any proxy of these parts stays above.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import click
import uvloop

from bench.bodies import Transport
from proxy.dialects import Dialect
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.heap import keep_what_is_freed
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.stores import Forwarder
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.forward_http import HttpForwarder
from proxy.telemetry.tasks import spawn
from proxy.wire import Request, Response, collected

_MOST_BYTES = 1 << 26


class ToBoth:
    """A `Handler`."""

    def __init__(self, dialect: Dialect, stores: Sequence[Forwarder]) -> None:
        self._dialect = dialect
        self._first, self._second = stores

    async def __call__(self, request: Request) -> Response:
        request = await collected(request, _MOST_BYTES)
        self._dialect.decode_large(request)
        beside = spawn(self._second.forward(request), name="the second store")
        answer = await self._first.forward(request)
        await beside
        return answer


async def _serve(transport: Transport, port: int, to: Sequence[str]) -> None:
    if transport == "grpc":
        handler = ToBoth(QdrantGrpc(), [GrpcForwarder(address) for address in to])
        await GrpcListener(handler, "127.0.0.1", port).start()
    else:
        handler = ToBoth(QdrantRest(), [HttpForwarder(f"http://{address}") for address in to])
        await HttpListener(handler, "127.0.0.1", port).start()
    await asyncio.Event().wait()


@click.command()
@click.option("--transport", type=click.Choice(["grpc", "http"]), required=True)
@click.option("--port", type=int, required=True)
@click.option("--to", "addresses", multiple=True, required=True, metavar="HOST:PORT", help="Two of them.")
def main(transport: Transport, port: int, addresses: tuple[str, ...]) -> None:
    """The least that an upsert to two stores costs, and no proxy."""
    keep_what_is_freed()
    uvloop.run(_serve(transport, port, addresses))


if __name__ == "__main__":
    main()
