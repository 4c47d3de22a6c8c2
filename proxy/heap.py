"""What the process does with memory that it has let go of.

A request of megabytes is let go of as soon as it is answered, and the next one wants as much again. glibc gives free
memory at the end of the heap back to the kernel, which clears each page before it hands it out once more: for an upsert
of 1.6 MB up to a tenth of all that it costs, if nothing happens to lie behind it that stays.
"""

from __future__ import annotations

import ctypes

_KEPT_BYTES = 64 * 1024 * 1024
_OWN_MAPPING_BYTES = 32 * 1024 * 1024  # glibc's most; what is larger goes back at once
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_what_is_freed() -> None:
    """Have up to 64 MiB of it kept for what comes next. Where the C library is another one, nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)  # a threshold that is set adapts no more, so both are
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
