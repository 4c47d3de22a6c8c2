"""A gRPC listener of ours in a process of its own, which answers every call with its process id and then what it was
sent. SIGTERM has it leave the port to the next."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc

from examples.engines import ChildProcess
from proxy.listeners.grpc_listener import GrpcListener
from proxy.wire import Request, Response, collected

METHOD = "/echo.Echo/Call"
LINGER_SECONDS = 60.0


class GrpcEcho(ChildProcess):
    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.support.grpc_echo", self.address.rpartition(":")[2]]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(Path(__file__).parents[2])}

    def answers(self) -> bool:
        """It says so itself: at its port another may answer as well."""
        return "serving" in self.log_tail()

    def leave(self) -> None:
        self._signal(signal.SIGTERM)


def new_channel(address: str) -> grpc.Channel:
    """A channel with a connection of its own."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


async def serve(port: int) -> None:
    async def echo(request: Request) -> Response:
        whole = await collected(request, limit_bytes=2**20)
        await asyncio.sleep(0.002)
        assert isinstance(whole.body, bytes)
        return Response(0, body=b"%d" % os.getpid() + whole.body)

    listener = GrpcListener(echo, "127.0.0.1", port, reuse_port=True)
    await listener.start()
    print("serving", flush=True)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await listener.stop(10.0, LINGER_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
