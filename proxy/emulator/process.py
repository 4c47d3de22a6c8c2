"""The emulator as a process: a directory, two listeners, and a clean end on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from proxy.emulator.front import QdrantEmulator
from proxy.fronts.qdrant import REST_LIMIT_BYTES
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.stores.qdrant_edge import QdrantEdgeStore
from proxy.telemetry import logs

DRAIN_SECONDS = 2.0

_log = logging.getLogger("crossfade.emulator")


async def serve(host: str, rest_port: int, grpc_port: int, path: Path | str, api_key: str | None = None) -> None:
    """Serve the collections below `path` until SIGTERM or SIGINT (or cancellation), then sync them to disk.

    Port 0 lets the system choose; the log names the ports. Raises OSError if a port is taken and Unavailable if
    another process has the directory open.
    """
    logs.configure("text")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    store = QdrantEdgeStore(path)
    try:
        await store.probe()
        emulator = QdrantEmulator(store, api_key)
        rest = HttpListener(emulator.handle, host, rest_port, max_body_bytes=REST_LIMIT_BYTES)
        grpc = GrpcListener(emulator.handle, host, grpc_port)
        await rest.start()
        await grpc.start()
        for listener, port in (("rest", rest.port), ("grpc", grpc.port)):
            _log.info(
                "emulator: Qdrant's engine (qdrant-edge) behind Crossfade's front",
                extra={"listener": listener, "address": f"{host}:{port}", "path": str(path)},
            )
        await ended.wait()
        await asyncio.gather(rest.stop(DRAIN_SECONDS), grpc.stop(DRAIN_SECONDS))
    finally:
        await store.close()
