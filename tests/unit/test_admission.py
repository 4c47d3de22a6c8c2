"""Who is admitted, in which company."""

from __future__ import annotations

from proxy.listeners.admission import Admission
from proxy.wire import Request, Response


def refuse(_: Request) -> Response:
    return Response(429)


def admission(requests: int = 10, size_bytes: int = 1000) -> Admission:
    return Admission(requests, size_bytes, refuse)


def test_one_client_may_have_everything() -> None:
    limit = admission()
    assert [limit.enter("a") for _ in range(12)] == [True] * 10 + [False] * 2
    for _ in range(10):
        limit.leave("a")
    assert limit.requests == 0
    assert limit.enter("a")


def test_one_that_comes_later_gets_a_share() -> None:
    limit = admission()
    for _ in range(9):
        assert limit.enter("greedy")
    assert limit.enter("late")  # there was one place left
    limit.leave("greedy")
    assert not limit.enter("greedy")  # more than half of it all is its already
    assert limit.enter("late")


def test_there_is_no_share_as_long_as_half_is_free() -> None:
    limit = admission()
    assert limit.enter("b")
    assert all(limit.enter("a") for _ in range(4))


def test_everybody_may_have_one_however_many_they_are() -> None:
    limit = admission(requests=4)
    assert all(limit.enter(str(client)) for client in range(4))
    assert not limit.enter("5")


def test_bodies_count_by_their_bytes_and_one_alone_may_have_any() -> None:
    limit = admission()
    assert limit.enter("a", 5000)
    assert not limit.enter("b", 1)
    limit.leave("a", 5000)
    assert limit.bytes == 0
    assert limit.enter("a", 600)
    assert not limit.enter("a", 600)
    assert limit.enter("a", 400)


def test_a_body_that_grows_has_room_or_not() -> None:
    limit = admission()
    assert limit.enter("a")
    assert limit.grow(5000)  # it is alone
    assert not limit.enter("b")
    limit.leave("a", 5000)
    assert limit.enter("a", 900)
    assert limit.enter("b")
    assert not limit.grow(200)
    limit.leave("a", 900)
    limit.leave("b", 200)
    assert (limit.requests, limit.bytes) == (0, 0)
