"""A gRPC listener of ours in a process of its own, which answers every call with its process id and then what it was
sent. The next one that is started on the same directory takes its socket over."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc

from examples.engines import ChildProcess
from proxy.listeners.grpc_listener import GrpcListener
from proxy.sockets import Handover, take
from proxy.wire import Request, Response
from tests.support.form import python_path

METHOD = "/echo.Echo/Call"
LINGER_SECONDS = 30.0


class GrpcEcho(ChildProcess):
    """`shared`: where the processes meet."""

    def __init__(self, directory: Path, shared: Path, port: int) -> None:
        super().__init__(directory, port)
        self._shared = shared

    def command(self) -> list[str]:
        port = self.address.rpartition(":")[2]
        return [sys.executable, "-m", "tests.support.grpc_echo", str(self._shared), port]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": python_path()}

    def answers(self) -> bool:
        """It says so itself: at its port another may answer as well."""
        return "serving" in self.log_tail()


def new_channel(address: str) -> grpc.Channel:
    """A channel with a connection of its own."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


async def serve(path: Path, port: int) -> None:
    async def echo(request: Request) -> Response:
        await asyncio.sleep(0.002)
        return Response(0, body=b"%d" % os.getpid() + request.bytes)

    before = take(path)
    listener = GrpcListener(echo, "127.0.0.1", port, sock=before.sockets["grpc"] if before is not None else None)
    await listener.start()
    assert listener.socket is not None
    stopping = asyncio.Event()
    handover = Handover(path, {"grpc": listener.socket}, stopping.set)
    handover.start()
    if before is not None:
        before.ready()
    print("serving", flush=True)
    await stopping.wait()
    await handover.close()
    await listener.stop(10.0, LINGER_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
