"""What no proxy can do without: `python -m bench.bare_relay --port N --to HOST:PORT ... [--message-bytes N]`.

With one address it passes bytes on in both directions, unread, on uvloop: what a proxy in Python costs that does no
more. With two and a size it reads messages of that size, writes each to both, and answers with a byte when both have:
what two copies cost that nobody looks into, in whatever language, since nearly all of it is the kernel's. Neither is a
proxy.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import cast

import click
import uvloop

from proxy.telemetry.tasks import spawn

_READ_BYTES = 1 << 18
ACK = b"\x01"


class _End(asyncio.Protocol):
    """One side of a pair; what it hears the other one says."""

    def __init__(self, other: _End | None = None, to: tuple[str, int] | None = None) -> None:
        self._other, self._to = other, to
        self._early: list[bytes] = []
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # of uvloop, which derives from nothing
        if self._to is not None:
            spawn(self._connect(*self._to), name="bare relay")

    async def _connect(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        _, self._other = await loop.create_connection(lambda: _End(self), host, port)
        for data in self._early:
            self._other.transport.write(data)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None:
            self._other.transport.close()


async def _pass_on(port: int, to: tuple[str, int]) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _End(to=to), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def _copy(client: socket.socket, to: Sequence[tuple[str, int]], message_bytes: int) -> None:
    """Until the client leaves."""
    stores = [connected(address) for address in to]
    buffer = memoryview(bytearray(_READ_BYTES))
    missing = message_bytes
    while size := client.recv_into(buffer[: min(missing, _READ_BYTES)]):
        for store in stores:
            store.sendall(buffer[:size])
        missing -= size
        if not missing:
            for store in stores:
                store.recv(1)
            client.sendall(ACK)
            missing = message_bytes


def _copy_all(port: int, to: Sequence[tuple[str, int]], message_bytes: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_copy, args=(client, to, message_bytes), daemon=True).start()


def connected(address: tuple[str, int]) -> socket.socket:
    made = socket.create_connection(address)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--to", "addresses", multiple=True, required=True, metavar="HOST:PORT")
@click.option("--message-bytes", type=int, default=0)
def main(port: int, addresses: tuple[str, ...], message_bytes: int) -> None:
    """The least that a proxy costs, and no proxy."""
    to = [(host, int(number)) for host, _, number in (address.rpartition(":") for address in addresses)]
    if message_bytes:
        _copy_all(port, to, message_bytes)
    else:
        uvloop.run(_pass_on(port, to[0]))


if __name__ == "__main__":
    main()
