"""What a copy to another vendor has to read, read in the process beside the proxy's."""

from __future__ import annotations

from collections import Counter

import httpx
import numpy as np
from qdrant_client import models

from examples.engines import poll
from tests.support.migration import PATIENCE_SECONDS, Migrations

DIM, POINTS = 768, 40


def body(seed: int) -> dict[str, object]:
    vectors = np.random.default_rng(seed).standard_normal((POINTS, DIM)).tolist()
    return {"points": [{"id": number, "vector": vector} for number, vector in enumerate(vectors)]}


def test_vectors_of_large_upserts_are_read_beside_and_both_stores_hold_the_same(migrations: Migrations) -> None:
    migration = migrations(as_process=True)
    name = migration.name("c")
    config = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    migration.direct().create_collection(name, vectors_config=config)
    migration.backfill()
    with httpx.Client(base_url=migration.url, timeout=PATIENCE_SECONDS) as http:

        def upsert(seed: int) -> Counter[tuple[str, ...]]:
            http.put(f"/collections/{name}/points?wait=true", json=body(seed)).raise_for_status()
            migration.rest()
            return migration.counts("offloaded")

        assert upsert(0) == {("here",): 1}  # and the process begins
        assert poll(lambda: upsert(1)[("beside",)] > 0, PATIENCE_SECONDS)
        for seed in range(2, 6):
            here = migration.counts("offloaded")[("here",)]
            assert upsert(seed)[("here",)] == here
            assert migration.verify()["different"] == 0
