"""bench/measurements/peers: what is set beside what, which way round, and what it must reach."""

from __future__ import annotations

from typing import Any

import pytest

from bench.figures import Load
from bench.load import Answer
from bench.measurements.peers import (
    dual_forward,
    durable,
    encrypted,
    grpc_searches,
    http_searches,
    idle_connections,
    one_in_flight,
    tails,
    translation,
    two_workers,
    upserts,
)
from bench.measurements.peers.arena import DIRECT, ENVOY, OURS, Arm, copied_in
from bench.measurements.peers.upserts import Written
from bench.peers.installed import NGINX, SYSTEM_NGINX
from bench.processes import BenchError
from bench.table import document

ROUNDS = 3
KEYS = {"work", "against", "ratio", "low", "high", "must", "goal", "lower_is_better"}


def loads(cpu_us: float, p99_ms: float = 1.0) -> list[Load]:
    return [Load(1000.0, 0.0005, p99_ms / 1e3, proxy_cpu_seconds=cpu_us / 1e6)] * ROUNDS


def answers(p99_ms: float, unanswered: int = 0) -> list[Answer]:
    return [Answer(100 - unanswered, 1.0, [p99_ms / 1e3] * 100, unanswered=unanswered)] * ROUNDS


# Ours takes 40 us a request, nginx 20, Envoy 50.
HTTP = {DIRECT: loads(0.0), OURS: loads(40.0, 6.0), ENVOY: loads(50.0, 5.0), NGINX: loads(20.0, 4.0)}


def entries(*rows: Any) -> list[dict[str, Any]]:
    """As --json writes them."""
    found: list[dict[str, Any]] = document(rows, {})["rows"]
    return found


def bounds(entry: dict[str, Any]) -> tuple[float, float, bool]:
    return entry["must"], entry["goal"], entry["lower_is_better"]


def test_capacity_is_ours_over_theirs_by_cpu_time() -> None:
    nginx, envoy = entries(*http_searches.rows(HTTP, "wrk, 64 connections"))
    assert (nginx["against"], nginx["ratio"], bounds(nginx)) == ("nginx", pytest.approx(0.5), (1.0, 1.5, False))
    assert (envoy["against"], envoy["ratio"], bounds(envoy)) == ("Envoy", pytest.approx(1.25), (1.3, 2.5, False))
    assert (nginx["reached"], envoy["reached"]) == ("missed", "missed")
    assert (envoy["value"], envoy["reference"]) == (pytest.approx(25_000), pytest.approx(20_000))
    assert envoy["details"]["busy"] == pytest.approx(0.04)
    assert envoy["details"]["busy_there"] == pytest.approx(0.05)
    assert "wrk, 64 connections" in envoy["work"]


def test_searches_with_more_to_say_have_no_bounds() -> None:
    for entry in entries(*http_searches.rows(HTTP, "wrk", ", traced")):
        assert ", traced; wrk" in entry["work"]
        assert entry.get("must") is None


def test_beside_the_system_s_nginx_nothing_has_bounds() -> None:
    found = HTTP | {SYSTEM_NGINX: loads(10.0, 3.0)}
    stubs = Stubs((0, 0, 0), *(told for n in (100, 200, 300) for told in 2 * [(n, n, 99)]), (400, 400, 99))
    for name in (OURS, ENVOY, NGINX, SYSTEM_NGINX):
        stubs.shares.counted(Arm(name, "", "", None), lambda: loads(1.0)[0])
    two_stores = dual_forward.rows("search, {}; wrk", found, dual_forward.HTTP_BOUNDS, stubs.shares)
    for made in (http_searches.rows(found, "wrk"), tails.crowded_rows(found, "wrk"), two_stores):
        [entry] = [entry for entry in entries(*made) if SYSTEM_NGINX in entry["against"]]
        assert entry.get("must") is None


def test_calls_of_real_clients_beside_envoy() -> None:
    [entry] = entries(grpc_searches.row_of(HTTP, "4 threads of qdrant-client"))
    assert (entry["against"], entry["ratio"], bounds(entry)) == ("Envoy", pytest.approx(1.25), (0.6, 1.2, False))
    assert entry["reached"] == "goal"


def test_of_a_crowd_the_slowest_count() -> None:
    [entry] = entries(*tails.crowded_rows(HTTP, "wrk, 256 connections"))
    assert (entry["against"], entry["ratio"], bounds(entry)) == ("nginx", pytest.approx(1.5), (2.0, 1.3, True))
    assert (entry["unit"], entry["value"], entry["reached"]) == ("ms", pytest.approx(6.0), "must")


