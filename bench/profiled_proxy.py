"""`python -m bench.profiled_proxy CONFIG PROFILE`: `crossfade serve` under cProfile, which it writes when it stops.

The profile begins at SIGUSR1, so that starting is not in it. Its clock is the CPU time of the main thread, where the
event loop runs.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import uvloop

from proxy import app


async def serve(config: Path, profile: Path) -> None:
    profiler = cProfile.Profile(time.thread_time)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, profiler.enable)
    try:
        await app.serve(config)
    finally:
        profiler.disable()
        profiler.dump_stats(str(profile))


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
