"""Whether the secondary is close enough behind to be read: a gate with hysteresis.

It closes above a bound of the route and opens again when both measures are below half of theirs, so that
reads do not jump to and fro around the bound. It begins closed: nobody reads what was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.config import Reads


@dataclass(frozen=True, slots=True)
class LagGate:
    open: bool = False

    def after(self, bounds: Reads, lag_keys: int, lag_seconds: float) -> LagGate:
        """The gate after a measurement: keys that are behind, and the age of the oldest."""
        if lag_keys > bounds.max_lag_keys or lag_seconds > bounds.max_lag_seconds:
            return _CLOSED
        if lag_keys <= bounds.max_lag_keys / 2 and lag_seconds <= bounds.max_lag_seconds / 2:
            return _OPEN
        return self


_OPEN = LagGate(open=True)
_CLOSED = LagGate(open=False)
