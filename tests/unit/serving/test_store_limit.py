"""How many requests a store is asked at once."""

from __future__ import annotations

import pytest

from proxy.errors import Overloaded, Unavailable
from proxy.serving.store_limit import StoreLimit
from tests.support.clock import ManualClock


class Hands(ManualClock):
    def move(self, seconds: float) -> None:
        self._now += seconds


def answers(limit: StoreLimit, clock: Hands, seconds: float, at_once: int, times: int = 1) -> None:
    """So many requests at once that all take so long, again and again."""
    for _ in range(times):
        begun = [limit.enter() for _ in range(at_once)]
        clock.move(seconds)
        for began in begun:
            limit.leave("search", began, answered=True)


def test_who_asks_little_at_a_time_is_never_limited_however_slow_an_answer_is() -> None:
    clock = Hands()
    limit = StoreLimit("old", clock)
    answers(limit, clock, 0.001, at_once=200, times=50)
    answers(limit, clock, 30.0, at_once=200, times=50)
    assert limit.limit == 1024


def test_a_store_that_gets_slower_under_many_is_asked_less_and_later_more_again() -> None:
    clock = Hands()
    limit = StoreLimit("old", clock)
    answers(limit, clock, 0.01, at_once=600, times=20)
    answers(limit, clock, 5.0, at_once=600)
    cut = limit.limit
    assert cut < 600
    with pytest.raises(Overloaded, match="the store old is asked 540 requests at once"):
        answers(limit, clock, 0.01, at_once=600)
    limit.in_flight = 0
    answers(limit, clock, 0.01, at_once=500, times=20)
    assert limit.limit > cut + 5


def test_it_is_cut_once_for_what_was_slow_together_and_never_below_its_floor() -> None:
    clock = Hands()
    limit = StoreLimit("old", clock)
    answers(limit, clock, 0.01, at_once=1000)
    before = limit.limit
    answers(limit, clock, 1.0, at_once=1000)
    assert limit.limit > before * 0.85
    for _ in range(100):
        answers(limit, clock, 1.0, at_once=int(limit.limit))
        answers(limit, clock, 0.01, at_once=1)
    assert limit.limit == 32


def test_what_has_become_slow_for_good_is_usual_after_a_while() -> None:
    clock = Hands()
    limit = StoreLimit("old", clock)
    answers(limit, clock, 0.1, at_once=600)
    answers(limit, clock, 0.6, at_once=1, times=300)
    answers(limit, clock, 0.6, at_once=600)
    assert limit.limit == 1024


def test_what_is_not_answered_is_slow_but_teaches_nothing() -> None:
    clock = Hands()
    limit = StoreLimit("old", clock)
    answers(limit, clock, 0.01, at_once=1000)
    begun = [limit.enter() for _ in range(1000)]
    clock.move(60)
    for began in begun:
        limit.leave("search", began, answered=False)
    assert limit.limit < 1000
    assert limit.in_flight == 0


def test_what_is_usual_is_learned_by_kind() -> None:
    clock = Hands()
    limit = StoreLimit("old", clock)
    begun = [limit.enter() for _ in range(1000)]
    clock.move(0.01)
    for began in begun[:500]:
        limit.leave("search", began, answered=True)
    clock.move(2)
    for began in begun[500:]:
        limit.leave("upsert", began, answered=True)
    assert limit.limit == 1024


async def test_whatever_becomes_of_a_request_it_makes_room() -> None:
    limit = StoreLimit("old", Hands())

    async def nested() -> str:
        limit.limit = 1
        with pytest.raises(Overloaded):
            await limit.keep("search", unheard)
        return "answered"

    async def unheard() -> str:
        raise AssertionError("there was no room")

    async def fails() -> str:
        raise Unavailable("connection refused")

    assert await limit.keep("search", nested) == "answered"
    with pytest.raises(Unavailable, match="connection refused"):
        await limit.keep("upsert", fails)
    assert limit.in_flight == 0
    assert await limit.keep("search", nested) == "answered"


def test_who_is_given_up_makes_room() -> None:
    limit = StoreLimit("old", Hands(), limit=1)
    limit.enter()
    with pytest.raises(Overloaded):
        limit.enter()
    limit.give_up()
    limit.enter()
