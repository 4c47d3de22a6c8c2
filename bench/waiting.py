"""What is waited for between measurements. Bounded: what does not happen is an error, not a long run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from bench.process_figures import cpu_seconds
from bench.processes import BenchError
from examples.demo.processes import Proxy
from examples.engines import ChildProcess, poll
from proxy.control import JobInfo

_PATIENCE_SECONDS = 180.0
_LONGEST_JOB_SECONDS = 600.0
_LOOK_SECONDS = 0.1
_REST_SECONDS = 0.3
_LONGEST_UNREST_SECONDS = 15.0


def wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    """Raises BenchError, saying `otherwise`."""
    if not poll(condition, _PATIENCE_SECONDS):
        raise BenchError(f"{otherwise} within {_PATIENCE_SECONDS:g} s")


def wait_until_idle(*processes: ChildProcess) -> None:
    """Until they use hardly any CPU: engines build indexes after writes, which is not to fall into the next burst. One
    that does not come to rest is not waited for any longer."""
    pids = [process.pid for process in processes if process.pid is not None]
    deadline = time.monotonic() + _LONGEST_UNREST_SECONDS
    before = sum(map(cpu_seconds, pids))
    while time.monotonic() < deadline:
        time.sleep(_REST_SECONDS)
        now = sum(map(cpu_seconds, pids))
        if now - before <= _REST_SECONDS / 10:
            return
        before = now


def behind(proxy: Proxy) -> int:
    """Keys that the target does not have as the source has them."""
    return sum(route.keys.lag for route in proxy.control.status().routes)


def mirror(proxy: Proxy, route: str) -> None:
    """Start dual writes, and wait until the writes that were sent before cannot be landing any more."""
    proxy.control.mirror(route)
    wait_until(lambda: behind(proxy) == 0, "dual writes did not come to rest")


def backfill(proxy: Proxy, route: str) -> Iterator[JobInfo]:
    """Copy everything; its state every `_LOOK_SECONDS` (each look costs the proxy a millisecond), the last one when it
    is done. Raises BenchError if the job fails."""
    job = proxy.control.start_job("backfill", route)
    deadline = time.monotonic() + _LONGEST_JOB_SECONDS
    while job.status in ("running", "paused"):
        if time.monotonic() > deadline:
            raise BenchError(f"the backfill did not end within {_LONGEST_JOB_SECONDS:g} s")
        yield job
        time.sleep(_LOOK_SECONDS)
        job = proxy.control.job(job.id)
    if job.status != "done":
        raise BenchError(f"the backfill {job.status}: {job.error}")
    yield job
