"""The parts of the demo, each against the real thing: installed texts and weights, the emulator, the official client.

The whole of it is `make demo`, which checks itself; what is tested here is that it can fail.
"""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from rich.console import Console

from examples.demo.application import COLLECTION, WRITTEN_BY_EACH
from examples.demo.configuration import ROUTE, edit, write_configuration
from examples.demo.corpus import LEAST_CHARACTERS, NEW_TEXTS, Corpus, standard_library
from examples.demo.databases import load
from examples.demo.embed import DIMENSIONS, embed
from examples.demo.latency import Row
from examples.demo.processes import Application, QdrantEmulator
from examples.demo.report import Report
from examples.demo.screen import Screen
from examples.demo.tally import Figures, Latency
from examples.demo.watch import Answers, Seen, Watch, read_metrics
from examples.engines import poll
from proxy.config import parse
from proxy.errors import ConfigError
from proxy.telemetry.exposition import Exposition
from proxy.telemetry.metrics import Metrics
from tests.support.both_stores import assert_equal
from tests.support.migration import Migrations


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return standard_library()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, corpus: Corpus) -> Iterator[QdrantEmulator]:
    """The emulator, loaded as the demo loads it."""
    with QdrantEmulator(tmp_path_factory.mktemp("source")) as emulator:
        load(emulator, corpus, lambda done, total: None)
        yield emulator


# --- texts and vectors ---------------------------------------------------------------------------


def test_the_texts_are_the_standard_library(corpus: Corpus) -> None:
    assert 3_500 <= corpus.loaded == len(corpus.texts) - NEW_TEXTS <= 6_000
    assert len({text.text for text in corpus.texts}) == len(corpus.texts)
    assert [text.id for text in corpus.texts] == list(range(1, len(corpus.texts) + 1))
    assert {text.kind for text in corpus.texts} == {"module", "class", "function", "method"}
    assert min(len(text.text) for text in corpus.texts) >= LEAST_CHARACTERS
    by_name = {(text.module, text.name): text for text in corpus.texts}
    assert by_name["json", "dumps"].text.startswith("Serialize ``obj`` to a JSON formatted ``str``.")
    assert by_name["json", "dumps"].kind == "function"
    assert by_name["smtplib", "SMTP.mail"].kind == "method"


def test_the_vectors_mean_something(corpus: Corpus) -> None:
    assert corpus.vectors.shape == (len(corpus.texts), DIMENSIONS)
    assert corpus.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(corpus.vectors, axis=1), 1, atol=1e-5)
    best = np.argsort(-(corpus.vectors @ embed(["send an email over SMTP"])[0]))[:3]
    assert any("smtp" in f"{corpus.texts[at].module} {corpus.texts[at].name}".lower() for at in best)


def test_vectors_are_those_of_the_package_itself() -> None:
    """Read from its files, but the same numbers as from its own code."""
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from wordllama.inference import WordLlamaInference

    from examples.demo.embed import package_files

    weights, tokenizer = package_files()
    theirs = WordLlamaInference(load_file(weights)["embedding.weight"], Tokenizer.from_file(str(tokenizer)))
    texts = ["send an email", "Return the sum of a list of numbers, or 0.", "x"]
    np.testing.assert_allclose(embed(texts), theirs.embed(texts, norm=True), atol=1e-5)


def test_a_corpus_survives_its_file(corpus: Corpus, tmp_path: Path) -> None:
    corpus.save(tmp_path)
    again = Corpus.load(tmp_path)
    assert again.texts == corpus.texts
    np.testing.assert_array_equal(again.vectors, corpus.vectors)


# --- the application -----------------------------------------------------------------------------


def test_the_application_works_without_a_failure(source: QdrantEmulator, corpus: Corpus, tmp_path: Path) -> None:
    with Application(tmp_path, corpus, source.url, source.grpc_port) as application:
        assert poll(lambda: application.figures().requests >= 400, 60)
    figures = application.figures()
    assert figures.ended
    assert (figures.failed_requests, figures.failures) == (0, ())
    assert figures.requests == sum(figures.operations.values()) == sum(figures.transports.values())
    assert figures.transports.keys() == {"REST", "gRPC"}
    assert figures.operations.keys() >= {"search", "upsert", "set_payload", "delete", "read back", "retrieve"}
    assert figures.search.samples
    assert 0 < figures.search.p50_ms <= figures.search.p99_ms


