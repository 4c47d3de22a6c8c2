"""Who is admitted, in which company."""

from __future__ import annotations

from proxy.listeners.admission import Admission
from proxy.wire import Request, Response


def refuse(_: Request) -> Response:
    return Response(429)


def admission(requests: int = 10, size_bytes: int = 1000, largest: int = 10_000) -> Admission:
    return Admission(requests, size_bytes, largest, refuse)


def entered(limit: Admission, client: str, size: int | None = 0) -> bool:
    return limit.enter(client, size) is not None


def test_one_client_may_have_everything() -> None:
    limit = admission()
    assert [entered(limit, "a") for _ in range(12)] == [True] * 10 + [False] * 2
    for _ in range(10):
        limit.leave("a", 0)
    assert limit.requests == 0
    assert entered(limit, "a")


def test_one_that_comes_later_gets_a_share() -> None:
    limit = admission()
    for _ in range(9):
        assert entered(limit, "greedy")
    assert entered(limit, "late")  # there was one place left
    limit.leave("greedy", 0)
    assert not entered(limit, "greedy")  # more than half of it all is its already
    assert entered(limit, "late")


def test_there_is_no_share_as_long_as_half_is_free() -> None:
    limit = admission()
    assert entered(limit, "b")
    assert all(entered(limit, "a") for _ in range(4))


def test_everybody_may_have_one_however_many_they_are() -> None:
    limit = admission(requests=4)
    assert all(entered(limit, str(client)) for client in range(4))
    assert not entered(limit, "5")


def test_bodies_count_by_their_bytes_and_one_alone_may_have_any() -> None:
    limit = admission()
    assert limit.enter("a", 5000) == 5000
    assert not entered(limit, "b", 1)
    assert entered(limit, "b")  # without a body
    limit.leave("a", 5000)
    assert limit.bytes == 0
    assert entered(limit, "a", 600)
    assert not entered(limit, "a", 600)
    assert entered(limit, "b", 400)


def test_what_is_stated_counts_at_most_what_a_body_may_have() -> None:
    limit = admission(largest=300)
    assert limit.enter("a", 10**17) == 300
    assert limit.enter("b", None) == 300
    assert entered(limit, "c", 100)


def test_of_bytes_too_nobody_has_more_than_a_share_beyond_half() -> None:
    limit = admission(size_bytes=1000)
    assert entered(limit, "a", 400)
    assert entered(limit, "b", 50)
    assert not entered(limit, "a", 200)
    assert entered(limit, "b", 200)


def test_what_comes_before_a_request_is_taken_counts_too() -> None:
    limit = admission()
    assert limit.grow(5000, 5000)  # nothing else is there
    limit.shrink(5000)
    assert limit.grow(900, 900)
    assert not limit.grow(200, 200)  # of another body: none of the two has been taken, and they are too much
    limit.shrink(1100)
    assert entered(limit, "a", 900)
    assert not limit.grow(200, 200)
    limit.shrink(200)
    limit.leave("a", 900)
    assert (limit.requests, limit.bytes) == (0, 0)
