"""What was freed is there for what comes next, without the system having to be asked again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BODIES = """
import resource
import sys
from proxy.allocator import keep_freed

if sys.argv[1] == "kept":
    assert keep_freed()
for turn in range(20):
    bodies = [b"x" * (2 * 1024 * 1024 + number) for number in range(8)]
    del bodies
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator does as it likes")
def test_large_bodies_take_the_room_of_those_before_them() -> None:
    kept, given_back = (_page_faults(how) for how in ("kept", "as it is"))
    assert kept < given_back / 10


def _page_faults(how: str) -> int:
    ended = subprocess.run([sys.executable, "-c", BODIES, how], capture_output=True, text=True, check=True)
    return int(ended.stdout)
