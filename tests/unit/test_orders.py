"""What writes of one key that overlap may leave, on made-up histories."""

from __future__ import annotations

import math
from typing import Any

from tests.support.orders import Request, left_by
from tests.support.possible import State, edit, put, remove, stored

KEY = 7


def state(**payload: Any) -> State:
    return stored((), payload)


def upsert(began: float, ended: float, token: str, **options: Any) -> Request:
    return Request(f"upsert {token}", began, ended, put({KEY: stored((), {"token": token})}), **options)


def delete(began: float, ended: float) -> Request:
    return Request("delete", began, ended, remove([KEY]))


def edited(began: float, ended: float, **new: Any) -> Request:
    there = lambda state: state is not None  # noqa: E731
    return Request(f"set {new}", began, ended, edit([KEY], lambda payload: payload | new), there)


def read(began: float, ended: float, found: State) -> Request:
    return Request(f"read {found}", began, ended, met=lambda state: state == found)


def left(*requests: Request, before: State = None) -> set[State]:
    return set(left_by(KEY, before, requests))


def test_what_was_answered_before_another_was_called_comes_before_it() -> None:
    assert left(upsert(0, 1, "one"), upsert(2, 3, "two")) == {state(token="two")}
    assert left(upsert(2, 3, "two"), upsert(0, 1, "one")) == {state(token="two")}
    assert left(upsert(0, 1, "one"), delete(2, 3)) == {None}
    assert left() == {None}


def test_of_two_that_overlap_either_is_the_last() -> None:
    assert left(upsert(0, 2, "one"), upsert(1, 3, "two")) == {state(token="one"), state(token="two")}
    # one that lasts long overlaps all
    assert left(upsert(0, 9, "long"), upsert(1, 2, "one"), upsert(3, 4, "two")) == {
        state(token="long"),
        state(token="two"),
    }


def test_no_part_is_lost() -> None:
    parts = (edited(2, 4, a=1), edited(3, 5, b=2))
    assert left(upsert(0, 1, "one"), *parts) == {state(token="one", a=1, b=2)}


def test_one_of_unknown_outcome_takes_effect_from_its_call_on_or_never() -> None:
    unknown = upsert(1, math.inf, "unknown", certain=False)
    assert left(upsert(2, 3, "one"), unknown) == {state(token="one"), state(token="unknown")}
    assert left(upsert(0, 0.5, "one"), unknown) == {state(token="one"), state(token="unknown")}
    in_time = upsert(1, 2, "unknown", certain=False)
    assert left(in_time, upsert(3, 4, "one")) == {state(token="one")}
    late = upsert(5, math.inf, "late", certain=False)
    assert left(late, delete(3, 4), edited(6, 7, a=1)) == {state(token="late", a=1)}


def test_what_was_read_settles_the_order() -> None:
    one, two = upsert(0, 2, "one"), upsert(1, 3, "two")
    assert left(one, two, read(4, 5, state(token="one"))) == {state(token="one")}
    assert left(one, two, read(4, 5, None)) == set()
    assert left(one, two, read(4, 5, state(token="one")), read(6, 7, state(token="two"))) == set()


def test_answers_that_cannot_all_be_true_leave_nothing() -> None:
    assert left(upsert(0, 1, "one"), delete(2, 3), edited(4, 5, a=1)) == set()
    assert left(upsert(0, 1, "one"), delete(2, 3), edited(2.5, 5, a=1)) == {None}


def test_a_history_of_some_hundred_requests_is_searched_in_time() -> None:
    """Four clients without a pause, and now and then one without an answer."""
    requests = [upsert(n, n + 4.5, str(n)) for n in range(200)]
    requests += [upsert(50 * n + 0.5, math.inf, f"unknown {n}", certain=False) for n in range(3)]
    assert {state(token="199"), state(token="unknown 0")} <= left(*requests)
