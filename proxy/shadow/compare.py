"""How far two answers to one read agree. Pure.

The client's answer is the yardstick, whichever store gave it: `missing` is what the shadow's answer lacks,
`unexpected` what only the shadow's has.

Rules of the file:

- **Ties.** Stores order equal scores as they like, and where a list is cut off, which of the equals is still on
  it is chance. A list of k hits was cut off at the score of its last one: hits on only one list whose scores are
  within `tie_tolerance` of that score stand in for each other, one for one. A list shorter than k was not cut
  off, so nothing stands in for what it lacks.
- **overlap** = (hits on both lists + pairs that stand in for each other) / length of the longer list; 1.0 for two
  empty lists. For k = 10 this is overlap@10.
- **Tolerance** is relative above 1 and absolute below: |a - b| <= tie_tolerance * max(1, |a|, |b|). Scores are the
  model's (higher is better, the true distance for Euclid), so that a wrong conversion shows as a difference.
- Payloads of shared points are compared as JSON (1 equals 1.0, but not true). Vectors are not compared here:
  stores keep them in precisions of their own, and verify looks at them with a tolerance fit for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxy.model import Counted, Hit, Hits, HitsBatch, Json, Page, Point, PointId, Points, Result


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far an answer agrees with the shadow's.

    overlap: 0 to 1, see above; for counts the smaller divided by the larger.
    missing, unexpected: ids on only one side, without those that stand in for each other.
    changed: shared ids with other payloads. rescored: shared ids whose scores differ by more than the tolerance.
    score_difference, mean_score_difference: largest and mean |a - b| over shared hits; None without any.
    """

    overlap: float
    missing: tuple[PointId, ...] = ()
    unexpected: tuple[PointId, ...] = ()
    changed: tuple[PointId, ...] = ()
    rescored: tuple[PointId, ...] = ()
    score_difference: float | None = None
    mean_score_difference: float | None = None

    @property
    def differing(self) -> frozenset[PointId]:
        """Every id that the two answers do not agree on."""
        return frozenset((*self.missing, *self.unexpected, *self.changed, *self.rescored))

    @property
    def agrees(self) -> bool:
        return self.overlap == 1.0 and not self.differing


def compare(
    answered: Result, shadow: Result, *, k: int, limits: Sequence[int] = (), tie_tolerance: float = 1e-5
) -> Comparison:
    """Compare the first `k` hits of searches (`limits`: what each search asked for, if that is less), or whole
    pages, points and counts. Raises ValueError for answers that are not to the same kind of read."""
    match answered, shadow:
        case Hits(hits=ours), Hits(hits=theirs):
            return _hits(ours, theirs, _at_most(k, limits, 0), tie_tolerance)
        case HitsBatch(batches=ours), HitsBatch(batches=theirs) if len(ours) == len(theirs):
            return _together(
                [
                    _hits(one.hits, other.hits, _at_most(k, limits, place), tie_tolerance)
                    for place, (one, other) in enumerate(zip(ours, theirs, strict=True))
                ]
            )
        case Points(points=ours), Points(points=theirs):
            return _points(ours, theirs, (), ())
        case Page(), Page():
            return _points(answered.points, shadow.points, _following(answered), _following(shadow))
        case Counted(count=ours), Counted(count=theirs):
            return Comparison(overlap=1.0 if ours == theirs else min(ours, theirs) / max(ours, theirs))
        case _:
            raise ValueError(f"{type(answered).__name__} cannot be compared with {type(shadow).__name__}")


def ids_of(result: Result) -> frozenset[PointId]:
    """The points that an answer speaks of."""
    match result:
        case Hits(hits=hits):
            return frozenset(hit.point.id for hit in hits)
        case HitsBatch(batches=batches):
            return frozenset(hit.point.id for hits in batches for hit in hits.hits)
        case Points(points=points):
            return frozenset(point.id for point in points)
        case Page(points=points):
            return frozenset((*(point.id for point in points), *_following(result)))
        case _:
            return frozenset()


def scores_of(result: Result, at_most: int) -> tuple[tuple[PointId, float | None], ...]:
    """The first ids of an answer in its order, with their scores where it has any."""
    match result:
        case Hits(hits=hits):
            return tuple((hit.point.id, hit.score) for hit in hits[:at_most])
        case HitsBatch(batches=batches):
            return tuple((hit.point.id, hit.score) for hits in batches for hit in hits.hits)[:at_most]
        case Points(points=points) | Page(points=points):
            return tuple((point.id, None) for point in points[:at_most])
        case _:
            return ()


