"""Between the proxy and a store: what is sent there, and a server that can be made slow, mute or mad.

Both pass everything on to the real store until they are told otherwise.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any, Literal

import grpc

Mood = Literal["well", "mute", "mad", "gone"]
_MAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{not JSON"
_PATIENCE_SECONDS = 20


class RestTap:
    """Requests as they come are in `seen`. `mood`: "mute" never answers, "mad" answers what is no JSON, "gone" closes
    the connection."""

    def __init__(self, port: int) -> None:
        self.seen: list[bytes] = []
        self.mood: Mood = "well"
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as store:
            while request := _message(client):
                self.seen.append(request)
                if self.mood == "gone":
                    break
                if self.mood == "mute":
                    continue
                if self.mood == "mad":
                    client.sendall(_MAD)
                    continue
                store.sendall(request)
                client.sendall(_message(store))
        client.close()


def _message(sock: socket.socket) -> bytes:
    """With a body of stated length; b"" at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := sock.recv(65536)):
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = head.lower().split(b"\r\n")
    length = next((int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")), 0)
    while len(body) < length:
        if not (more := sock.recv(65536)):
            return b""
        body += more
    return head + b"\r\n\r\n" + body


class GrpcTap:
    """Calls are in `seen`, with their metadata."""

    def __init__(self, address: str, running: ExitStack) -> None:
        self.seen: list[tuple[str, Sequence[tuple[str, str | bytes]]]] = []
        self._channel = running.enter_context(grpc.insecure_channel(address))
        server = grpc.server(ThreadPoolExecutor(8), handlers=(self,))
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        running.callback(lambda: server.stop(None).wait(_PATIENCE_SECONDS))

    def service(self, details: Any) -> Any:
        """grpc's GenericRpcHandler (by shape)."""
        method = details.method
        passed = self._channel.unary_unary(method)

        def unary(message: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = tuple((entry.key, entry.value) for entry in context.invocation_metadata())
            self.seen.append((method, metadata))
            shown = [each for each in metadata if each[0] == "api-key"]
            try:
                return bytes(passed(message, timeout=_PATIENCE_SECONDS, metadata=shown))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
                raise

        return grpc.unary_unary_rpc_method_handler(unary)
