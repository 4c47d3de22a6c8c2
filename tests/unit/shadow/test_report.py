"""The running figures, their quantiles, and the bounded list of the worst disagreements."""

from __future__ import annotations

import pytest

from proxy.shadow.compare import Comparison
from proxy.shadow.report import MAX_COLLECTIONS, OTHER_COLLECTIONS, Disagreement, Figures, Report, Spread

AGREES = Comparison(overlap=1.0, score_difference=0.0)


def disagreement(fingerprint: str, overlap: float = 0.5, **more: object) -> Disagreement:
    values: dict[str, object] = {
        "collection": "docs",
        "operation": "search",
        "fingerprint": fingerprint,
        "k": 10,
        "overlap": overlap,
        "missing": (),
        "unexpected": (),
        "changed": (),
        "score_difference": 0.0,
        "latency_ratio": 1.0,
        "at": 0.0,
    }
    return Disagreement(**{**values, **more})  # type: ignore[arg-type]


def test_nothing_yet() -> None:
    report = Report(keep_worst=5)
    assert report.figures() == report.figures("docs") == Figures()
    assert report.worst() == ()
    assert report.collections == ()


def test_figures_by_collection_and_of_all() -> None:
    report = Report(keep_worst=5)
    report.compared("docs", AGREES, 2.0)
    report.compared("docs", Comparison(overlap=0.5, missing=(1,)), None)
    report.compared("logs", Comparison(overlap=0.8, score_difference=0.02), 1.0)
    report.shed("docs")
    report.unsettled("docs")
    report.failed("logs")
    docs, logs, everything = report.figures("docs"), report.figures("logs"), report.figures()
    assert (docs.compared, docs.agreed, docs.shed, docs.unsettled, docs.errors) == (2, 1, 1, 1, 0)
    assert (docs.overlap, docs.score_difference_p95, docs.latency_ratio_p50) == (0.75, 0.0, 2.0)
    assert (logs.compared, logs.agreed, logs.errors) == (1, 0, 1)
    assert (everything.compared, everything.shed, everything.errors) == (3, 1, 1)
    assert everything.overlap == pytest.approx((1 + 0.5 + 0.8) / 3)
    assert report.collections == ("docs", "logs")


def test_a_few_bad_reads_among_many_show_in_the_low_quantile() -> None:
    report = Report(keep_worst=0)
    for number in range(100):
        report.compared("docs", Comparison(overlap=0.3 if number < 10 else 1.0), None)
    assert report.figures().overlap == pytest.approx(0.93)
    assert report.figures().overlap_p05 == 0.3


def test_quantiles_of_a_spread() -> None:
    spread = Spread((1.0, 2.0, 5.0))
    assert spread.mean is None
    assert spread.quantile(0.5) is None
    for value in (0.5, 1.0, 1.5, 4.0, 100.0):
        spread.add(value)
    assert spread.mean == pytest.approx(21.4)
    assert [spread.quantile(share) for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)] == [1.0, 1.0, 1.0, 2.0, 5.0, 5.0]


def test_collections_past_the_limit_share_a_line() -> None:
    report = Report(keep_worst=0)
    for number in range(MAX_COLLECTIONS + 5):
        report.compared(f"c{number}", AGREES, None)
    assert len(report.collections) == MAX_COLLECTIONS + 1
    assert report.figures(OTHER_COLLECTIONS).compared == 5
    assert report.figures().compared == MAX_COLLECTIONS + 5


def test_the_worst_are_kept_worst_first() -> None:
    report = Report(keep_worst=3)
    for fingerprint, overlap in (("a", 0.9), ("b", 0.2), ("c", 0.7), ("d", 0.1), ("e", 0.8)):
        report.disagreed(disagreement(fingerprint, overlap))
    assert [each.fingerprint for each in report.worst()] == ["d", "b", "c"]
    report.keep(1)
    assert [each.fingerprint for each in report.worst()] == ["d"]
    report.disagreed(disagreement("f", 0.5))
    assert [each.fingerprint for each in report.worst()] == ["d"]


def test_changed_payloads_and_scores_decide_between_equal_overlaps() -> None:
    report = Report(keep_worst=9)
    report.disagreed(disagreement("scores", 1.0, score_difference=0.5))
    report.disagreed(disagreement("payloads", 1.0, changed=(1, 2)))
    report.disagreed(disagreement("nothing", 1.0))
    assert [each.fingerprint for each in report.worst()] == ["payloads", "scores", "nothing"]


def test_a_request_that_disagrees_again_takes_its_own_place() -> None:
    report = Report(keep_worst=2)
    report.disagreed(disagreement("rare", 0.9))
    for at in range(10):
        report.disagreed(disagreement("popular", 0.1, at=float(at)))
    assert [(each.fingerprint, each.at) for each in report.worst()] == [("popular", 9.0), ("rare", 0.0)]


def test_keeping_none() -> None:
    report = Report(keep_worst=0)
    report.disagreed(disagreement("a"))
    assert report.worst() == ()
