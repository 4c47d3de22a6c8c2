"""Which writes determine the state they leave, and what becomes of a hint."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from proxy.model import (
    Batch,
    CollectionSpec,
    Delete,
    Filter,
    Ids,
    Match,
    Metric,
    OpaqueWrite,
    Point,
    PointId,
    SetPayload,
    SparseVector,
    UnreadVector,
    Upsert,
    VectorSpec,
    Where,
    Write,
)
from proxy.replication.hints import Hints, Keeping, left_by, units

MATCH: Filter = Match("a", 1)


def f32(*values: float) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


SPEC = CollectionSpec({"": VectorSpec(2, Metric.COSINE), "dot": VectorSpec(2, Metric.DOT)})
POINT = Point(1, {"": f32(3, 4), "dot": f32(3, 4)}, {"a": 1})


KEEPING = Keeping(SPEC, normalizes_cosine=True)


def take(hints: Hints, point_id: PointId, mark: int | None) -> tuple[bool, Point | None]:
    """Whether the hint of that mark says what the key holds, and what."""
    found = hints.take({point_id: mark})
    for keeping, points in found.written:
        states = keeping.states(points)
        return point_id in states, states.get(point_id)
    return point_id in found.states, found.states.get(point_id)


def taken(write: Write, keeping: Keeping | None = KEEPING) -> dict[PointId, Point | None]:
    """What a reconciliation that takes all marks of `write` has from hints."""
    hints = Hints(10_000)
    hints.put(5, left_by(write), keeping)
    found = {point_id: take(hints, point_id, 5) for point_id in (1, 2)}
    return {point_id: state for point_id, (known, state) in found.items() if known}


def test_a_whole_point_is_hinted_as_the_primary_returns_it() -> None:
    hinted = taken(Upsert("c", (POINT,)))[1]
    assert hinted is not None
    assert hinted.payload == {"a": 1}
    assert np.allclose(np.frombuffer(hinted.vectors[""], "<f4"), [0.6, 0.8])  # type: ignore[arg-type]
    assert hinted.vectors["dot"] == f32(3, 4)


def test_a_delete_by_id_is_hinted_as_absent() -> None:
    assert taken(Delete("c", Ids((1, 2))), None) == {1: None, 2: None}


@pytest.mark.parametrize(
    "write",
    [
        Upsert("c", (POINT,), condition=MATCH),
        Upsert("c", (POINT,), mode="insert_only"),
        Upsert("c", (POINT, POINT)),
        Upsert("c", (Point(1, {"unknown": f32(1, 2)}),)),
        Upsert("c", (Point(1, {"": f32(1, 2, 3)}),)),
        Upsert("c", (Point(1, {"": SparseVector((1,), f32(1))}),)),
        Delete("c", Ids((1, 1))),
        Delete("c", Where(MATCH)),
        SetPayload("c", {"a": 1}, Ids((1,))),
        OpaqueWrite("c", (1,), "inference"),
        Batch("c", (Delete("c", Ids((1,))), Upsert("c", (POINT,)))),
    ],
    ids=lambda write: repr(write)[:60],
)
def test_everything_else_is_read_from_the_primary(write: Write) -> None:
    assert taken(write) == {}


def test_of_two_points_the_one_that_is_certain_is_hinted() -> None:
    other = Point(2, {"": SparseVector((1,), f32(1))})
    assert taken(Upsert("c", (POINT, other))).keys() == {1}


def test_a_vector_that_the_store_keeps_otherwise_gives_no_hint() -> None:
    spec = CollectionSpec({"": VectorSpec(2, Metric.DOT, datatype="float16")})
    assert taken(Upsert("c", (Point(1, {"": f32(1, 2)}),)), Keeping(spec, normalizes_cosine=True)) == {}
    assert taken(Upsert("c", (POINT,)), None) == {}


def test_a_zero_vector_stays_as_it_is() -> None:
    assert units([f32(0, 0), f32(0, 2)]) == [f32(0, 0), f32(0, 1)]
    assert units([]) == []


def test_a_hint_serves_only_the_mark_it_belongs_to_and_only_once() -> None:
    hints = Hints(10_000)
    hints.put(5, {1: POINT}, KEEPING)
    assert take(hints, 1, 6) == (False, None)
    hints.put(5, {1: POINT}, KEEPING)
    assert take(hints, 1, 5) == (True, KEEPING.states([POINT])[1])
    assert take(hints, 1, 5) == (False, None)
    hints.put(5, {1: POINT}, KEEPING)
    assert take(hints, 1, None) == (False, None)
    hints.put(7, {2: None}, None)
    assert take(hints, 2, 7) == (True, None)
    assert hints.size_bytes == 0


def test_what_is_no_longer_known_takes_the_place_of_an_older_hint() -> None:
    hints = Hints(10_000)
    hints.put(5, {1: POINT}, KEEPING)
    hints.put(6, {1: POINT}, None)
    assert hints.size_bytes == 0  # a point of which nobody knows how it is kept takes no memory
    hints.put(6, {1: Point(1, {"": SparseVector((1,), f32(1))})}, KEEPING)
    assert hints.size_bytes == 0
    assert (take(hints, 1, 5), take(hints, 1, 6)) == ((False, None), (False, None))


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    spec = CollectionSpec({"": VectorSpec(100, Metric.DOT)})
    keeping, hints = Keeping(spec, normalizes_cosine=False), Hints(3000)
    puts = [hints.put(number, {number: Point(number, {"": bytes(400)})}, keeping) for number in range(100)]
    assert hints.size_bytes <= 3000
    assert sum(kept for kept, _ in puts) == 100
    assert sum(dropped for _, dropped in puts) > 90
    assert take(hints, 0, 0) == (False, None)
    assert take(hints, 99, 99)[0]


def test_memory_is_bounded_however_unlike_the_points_of_a_write_are() -> None:
    """Small points that are written again and again, each time beside a large one that is not."""
    hints = Hints(1_000_000)
    small: dict[PointId, Point | None] = {number: Point(number, {"": f32(1, 2)}) for number in range(50)}
    keeping = Keeping(CollectionSpec({"": VectorSpec(2, Metric.DOT)}), normalizes_cosine=False)
    for number in range(200):
        large = Point(1000 + number, {"": f32(1, 2)}, {"text": "x" * 50_000})
        hints.put(number, {**small, large.id: large}, keeping)
        assert hints.size_bytes <= 1_000_000
    marks: dict[PointId, int | None] = {1000 + number: number for number in range(200)}
    held = sum(len(points) for _, points in hints.take(marks).written)
    assert 1 <= held <= 1_000_000 // 50_000


LARGE = bytes(64 * 1024)
LARGE_POINTS = 32 * 300  # bytes that are counted for the points of such a request


def upsert(first: int, number: int = 32, native: bytes = LARGE) -> Upsert:
    """Of so many points, from that id on."""
    ids = range(first, first + number)
    return Upsert("c", tuple(Point(each, {"": f32(1, 2)}, native=b"point") for each in ids), native=native)


def put(hints: Hints, mark: int, write: Upsert) -> None:
    hints.put(mark, left_by(write), NATIVE, write)


def marked(write: Upsert, mark: int) -> dict[PointId, int | None]:
    return {point.id: mark for point in write.points}


SPARSE = Point(131, {"": SparseVector((1,), f32(1))})
NATIVE = Keeping(CollectionSpec({"": VectorSpec(2, Metric.DOT)}), normalizes_cosine=False, takes_native=True)


def test_a_write_of_which_all_keys_are_taken_is_taken_as_it_came() -> None:
    hints, first, second = Hints(1_000_000), upsert(100), upsert(200)
    put(hints, 5, first)
    put(hints, 6, second)
    found = hints.take({**marked(first, 5), 200: 6, 9: None, 201: 6})
    assert found.upserts == [first]
    assert found.upserts[0].native is LARGE
    assert found.states.keys() == {200, 201}
    assert found.unknown == [9]
    found = hints.take(dict.fromkeys(range(202, 232), 6))  # the last of it, and not all
    assert not found.upserts
    assert len(found.states) == 30
    assert hints.size_bytes == 0
    assert not hints.take(marked(first, 5)).states


def test_a_write_of_which_a_key_was_written_again_is_taken_by_its_points() -> None:
    hints, first, second = Hints(1_000_000), upsert(100), upsert(131)
    put(hints, 5, first)
    put(hints, 6, second)
    found = hints.take({**marked(first, 5), **marked(second, 6)})
    assert found.upserts == [second]
    assert found.states.keys() == set(range(100, 131))
    assert hints.size_bytes == 0


def test_a_write_of_which_a_key_was_written_again_after_its_mark_was_taken_is_not_sent_again() -> None:
    hints, first, second = Hints(1_000_000), upsert(100), upsert(131)
    put(hints, 5, first)
    taken = marked(first, 5)  # by a BEGIN, and then:
    put(hints, 6, second)
    found = hints.take(taken)
    assert not found.upserts
    assert (len(found.states), found.unknown) == (31, [131])


def test_of_what_is_written_over_nothing_is_kept() -> None:
    hints = Hints(10_000_000)
    put(hints, 0, upsert(100))
    size = hints.size_bytes
    for mark in range(1, 20):
        put(hints, mark, upsert(100))
        assert hints.size_bytes == size
    small: dict[PointId, Point | None] = {100: Point(100, {"": f32(1, 2)}, native=b"point")}
    hints.put(20, small, NATIVE)
    assert hints.size_bytes == size - len(LARGE)


def views(first: int, number: int = 32, native: bytes = LARGE) -> Upsert:
    """Of so many points whose vectors are views of the request."""
    view = memoryview(native)
    points = [
        Point(each, UnreadVector(view[:8], lambda wire: {"": bytes(wire)})) for each in range(first, first + number)
    ]
    return Upsert("c", tuple(points), native=native)


def has_hold(write: Upsert) -> set[PointId]:
    """The points that have hold of the whole request."""
    vectors = {point.id: point.vectors for point in write.points}
    return {key for key, each in vectors.items() if isinstance(each, UnreadVector) and type(each.wire) is memoryview}


def test_points_have_hold_of_their_request_only_while_that_is_kept() -> None:
    hints, small, kept, again, over, left = Hints(2_000_000), *[views(100 * number) for number in range(5)]
    hints.put(4, left_by(small), replace(NATIVE, takes_native=False), small)
    assert not has_hold(small)
    for mark, write in enumerate([kept, again, over, left], start=5):
        put(hints, mark, write)
        assert len(has_hold(write)) == 32
    assert hints.take(marked(kept, 5)).upserts == [kept]
    assert len(has_hold(kept)) == 32  # its bytes are about to be sent
    hints.take({200: 6})  # a part of it
    assert not has_hold(again)
    put(hints, 9, upsert(331))  # the last of them, and others
    assert has_hold(over) == {331}  # of which nothing is kept
    more = [views(100 * number) for number in range(20, 28)]
    for mark, write in enumerate(more, start=20):
        put(hints, mark, write)
    assert not has_hold(left)  # more than a quarter of the memory would be requests
    assert has_hold(more[-1])
    hints.limit_bytes = 4 * LARGE_POINTS
    hints.put(30, {9999: None}, None)
    assert not has_hold(more[-1])
    assert hints.take({2700: 27}).states


@pytest.mark.parametrize(
    ("keeping", "write", "certain"),
    [
        (Keeping(NATIVE.spec, normalizes_cosine=False), upsert(100), 32),
        (Keeping(CollectionSpec({}), normalizes_cosine=False, takes_native=True), upsert(100), 32),
        (None, upsert(100), 32),
        (NATIVE, upsert(100, native=b""), 32),
        (NATIVE, upsert(100, native=LARGE[1:]), 32),
        (NATIVE, upsert(100, 31), 31),
        (NATIVE, upsert(100), 31),
        (NATIVE, replace(upsert(100), points=(*upsert(100, 31).points, SPARSE)), 32),
        (NATIVE, Delete("c", Ids(tuple(range(100, 132)))), 32),
    ],
    ids=[
        "another vendor",
        "kept otherwise",
        "not known",
        "not as it came",
        "small",
        "few points",
        "in part",
        "not all alike",
        "a delete",
    ],
)
def test_no_other_write_is_taken_as_it_came(keeping: Keeping | None, write: Write, certain: int) -> None:
    hints, left = Hints(1_000_000), left_by(write)
    hints.put(5, {number: left[number] for number in range(100, 100 + certain)}, keeping, write)
    assert not hints.take(dict.fromkeys(left, 5)).upserts


def test_requests_take_a_quarter_of_the_memory_at_most_and_go_before_points() -> None:
    hints = Hints(10 * len(LARGE))
    writes = [upsert(100 * number) for number in range(10)]
    put(hints, 10, upsert(5000, native=b""))
    points_bytes = hints.size_bytes
    for number, write in enumerate(writes):
        put(hints, number, write)
        assert hints.size_bytes <= 2.5 * len(LARGE) + points_bytes * (number + 2)
    put(hints, 11, upsert(6000, native=bytes(3 * len(LARGE))))  # too large, and in nobody's way
    assert [hints.take(marked(write, number)).upserts for number, write in enumerate(writes)] == [[]] * 8 + [
        [write] for write in writes[8:]
    ]
    put(hints, 12, writes[0])
    hints.limit_bytes = hints.size_bytes
    hints.put(13, {9999: None}, None)
    assert hints.size_bytes < len(LARGE)
    found = hints.take(marked(writes[0], 12))
    assert (found.upserts, len(found.states)) == ([], 32)
    hints.limit_bytes = 1_000_000
    put(hints, 14, writes[0])
    hints.clear()
    assert hints.size_bytes == 0
    assert not hints.take(marked(writes[0], 14)).upserts


def test_what_is_too_much_goes_in_one_walk() -> None:
    """A walk for each that has to go passes all that went before."""
    hints = Hints(64 * 400_000)
    began = time.process_time()
    for number in range(500):
        hints.put(number, dict.fromkeys(range(1000 * number, 1000 * number + 1000)), None)
    assert hints.size_bytes == hints.limit_bytes
    assert time.process_time() - began < 2.0
