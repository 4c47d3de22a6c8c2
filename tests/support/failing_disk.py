"""A disk that fails, for one program: a library of ours (failing_disk.c) that is loaded before all others makes its
writes and syncs below one directory fail, or take long, whenever this process says so. Needs a C compiler."""

from __future__ import annotations

import enum
import mmap
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp


class Disk(enum.IntEnum):
    """The numbers of failing_disk.c."""

    WORKS = 0
    FULL = 1  # ENOSPC
    SYNC_FAILS = 2  # EIO of fsync and fdatasync
    SYNC_SLOW = 3  # 300 ms each
    READ_ONLY = 4  # EROFS


@cache
def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@cache
def _library() -> Path:
    found = compiler()
    assert found is not None, "no C compiler"
    library = Path(mkdtemp(prefix="failing_disk_")) / "failing_disk.so"
    code = Path(__file__).with_suffix(".c")
    subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", str(library), str(code), "-ldl"], check=True)
    return library


class FailingDisk:
    """What lies below `directory`, as a program sees it that was started with `environment`."""

    def __init__(self, directory: Path, control: Path) -> None:
        self._directory = directory
        self._control = control
        control.write_bytes(bytes(4))
        with control.open("r+b") as file:
            self._state = mmap.mmap(file.fileno(), 4)

    def environment(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(_library()),
            "FAILING_DISK_DIRECTORY": str(self._directory.resolve()),
            "FAILING_DISK_CONTROL": str(self._control),
        }

    def become(self, state: Disk) -> None:
        self._state[:] = int(state).to_bytes(4, "little")
