"""The same done to many keys, without a step of the interpreter for each: a write may name thousands.

Each function is the loop that its docstring says, in the words of the built-in types.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import repeat
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def assign(mapping: dict[K, V], keys: Iterable[K], value: V) -> None:
    """`mapping[key] = value` for each: the same object for all, so one that nobody changes."""
    mapping.update(dict.fromkeys(keys, value))


def remove(mapping: dict[K, Any], keys: Iterable[K]) -> None:
    """`mapping.pop(key, None)` for each."""
    deque(map(mapping.pop, keys, repeat(None)), maxlen=0)


def pop_each(mapping: dict[K, V], keys: tuple[K, ...]) -> dict[K, V | None]:
    """What each key had, in the order of `keys`, which has none twice; the mapping is without them afterwards."""
    return dict(zip(keys, map(mapping.pop, keys, repeat(None)), strict=True))


def has_none_of(mapping: dict[K, Any], keys: Iterable[K]) -> bool:
    return not mapping or mapping.keys().isdisjoint(keys)
