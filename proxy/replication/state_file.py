"""What has to outlive the journal, in two small files beside it: which store is primary must never be guessed.

`journal.state` says for each route its phase, its primary, its stores, and which collections of the secondary are its
own; with a checksum, replaced as a whole. While the primary is being moved it says so, and no more than that.
`journal.mark` has the position of the last commit. It is written after every commit and not synced: it is there to tell
that a journal was cut short or replaced, which SQLite does not notice, not to survive a loss of power.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import msgspec

from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.book import Book

_THAT_MATTER = (r.SetPhase, r.Prepare, r.Commit, r.Abort, r.Restore, r.Bind, r.Claim, r.EndScope, r.Recover)
_MARK = struct.Struct("<Q8s")


class RouteState(msgspec.Struct, frozen=True):
    """`primary`: None while it is being moved. `claimed`: collections of the secondary that are the route's own.
    `behind`: since an emergency the primary may lack keys."""

    phase: str
    primary: Side | None
    bound: tuple[str, str] | None
    claimed: tuple[str, ...]
    behind: bool = False


class State(msgspec.Struct, frozen=True):
    routes: dict[str, RouteState]


def matters(record: r.AnyRecord) -> bool:
    """Whether `record` may change what the file says."""
    return isinstance(record, _THAT_MATTER)


def state_of(book: Book) -> State:
    return State(
        {
            name: RouteState(
                route.phase,
                None if route.flip is not None else route.primary,
                route.bound,
                tuple(collection for collection, ledger in route.ledgers.items() if ledger.claimed),
                any(ledger.behind or ledger.behind_all for ledger in route.ledgers.values()),
            )
            for name, route in book.routes.items()
        }
    )


class Mark:
    """`journal.mark`, kept open: it is written with every commit."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._descriptor: int | None = None

    def write(self, position: int) -> None:
        """The last commit was at `position`. Raises OSError."""
        if self._descriptor is not None and not os.fstat(self._descriptor).st_nlink:  # somebody has removed it
            self.close()
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        data = struct.pack("<Q", position)
        os.pwrite(self._descriptor, data + blake2b(data, digest_size=8).digest(), 0)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@dataclass(frozen=True, slots=True)
class StateFile:
    """Beside the journal at `journal`. `writer` names who saves: no other does under that name."""

    journal: Path
    writer: str = ""

    @property
    def path(self) -> Path:
        return self.journal.with_suffix(".state")

    @property
    def mark_path(self) -> Path:
        return self.journal.with_suffix(".mark")

    def save(self, state: State) -> None:
        """Durable when it returns. Raises OSError."""
        body = msgspec.json.encode(state)
        draft = self.path.with_suffix(f".draft-{self.writer}")
        with draft.open("wb") as file:
            file.write(blake2b(body, digest_size=16).hexdigest().encode() + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def load(self) -> State | None:
        """None if there is no such file. Raises ValueError if it is damaged."""
        try:
            checksum, _, body = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if blake2b(body, digest_size=16).hexdigest().encode() != checksum:
            raise ValueError(f"{self.path} is damaged")
        return msgspec.json.decode(body, type=State)

    def marked(self) -> int:
        """The position of the last commit that is known; 0 if none is."""
        try:
            data, checksum = _MARK.unpack(self.mark_path.read_bytes())
        except (FileNotFoundError, struct.error):
            return 0
        return data if blake2b(struct.pack("<Q", data), digest_size=8).digest() == checksum else 0
