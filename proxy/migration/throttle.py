"""How fast a job may go: a fixed bound on requests, and a step back when either store gets slower. Pure; no clock."""

from __future__ import annotations

from dataclasses import dataclass

_SLOWER = 2.0  # a page this many times slower than the quickest one seen is a sign of load
_FASTEST_FORGETS = 1.01  # the quickest page is forgotten slowly, so that a change of load is noticed
_MAX_PAUSE_SECONDS = 5.0
_MAX_PAUSE_PAGES = 4.0  # a job always works a fifth of the time: a store may be slow for other reasons, and stay so


@dataclass(slots=True)
class Throttle:
    """`pause_seconds` after each page: grows by half when pages get slow, to four times the page at most; shrinks when
    they are quick again."""

    requests_per_second: float | None = None
    target_page_seconds: float | None = None  # slower than this is slow, whatever was seen before
    pause_seconds: float = 0.0
    _fastest_seconds: float = 0.0

    def after_page(self, page_seconds: float) -> float:
        """Seconds to wait before the next page, given how long this one took."""
        slow_seconds = self.target_page_seconds or _SLOWER * max(self._fastest_seconds, 0.005)
        known = self._fastest_seconds > 0
        if known and page_seconds > slow_seconds:
            pause_seconds = max(1.5 * self.pause_seconds, 0.1 * page_seconds)
            self.pause_seconds = min(_MAX_PAUSE_SECONDS, _MAX_PAUSE_PAGES * page_seconds, pause_seconds)
        else:
            self.pause_seconds = 0.0 if self.pause_seconds < 0.001 else 0.5 * self.pause_seconds
        self._fastest_seconds = min(self._fastest_seconds * _FASTEST_FORGETS, page_seconds) if known else page_seconds
        spacing = 1.0 / self.requests_per_second - page_seconds if self.requests_per_second else 0.0
        return max(self.pause_seconds, spacing, 0.0)