def _at_most(k: int, limits: Sequence[int], place: int) -> int:
    return min(k, limits[place]) if place < len(limits) else k


def _hits(answered: Sequence[Hit], shadow: Sequence[Hit], k: int, tolerance: float) -> Comparison:
    ours, theirs = answered[:k], shadow[:k]
    our_scores = {hit.point.id: hit.score for hit in ours}
    their_scores = {hit.point.id: hit.score for hit in theirs}
    missing = [hit for hit in ours if hit.point.id not in their_scores]
    unexpected = [hit for hit in theirs if hit.point.id not in our_scores]
    replaced = _stand_ins(missing, unexpected, ours[-1].score, tolerance) if ours and len(ours) == k else 0
    shared = len(ours) - len(missing)
    length = max(len(ours), len(theirs))
    differences = {
        point_id: abs(score - their_scores[point_id])
        for point_id, score in our_scores.items()
        if point_id in their_scores
    }
    return Comparison(
        overlap=(shared + replaced) / length if length else 1.0,
        missing=_without_last(missing, replaced),
        unexpected=_without_last(unexpected, replaced),
        changed=_changed((hit.point for hit in ours), {hit.point.id: hit.point for hit in theirs}),
        rescored=tuple(
            point_id for point_id in differences if not _near(our_scores[point_id], their_scores[point_id], tolerance)
        ),
        score_difference=max(differences.values(), default=None),
        mean_score_difference=sum(differences.values()) / len(differences) if differences else None,
    )


def _stand_ins(missing: Iterable[Hit], unexpected: Iterable[Hit], cut_off: float, tolerance: float) -> int:
    """How many pairs of hits, one on each list only, differ by nothing but the luck of a tie at the cut-off."""
    ours = sum(_near(hit.score, cut_off, tolerance) for hit in missing)
    theirs = sum(_near(hit.score, cut_off, tolerance) for hit in unexpected)
    return min(ours, theirs)


def _without_last(hits: Sequence[Hit], count: int) -> tuple[PointId, ...]:
    """The ids but those of the last `count`: lists are in order of score, and ties at the cut-off come last."""
    return tuple(hit.point.id for hit in hits[: len(hits) - count])


def _near(one: float, other: float, tolerance: float) -> bool:
    return abs(one - other) <= tolerance * max(1.0, abs(one), abs(other))


def _together(comparisons: Sequence[Comparison]) -> Comparison:
    """Several searches of one request: the mean of their overlaps, and what any of them differs in."""
    largest = [each.score_difference for each in comparisons if each.score_difference is not None]
    means = [each.mean_score_difference for each in comparisons if each.mean_score_difference is not None]
    return Comparison(
        overlap=sum(each.overlap for each in comparisons) / len(comparisons) if comparisons else 1.0,
        missing=tuple(point_id for each in comparisons for point_id in each.missing),
        unexpected=tuple(point_id for each in comparisons for point_id in each.unexpected),
        changed=tuple(point_id for each in comparisons for point_id in each.changed),
        rescored=tuple(point_id for each in comparisons for point_id in each.rescored),
        score_difference=max(largest, default=None),
        mean_score_difference=sum(means) / len(means) if means else None,
    )


def _following(page: Page) -> tuple[PointId, ...]:
    """The id with which the next page starts belongs to the answer: a wrong one loses or repeats points."""
    return () if page.next is None else (page.next,)


def _points(
    answered: Sequence[Point], shadow: Sequence[Point], our_next: tuple[PointId, ...], their_next: tuple[PointId, ...]
) -> Comparison:
    ours = dict.fromkeys((*(point.id for point in answered), *our_next))
    theirs = dict.fromkeys((*(point.id for point in shadow), *their_next))
    length = max(len(ours), len(theirs))
    return Comparison(
        overlap=len(ours.keys() & theirs.keys()) / length if length else 1.0,
        missing=tuple(point_id for point_id in ours if point_id not in theirs),
        unexpected=tuple(point_id for point_id in theirs if point_id not in ours),
        changed=_changed(answered, {point.id: point for point in shadow}),
    )


def _changed(answered: Iterable[Point], shadow: Mapping[PointId, Point]) -> tuple[PointId, ...]:
    return tuple(
        point.id
        for point in answered
        if point.id in shadow and not _same_json(dict(point.payload), dict(shadow[point.id].payload))
    )


def _same_json(one: Json, other: Json) -> bool:
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case dict(), dict():
            return one.keys() == other.keys() and all(_same_json(value, other[name]) for name, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(_same_json(*pair) for pair in zip(one, other, strict=True))
        case _:
            return one == other
