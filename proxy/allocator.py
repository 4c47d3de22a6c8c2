"""How much of what was freed stays with the process.

glibc gives the end of its heap back to the system as soon as a few megabytes of it are free, and takes it anew for the
next large body: page faults and pages to be cleared, a twentieth of what a large upsert over REST costs.
"""

from __future__ import annotations

import ctypes

_KEPT_BYTES = 64 * 1024 * 1024  # free, at the end of the heap
_APART_BYTES = 32 * 1024 * 1024  # from which on something is taken from the system by itself; the most there may be
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h; to set either ends glibc's own choosing of both


def keep_freed() -> bool:
    """Keep a bounded amount for what comes next. False where the allocator is not glibc's, and does as it likes."""
    try:
        choose = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(choose(_TRIM_THRESHOLD, _KEPT_BYTES) and choose(_MMAP_THRESHOLD, _APART_BYTES))
