"""Hits as bytes: the same answer as with a message for each value."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.dialects.qdrant.grpc_hits import batch_bytes, hits_bytes
from proxy.dialects.qdrant.ids import fill_id
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payloads import fill_payload
from proxy.dialects.qdrant.vectors import fill_vectors
from proxy.model import EVERYTHING, IDS_ONLY, Hit, Hits, Json, Metric, Point, Selection

VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([-(2**63) - 1, -(2**63), -1, 2**63 - 1, 2**63])
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
IDS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 127, 128, 2**63, 2**64 - 1]) | st.uuids()
HITS = st.lists(
    st.builds(
        Hit, st.builds(Point, IDS, st.just({}), st.dictionaries(st.text(), VALUES, max_size=4)), st.floats(width=32)
    ),
    max_size=4,
)
FULL = Point(UUID(int=7), {"": np.array([1.0, -2.0], "<f4").tobytes()}, {"a": 1, "b": [True, None]})


def message_of(hits: Hits, selection: Selection) -> Any:
    """Message by message."""
    answer = proto.QueryResponse()
    for hit in hits.hits:
        score = hit.score if hits.metric in (Metric.COSINE, Metric.DOT) else 0.0 - hit.score
        scored = answer.result.add(score=score)
        fill_id(scored.id, hit.point.id)
        if selection.payload:
            fill_payload(scored.payload, hit.point.payload)
        if selection.vectors:
            fill_vectors(scored.vectors, hit.point.vectors)
    return answer


def same(one: Any, other: Any) -> bool:
    """Also where a score is no number."""
    return bool(one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True))


LONG = {name: name * size for name, size in zip("abcdef", (0, 127, 128, 16_383, 16_384, 2**21), strict=True)}


@given(hits=HITS, metric=st.sampled_from(Metric))
@example(hits=[Hit(Point(1, {}, LONG), 0.5)], metric=Metric.DOT)
@example(hits=[Hit(Point(2**64 - 1, {}, {"": 2.0**53, "n": -(2**63)}), 0.0)], metric=Metric.EUCLID)
def test_hits_are_those_that_messages_would_give(hits: list[Hit], metric: Metric) -> None:
    found = Hits(metric, tuple(hits))
    written, expected = hits_bytes(found, Selection()), message_of(found, Selection())
    assert same(proto.QueryResponse.FromString(written), expected)
    assert same(proto.SearchResponse.FromString(written), proto.SearchResponse(result=expected.result))
    both = proto.QueryBatchResponse.FromString(batch_bytes(written) + batch_bytes(b""))
    one, other = both.result
    assert same(one, proto.BatchResult(result=expected.result))
    assert not other.result


@pytest.mark.parametrize("selection", [EVERYTHING, IDS_ONLY, Selection(payload=False, vectors=True)])
def test_of_a_point_only_what_was_selected_is_told(selection: Selection) -> None:
    found = Hits(Metric.COSINE, (Hit(FULL, 0.5), Hit(Point(3), 0.25)))
    assert same(proto.QueryResponse.FromString(hits_bytes(found, selection)), message_of(found, selection))


def test_a_score_that_is_too_large_for_its_32_bits_is_infinite() -> None:
    found = Hits(Metric.DOT, (Hit(Point(1), 1e300), Hit(Point(2), 0.5), Hit(Point(3), -1e300)))
    answer = proto.QueryResponse.FromString(hits_bytes(found, IDS_ONLY))
    assert [hit.score for hit in answer.result] == [math.inf, 0.5, -math.inf]
