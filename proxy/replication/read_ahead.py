"""What a copy has to read of points that takes long, read in the process beside this one."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.model import Point, UnreadVector, read_all
from proxy.offload import Offload

_LEAST_BYTES = 128 * 1024  # half a millisecond's work; less is done as soon as it is sent


async def read_ahead(points: Sequence[Point], offload: Offload | None) -> None:
    """Vectors that are slow to read and not read yet, if there are many. One that cannot be read stays as it is."""
    if offload is None:
        return
    unread = [point.vectors for point in points if isinstance(point.vectors, UnreadVector)]
    slow = [vectors for vectors in unread if vectors.is_slow and not vectors.is_read]
    wires = [vectors.wire for vectors in slow]
    if sum(map(len, wires)) < _LEAST_BYTES:
        return
    for vectors, known in zip(slow, await offload.run(read_all, wires, slow[0].read), strict=True):
        if known is not None:
            vectors.know(known)