class TestAtAFixedRate:
    def test_only_what_is_added_to_the_direct_way_counts(self) -> None:
        found = {DIRECT: answers(1.0), OURS: answers(2.5), ENVOY: answers(4.0)}
        [entry] = entries(tails.steady_row(found, rate=7000))
        assert (entry["against"], entry["ratio"], bounds(entry)) == ("Envoy", pytest.approx(0.5), (1.0, 0.5, True))
        assert (entry["value"], entry["reference"]) == (pytest.approx(1.5), pytest.approx(3.0))
        assert entry["details"]["requests_per_second"] == 7000
        assert (entry["rounds"], entry["details"]["rounds_not_counted"]) == (3, 0)

    def test_a_round_in_which_envoy_added_nothing_does_not_count(self) -> None:
        envoys = [*answers(4.0)[:2], *answers(1.0)[:1]]
        row = tails.steady_row({DIRECT: answers(1.0), OURS: answers(2.5), ENVOY: envoys}, rate=7000)
        assert (row.rounds, row.details["rounds_not_counted"]) == (2, 1)

    def test_without_any_round_there_is_no_figure(self) -> None:
        with pytest.raises(BenchError, match="quieter machine"):
            tails.steady_row({DIRECT: answers(2.0), OURS: answers(2.5), ENVOY: answers(1.0)}, rate=7000)

    def test_it_is_told_how_many_still_waited(self) -> None:
        found = {DIRECT: answers(1.0), OURS: answers(900.0, unanswered=70), ENVOY: answers(4.0)}
        details = tails.steady_row(found, rate=7000).details
        assert (details["unanswered"], details["unanswered_there"]) == (0.7, 0.0)


def test_bytes_per_cpu_second_beside_envoy_that_passes_them_on() -> None:
    found = {
        OURS: [Written(80e6, 200.0, catch_up_seconds=0.2, copied_share=0.9)] * ROUNDS,
        ENVOY: [Written(100e6, 500.0)] * ROUNDS,
    }
    grpc, rest = entries(upserts.row_of("grpc", found), upserts.row_of("http", found))
    assert (grpc["against"], grpc["ratio"], bounds(grpc)) == ("Envoy, passed through", 0.8, (0.7, 1.0, False))
    assert (rest["work"][:4], rest["ratio"], bounds(rest)) == ("REST", 0.8, (0.3, 0.5, False))
    assert (grpc["value"], grpc["unit"]) == (80.0, "MB/s")
    assert grpc["details"]["copied_share"] == 0.9


def test_writes_a_second_beside_an_application_that_writes_twice() -> None:
    found = {"through ours": [Load(160.0, 0.006, 0.007)] * ROUNDS, "itself": [Load(100.0, 0.010, 0.011)] * ROUNDS}
    [entry] = entries(one_in_flight.row_of(found))
    assert (entry["ratio"], bounds(entry), entry["reached"]) == (1.6, (1.5, 1.9, False), "must")


def test_a_journalled_write_beside_one_sync() -> None:
    found = {
        "through ours": [Load(1000.0, 0.0005, 0.001)] * ROUNDS,
        "journal": [Load(2000.0, 0.0003, 0.001)] * ROUNDS,
        "bare": [Load(5000.0, 0.0002, 0.0004)] * ROUNDS,
    }
    write, record = entries(*durable.rows_of(found))
    assert (write["ratio"], bounds(write), write["reached"]) == (pytest.approx(2.5), (3.0, 2.0, True), "must")
    assert (record["ratio"], record.get("must")) == (pytest.approx(1.5), None)


def test_with_tls_beside_envoy() -> None:
    found = {OURS: loads(cpu_us=20.0), ENVOY: loads(cpu_us=60.0)}
    [search] = entries(encrypted.search_row(found, "wrk"))
    assert (search["ratio"], bounds(search), search["reached"]) == (pytest.approx(3.0), (1.3, 2.5, False), "goal")
    held = {OURS: [(0, 999 * 30 * 1024)] * ROUNDS, ENVOY: [(0, 999 * 20 * 1024)] * ROUNDS}
    [idle] = entries(encrypted.idle_row(held, 1000))
    assert (idle["ratio"], bounds(idle), idle["reached"]) == (1.5, (1.5, 1.0, True), "must")


def test_what_a_request_costs_with_two_workers_and_how_evenly_they_share() -> None:
    found = {"one worker": loads(cpu_us=30.0), "two workers": loads(cpu_us=31.5)}
    [entry] = entries(two_workers.row_of(found, "wrk", two_workers.least_share({"0": 450.0, "1": 550.0})))
    assert (entry["ratio"], bounds(entry), entry["reached"]) == (pytest.approx(1.05), (1.1, 1.05, True), "goal")
    assert entry["details"]["least percent of a worker"] == 45.0


