"""What a dialect must be told to read a score threshold: which metric a collection's vector has."""

from __future__ import annotations

from collections.abc import Callable

from proxy.dialects.qdrant.rest_reads import ScoreOf
from proxy.dialects.qdrant.scores import model_threshold
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.model import Metric

MetricOf = Callable[[str, str], Metric | None]  # (collection as the client named it, vector name) -> its metric


def score_of_collection(metric_of: MetricOf, collection: str) -> ScoreOf:
    """How to read the thresholds of a collection. What it returns raises Undecodable where the metric is not known."""

    def score_of(using: str, number: float) -> float:
        metric = metric_of(collection, using)
        if metric is None:
            raise Undecodable("score threshold of an unknown metric")
        return model_threshold(metric, number)

    return score_of
