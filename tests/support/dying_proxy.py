"""`python -m tests.support.dying_proxy CONFIG POINT AFTER`: `crossfade serve`, but it kills itself with SIGKILL when it
comes to the named point of the protocol for the AFTER-th time. Nothing is flushed, as in a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from proxy.app import App


async def serve(config: Path, point: str, after: int) -> None:
    came = 0

    async def hook(name: str) -> None:
        nonlocal came
        came += name == point
        if came == after:
            os.kill(os.getpid(), signal.SIGKILL)

    app = App(config, hook=hook)
    await app.start()
    await app.workers.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