def test_killed_amid_the_applications_work_and_the_backfill_both_stores_come_to_hold_the_same(
    migrations: Migrations, corpus: Corpus, tmp_path: Path
) -> None:
    def take_all(config: dict[str, Any]) -> None:
        config["routes"][0]["collections"] = [COLLECTION]

    migration = migrations(
        source=migrations.own_source(),
        target=migrations.own_target(),
        as_process=True,
        change=take_all,
        backfill={"page_points": 64, "requests_per_second": 30},
    )
    load(migration.source, corpus, lambda done, total: None)  # type: ignore[arg-type]  # it asks for the address only
    with Application(tmp_path, corpus, migration.url, migration.grpc_port) as application:
        assert poll(lambda: application.figures().requests >= 50, 60)
        job = migration.control.start_job("backfill", "docs")
        assert poll(lambda: migration.control.job(job.id).done >= 500, 60)
        assert migration.control.job(job.id).status == "running"
        migration.process.restart()  # SIGKILL
        after = application.figures().requests
        assert poll(lambda: application.figures().requests >= after + 200, 60)
        migration.finished(job)
    assert_equal(migration, COLLECTION)
    assert migration.verify()["different"] == 0


def test_the_application_notices_wrong_answers(source: QdrantEmulator, corpus: Corpus, tmp_path: Path) -> None:
    """Somebody else changes its texts: what it reads is not what it must be."""
    client = QdrantClient(url=source.url)
    calm = corpus.texts[2 * WRITTEN_BY_EACH : corpus.loaded]
    everything = models.Filter(must=[models.HasIdCondition(has_id=[text.id for text in calm])])
    with Application(tmp_path, corpus, source.url, source.grpc_port) as application:
        assert poll(lambda: application.figures().requests >= 50, 60)
        assert application.figures().failed_requests == 0
        client.set_payload(COLLECTION, {"kind": "changed"}, points=everything)
        assert poll(lambda: any("is not what was loaded" in each for each in application.figures().failures), 60)
        client.delete(COLLECTION, points_selector=models.FilterSelector(filter=everything))
        assert poll(lambda: any(each.startswith("search over") for each in application.figures().failures), 60)
        client.delete_collection(COLLECTION)
        assert poll(lambda: any("upsert over" in each for each in application.figures().failures), 60)
    load(source, corpus, lambda done, total: None)


def test_the_application_ends_on_sigterm_with_its_last_figures(
    source: QdrantEmulator, corpus: Corpus, tmp_path: Path
) -> None:
    application = Application(tmp_path, corpus, source.url, source.grpc_port).start()
    try:
        assert application.pid is not None
        os.kill(application.pid, signal.SIGTERM)
        assert poll(lambda: not application.is_running(), 30)
        assert application.figures().ended
    finally:
        application.kill()


# --- configuration and what is seen --------------------------------------------------------------


def test_the_configuration_is_valid_and_its_edits_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "crossfade.yaml"
    write_configuration(
        path,
        rest_port=1001,
        grpc_port=1002,
        control_port=1003,
        source_url="http://127.0.0.1:1004",
        source_grpc_port=1005,
        target_address="127.0.0.1:1006",
    )

    def weight() -> float:
        (route,) = parse(path.read_text(), {}, lambda name: "").routes
        assert route.name == ROUTE
        return route.reads.weight

    assert weight() == 0
    edit(path, "weight: 0", "weight: 500")
    with pytest.raises(ConfigError, match="500"):
        weight()
    edit(path, "weight: 500", "weight: 50")
    assert weight() == 50
    with pytest.raises(ValueError, match="0 times"):
        edit(path, "weight: 0", "weight: 25")


