"""A relay in front of a store that can keep what it has received: to the sender the request has vanished, and it lands
later, as it does when a network or a server stalls."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class Relay:
    """Passes bytes on to 127.0.0.1:`port`, from `self.port`. One thread a direction and connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def keep(self) -> None:
        """From now on what arrives is kept."""
        self._open.clear()

    def let_go(self) -> None:
        """What was kept lands, even if its sender is gone."""
        self._open.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sender, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sender,), daemon=True).start()

    def _serve(self, sender: socket.socket) -> None:
        """Where the store is gone, the sender's connection ends."""
        with sender, suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as store:
            back = threading.Thread(target=_pump, args=(store, sender), daemon=True)
            back.start()
            while received := _received(sender):
                self._open.wait()
                store.sendall(received)
            store.shutdown(socket.SHUT_WR)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while received := _received(source):
        try:
            sink.sendall(received)
        except OSError:  # who asked is gone; what was asked is carried out all the same
            continue


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:
        return b""
