"""The table, the page that Prometheus reads, and the page that people read say the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry.exposition import Exposition
from proxy.telemetry.instruments import Counter, Gauge, Histogram
from proxy.telemetry.metrics import Metrics
from tests.support.metrics_page import page

ROOT = Path(__file__).parents[3]


def touch_all(metrics: Metrics) -> None:
    """Give every instrument one series, so that it is exposed."""
    for instrument in metrics.instruments:
        labels = instrument.spec.labels
        match instrument:
            case Counter():
                instrument.add(*labels)
            case Gauge():
                instrument.set(1.0, *labels)
            case Histogram():
                instrument.observe(0.3, *labels)


def exposed(metrics: Metrics) -> dict[str, tuple[str, set[str]]]:
    """name -> (kind, label names), from the page."""
    exposition = Exposition(metrics)
    families = list(text_string_to_metric_families(exposition.page().decode()))
    exposition.close()
    found = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    return found


def test_every_line_of_the_table_is_exposed_under_its_name_with_its_labels() -> None:
    metrics = Metrics()
    touch_all(metrics)
    found = exposed(metrics)
    for spec in metrics.table:
        assert found[spec.exposed] == (spec.kind, set(spec.labels))


def test_nothing_is_exposed_that_is_not_in_the_table() -> None:
    metrics = Metrics()
    touch_all(metrics)
    ours = {name for name in exposed(metrics) if not name.startswith("process_")}
    assert ours == {spec.exposed for spec in metrics.table}


def test_values_reach_the_page() -> None:
    metrics = Metrics()
    metrics.reads.add("docs", "secondary", "weight", amount=3)
    metrics.keys.watch(lambda: [(("docs", "dirty"), 12.0)])
    metrics.request_seconds.observe(0.003, "search", "client")
    text = Exposition(metrics).page().decode()
    assert 'crossfade_reads_total{reason="weight",route="docs",store="secondary"} 3.0' in text
    assert 'crossfade_keys{route="docs",state="dirty"} 12.0' in text
    assert 'crossfade_request_duration_seconds_bucket{le="0.002",operation="search",side="client"} 0.0' in text
    assert 'crossfade_request_duration_seconds_bucket{le="0.005",operation="search",side="client"} 1.0' in text
    assert 'crossfade_request_duration_seconds_sum{operation="search",side="client"} 0.003' in text


def test_an_idle_process_shows_its_version() -> None:
    assert "crossfade_build_info{version=" in Exposition(Metrics()).page().decode()


def test_two_in_one_process_do_not_mix() -> None:
    first, second = Metrics(), Metrics()
    first.writes.add("docs", "upsert", "accepted")
    page_of_first, page_of_second = Exposition(first).page(), Exposition(second).page()
    assert b"crossfade_writes_total{" in page_of_first
    assert b"crossfade_writes_total{" not in page_of_second


def test_names_are_unique_and_described() -> None:
    table = Metrics().table
    assert len({spec.exposed for spec in table}) == len(table)
    assert all(spec.description and spec.name.startswith("crossfade_") for spec in table)


def test_docs_metrics_md_is_the_table() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == page(), "run: python -m tests.support.metrics_page > docs/metrics.md"


@pytest.mark.parametrize("heavy", ["opentelemetry", "prometheus_client", "aiohttp", "grpc"])
def test_the_table_alone_imports_nothing_heavy(heavy: str) -> None:
    code = f"import proxy.telemetry.metrics, sys; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
