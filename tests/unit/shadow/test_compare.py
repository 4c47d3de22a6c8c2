"""How two answers are compared: overlap@k with ties at the cut-off, missing ids, scores, payloads, pages, counts."""

from __future__ import annotations

import random
from itertools import permutations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import Counted, Hit, Hits, HitsBatch, Json, Metric, Page, Point, PointId, Points, Result, Written
from proxy.shadow.compare import Comparison, compare, ids_of, scores_of


def hits(*scored: tuple[PointId, float], **payloads: dict[str, Json]) -> Hits:
    return Hits(Metric.COSINE, tuple(Hit(Point(i, payload=payloads.get(f"p{i}", {})), score) for i, score in scored))


def points(*ids: PointId, **payloads: dict[str, Json]) -> tuple[Point, ...]:
    return tuple(Point(i, payload=payloads.get(f"p{i}", {})) for i in ids)


# --- searches -------------------------------------------------------------------------------


def test_equal_answers_agree() -> None:
    answer = hits((1, 0.9), ("1", 0.8), (UUID(int=1), 0.7))
    found = compare(answer, answer, k=10)
    assert found == Comparison(overlap=1.0, score_difference=0.0, mean_score_difference=0.0)
    assert found.agrees
    assert found.differing == frozenset()


def test_two_empty_answers_agree_and_one_empty_answer_does_not() -> None:
    assert compare(hits(), hits(), k=10).agrees
    found = compare(hits((1, 0.5)), hits(), k=10)
    assert (found.overlap, found.missing, found.score_difference) == (0.0, (1,), None)
    found = compare(hits(), hits((1, 0.5)), k=10)
    assert (found.overlap, found.unexpected) == (0.0, (1,))


def test_ids_keep_their_type() -> None:
    found = compare(hits((7, 0.5)), hits(("7", 0.5)), k=10)
    assert (found.overlap, found.missing, found.unexpected) == (0.0, (7,), ("7",))


def test_what_is_missing_and_what_is_unexpected() -> None:
    found = compare(hits((1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)), hits((1, 0.9), (3, 0.7), (9, 0.65), (4, 0.6)), k=4)
    assert (found.overlap, found.missing, found.unexpected) == (0.75, (2,), (9,))
    assert found.differing == {2, 9}
    assert not found.agrees


def test_only_the_first_k_count() -> None:
    found = compare(hits((1, 0.9), (2, 0.8), (3, 0.7)), hits((1, 0.9), (2, 0.8), (4, 0.75)), k=2)
    assert found.agrees


def test_order_among_shared_hits_is_not_a_difference_of_its_own() -> None:
    found = compare(hits((1, 0.9), (2, 0.9)), hits((2, 0.9), (1, 0.9)), k=2)
    assert found.agrees


# --- ties -----------------------------------------------------------------------------------


def test_equal_scores_at_the_cut_off_stand_in_for_each_other() -> None:
    ours = hits((1, 0.9), (2, 0.5), (3, 0.5))
    theirs = hits((1, 0.9), (8, 0.5), (9, 0.5))
    assert compare(ours, theirs, k=3).agrees
    assert compare(ours, hits((1, 0.9), (8, 0.500001), (9, 0.499999)), k=3, tie_tolerance=1e-5).agrees


def test_one_for_one_only() -> None:
    """A tie at the cut-off does not excuse a hit that should have been there for certain."""
    found = compare(hits((1, 0.9), (2, 0.5), (3, 0.5)), hits((8, 0.5), (2, 0.5), (9, 0.5)), k=3)
    assert found.overlap == pytest.approx(2 / 3)
    assert found.missing == (1,)
    assert len(found.unexpected) == 1


def test_scores_beyond_the_tolerance_are_no_tie() -> None:
    found = compare(hits((1, 0.9), (2, 0.5)), hits((1, 0.9), (3, 0.4999)), k=2, tie_tolerance=1e-5)
    assert (found.overlap, found.missing, found.unexpected) == (0.5, (2,), (3,))


def test_a_tie_above_the_cut_off_is_none() -> None:
    """Both equals belong on the list: nothing pushed either of them off."""
    found = compare(hits((1, 0.9), (2, 0.9), (3, 0.5)), hits((1, 0.9), (4, 0.9), (3, 0.5)), k=3)
    assert (found.overlap, found.missing, found.unexpected) == (2 / 3, (2,), (4,))


def test_a_list_that_was_not_cut_off_has_no_ties() -> None:
    """Fewer than k hits: there was room for the missing one."""
    found = compare(hits((1, 0.9), (2, 0.5)), hits((1, 0.9), (3, 0.5)), k=10)
    assert (found.overlap, found.missing) == (0.5, (2,))
    assert compare(hits((1, 0.9), (2, 0.5)), hits((1, 0.9), (3, 0.5)), k=10, limits=(2,)).agrees


def test_a_shorter_answer_is_not_excused_by_a_tie() -> None:
    found = compare(hits((1, 0.9), (2, 0.5), (3, 0.5)), hits((1, 0.9), (2, 0.5)), k=3)
    assert (found.overlap, found.missing) == (2 / 3, (3,))


def test_tolerance_is_relative_for_large_scores() -> None:
    ours, theirs = hits((1, -20000.0), (2, -30000.0)), hits((1, -20000.0), (3, -30000.1))
    assert compare(ours, theirs, k=2, tie_tolerance=1e-5).agrees
    assert not compare(ours, theirs, k=2, tie_tolerance=1e-7).agrees


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, max_size=8), st.integers(1, 8), st.randoms())
def test_two_right_answers_always_agree(scores: list[float], k: int, chance: random.Random) -> None:
    """Whatever order a store gives equal scores in, and whichever of them it cuts off, it is right."""
    stored = list(enumerate(scores))

    def answer() -> Hits:
        chance.shuffle(stored)
        return hits(*sorted(stored, key=lambda one: -one[1])[:k])

    found = compare(answer(), answer(), k=k)
    assert found.agrees


