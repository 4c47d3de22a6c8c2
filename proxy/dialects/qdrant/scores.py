"""Scores: Qdrant shows similarities (cosine, dot) as they are, distances (Euclid, Manhattan) as positive numbers.

In the model higher is always better, so a distance is negated.

A threshold is strict on the server: a similarity must be above it, a distance below it (Distance::check_threshold in
lib/segment/src/types.rs). In the model a hit scores at least the threshold. Scores are 32-bit floats, so "above x" is
"at least the next float after x", which is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proxy.model import Metric


def model_score(metric: Metric, number: float) -> float:
    return _turned(metric, number)


def vendor_scores(metric: Metric, scores: Sequence[float]) -> Sequence[float]:
    return [0.0 - score for score in scores] if _is_distance(metric) else scores


def model_threshold(metric: Metric, number: float) -> float:
    """`score_threshold` of a request as the least score of a hit."""
    return float(np.nextafter(np.float32(_turned(metric, number)), np.float32(np.inf)))


def vendor_threshold(metric: Metric, least: float) -> float:
    """The least score of a hit as `score_threshold` of a request to a Qdrant server or engine."""
    return _turned(metric, float(np.nextafter(np.float32(least), np.float32(-np.inf))))


def _turned(metric: Metric, number: float) -> float:
    """0 - x and not -x: a distance of zero must not be shown as -0.0."""
    return 0.0 - number if _is_distance(metric) else number


def _is_distance(metric: Metric) -> bool:
    return metric is Metric.EUCLID or metric is Metric.MANHATTAN
