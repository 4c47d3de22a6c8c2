"""Owners of a journal: who lives is never taken for gone, who has ended is."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.replication.owners import OwnerLock


def test_who_is_there_is_seen_until_it_leaves(tmp_path: Path) -> None:
    first, second = OwnerLock.take(tmp_path), OwnerLock.take(tmp_path)
    assert first.others() == [second.owner]
    assert not first.is_gone(second.owner)
    second.release()
    assert first.others() == []
    assert first.is_gone(second.owner)
    first.release()


def test_a_killed_process_is_gone(tmp_path: Path) -> None:
    lock = OwnerLock.take(tmp_path)
    code = (
        "import pathlib, sys; from proxy.replication.owners import OwnerLock; "
        f"lock = OwnerLock.take(pathlib.Path({str(tmp_path)!r})); print(lock.owner, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        owner = other.stdout.readline().strip()
        assert lock.others() == [owner]
        other.kill()
        other.wait()
    assert lock.is_gone(owner)
    assert lock.others() == []


def test_a_process_that_just_begins_is_not_taken_for_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another looks around in the instant in which it has made its file and not yet locked it."""
    first, lock_it = OwnerLock.take(tmp_path), fcntl.flock

    def looked_at(file: Any, operation: int) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(fcntl, "flock", lock_it)
            first.others()
        lock_it(file, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", looked_at)
        second = OwnerLock.take(tmp_path)
    assert first.others() == [second.owner]
    assert not first.is_gone(second.owner)
