"""How many requests a store is asked at once: as many as it answers without getting slower (AIMD).

What is usual is learned for each kind of request: it falls quickly and rises slowly. An answer that takes several
times as long, while at least half of the limit is in use, takes a tenth off the limit, at most once in the time that is
usual; every other answer under such use adds to it. So nothing changes for an application that asks little at a time,
however slow a single answer is, and a store that is being overrun is relieved at once instead of after its time-outs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from proxy.clock import Clock
from proxy.errors import Overloaded

_FLOOR: Final = 32
_CEILING: Final = 1024
_SLOW_TIMES: Final = 4.0
_SLOW_SECONDS = 0.05  # more than usual, at least
_FALLS: Final = 0.1  # of the difference, by an answer
_RISES_A_SECOND: Final = 0.02  # of itself: what has become slow for good is usual after a minute or two
_KINDS: Final = 64
T = TypeVar("T")


@dataclass(slots=True)
class StoreLimit:
    """Of one store. `name`: of the store, for who is refused."""

    name: str
    clock: Clock
    limit: float = _CEILING
    in_flight: int = 0
    _usual: dict[str, tuple[float, float]] = field(default_factory=dict)  # seconds, and when that was learned
    _cut_at: float = float("-inf")

    async def keep(self, kind: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, if there is room for it; `kind` as of `leave`. Raises Overloaded, and what `ask` raises."""
        began = self.enter()
        answered = False
        try:
            answer = await ask()
            answered = True
        finally:
            self.leave(kind, began, answered=answered)
        return answer

    def enter(self) -> float:
        """When it was, for `leave`. Raises Overloaded: nothing was sent."""
        if self.in_flight >= self.limit:
            raise Overloaded(
                f"the store {self.name} is asked {self.in_flight} requests at once, and gets slower with more; "
                "try again in a moment"
            )
        self.in_flight += 1
        return self.clock.now()

    def leave(self, kind: str, began: float, *, answered: bool) -> None:
        """`kind`: a short stable word for requests that take about as long. Not `answered`: nothing is learned, but
        that it was slow if it was."""
        used = self.in_flight * 2 >= self.limit
        self.in_flight -= 1
        now = self.clock.now()
        usual = self._learn(kind, now - began, now) if answered else self._usual.get(kind, (0.0, now))[0]
        if not used:
            return
        if now - began > usual * _SLOW_TIMES + _SLOW_SECONDS:
            if now - self._cut_at > max(usual, _SLOW_SECONDS):
                self._cut_at = now
                self.limit = max(_FLOOR, min(self.limit, self.in_flight + 1) * 0.9)
        elif answered:
            self.limit = min(_CEILING, self.limit + 1 / self.limit)

    def give_up(self) -> None:
        """Instead of `leave`: the client is gone."""
        self.in_flight -= 1

    def _learn(self, kind: str, seconds: float, now: float) -> float:
        known = self._usual.get(kind)
        if known is None:
            if len(self._usual) >= _KINDS:
                del self._usual[next(iter(self._usual))]
            usual = seconds
        else:
            usual, at = known
            risen = usual * (1 + _RISES_A_SECOND * (now - at))
            usual = usual + (seconds - usual) * _FALLS if seconds < usual else min(seconds, risen)
        self._usual[kind] = usual, now
        return usual
