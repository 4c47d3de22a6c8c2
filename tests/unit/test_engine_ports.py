"""Ports for engines: two processes that ask at the same time are not given the same ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_ASK = """
import json, sys
from examples.engines import free_ports
print(json.dumps(free_ports(3)), flush=True)
sys.stdin.read()
"""


def test_each_process_has_a_part_of_the_range_to_itself() -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", _ASK],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    try:
        given = [json.loads(process.stdout.readline()) for process in asking if process.stdout is not None]
    finally:
        for process in asking:
            process.communicate()
    parts = [{port // 1000 for port in ports} for ports in given]
    assert sum(map(len, parts)) == len(set().union(*parts))
