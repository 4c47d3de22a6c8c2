"""What a peer may spend on frames that bring nothing.

Pings, settings, empty data, single bytes of a window: each is cheap to send and costs us something, and none is bounded
by a window. They are paid for out of an allowance, which grows with time and with work done. A peer that spends more is
sending such frames for their own sake.

The end of a stream costs next to nothing, since a client whose store hangs ends every call when its deadline passes.
What streams would cost that are opened and reset at once is bounded otherwise: by the calls that are still being worked
on (`Connection.hold`).
"""

from __future__ import annotations

from typing import Final

from proxy.protocols.http2_frames import Code, Http2Error

FRAME: Final = 1.0
SMALL: Final = 0.05

_MOST: Final = 1000.0
_PER_SECOND: Final = 50.0
_PER_STREAM: Final = 2.0
_PER_RECEIVED_BYTE: Final = 1 / 2048
_PER_SENT_BYTE: Final = 1 / 16384


class Allowance:
    """Of one connection. (Each earns by itself, since there are several to a call.)"""

    def __init__(self) -> None:
        self._left = _MOST
        self._at: float | None = None

    def at(self, now_seconds: float) -> None:
        """Time has passed."""
        if self._at is not None:
            left = self._left + (now_seconds - self._at) * _PER_SECOND
            self._left = left if left < _MOST else _MOST
        self._at = now_seconds

    def ended(self) -> None:
        """A stream has ended as it should."""
        left = self._left + _PER_STREAM
        self._left = left if left < _MOST else _MOST

    def received(self, size_bytes: int) -> None:
        left = self._left + size_bytes * _PER_RECEIVED_BYTE
        self._left = left if left < _MOST else _MOST

    def answered(self, size_bytes: int) -> None:
        """As `received` and `ended`."""
        left = self._left + (size_bytes * _PER_RECEIVED_BYTE + _PER_STREAM)
        self._left = left if left < _MOST else _MOST

    def sent(self, size_bytes: int) -> None:
        left = self._left + size_bytes * _PER_SENT_BYTE
        self._left = left if left < _MOST else _MOST

    def spend(self, cost: float) -> None:
        """Raises Http2Error if there is nothing left."""
        self._left -= cost
        if self._left < 0:
            raise Http2Error(Code.ENHANCE_YOUR_CALM, "too many frames that bring nothing")
