"""Chance that stays: a value's place in [0, 1), the same in every process and version.

The place is the first 8 bytes of BLAKE2b over the salt and the value, in 10,000 steps. A share of p
percent takes the places below p/100, so a larger share holds every smaller one. Different salts give
places that have nothing to do with each other.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

BUCKETS: Final = 10_000


def place(salt: str, value: str) -> float:
    """Where `value` falls among what shares `salt`: one of 10,000 places in [0, 1)."""
    digest = blake2b(f"{salt}\0{value}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS / BUCKETS


def within(place_or_draw: float, percent: float) -> bool:
    """Whether a share of `percent` takes this place."""
    return place_or_draw < percent / 100
