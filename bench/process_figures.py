"""What the kernel knows about a process: its memory, its CPU time, and on which cores it may run (Linux; proc(5))."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_SCHEDULER_CLOCK = 2  # CPUCLOCK_SCHED: user and system, not sampled
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """VmRSS. Raises OSError if there is no such process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def process_tree(pid: int, proc: Path = _PROC) -> list[int]:
    """`pid` and its children, with theirs, as far as they live."""
    found = [pid]
    for one in found:  # grows meanwhile
        for children in (proc / str(one) / "task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
                found.extend(map(int, children.read_text().split()))
    return found


def tree_cpu_seconds(pid: int, clock: Callable[[int], float] | None = None, proc: Path = _PROC) -> float:
    """User and system time so far of a process with all its threads, of its children, and of those that have ended.
    `clock` gives that of one living process. Raises OSError if there is no process `pid`."""
    return sum((clock or process_clock)(one) + _ended_children_seconds(one, proc) for one in process_tree(pid, proc))


def process_clock(pid: int) -> float:
    """What `cpu_seconds` tells, to the nanosecond: a burst may cost less than a tick. clock_getcpuclockid(3) says that
    there is such a clock, and the kernel's posix-timers.h how it is numbered."""
    return time.clock_gettime((~pid << 3) | _SCHEDULER_CLOCK)


def _ended_children_seconds(pid: int, proc: Path) -> float:
    after_name = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(after_name[13]) + int(after_name[14])) / _TICKS_PER_SECOND


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads so far, to 10 ms. Raises OSError if there is no such process."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_SECOND


def machine_cpu_seconds() -> float:
    """What all cores together have worked so far, whoever for (the waiting of a guest for its host included)."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, words[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / _TICKS_PER_SECOND


def own_cpu_seconds() -> float:
    """What this process has worked so far, and its children that have ended, with theirs."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def pin(pid: int, cores: Iterable[int]) -> None:
    """Keep every thread of a process, and those that they start, on `cores`."""
    chosen = set(cores)
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), chosen)


@contextlib.contextmanager
def running_on(cores: Iterable[int]) -> Iterator[None]:
    """What this thread starts meanwhile begins on `cores`, with whatever that starts itself."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def processor() -> str:
    """The model of the processor, "" if it does not say."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""
