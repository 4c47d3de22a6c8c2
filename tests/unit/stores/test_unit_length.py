"""Vectors at unit length: each as if it were alone, and once is enough."""

from __future__ import annotations

import numpy as np
import pytest

from proxy.stores.memory_collection import units
from tests.support.contract_points import floats


@pytest.mark.parametrize("dimensions", [1, 2, 3, 8, 100, 768, 4096, 16384])
def test_each_is_as_it_would_be_alone_and_stays_so(dimensions: int) -> None:
    random = np.random.default_rng(dimensions)
    rows = random.standard_normal((16, dimensions)) * 10.0 ** random.integers(0, 4, (16, 1))
    vectors = [row.astype("<f4").tobytes() for row in rows]
    together = units(vectors)
    assert together == [units([vector])[0] for vector in vectors]
    assert units(together) == together
    lengths = np.linalg.norm(np.frombuffer(b"".join(together), "<f4").reshape(16, -1).astype(np.float64), axis=1)
    assert np.abs(lengths - 1.0).max() < 1e-6


def test_those_without_length_or_of_length_one_stay() -> None:
    kept = [floats(0.0, 0.0), floats(0.6, 0.8), floats(1e-5, 0.0), floats(0.0, -1.0)]
    assert units([*kept, floats(3.0, 4.0)]) == [*kept, floats(0.6, 0.8)]
    assert units([]) == []
