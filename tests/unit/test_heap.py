"""Memory that is let go of and wanted again comes without a page of it being fetched anew."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PAGES = """
import resource
from proxy import heap
{keep}
def once():
    parts = [bytes([number]) * 16_000 for number in range(100)]
    whole = b"".join(parts)
    return len([whole[start : start + 16_000] for start in range(0, len(whole), 16_000)])
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    once()
before = faults()
for _ in range(20):
    once()
print((faults() - before) / 20)
"""


@pytest.mark.parametrize(("keep", "few"), [("heap.keep_what_is_freed()", True), ("", False)])
def test_it_is_kept(keep: str, few: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PAGES.format(keep=keep)], capture_output=True, text=True, check=True, timeout=60
    )
    assert (float(done.stdout) < 20) is few
