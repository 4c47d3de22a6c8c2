"""What floors are measured with moves the bytes: all of them, in order, to each store, and no more than it is given."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.bare_relay import ACK, connected
from bench.measurements.peers.floors import BareRelay
from examples.engines import free_ports

MESSAGE = bytes(range(256)) * 4096  # larger than what is read at once


class Store:
    """Reads messages of that size, and answers each with `answer`."""

    def __init__(self, size: int, answer: bytes) -> None:
        [self.port] = free_ports(1)
        self.read: list[bytes] = []
        self._size, self._answer = size, answer
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _serve(self) -> None:
        client, _ = self._server.accept()
        with client, client.makefile("rb") as stream:
            while message := stream.read(self._size):
                self.read.append(message)
                client.sendall(self._answer)

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def stores() -> Iterator[list[Store]]:
    made = [Store(len(MESSAGE), ACK) for _ in range(2)]
    yield made
    for store in made:
        store.close()


def test_a_message_reaches_both_stores_before_it_is_answered(tmp_path: Path, stores: list[Store]) -> None:
    relay = BareRelay(tmp_path, [store.address for store in stores], len(MESSAGE))
    relay.answers = lambda: True  # type: ignore[method-assign]  # to look whether it listens would take a store's one caller
    with relay, _patiently(relay.address) as caller:
        for _ in range(3):
            caller.sendall(MESSAGE)
            assert caller.recv(2) == ACK
            assert [store.read[-1] for store in stores] == [MESSAGE, MESSAGE]
    assert [len(store.read) for store in stores] == [3, 3]


def _patiently(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    for _ in range(200):
        try:
            return connected((host, int(port)))
        except ConnectionRefusedError:
            threading.Event().wait(0.05)
    raise TimeoutError(address)


def test_what_is_passed_on_unread_goes_both_ways(tmp_path: Path) -> None:
    store = Store(len(MESSAGE), MESSAGE[::-1])
    relay = BareRelay(tmp_path, [store.address])
    relay.answers = lambda: True  # type: ignore[method-assign]
    with relay, _patiently(relay.address) as caller, caller.makefile("rb") as stream:
        caller.sendall(MESSAGE)
        assert stream.read(len(MESSAGE)) == MESSAGE[::-1]
    assert store.read == [MESSAGE]
    store.close()
