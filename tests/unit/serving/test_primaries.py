"""What is certain of a write that the target carried out as the primary."""

from __future__ import annotations

import json

import pytest

from proxy.clock import SystemClock
from proxy.dialects import Judgement, Outcome
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.fronts.qdrant import QdrantFront
from proxy.model import CollectionSpec, Metric, VectorSpec
from proxy.serving.primaries import translated
from proxy.stores.memory import MemoryStore
from proxy.wire import Request

DIM = 400  # so that the body is large, and its vectors are left unread


@pytest.mark.parametrize(
    ("vectors", "waits", "status", "outcome"),
    [
        ([DIM, DIM], False, 200, Outcome.ACCEPTED),
        ([DIM, DIM], True, 200, Outcome.ACCEPTED),
        ([DIM, DIM - 1, DIM], False, 200, Outcome.FAILED),  # acknowledged, as a server does, and applied in part
        ([DIM, DIM - 1, DIM], True, 400, Outcome.FAILED),
        ([DIM, 0, DIM], False, 400, Outcome.UNTOUCHED),  # no list of numbers
    ],
)
async def test_only_what_was_applied_is_accepted(
    vectors: list[int], waits: bool, status: int, outcome: Outcome
) -> None:
    store = MemoryStore()
    await store.create("c", CollectionSpec({"": VectorSpec(DIM, Metric.DOT)}))
    front = QdrantFront(store, lambda _, __: None)
    points = [{"id": number, "vector": [0.25] * size or ["no"]} for number, size in enumerate(vectors)]
    body = json.dumps({"points": points}).replace('["no"]', "[1,,2]").encode()
    query = f"wait={str(waits).lower()}"
    dialect = QdrantRest()
    call = dialect.decode(Request("http", "PUT", "/collections/c/points", (), body, query))
    primary = translated(front, dialect, call, SystemClock())
    response = await primary.send()
    judgement: Judgement = primary.judge(response)
    assert (response.status, judgement.outcome) == (status, outcome), response
    assert (len(await store.fetch("c", list(range(9)))) == len(vectors)) is (outcome is Outcome.ACCEPTED)
