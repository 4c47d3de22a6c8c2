"""What a copy has to read of points that takes long, read in the process beside this one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxy.model import Point, UnreadVector, read_all
from proxy.offload import Offload

_LEAST_BYTES = 128 * 1024  # half a millisecond's work; less is done as soon as it is sent
_MOST_BYTES = 1024 * 1024  # at once: a client's write may be waiting for its turn


async def read_ahead(points: Sequence[Point], offload: Offload | None) -> None:
    """Vectors that are slow to read and not read yet, if there are many. One that cannot be read stays as it is."""
    if offload is None:
        return
    unread = [point.vectors for point in points if isinstance(point.vectors, UnreadVector)]
    slow = [vectors for vectors in unread if vectors.is_slow and not vectors.is_read]
    if sum(len(vectors.wire) for vectors in slow) < _LEAST_BYTES:
        return
    for some in _pieces(slow):
        found = await offload.run(read_all, [bytes(vectors.wire) for vectors in some], some[0].read)
        for vectors, known in zip(some, found, strict=True):
            if known is not None:
                vectors.know(known)


def _pieces(slow: Sequence[UnreadVector]) -> Iterator[Sequence[UnreadVector]]:
    start = size = 0
    for end, vectors in enumerate(slow, start=1):
        size += len(vectors.wire)
        if size >= _MOST_BYTES or end == len(slow):
            yield slow[start:end]
            start, size = end, 0
