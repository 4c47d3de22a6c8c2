"""Whether a figure stays where it is, by thirds of a run: the first fills caches, the other two have to be alike."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

_GROWTH = 1.15
DESCRIPTORS_SLACK = 16  # connections come and go


def third(values: Sequence[float], number: int) -> float:
    """The median of the first (0), second or last (2) third. Raises StatisticsError if there are no values."""
    size = max(1, len(values) // 3)
    return float(median(values[number * size : (number + 1) * size] if number < 2 else values[-size:]))


def growth(figure: str, values: Sequence[float], slack: float = 0.0) -> list[str]:
    """A line if the last third lies more than 15 % and `slack` above the second."""
    before, after = third(values, 1), third(values, 2)
    return [f"{figure} grew from {before:,.0f} to {after:,.0f}"] if after > _GROWTH * before + slack else []
