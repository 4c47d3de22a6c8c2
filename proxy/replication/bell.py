"""A bell by which the event loop wakes a thread.

`queue.SimpleQueue` wakes its reader while the loop still holds the interpreter's lock: on one core the reader gets the
core, cannot go on, and gives it back, twice over for every entry. Writing to a descriptor lets go of the lock first.
"""

from __future__ import annotations

import os
import select


class Bell:
    """Rung on the event loop, waited for in one thread."""

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)
        self._rung = False

    def ring(self) -> None:
        if not self._rung:
            self._rung = True
            os.eventfd_write(self._descriptor, 1)

    def wait(self, seconds: float) -> None:
        """Return once it has been rung since the last time, or after so long. What was put somewhere before it was rung
        is seen afterwards."""
        if self._poll.poll(1000 * seconds):
            os.eventfd_read(self._descriptor)
            self._rung = False

    def close(self) -> None:
        os.close(self._descriptor)
