"""Filter expressions as text: what is written for which server, and what knowledge of the rows changes."""

from __future__ import annotations

import pytest

from proxy.dialects.milvus.filters import Expression, expression
from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.marks import FOREIGN, probe, relevant_marks
from proxy.dialects.milvus.schema import Layout, VectorField
from proxy.errors import InvalidRequest, Untranslatable
from proxy.model import And, Filter, HasId, IsEmpty, IsNull, Match, MatchAny, MatchExcept, Metric, Not, Or, Range

LAYOUT = Layout("id", IdMapping.INTEGER, 0, {"": VectorField("vector", 4, Metric.COSINE, "HNSW")})


def written(filter: Filter, *, lite: bool = False, present: set[str] | None = None, unknown: bool = False) -> str:
    """With every mark absent but those given; `unknown`: with only those known."""
    marks = relevant_marks(filter, lite=lite)
    known = {mark: False for mark in marks if not unknown} | dict.fromkeys(present or (), True) | {FOREIGN: False}
    return expression(filter, LAYOUT, known, lite=lite).text


@pytest.mark.parametrize(
    ("filter", "full", "lite"),
    [
        (Match("a", "x"), '$meta["a"] == "x"', '$meta["a"] == "x"'),
        (Match("a.b", 7), '$meta["a"]["b"] == 7', '$meta["a"]["b"] == 7'),
        (Match('"a b"', 'q"\\\n'), '$meta["a b"] == "q\\"\\\\\\n"', '$meta["a b"] == "q\\"\\\\\\n"'),
        (Match("id", "x"), '$meta["_crossfade_key_id"] == "x"', '$meta["_crossfade_key_id"] == "x"'),
        (Match("a", True), 'json_contains(_crossfade_kinds, "t:a")', 'json_contains(_crossfade_kinds, "t:a")'),
        (MatchAny("a", (1, 2)), '$meta["a"] in [1, 2]', '($meta["a"] == 1 or $meta["a"] == 2)'),
        (MatchAny("a", ()), "(id == 0 and id != 0)", "(id == 0 and id != 0)"),
        (Range("a", gte=1), '$meta["a"] >= 1.0', '$meta["a"] >= 1.0'),
        (Range("a", gt=1, lt=2), *['($meta["a"] > 1.0 and $meta["a"] < 2.0)'] * 2),
        (Not(Match("a", "x")), 'not ($meta["a"] == "x")', 'not (((exists $meta["a"]) and $meta["a"] == "x"))'),
        (IsNull("a"), 'json_contains(_crossfade_kinds, "n:a")', 'json_contains(_crossfade_kinds, "n:a")'),
        (HasId((3, 2**63, 4)), "id in [3, 4]", "id in [3, 4]"),
        (And(()), "", ""),
        (Or(()), "(id == 0 and id != 0)", "(id == 0 and id != 0)"),
    ],
)  # fmt: skip
def test_conditions_on_regular_rows(filter: Filter, full: str, lite: str) -> None:
    assert written(filter) == full
    assert written(filter, lite=True) == lite


def test_a_match_looks_into_arrays_where_there_may_be_some() -> None:
    looked = '($meta["a"] == "x" or json_contains_any($meta["a"], ["x"]))'
    assert written(Match("a", "x"), present={"c:a"}) == looked
    assert written(Match("a", "x"), unknown=True) == looked
    assert "json_contains_any(a, " in written(Match("a", "x"), present={"c:a"}, lite=True)


def test_integers_leave_out_what_only_looks_like_them() -> None:
    assert written(Match("a", 7), present={"f:a"}) == (
        '($meta["a"] == 7 and not json_contains(_crossfade_kinds, "f:a"))'
    )
    assert '"t:a"' in written(Match("a", 1), present={"t:a"}, lite=True)
    assert '"t:a"' not in written(Match("a", 7), present={"t:a"}, lite=True)
    assert '"t:a"' not in written(Match("a", 1), present={"t:a"})


@pytest.mark.parametrize("condition", [Range("a", gt=1), MatchExcept("a", ("x",))])
def test_what_rests_on_absent_arrays_needs_to_know(condition: Filter) -> None:
    with pytest.raises(Untranslatable, match="arrays"):
        written(condition, present={"c:a"})
    with pytest.raises(Untranslatable, match="not surveyed"):
        written(condition, unknown=True)
    known = dict.fromkeys(relevant_marks(condition, lite=False), False)
    assert expression(condition, LAYOUT, known, lite=False).assumes == {FOREIGN, "c:a"}


def test_rows_of_others_are_not_judged() -> None:
    condition = IsEmpty("a")
    with pytest.raises(Untranslatable, match="written by others"):
        expression(condition, LAYOUT, {FOREIGN: True}, lite=False)
    with pytest.raises(Untranslatable, match="not surveyed"):
        expression(condition, LAYOUT, {}, lite=False)
    assert expression(HasId((1,)), LAYOUT, {}, lite=False) == Expression("id in [1]")
    assert probe(FOREIGN) == 'not (exists $meta["_crossfade_id"])'


def test_no_filter_is_every_row() -> None:
    assert expression(None, LAYOUT, {}, lite=True) == Expression()


@pytest.mark.parametrize("path", ["", "a..b", "a b", '"a', ".a", "a."])
def test_a_path_that_is_none_is_invalid(path: str) -> None:
    with pytest.raises(InvalidRequest):
        relevant_marks(Match(path, 1), lite=False)


def test_a_range_without_bounds_is_any_number() -> None:
    assert written(Range("a")) == '$meta["a"] >= -1.7976931348623157e+308'
    assert written(Range("a", gte=float("-inf"))) == written(Range("a"))
    assert written(Range("a", gt=float("inf"))) == written(Or(()))
    assert written(Range("a", lt=float("nan"))) == written(Or(()))
