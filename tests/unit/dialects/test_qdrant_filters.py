"""Filters: each JSON condition means a node of the tree, proto the same, and what has no exact meaning is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import RestToGrpc

from proxy.dialects.qdrant.filters_json import filter_of_json
from proxy.dialects.qdrant.filters_proto import filter_of_proto, proto_of_filter
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import Untranslatable
from proxy.model import (
    And,
    AtLeast,
    DatetimeRange,
    Filter,
    GeoBox,
    GeoPoint,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MatchText,
    Nested,
    Not,
    Or,
    Range,
    ValuesCount,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SQUARE = [{"lon": 0.0, "lat": 0.0}, {"lon": 0.0, "lat": 1.0}, {"lon": 1.0, "lat": 1.0}, {"lon": 0.0, "lat": 0.0}]
CORNERS = (GeoPoint(0, 0), GeoPoint(0, 1), GeoPoint(1, 1), GeoPoint(0, 0))
A, B = {"key": "a", "match": {"value": 1}}, {"key": "b", "match": {"value": "x"}}
IS_A, IS_B = Match("a", 1), Match("b", "x")

MEANINGS: list[tuple[dict[str, Any], Filter]] = [
    ({}, And(())),
    ({"must": [A]}, IS_A),
    ({"must": [A, B]}, And((IS_A, IS_B))),
    ({"should": [A, B]}, Or((IS_A, IS_B))),
    ({"must_not": [A, B]}, And((Not(IS_A), Not(IS_B)))),
    ({"must": [A], "should": [B], "must_not": [A]}, And((IS_A, IS_B, Not(IS_A)))),
    ({"min_should": {"conditions": [A, B], "min_count": 2}}, AtLeast(2, (IS_A, IS_B))),
    ({"must": [{"should": [A, B]}]}, Or((IS_A, IS_B))),
    ({"must": [{"key": "t", "match": {"value": True}}]}, Match("t", True)),
    ({"must": [{"key": "t", "match": {"text": "a b"}}]}, MatchText("t", "a b", "all")),
    ({"must": [{"key": "t", "match": {"text_any": "a b"}}]}, MatchText("t", "a b", "any")),
    ({"must": [{"key": "t", "match": {"phrase": "a b"}}]}, MatchText("t", "a b", "phrase")),
    ({"must": [{"key": "t", "match": {"any": ["a", "b", "a"]}}]}, MatchAny("t", ("a", "b"))),
    ({"must": [{"key": "t", "match": {"any": [1, 2]}}]}, MatchAny("t", (1, 2))),
    ({"must": [{"key": "t", "match": {"except": ["a"]}}]}, MatchExcept("t", ("a",))),
    ({"must": [{"key": "t", "match": {"except": [1]}}]}, MatchExcept("t", (1,))),
    ({"must": [{"key": "n", "range": {"gt": 1, "lte": 2.5}}]}, Range("n", gt=1.0, lte=2.5)),
    (
        {"must": [{"key": "d", "range": {"gte": "2024-05-01T12:00:00Z"}}]},
        DatetimeRange("d", gte=NOON),
    ),
    ({"must": [{"key": "l", "values_count": {"gt": 1, "lt": 4}}]}, ValuesCount("l", gt=1, lt=4)),
    (
        {"must": [{"key": "g", "geo_bounding_box": {"top_left": SQUARE[1], "bottom_right": SQUARE[0]}}]},
        GeoBox("g", CORNERS[1], CORNERS[0]),
    ),
    ({"must": [{"key": "g", "geo_radius": {"center": SQUARE[2], "radius": 500.0}}]}, GeoRadius("g", CORNERS[2], 500.0)),
    (
        {"must": [{"key": "g", "geo_polygon": {"exterior": {"points": SQUARE}, "interiors": [{"points": SQUARE}]}}]},
        GeoPolygon("g", CORNERS, (CORNERS,)),
    ),
    ({"must": [{"is_empty": {"key": "a"}}]}, IsEmpty("a")),
    ({"must": [{"is_null": {"key": "a"}}]}, IsNull("a")),
    (
        {"must": [{"has_id": [1, "6ba7b810-9dad-11d1-80b4-00c04fd430c8"]}]},
        HasId((1, UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"))),
    ),
    ({"must": [{"has_vector": "title"}]}, HasVector("title")),
    (
        {"must": [{"nested": {"key": "n", "filter": {"must": [A], "must_not": [B]}}}]},
        Nested("n", And((IS_A, Not(IS_B)))),
    ),
]


@pytest.mark.parametrize(("body", "meaning"), MEANINGS)
def test_json_and_what_the_client_makes_of_it_in_proto_mean_the_same(body: dict[str, Any], meaning: Filter) -> None:
    assert filter_of_json(body) == meaning
    theirs = RestToGrpc.convert_filter(models.Filter.model_validate(body))
    assert filter_of_proto(proto.Filter.FromString(theirs.SerializeToString())) == meaning


def test_one_condition_may_stand_without_a_list() -> None:
    assert filter_of_json({"must": A, "must_not": B}) == And((IS_A, Not(IS_B)))
    assert filter_of_json({"should": {"must": A}}) == IS_A


@pytest.mark.parametrize("present", [True, False])
def test_emptiness_as_a_field_check(present: bool) -> None:
    expected = IsEmpty("a") if present else Not(IsEmpty("a"))
    assert filter_of_json({"must": [{"key": "a", "is_empty": present}]}) == expected
    message = grpc.Filter(must=[grpc.Condition(field=grpc.FieldCondition(key="a", is_empty=present))])
    assert filter_of_proto(proto.Filter.FromString(message.SerializeToString())) == expected


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T14:00:00+02:00", NOON),
        ("2024-05-01 14:00:00+0200", NOON),
        ("2024-05-01T12:00:00.000250Z", NOON + timedelta(microseconds=250)),
        ("2024-05-01T12:00:00.25", NOON + timedelta(milliseconds=250)),
        ("2024-05-01 12:00", NOON),
        ("2024-05-01", NOON - timedelta(hours=12)),
    ],
)
def test_spellings_of_time(text: str, moment: datetime) -> None:
    assert filter_of_json({"must": [{"key": "d", "range": {"lt": text}}]}) == DatetimeRange("d", lt=moment)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"must": [3]},
        {"must": [{}, {"what": 1}]},
        {"nope": []},
        {"should": []},
        {"min_should": {"conditions": [A], "min_count": 0}},
        {"must": [{"slice": {"total": 4, "index": 1}}]},
        {"must": [{"key": "a"}]},
        {"must": [{"key": "a", "match": {"value": 1}, "range": {"gt": 1}}]},
        {"must": [{"key": "a", "match": {"value": 1.5}}]},
        {"must": [{"key": "a", "match": {"value": 2**63}}]},
        {"must": [{"key": "a", "match": {"value": None}}]},
        {"must": [{"key": "a", "match": {"any": [1, "x"]}}]},
        {"must": [{"key": "a", "match": {"any": [True]}}]},
        {"must": [{"key": "a", "match": {"prefix": "x"}}]},
        {"must": [{"key": "a", "match": {"value": 1, "boost": 2}}]},
        {"must": [{"key": "a", "range": {"gt": True}}]},
        {"must": [{"key": "a", "range": {"gt": 1, "above": 2}}]},
        {"must": [{"key": "a", "range": {"gt": "2024-05-01T12:00:00.1234567Z"}}]},
        {"must": [{"key": "a", "range": {"gt": "tomorrow"}}]},
        {"must": [{"key": "a", "range": {"gt": "2024-13-01"}}]},
        {"must": [{"key": "a", "values_count": {"gt": -1}}]},
        {"must": [{"key": "a", "is_null": True}]},
        {"must": [{"key": "a[].b", "is_empty": True}]},
        {"must": [{"has_id": ["not an id"]}]},
        {"must": [{"has_id": [-1]}]},
        {"must": [{"nested": {"key": "n", "filter": {"must": [{"has_id": [1]}]}}}]},
        {"must": [{"nested": {"key": "n", "filter": {"must": [{"has_vector": "x"}]}}}]},
    ],
)
def test_what_has_no_exact_meaning_is_not_guessed(body: Any) -> None:
    with pytest.raises(Undecodable):
        filter_of_json(body)


def inside_nested(condition: grpc.Condition) -> grpc.Condition:
    return grpc.Condition(nested=grpc.NestedCondition(key="n", filter=grpc.Filter(must=[condition])))


@pytest.mark.parametrize(
    "message",
    [
        grpc.Filter(must=[grpc.Condition()]),
        grpc.Filter(must=[grpc.Condition(slice=grpc.SliceCondition(total=4, index=1))]),
        grpc.Filter(must=[grpc.Condition(field=grpc.FieldCondition(key="a"))]),
        grpc.Filter(must=[grpc.Condition(field=grpc.FieldCondition(key="a", match=grpc.Match()))]),
        grpc.Filter(must=[grpc.Condition(field=grpc.FieldCondition(key="a", match=grpc.Match(prefix="x")))]),
        grpc.Filter(must=[grpc.Condition(field=grpc.FieldCondition(key="a", is_null=True))]),
        grpc.Filter(must=[grpc.Condition(has_id=grpc.HasIdCondition(has_id=[grpc.PointId()]))]),
        grpc.Filter(min_should=grpc.MinShould(min_count=0)),
        grpc.Filter(must=[inside_nested(grpc.Condition(has_id=grpc.HasIdCondition(has_id=[grpc.PointId(num=1)])))]),
        grpc.Filter(must=[inside_nested(grpc.Condition(has_vector=grpc.HasVectorCondition(has_vector="x")))]),
        grpc.Filter(
            must=[
                grpc.Condition(
                    field=grpc.FieldCondition(key="a", match=grpc.Match(integer=1), range=grpc.Range(gt=1.0))
                )
            ]
        ),
    ],
)
def test_nor_in_proto(message: grpc.Filter) -> None:
    with pytest.raises(Undecodable):
        filter_of_proto(proto.Filter.FromString(message.SerializeToString()))


def test_a_field_that_is_not_known_here_is_not_ignored() -> None:
    body = proto.Filter().SerializeToString() + b"\x7a\x01x"  # field 15
    with pytest.raises(Undecodable, match="unknown field"):
        filter_of_proto(proto.Filter.FromString(body))


# --- and back ----------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b.c", "tags[].name"])
TEXTS = st.text(max_size=5)
INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
IDS = st.one_of(st.integers(0, 2**64 - 1), st.uuids())
TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive
POINTS = st.builds(GeoPoint, st.floats(-180, 180), st.floats(-90, 90))
LINES = st.lists(POINTS, min_size=4, max_size=5).map(tuple)


def bounds(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), values)


LEAVES: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Match, KEYS, st.one_of(TEXTS, INTS, st.booleans())),
    st.builds(MatchText, KEYS, TEXTS, st.sampled_from(["all", "any", "phrase"])),
    st.builds(MatchAny, KEYS, st.one_of(st.lists(TEXTS, unique=True), st.lists(INTS, unique=True)).map(tuple)),
    st.builds(MatchExcept, KEYS, st.one_of(st.lists(TEXTS, unique=True), st.lists(INTS, unique=True)).map(tuple)),
    st.builds(lambda key, given: Range(key, **given), KEYS, bounds(FLOATS)),
    st.builds(lambda key, given: DatetimeRange(key, **given), KEYS, bounds(TIMES)),
    st.builds(lambda key, given: ValuesCount(key, **given), KEYS, bounds(st.integers(0, 2**32))),
    st.builds(GeoBox, KEYS, POINTS, POINTS),
    st.builds(GeoRadius, KEYS, POINTS, st.floats(0, 1e6, width=32)),
    st.builds(GeoPolygon, KEYS, LINES, st.lists(LINES, max_size=2).map(tuple)),
    st.builds(IsEmpty, KEYS),
    st.builds(IsNull, KEYS),
)
TOP_LEAVES = st.one_of(LEAVES, st.builds(HasId, st.lists(IDS, max_size=3).map(tuple)), st.builds(HasVector, TEXTS))


def trees(leaves: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    """In the form that decoding yields: no And or Or of one."""

    def grow(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            st.builds(And, several),
            st.builds(Or, several),
            st.builds(Not, inner),
            several.flatmap(lambda parts: st.builds(AtLeast, st.integers(1, len(parts)), st.just(parts))),
        )

    return st.recursive(leaves, grow, max_leaves=6)


FILTERS = trees(st.one_of(TOP_LEAVES, st.builds(Nested, KEYS, trees(LEAVES))))


@given(FILTERS)
def test_a_filter_sent_is_the_filter_read(tree: Filter) -> None:
    """Through the vendor's own messages, so that both sides agree on the bytes."""
    theirs = grpc.Filter.FromString(proto_of_filter(tree).SerializeToString())
    assert filter_of_proto(proto.Filter.FromString(theirs.SerializeToString())) == tree


@pytest.mark.parametrize("nothing", [Or(()), AtLeast(2, (IS_A,))])
def test_a_filter_that_nothing_meets(nothing: Filter) -> None:
    """An empty `should` would mean the opposite on the wire."""
    assert filter_of_proto(proto_of_filter(nothing)) == HasId(())


def test_a_filter_that_everything_meets() -> None:
    assert filter_of_proto(proto_of_filter(AtLeast(0, (IS_A,)))) == And(())
    assert filter_of_proto(proto_of_filter(And(()))) == And(())


def test_a_radius_that_the_wire_cannot_hold() -> None:
    with pytest.raises(Untranslatable, match="geo radius"):
        proto_of_filter(GeoRadius("g", GeoPoint(0, 0), 1000.1))
    held = float(np.float32(1000.1))
    assert filter_of_proto(proto_of_filter(GeoRadius("g", GeoPoint(0, 0), held))) == GeoRadius(
        "g", GeoPoint(0, 0), held
    )


def test_times_of_any_zone_are_one_moment() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-7)))
    assert filter_of_proto(proto_of_filter(DatetimeRange("d", gt=there))) == DatetimeRange("d", gt=NOON)
