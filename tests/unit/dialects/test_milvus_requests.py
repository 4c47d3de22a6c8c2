"""Requests to Milvus that are put together from bytes: each says what it was made of, whatever was asked before."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from proxy.dialects.milvus.messages import common, milvus
from proxy.dialects.milvus.requests import STRONG, Place, after, search
from proxy.dialects.milvus.schema import VectorField
from proxy.model import Metric

PLACES = Place("", "docs"), Place("other", "docs"), Place("", "others")
VECTORS = VectorField("vector", 4, Metric.COSINE, "HNSW"), VectorField("far", 300, Metric.EUCLID, "FLAT")
CONDITIONS = "", "id > 5", "id in [" + "7, " * 2000 + "7]"
GUARANTEES = STRONG, after(7), after(2**63 + 1)
OUTPUTS = ["id"], ["id", "$meta"]
PARAMETERS: tuple[dict[str, int], ...] = {}, {"ef": 128}


@pytest.mark.parametrize("time", ["first", "again"])
def test_a_search_says_what_was_asked(time: str) -> None:
    for place, vector, window, condition, output, guarantee, parameters in itertools.product(
        PLACES, VECTORS, (10, 16_000), CONDITIONS, OUTPUTS, GUARANTEES, PARAMETERS
    ):
        numbers = np.arange(vector.size, dtype="<f4").tobytes()
        asked = milvus.SearchRequest.FromString(
            search(place, numbers, vector, window, condition, output, guarantee, parameters)
        )
        group = common.PlaceholderGroup.FromString(asked.placeholder_group)
        (placeholder,) = group.placeholders
        assert (placeholder.tag, placeholder.type, list(placeholder.values)) == ("$0", 101, [numbers])
        assert (asked.db_name, asked.collection_name, asked.nq) == (place.database, place.collection, 1)
        assert (asked.dsl, asked.dsl_type, list(asked.output_fields)) == (condition, 1, output)
        assert (asked.guarantee_timestamp, asked.consistency_level) == (guarantee.timestamp, guarantee.level)
        assert {pair.key: pair.value for pair in asked.search_params} == {
            "anns_field": vector.field,
            "topk": str(window),
            "metric_type": "COSINE" if vector.metric is Metric.COSINE else "L2",
            "params": '{"ef":128}' if parameters else "{}",
            "round_decimal": "-1",
        }