def test_a_wrong_answer_is_found_in_every_order() -> None:
    right = [(1, 0.3), (2, 0.2), (3, 0.1), (4, 0.1)]
    for order in permutations([(1, 0.3), (3, 0.1), (4, 0.1)]):
        found = compare(hits(*right[:3]), hits(*sorted(order, key=lambda one: -one[1])), k=3)
        assert found.missing == (2,)
        assert found.overlap == pytest.approx(2 / 3)


# --- scores and payloads --------------------------------------------------------------------


def test_scores_of_shared_hits() -> None:
    found = compare(hits((1, 0.9), (2, 0.8), (3, 0.1)), hits((1, 0.9), (2, 0.64), (4, 0.5)), k=3)
    assert found.score_difference == pytest.approx(0.16)
    assert found.mean_score_difference == pytest.approx(0.08)
    assert found.rescored == (2,)


def test_a_wrong_conversion_shows_although_the_ids_agree() -> None:
    """Squared instead of true distances: the same hits in the same order."""
    found = compare(hits((1, -2.0), (2, -3.0)), hits((1, -4.0), (2, -9.0)), k=2)
    assert found.overlap == 1.0
    assert (found.score_difference, found.rescored) == (6.0, (1, 2))
    assert not found.agrees


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": None}, {}, False),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [1]}, {"a": [1, 1]}, False),
        ({"a": {"b": [True]}}, {"a": {"b": [1]}}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": []}, {"a": {}}, False),
    ],
)
def test_payloads_are_compared_as_json(one: dict[str, Json], other: dict[str, Json], same: bool) -> None:
    found = compare(hits((1, 0.5), p1=one), hits((1, 0.5), p1=other), k=1)
    assert found.changed == (() if same else (1,))
    assert found.agrees is same


# --- batches, points, pages, counts ---------------------------------------------------------


def test_a_batch_is_the_mean_of_its_searches() -> None:
    ours = HitsBatch((hits((1, 0.9)), hits((1, 0.9), (2, 0.8))))
    theirs = HitsBatch((hits((1, 0.8)), hits((1, 0.9), (3, 0.7))))
    found = compare(ours, theirs, k=10)
    assert (found.overlap, found.missing, found.unexpected) == (0.75, (2,), (3,))
    assert found.score_difference == pytest.approx(0.1)
    assert found.mean_score_difference == pytest.approx(0.05)
    assert compare(HitsBatch(()), HitsBatch(()), k=10).agrees


def test_each_search_of_a_batch_has_its_own_limit() -> None:
    ours = HitsBatch((hits((1, 0.9), (2, 0.5)), hits((1, 0.9), (2, 0.5))))
    theirs = HitsBatch((hits((1, 0.9), (3, 0.5)), hits((1, 0.9), (3, 0.5))))
    found = compare(ours, theirs, k=10, limits=(2, 5))
    assert (found.overlap, found.missing) == (0.75, (2,))


def test_points_are_compared_without_order() -> None:
    assert compare(Points(points(1, 2)), Points(points(2, 1)), k=1).agrees
    found = compare(Points(points(1, 2, p2={"a": 1})), Points(points(2, 3, p2={"a": 2})), k=1)
    assert (found.overlap, found.missing, found.unexpected, found.changed) == (0.5, (1,), (3,), (2,))


def test_a_page_includes_where_the_next_one_starts() -> None:
    assert compare(Page(points(1, 2), 3), Page(points(1, 2), 3), k=1).agrees
    found = compare(Page(points(1, 2), 3), Page(points(1, 2), 4), k=1)
    assert (found.overlap, found.missing, found.unexpected) == (2 / 3, (3,), (4,))
    found = compare(Page(points(1, 2), None), Page(points(1, 2), 3), k=1)
    assert (found.missing, found.unexpected) == ((), (3,))


@pytest.mark.parametrize(
    ("ours", "theirs", "overlap"), [(0, 0, 1.0), (4, 4, 1.0), (3, 4, 0.75), (4, 3, 0.75), (0, 5, 0)]
)
def test_counts(ours: int, theirs: int, overlap: float) -> None:
    found = compare(Counted(ours), Counted(theirs), k=1)
    assert found.overlap == overlap
    assert found.agrees is (ours == theirs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (hits(), Points(())),
        (Counted(1), hits()),
        (HitsBatch((hits(),)), HitsBatch(())),
        (Written(), Written()),
    ],
)
def test_answers_to_different_reads_are_refused(one: Result, other: Result) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        compare(one, other, k=1)


def test_ids_and_scores_of_any_answer() -> None:
    assert ids_of(hits((1, 0.5), ("a", 0.4))) == {1, "a"}
    assert ids_of(HitsBatch((hits((1, 0.5)), hits((2, 0.5))))) == {1, 2}
    assert ids_of(Points(points(1))) == {1}
    assert ids_of(Page(points(1), 2)) == {1, 2}
    assert ids_of(Counted(3)) == frozenset()
    assert scores_of(hits((1, 0.5), (2, 0.4)), 1) == ((1, 0.5),)
    assert scores_of(HitsBatch((hits((1, 0.5)), hits((2, 0.5)))), 5) == ((1, 0.5), (2, 0.5))
    assert scores_of(Page(points(1, 2), 3), 5) == ((1, None), (2, None))
    assert scores_of(Counted(3), 5) == ()
