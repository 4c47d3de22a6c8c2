"""bench/process_figures.py: CPU time of a process with all that it started."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.process_figures import process_clock, process_tree, running_on, tree_cpu_seconds

TICKS = os.sysconf("SC_CLK_TCK")


def fake(proc: Path, pid: int, children: list[list[int]], ended_ticks: tuple[int, int] = (0, 0)) -> None:
    """A process whose threads have started `children` (a list a thread)."""
    for number, started in enumerate(children):
        thread = proc / str(pid) / "task" / str(pid + number)
        thread.mkdir(parents=True)
        (thread / "children").write_text("".join(f"{child} " for child in started))
    user, system = ended_ticks
    (proc / str(pid) / "stat").write_text(f"{pid} (a ) b) S 1 1 1 0 -1 4 9 9 9 9 70 7 {user} {system} 20 0 1 0 5\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """10 (two threads) -> 20, 30; 20 -> 40; 30 has had children that ended."""
    fake(tmp_path, 10, [[20], [30]])
    fake(tmp_path, 20, [[40]])
    fake(tmp_path, 30, [[]], ended_ticks=(3 * TICKS, TICKS))
    fake(tmp_path, 40, [[]])
    fake(tmp_path, 50, [[]])
    return tmp_path


def test_a_tree_holds_the_children_of_every_thread_and_theirs(proc: Path) -> None:
    assert sorted(process_tree(10, proc)) == [10, 20, 30, 40]
    assert process_tree(40, proc) == [40]


def test_the_time_of_all_counts_and_of_those_that_have_ended(proc: Path) -> None:
    clocks = {10: 1.0, 20: 0.5, 30: 0.25, 40: 0.125, 50: 99.0}
    assert tree_cpu_seconds(10, clocks.__getitem__, proc) == 1.875 + 4.0


def test_a_child_of_a_real_process_counts() -> None:
    """The parent waits while its child works for 50 ms of CPU time, and tells when it has."""
    child = "import time\nwhile time.process_time() < 0.05: pass\nprint('worked', flush=True)\ninput()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "worked\n"
        alone = process_clock(process.pid)
        with_child = tree_cpu_seconds(process.pid)
        process.communicate("\n")
    assert with_child >= alone + 0.05


def test_the_clock_of_this_process_is_that_of_the_standard_library() -> None:
    before = time.process_time()
    found = process_clock(os.getpid())
    assert before <= found <= time.process_time()


def test_what_is_started_on_a_core_begins_there() -> None:
    before = os.sched_getaffinity(0)
    core = {max(before)}
    code = "import os; print(*os.sched_getaffinity(0))"
    with running_on(core):
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {int(word) for word in printed.split()} == core
    assert os.sched_getaffinity(0) == before
