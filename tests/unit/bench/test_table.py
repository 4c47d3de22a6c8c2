"""bench/table.py: what people and programs are shown of a row."""

from __future__ import annotations

import io

import orjson
import pytest
from rich.console import Console

from bench.figures import CAPACITY, MEDIAN, RESIDENT, TAIL, THROUGHPUT, Bound, row
from bench.table import document, figure, markdown, table, told

ROWS = [
    row("REST search", THROUGHPUT, "direct", [500.0, 480.0], [1000.0, 1000.0], {"proxy_cpu_ms_per_request": 0.42}),
    row("REST search", MEDIAN, "direct", [0.002, 0.002], [0.001, 0.001]),
    row("backfill", RESIDENT, "one tenth", [100 * 2**20], [50 * 2**20], {"mib_at_each_tenth": [50.0, 100.0]}),
]

BOUNDED = [
    row("search", CAPACITY, "nginx", [90.0], [100.0], bound=Bound(must=1.0, goal=1.5)),
    row("search", CAPACITY, "Envoy", [140.0], [100.0], bound=Bound(must=1.3, goal=2.5)),
    row("crowd", TAIL, "nginx", [0.001], [0.001], bound=Bound(must=2.0, goal=1.3)),
]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1234567.8, "1,234,568"),
        (999.6, "1,000"),
        (523.4, "523"),
        (52.34, "52.3"),
        (5.234, "5.23"),
        (0.987, "0.99"),
        (0.0987, "0.10"),
        (0.0412, "0.041"),
        (0.00004, "4.0e-05"),
        (-12.34, "-12.3"),
    ],
)
def test_figures_have_the_digits_that_say_something(value: float, shown: str) -> None:
    assert figure(value) == shown


def test_details_are_told_in_words() -> None:
    assert told({"slope_mib_per_100k_points": 0.5, "mib_at_each_tenth": [1.0, 2.0]}) == (
        "slope mib per 100k points 0.50, mib at each tenth 1.00 2.00"
    )


def test_the_table_names_a_work_once() -> None:
    shown = io.StringIO()
    Console(file=shown, width=200).print(table(ROWS))
    text = shown.getvalue()
    assert text.count("REST search") == 1
    assert "p50" in text
    assert "0.49" in text  # the median of 0.50 and 0.48
    assert "0.48 - 0.50" in text


def test_markdown_has_a_line_a_row() -> None:
    lines = markdown(ROWS).splitlines()
    assert len(lines) == 2 + len(ROWS)
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3].startswith("|  | p50 | 2.00 ms |")


def test_json_names_everything_a_later_bound_needs() -> None:
    written = orjson.loads(orjson.dumps(document(ROWS, {"quick": False})))
    assert written["quick"] is False
    first, second, third = written["rows"]
    assert first == {
        "work": "REST search",
        "measure": "requests/s",
        "against": "direct",
        "ratio": 0.49,
        "low": 0.48,
        "high": 0.5,
        "must": None,
        "goal": None,
        "reached": None,
        "value": 490.0,
        "reference": 1000.0,
        "unit": "1/s",
        "lower_is_better": False,
        "rounds": 2,
        "details": {"proxy_cpu_ms_per_request": 0.42},
    }
    assert (second["unit"], second["lower_is_better"]) == ("ms", True)
    assert third["details"] == {"mib_at_each_tenth": [50.0, 100.0]}


def test_a_bound_is_shown_with_what_is_reached() -> None:
    shown = io.StringIO()
    Console(file=shown, width=250).print(table([*BOUNDED, *ROWS]))
    lines = shown.getvalue().splitlines()
    told = [next(line for line in lines if word in line) for word in ("90.0 /s", "140 /s", "crowd", "REST search")]
    assert "≥ 1.00" in told[0]
    assert "≥ 1.50" in told[0]
    assert "must missed" in told[0]
    assert "must reached, goal missed" in told[1]
    assert "≤ 2.00" in told[2]
    assert "goal reached" in told[2]
    assert "≥" not in told[3]


def test_without_bounds_there_is_no_column_for_them() -> None:
    shown = io.StringIO()
    Console(file=shown, width=250).print(table(ROWS))
    assert "goal" not in shown.getvalue()
    assert "goal" not in markdown(ROWS)


def test_verdicts_have_colours_for_people_only() -> None:
    shown = io.StringIO()
    Console(file=shown, width=250, force_terminal=True, color_system="standard").print(table(BOUNDED))
    assert "\x1b[31mmust missed" in shown.getvalue()
    assert "[red]" not in markdown(BOUNDED)


def test_markdown_has_the_bounds_too() -> None:
    lines = markdown([*BOUNDED, *ROWS]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "| ≥ 1.00 | ≥ 1.50 | must missed |" in lines[2]


def test_json_has_bounds_and_verdicts() -> None:
    written = orjson.loads(orjson.dumps(document(BOUNDED, {})))["rows"]
    assert [(one["must"], one["goal"], one["reached"], one["lower_is_better"]) for one in written] == [
        (1.0, 1.5, "missed", False),
        (1.3, 2.5, "must", False),
        (2.0, 1.3, "goal", True),
    ]
