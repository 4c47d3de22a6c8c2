"""`python -m tests.faults.endurance.upstream`: canned answers in the shape of a Qdrant server's over REST and gRPC,
each with its request's number, and from SIGUSR1 on a connection that is reset every now and then (resets.py). With
SIGTERM it writes which numbers have ever arrived, a byte each, and ends.
"""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import click
import uvloop

from tests.faults.endurance.messages import FIRST_ID
from tests.faults.endurance.resets import Resets
from tests.faults.endurance.served_grpc import GrpcServed
from tests.faults.endurance.served_http import HttpServed


async def serve(rest_port: int, grpc_port: int, resets: Resets) -> None:
    """On 127.0.0.1, until SIGTERM."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, resets.begin)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(lambda: HttpServed(resets), "127.0.0.1", rest_port, backlog=4096)
    await loop.create_server(lambda: GrpcServed(resets), "127.0.0.1", grpc_port, backlog=4096)
    await ended.wait()


@click.command()
@click.option("--rest-port", type=int, required=True)
@click.option("--grpc-port", type=int, required=True)
@click.option("--store", required=True, help="Its name in the log.")
@click.option("--log", type=click.Path(path_type=Path), required=True, help="Where resets are written.")
@click.option("--arrived", type=click.Path(path_type=Path), required=True, help="Where numbers are written in the end.")
@click.option("--seed", type=int, required=True)
def main(rest_port: int, grpc_port: int, store: str, log: Path, arrived: Path, seed: int) -> None:
    """Canned answers, and connections that are reset."""
    resets = Resets(log, store, random.Random(f"{seed} {store}"))
    uvloop.run(serve(rest_port, grpc_port, resets))
    arrived.write_bytes(resets.arrived[: resets.highest - FIRST_ID + 1])


if __name__ == "__main__":
    main()
