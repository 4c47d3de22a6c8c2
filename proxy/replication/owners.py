"""Owners: the processes that have a journal open, and how it is proven that one is gone.

On one machine an owner is gone when its process is, not when time passes: each holds a lock on a file of its own, which
the kernel lets go of when the process ends, however it ends. A process that is stopped is not gone: what it was doing
stays open until it goes on. (Machines that share a journal need leases that outlive the longest request instead.)
"""

from __future__ import annotations

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class OwnerLock:
    """The lock of this process, held until `release` or the end of the process."""

    owner: str
    directory: Path
    _file: IO[bytes]

    @classmethod
    def take(cls, directory: Path) -> OwnerLock:
        """Make a locked file of a new name in `directory`. It is never seen without its lock, for whose absence others
        would take the process for gone."""
        directory.mkdir(parents=True, exist_ok=True)
        owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        draft = directory / f"{owner}.draft"
        file = draft.open("wb")  # held for the life of the process
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(_path(directory, owner))
        return cls(owner, directory, file)

    def release(self) -> None:
        _path(self.directory, self.owner).unlink(missing_ok=True)
        self._file.close()

    def others(self) -> list[str]:
        """The other processes that have the journal open."""
        owners = [path.stem for path in self.directory.glob("*.lock")]
        return [owner for owner in owners if owner != self.owner and not self.is_gone(owner)]

    def is_gone(self, owner: str) -> bool:
        """Whether the process of that name has ended."""
        if owner == self.owner:
            return False
        path = _path(self.directory, owner)
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        path.unlink(missing_ok=True)
        return True


def _path(directory: Path, owner: str) -> Path:
    return directory / f"{owner}.lock"
