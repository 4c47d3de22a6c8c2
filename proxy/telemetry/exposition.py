"""What the instruments hold, as OpenTelemetry data on a Prometheus page.

Counters and gauges are observable instruments of the SDK: it asks for their values at a scrape.
OpenTelemetry has no observable histogram, so the reader adds ours to what the SDK collected; the data
classes and `_receive_metrics` are the SDK's documented ways to do that. Importing this module costs a
tenth of a second, so only the app does, at its start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    Metric,
    MetricsData,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from proxy.release import release
from proxy.telemetry.instruments import Counter, Gauge, Histogram, Spec, Spread
from proxy.telemetry.metrics import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """The page of one `Metrics`, with its own registry and provider: several can live in one process."""

    def __init__(self, metrics: Metrics) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # CPU, resident memory and open files of this process
        histograms = [each for each in metrics.instruments if isinstance(each, Histogram)]
        self._reader = _Reader(histograms, self._registry)
        self._provider = MeterProvider(
            metric_readers=[self._reader], exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )
        metrics.build.set(1.0, release())  # so that there is always something to collect
        meter = self._provider.get_meter("crossfade")
        for instrument in metrics.instruments:
            _observe(meter, instrument)

    def page(self) -> bytes:
        """All metrics, now, in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def close(self) -> None:
        self._provider.shutdown()


class _Reader(PrometheusMetricReader):
    """Joins the program's histograms to what the SDK collected."""

    def __init__(self, histograms: list[Histogram], registry: CollectorRegistry) -> None:
        super().__init__(disable_target_info=True, scope_info_enabled=False, registry=registry)
        self._histograms = histograms
        self._started_nanoseconds = time.time_ns()

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        resource = metrics_data.resource_metrics[0]
        scope = resource.scope_metrics[0]
        scope = replace(scope, metrics=[*scope.metrics, *map(self._metric, self._histograms)])
        resource = replace(resource, scope_metrics=[scope, *resource.scope_metrics[1:]])
        data = MetricsData([resource, *metrics_data.resource_metrics[1:]])
        super()._receive_metrics(data, timeout_millis, **kwargs)

    def _metric(self, histogram: Histogram) -> Metric:
        spec = histogram.spec
        points = [self._point(spec, labels, spread) for labels, spread in histogram.read()]
        return Metric(spec.name, spec.description, spec.unit, HistogramData(points, AggregationTemporality.CUMULATIVE))

    def _point(self, spec: Spec, labels: tuple[str, ...], spread: Spread) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=dict(zip(spec.labels, labels, strict=True)),
            start_time_unix_nano=self._started_nanoseconds,
            time_unix_nano=time.time_ns(),
            count=sum(spread.counts),
            sum=spread.sum,
            bucket_counts=spread.counts,
            explicit_bounds=spec.bounds,
            min=0.0,  # not kept, and not shown on a Prometheus page
            max=0.0,
        )


def merged(pages: Mapping[str, str]) -> bytes:
    """One page out of those of several processes, whose names every series is labelled with (`worker`)."""
    families: dict[str, Family] = {}
    for worker, page in pages.items():
        for family in text_string_to_metric_families(page):
            known = families.setdefault(
                family.name, Family(family.name, family.documentation, family.type, family.unit)
            )
            known.samples += [sample._replace(labels={**sample.labels, "worker": worker}) for sample in family.samples]
    registry = CollectorRegistry()
    registry.register(_Families(list(families.values())))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Sequence[Family]:
        return self._families


def _observe(meter: Meter, instrument: Counter | Gauge | Histogram) -> None:
    spec = instrument.spec
    match instrument:
        case Counter():
            meter.create_observable_counter(spec.name, [_readings(instrument)], spec.unit, spec.description)
        case Gauge():
            meter.create_observable_gauge(spec.name, [_readings(instrument)], spec.unit, spec.description)
        case Histogram():
            pass  # _Reader adds them
        case _:
            assert_never(instrument)


def _readings(instrument: Counter | Gauge) -> Callable[[CallbackOptions], Iterable[Observation]]:
    names = instrument.spec.labels

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, dict(zip(names, labels, strict=True))) for labels, value in instrument.read()]

    return observe
