"""The contract of filters: every node gives what the reference gives, or the store says that it cannot.

A store may raise Untranslatable for any filter; an answer that differs from the reference's is a failure.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, Untranslatable
from proxy.model import (
    IDS_ONLY,
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
    PointId,
    Range,
    ValuesCount,
    id_order,
)
from proxy.stores import Store
from proxy.stores.memory import MemoryStore
from tests.support.contract_points import point, uuid
from tests.support.contract_stores import PLAIN, Library, is_unindexed_server

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
BERLIN = GeoPoint(13.4, 52.5)
SQUARE = (GeoPoint(10, 50), GeoPoint(20, 50), GeoPoint(20, 60), GeoPoint(10, 60), GeoPoint(10, 50))

FIELDS = [
    "color",
    "size",
    "flag",
    "tags",
    "at",
    "place",
    "inner",
    "items",
    "inner.a.b",
    "inner.a",
    "inner.a[].b",
    "inner[].a",
    "items[].color",
    "items[].size",
    "items[0].color",
    "items.color",
    "tags[]",
    "tags[0]",
    "color[]",
    "size[]",
    'inner."a"',
    '"odd name.x"',
    "missing",
    "missing.too",
]

NODES: dict[str, list[Filter]] = {
    "match a keyword": [
        Match("color", "red"),
        Match("tags", "a"),
        Match("tags", "a'b\"c\\d\n"),
        Match("tags", "ä"),
        Match("color", ""),
        Match("items[].color", "red"),
        Match("items.color", "red"),
        Match('"odd name.x"', "plain"),
        Match("size", "2"),
        Match("missing", "x"),
    ],
    "match an integer": [
        Match("size", 2),
        Match("size", 0),
        Match("size", 1),
        Match("size", 2**53 + 1),
        Match("size", 2**53),
        Match("size", 2**63 - 1),
        Match("size", -(2**63)),
        Match("inner.a.b", 1),
        Match("inner.a[].b", 2),
        Match("items[0].size", 1),
        Match("flag", 1),
    ],
    "match a bool": [Match("flag", True), Match("flag", False), Match("size", True), Match("color", False)],
    "match any": [
        MatchAny("color", ("red", "green")),
        MatchAny("size", (1, 7)),
        MatchAny("tags", ("d", "zz")),
        MatchAny("color", ()),
        MatchAny("size", tuple(range(30))),
    ],
    "match except": [
        MatchExcept("color", ("red", "green")),
        MatchExcept("size", (1, 2)),
        MatchExcept("tags", ("a",)),
        MatchExcept("color", ()),
        MatchExcept("missing", ("x",)),
        MatchExcept("flag", (1,)),
    ],
    "full text": [
        MatchText("color", "red"),
        MatchText("color", "red green", "any"),
        MatchText("color", "red", "phrase"),
    ],
    "range": [
        Range("size", gte=2),
        Range("size", gt=2),
        Range("size", lt=2),
        Range("size", lte=2.5),
        Range("size", gt=1, lt=3),
        Range("size", gte=5, lte=1),
        Range("size"),
        Range("inner.a[].b", gte=2),
        Range("items[].size", gt=1),
        Range("at", gt=0),
        Range("flag", gte=0),
    ],
    "datetime range": [
        DatetimeRange("at", gte=NOON),
        DatetimeRange("at", gt=NOON),
        DatetimeRange("at", lt=NOON),
        DatetimeRange("at", lte=NOON),
        DatetimeRange("at", gt=NOON, lt=NOON + timedelta(seconds=1)),
        DatetimeRange("at", gte=NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))),
        DatetimeRange("at"),
        DatetimeRange("color", gte=NOON),
    ],
    "values count": [
        ValuesCount("tags", gte=2),
        ValuesCount("tags", lt=1),
        ValuesCount("tags", gt=0, lte=1),
        ValuesCount("missing", lte=0),
        ValuesCount("items", gte=1),
        ValuesCount("inner.a", gte=2),
    ],
    "is empty": [IsEmpty(field) for field in FIELDS],
    "is null": [IsNull(field) for field in FIELDS],
    "has id": [HasId((1, 2, uuid(3), uuid(999))), HasId(()), HasId((0,)), HasId((2**64 - 1, 4)), HasId((1, 1))],
    "has vector": [HasVector(""), HasVector("nope")],
    "geo box": [
        GeoBox("place", GeoPoint(10, 60), GeoPoint(20, 50)),
        GeoBox("place", GeoPoint(170, 0), GeoPoint(-170, -30)),
        GeoBox("place", GeoPoint(13.4, 60), GeoPoint(20, 52.5)),
    ],
    "geo radius": [
        GeoRadius("place", BERLIN, 1000),
        GeoRadius("place", BERLIN, 900_000),
        GeoRadius("place", GeoPoint(180, -17), 50_000),
        GeoRadius("place", BERLIN, 0),
    ],
    "geo polygon": [GeoPolygon("place", SQUARE)],
    "nested": [
        Nested("items", And((Match("color", "red"), Match("size", 2)))),
        Nested("items[]", Match("color", "blue")),
        Nested("items", Not(Match("color", "red"))),
        Nested("items", IsEmpty("size")),
        Nested("items", Nested("parts", Match("n", 2))),
        Nested("missing", Not(Match("x", 1))),
        Nested("inner", Match("a", 1)),
    ],
    "and": [And((Match("color", "red"), Range("size", gte=1))), And(())],
    "or": [Or((Match("color", "red"), Range("size", gte=1))), Or(())],
    "not": [
        Not(Match("color", "red")),
        Not(Range("size", gte=1)),
        Not(Match("missing", "x")),
        Not(And(())),
        Not(IsEmpty("tags")),
        Not(Or((Match("color", "red"), IsNull("size")))),
        Not(Not(Match("color", "red"))),
    ],
    "at least": [
        AtLeast(2, (Match("color", "red"), Range("size", gte=1), Not(IsEmpty("tags")))),
        AtLeast(0, (Match("color", "red"),)),
        AtLeast(2, (Match("color", "red"),)),
        AtLeast(1, ()),
        AtLeast(0, ()),
    ],
}


async def ids(store: Store, name: str, filter: Filter) -> set[PointId]:
    page = await store.scan(name, None, 1000, filter, IDS_ONLY)
    assert page.next is None
    return {each.id for each in page.points}


async def compare(library: Library, filter: Filter) -> bool:
    """Whether store and reference could both tell; they then agree."""
    try:
        expected = await ids(library.reference, library.name, filter)
        found = await ids(library.store, library.name, filter)
    except Untranslatable:
        return False
    whole = {each.id: dict(each.payload) for each in library.points}
    wrong = {str(i): whole[i] for i in sorted(found ^ expected, key=id_order)[:5]}
    assert found == expected, f"{filter}: {len(found)} instead of {len(expected)} points, differing in {wrong}"
    return True


@pytest.mark.parametrize("kind", NODES)
async def test_every_node(library: Library, kind: str) -> None:
    told = [await compare(library, node) for node in NODES[kind]]
    if not any(told):
        pytest.skip("not translated by this store (or not by the reference)")


FIELD = st.sampled_from(FIELDS)
WORDS = st.sampled_from(["red", "blue", "a", "b", "", "1", "true"])
NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7])
LISTS = st.lists(WORDS, max_size=3).map(tuple) | st.lists(NUMBERS, max_size=3).map(tuple)
BOUNDS = st.none() | st.sampled_from([-1, 0, 1, 2, 2.5, 7])
COUNTS = st.none() | st.integers(0, 3)
IDS = st.lists(st.integers(0, 20) | st.integers(0, 20).map(uuid), max_size=4).map(tuple)

CONDITIONS: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Match, FIELD, WORDS | NUMBERS | st.booleans()),
    st.builds(MatchAny, FIELD, LISTS),
    st.builds(MatchExcept, FIELD, LISTS),
    st.builds(Range, FIELD, BOUNDS, BOUNDS, BOUNDS, BOUNDS),
    st.builds(ValuesCount, FIELD, COUNTS, COUNTS, COUNTS, COUNTS),
    st.builds(IsEmpty, FIELD),
    st.builds(IsNull, FIELD),
)


def trees(leaves: st.SearchStrategy[Filter], fewest: int = 0) -> st.SearchStrategy[Filter]:
    """Filters over `leaves`; every combination has at least `fewest` parts."""

    def grown(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
        several = st.lists(inner, min_size=fewest, max_size=3).map(tuple)
        return st.one_of(
            st.builds(And, several),
            st.builds(Or, several),
            st.builds(Not, inner),
            st.builds(
                lambda count, of: AtLeast(min(count, len(of)) if fewest else count, of), st.integers(0, 3), several
            ),
        )

    return st.recursive(leaves, grown, max_leaves=5)


# Inside `Nested` there are no ids: a condition on them cannot be said there, "nothing" included.
NESTED = st.builds(Nested, st.sampled_from(["items", "inner", "items[]", "tags"]), trees(CONDITIONS, fewest=1))


@given(filter=trees(CONDITIONS | NESTED | st.builds(HasId, IDS)))
@settings(
    max_examples=120, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_trees_of_nodes(library: Library, filter: Filter) -> None:
    await compare(library, filter)


SPELLINGS = [
    "2024-02-29T12:00:00Z", "2024-02-29t12:00:00z", "2024-02-29 12:00:00 UTC", "2024-02-29T12:00:00utc",
    "2024-02-29T13:00:00+0100", "2024-02-29T13:00:00+01", "2024-02-29 13:00:00 +01:00", "2024-02-29T10:30:00-01:30",
    "2024-02-29T12:00", "2024-02-29 12:00", "2024-02-29T12:00Z", "2024-02-29T12:0:0", "2024-2-29T12:00:00",
    " 2024-02-29 12:00:00", "+2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000001Z", "2024-02-29T12:00:00.0000009Z",
    "2024-02-29T12:00:00.1234567899Z", "2024-02-29T11:59:60Z", "2024-02-29T11:59:59.999999999", "2024-02-29T24:00:00Z",
    "2024-02-29T12:00:00+24:00", "2024-02-29T12:00:00+01:60", "2024-02-30T12:00:00Z", "20240229T120000Z", "2024-02-29 ",
    "02024-02-29", "24-02-29", "noon", "",
]  # fmt: skip


async def test_spellings_of_datetimes(store: Store, collection: str) -> None:
    reference = MemoryStore()
    await reference.create(collection, PLAIN)
    spellings = [text for text in SPELLINGS if len(text) < 28 or not is_unindexed_server(store)]
    points = [point(number, at=text) for number, text in enumerate(spellings)]
    for each in (store, reference):
        await each.upsert(collection, points)
    second, microsecond = timedelta(seconds=1), timedelta(microseconds=1)
    for bound in (NOON, NOON - second, NOON + second, NOON + microsecond, NOON - microsecond):
        for condition in (DatetimeRange("at", gte=bound), DatetimeRange("at", gt=bound), DatetimeRange("at", lt=bound)):
            try:
                found = await ids(store, collection, condition)
            except Untranslatable:
                pytest.skip("not translated by this store")
            wrong = found ^ await ids(reference, collection, condition)
            assert not wrong, f"{condition}: {[spellings[number] for number in wrong if isinstance(number, int)]}"


async def test_filters_of_points_without_vectors(store: Store, collection: str) -> None:
    if not store.capabilities.vectors_optional:
        pytest.skip("every point has every vector")
    bare = point(2)
    await store.upsert(collection, [point(1), type(bare)(2)])
    assert await ids(store, collection, HasVector("")) == {1}
    assert await ids(store, collection, Not(HasVector(""))) == {2}


@pytest.mark.parametrize("path", ["", "a b", "a..b", "a[", "[0]", "a[x]", '"a'])
async def test_a_path_that_is_none_is_refused(library: Library, path: str) -> None:
    with pytest.raises((InvalidRequest, Untranslatable)):
        await library.store.scan(library.name, None, 10, IsEmpty(path))