def test_cpu_time_of_translation_beside_that_of_the_clients() -> None:
    found = {"ours": [0.0003] * ROUNDS, "clients": [0.001] * ROUNDS}
    rows = translation.search_row(found, "grpcio"), translation.upsert_row(found), translation.mirrored_row(found)
    search, upsert, mirrored = entries(*rows)
    assert (search["ratio"], bounds(search), search["reached"]) == (pytest.approx(0.3), (0.5, 0.3, True), "goal")
    assert (upsert["ratio"], bounds(upsert), upsert["reached"]) == (pytest.approx(0.3), (0.33, 0.15, True), "must")
    assert (mirrored["ratio"], mirrored["must"], mirrored["goal"]) == (pytest.approx(0.3), None, None)
    assert (search["value"], search["unit"]) == (pytest.approx(0.3), "ms")


def test_memory_a_connection_is_the_growth_over_the_first() -> None:
    pairs = [(50_000_000, 50_000_000 + 999 * 6 * 1024)] * ROUNDS
    [entry] = entries(idle_connections.row_of("grpc", pairs, connections=1000))
    assert (entry["against"], entry["ratio"], bounds(entry)) == ("-", 6.0, (8.0, 4.0, True))
    assert (entry["value"], entry["unit"], entry["reached"]) == (6.0, "KiB", "must")


def test_every_row_has_what_a_later_bound_needs() -> None:
    rows = [*http_searches.rows(HTTP, "wrk"), *tails.crowded_rows(HTTP, "wrk"), grpc_searches.row_of(HTTP, "grpcio")]
    assert all(entry.keys() >= KEYS and entry["must"] is not None for entry in entries(*rows))


def test_copied_points_are_those_that_were_copied() -> None:
    metrics = """\
# TYPE crossfade_reconcile_points_total counter
crossfade_reconcile_points_total{action="copied",route="written"} 1200.0
crossfade_reconcile_points_total{action="parked",route="written"} 7.0
crossfade_reconcile_points_total{action="copied",route="searched"} 34.0
crossfade_reconcile_batches_total{outcome="clean",route="written"} 12.0
"""
    assert copied_in(metrics) == 1234
    assert copied_in("") == 0


class Stubs:
    """Two that have been asked so much, and a proxy that has compared so many."""

    def __init__(self, *counts: tuple[int, int, int]) -> None:
        self._counts = list(counts)
        self.shares = dual_forward.Shares(lambda: self._counts.pop(0))


def test_two_stores_are_set_beside_the_mirrors_of_both() -> None:
    stubs = Stubs((0, 0, 0), (100, 100, 99), (100, 100, 99), (200, 199, 99), (200, 199, 99), (300, 298, 99))
    for name in (OURS, ENVOY, NGINX):
        assert stubs.shares.counted(Arm(name, "", "", None), lambda: loads(1.0)[0]) == loads(1.0)[0]
    nginx, envoy = entries(*dual_forward.rows("search, {}; wrk", HTTP, dual_forward.HTTP_BOUNDS, stubs.shares))
    assert (nginx["against"], nginx["ratio"], bounds(nginx)) == (
        "nginx, mirroring",
        pytest.approx(0.5),
        (1.0, 1.5, False),
    )
    assert (envoy["against"], envoy["ratio"], bounds(envoy)) == (
        "Envoy, mirroring",
        pytest.approx(1.25),
        (1.5, 2.5, False),
    )
    assert nginx["details"]["compared_share"] == pytest.approx(0.99)
    assert nginx["details"]["second_store_share_there"] == pytest.approx(0.99)
    [grpc] = entries(*dual_forward.rows("search, {}; grpcio", HTTP, dual_forward.GRPC_BOUNDS, stubs.shares))
    assert (grpc["against"], bounds(grpc)) == ("Envoy, mirroring", (1.0, 1.5, False))


@pytest.mark.parametrize(("name", "after"), [(NGINX, (100, 90, 0)), (OURS, (100, 100, 90)), (ENVOY, (0, 0, 0))])
def test_a_proxy_that_does_not_send_all_to_both_measures_nothing(name: str, after: tuple[int, int, int]) -> None:
    stubs = Stubs((0, 0, 0), after)
    with pytest.raises(BenchError, match=f"{name} (sent|compared)"):
        stubs.shares.counted(Arm(name, "", "", None), lambda: loads(1.0)[0])


def test_what_was_compared_is_read_from_the_metrics() -> None:
    page = """\
# TYPE crossfade_shadow_reads_total counter
crossfade_shadow_reads_total{outcome="compared",route="a"} 7.0
crossfade_shadow_reads_total{outcome="shed",route="a"} 5.0
crossfade_shadow_reads_total{outcome="compared",route="b"} 3.0
"""
    assert dual_forward.compared_in(page) == 10