def test_shares_are_read_from_the_proxys_metrics() -> None:
    metrics = Metrics()
    exposition = Exposition(metrics)
    try:
        for side, reason, times in (
            ("primary", "weight 25", 30),
            ("primary", "lag", 6),
            ("secondary", "weight 25", 12),
        ):
            for _ in range(times):
                metrics.requests.add("rest", "search", ROUTE, side, reason, "ok")
        metrics.requests.add("rest", "search", "another", "secondary", "weight 100", "ok")
        metrics.requests.add("rest", "upsert", ROUTE, "primary", "write", "ok")
        metrics.keys.watch(lambda: [((ROUTE, "dirty"), 3.0), ((ROUTE, "held"), 2.0), ((ROUTE, "parked"), 1.0)])
        seen = read_metrics(exposition.page().decode())
    finally:
        exposition.close()
    assert seen.answers == Answers(source=36, target=12)
    assert seen.answers.target_percent == 25
    assert (seen.behind_keys, seen.parked) == (5, 1)
    assert seen.answers.since(Answers(30, 6)) == Answers(6, 6)


# --- report and screen ---------------------------------------------------------------------------


def _good() -> Report:
    report = Report("a source", "a target", source_points=10, target_points=10, differences=0, unchecked=0)
    report.take(Figures(requests=100, operations={"search": 100}, transports={"REST": 60, "gRPC": 40}))
    report.rolled_back, report.rollback_seconds, report.overlap_at_10 = True, 0.01, 0.999
    report.latency = [Row("search", "REST", "direct", "source", Latency(5, 1.0, 2.0))]
    return report


def test_a_good_report_passes_and_holds_every_promised_key(tmp_path: Path) -> None:
    report = _good()
    assert report.problems() == []
    report.save(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    promised = ("requests", "failed_requests", "source_points", "target_points", "differences", "overlap_at_10")
    assert [written[key] for key in promised] == [100, 0, 10, 10, 0, 0.999]
    assert written["rolled_back"] is True
    assert written["passed"] is True
    assert written["latency"] == [
        {
            "operation": "search",
            "client": "REST",
            "path": "direct",
            "answered_by": "source",
            "samples": 5,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
        }
    ]


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"failed_requests": 1, "failures": ("search over REST: no",)}, "search over REST"),
        ({"requests": 0}, "no request"),
        ({"differences": 2}, "2 differ"),
        ({"differences": None}, "not compared"),
        ({"unchecked": 1}, "could not be compared"),
        ({"rolled_back": False}, "go back"),
        ({"target_points": 9}, "9 in the target"),
        ({"broken_off": "the engine died"}, "the engine died"),
    ],
)
def test_a_report_says_what_is_wrong(changed: dict[str, object], word: str) -> None:
    report = _good()
    for name, value in changed.items():
        setattr(report, name, value)
    (problem,) = report.problems()
    assert word in problem


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_shows_steps_and_traffic(width: int) -> None:
    watch = Watch()
    watch.latest = Seen(
        figures=Figures(requests=1234, failed_requests=7, search=Latency(9, 1.5, 20.0), asked="how?", found="so"),
        recent=Answers(75, 25),
        requests_per_second=100,
        behind_keys=4,
        source_points=4433,
        target_points=4400,
    )
    console = Console(file=io.StringIO(), width=width, height=40, force_terminal=True, record=True, color_system=None)
    screen = Screen(("one", "two", "three"), console, watch, "Old engine", "New engine", mirroring=True, shadowing=True)
    with screen.shown():
        with screen.step("one") as step:
            step.say("went well")
        with pytest.raises(ZeroDivisionError), screen.step("two") as step:
            step.progress(1, 2, "half")
            screen.command("crossfade weight docs 25")
            1 / 0  # noqa: B018
    page = console.export_text()
    for word in ("Old engine", "New engine", "4,433 points", "4,400 points", "7 failed", "reads 25 %", "4 behind"):
        assert word in page
    for word in ("✓ one", "went well", "✗ two", "· three", "$ crossfade weight docs 25", "1.5 ms"):
        assert word in page
    assert [step["state"] for step in screen.summary()] == ["done", "failed"]


def test_in_a_pipe_there_are_lines() -> None:
    out = io.StringIO()
    screen = Screen(("one",), Console(file=out, width=80), Watch(), "old", "new")
    with screen.shown(), screen.step("one") as step:
        screen.command("crossfade verify docs")
        step.say("went well")
    assert [line.split("s  ", 1)[1].split(" (")[0] for line in out.getvalue().splitlines()] == [
        "one ...",
        "  $ crossfade verify docs",
        "one: went well",
    ]
