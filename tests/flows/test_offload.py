"""What a copy to another vendor has to read, read in the process beside the proxy's."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial

import httpx
import numpy as np
import pytest
from qdrant_client import models

from examples.engines import poll
from tests.support.migration import PATIENCE_SECONDS, Migrations

DIM, POINTS = 768, 40


NAMES = {"plain": "", "named": "text"}


def body(seed: int, name: str) -> dict[str, object]:
    vectors = np.random.default_rng(seed).standard_normal((POINTS, DIM)).tolist()
    points = [
        {"id": number, "vector": {name: vector} if name else vector, "payload": {"seed": seed}}
        for number, vector in enumerate(vectors)
    ]
    return {"points": points}


@pytest.mark.parametrize("form", NAMES)
def test_vectors_of_large_upserts_are_read_beside_and_both_stores_hold_the_same(
    migrations: Migrations, form: str
) -> None:
    """Plain ones when they are copied, of which nothing need be known before; others when they come."""
    migration = migrations(as_process=True, change=lambda config: config.update(workers=1))
    name = migration.name("c")
    config = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    named = {NAMES[form]: config} if NAMES[form] else config
    migration.direct().create_collection(name, vectors_config=named)
    migration.backfill()
    with httpx.Client(base_url=migration.url, timeout=PATIENCE_SECONDS) as http:

        def upsert(seed: int) -> Counter[tuple[str, ...]]:
            http.put(f"/collections/{name}/points?wait=true", json=body(seed, NAMES[form])).raise_for_status()
            migration.rest()
            return migration.counts("offloaded")

        assert upsert(0) == {("here",): 1}  # and the process begins
        assert poll(lambda: upsert(1)[("beside",)] > 0, PATIENCE_SECONDS)
        for seed in range(2, 6):
            here = migration.counts("offloaded")[("here",)]
            assert upsert(seed)[("here",)] == here
            assert migration.verify()["different"] == 0


def test_what_is_refused_beside_is_refused_to_the_client(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=lambda config: config.update(workers=1))
    name = migration.name("c")
    config = {"text": models.VectorParams(size=DIM, distance=models.Distance.COSINE)}
    migration.direct().create_collection(name, vectors_config=config)
    right = json.dumps(body(1, "text")).encode()
    wrong = right.replace(b'{"text": [', b'{"text": [NaN, ', 1)
    with httpx.Client(base_url=migration.url, timeout=PATIENCE_SECONDS) as http:
        put = partial(http.put, f"/collections/{name}/points?wait=true", headers={"content-type": "application/json"})

        def beside() -> int:
            assert put(content=right).status_code == 200
            return migration.counts("offloaded")[("beside",)]

        assert poll(lambda: beside() > 0, PATIENCE_SECONDS)
        before = migration.counts("offloaded")[("beside",)]
        answer = put(content=wrong)
        assert answer.status_code == 400
        assert "NaN" in answer.json()["status"]["error"]
        assert migration.counts("offloaded")[("beside",)] == before + 1
