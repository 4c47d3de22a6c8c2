"""How far a read has to look so that it sees every write that this process knows to be acknowledged.

Milvus stamps writes with its own time, and a read can ask for everything up to a stamp, which is several times cheaper
than a strong read. The stamp of the last own write is enough as long as nothing acknowledged is later: not at first,
not when a collection comes into view that others may have written to, and not after a write without a stamp (deletes
on Milvus 2.3, everything on Milvus Lite). Then reads are strong, until a write that began afterwards has a stamp.
"""

from __future__ import annotations

from proxy.dialects.milvus.requests import STRONG, Guarantee, after


class Horizon:
    def __init__(self) -> None:
        self._last_stamp: int | None = None
        self._resets = 0

    @property
    def guarantee(self) -> Guarantee:
        return STRONG if self._last_stamp is None else after(self._last_stamp)

    @property
    def is_strong(self) -> bool:
        return self._last_stamp is None

    def write_begins(self) -> int:
        """To be handed to `write_ended`."""
        return self._resets

    def write_ended(self, began: int, stamp: int) -> None:
        """The server acknowledged a write, with a stamp or 0."""
        if not stamp:
            self.read_strongly()
        elif began == self._resets:
            self._last_stamp = max(self._last_stamp or 0, stamp)

    def read_strongly(self) -> None:
        self._resets += 1
        self._last_stamp = None
