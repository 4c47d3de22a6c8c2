"""A search that both stores are asked at once: what is held, for how long, and what becomes of it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import orjson
import pytest

from proxy.clock import SystemClock
from proxy.config import Shadow
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import Unavailable
from proxy.shadow import ShadowReader
from proxy.shadow.pair import Other, Pair
from proxy.shadow.pairs import HELD_BYTES
from proxy.stores import Heard
from proxy.telemetry.metrics import Metrics
from proxy.wire import AnswerHead, GiveUp, Request, Response

BODY = orjson.dumps({"query": [0.1, 0.2], "limit": 3})
ASKED = Request("http", "POST", "/collections/docs/points/query", (), BODY)
OK = AnswerHead(200, ())
PACKED = AnswerHead(200, (("content-encoding", "gzip"),))


def answer(*numbers: int, time: float = 0.5, payload: str = "") -> bytes:
    hits = [{"id": number, "version": 1, "score": 1 / number, "payload": {"p": payload}} for number in numbers]
    return orjson.dumps({"result": {"points": hits}, "status": "ok", "time": time})


class There:
    """The other store: a passage without a connection as long as `is_free` is not set."""

    def __init__(self) -> None:
        self.is_free = True
        self.heard: list[Heard] = []
        self.given_up = 0
        self.left = asyncio.Event()
        self.forwarded: list[Request] = []
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    def send(self, body: bytes, granted_seconds: float | None, heard: Heard) -> GiveUp | None:
        assert body == BODY
        if not self.is_free:
            return None
        self.heard.append(heard)

        def give_up() -> None:
            self.given_up += 1
            self.left.set()

        return give_up

    async def forward(self, request: Request) -> Response:
        self.forwarded.append(request)
        return await asyncio.shield(self.response)

    def passage(self, request: Request) -> There:
        return self

    async def close(self) -> None: ...


class Shadowed:
    def __init__(self, metrics: Metrics, timeout_seconds: float = 20.0) -> None:
        self.metrics = metrics
        self.there = There()
        self.reader = ShadowReader(
            "docs", Shadow(max_in_flight=4), SystemClock(), metrics, timeout_seconds=timeout_seconds
        )
        self.other = Other(self.reader, QdrantRest(), "docs", ASKED, self.there, self.there)

    def ask(self) -> Pair | None:
        return self.other.ask(BODY, lambda: ASKED, self.reader.now())

    def asked(self) -> Pair:
        pair = self.ask()
        assert pair is not None
        return pair

    def counted(self, outcome: str) -> float:
        return self.metrics.shadow.value("docs", outcome)

    @property
    def is_empty(self) -> bool:
        return self.reader.in_flight == 0 and self.reader.pairs.room_bytes == HELD_BYTES


@pytest.fixture
async def shadowed() -> AsyncIterator[Shadowed]:
    made = Shadowed(Metrics())
    yield made
    await made.reader.close()
    assert made.is_empty


@pytest.mark.parametrize("first", ["ours", "theirs"])
async def test_whichever_comes_first_the_two_are_compared(shadowed: Shadowed, first: str) -> None:
    pair = shadowed.asked()
    if first == "ours":
        pair.first(OK, answer(1, 2), 0.1)
        assert shadowed.counted("compared") == 0
        pair.answered(OK, answer(1, 2, time=9))
    else:
        pair.answered(OK, answer(1, 2, time=9))
        assert shadowed.counted("compared") == 0
        pair.first(OK, answer(1, 2), 0.1)
    figures = shadowed.reader.report.figures("docs")
    assert (figures.compared, figures.agreed, figures.overlap) == (1, 1, 1.0)
    assert figures.latency_ratio_p50 is not None
    assert shadowed.counted("compared") == 1
    assert shadowed.is_empty


async def test_a_difference_is_found_in_the_models_terms(shadowed: Shadowed) -> None:
    pair = shadowed.asked()
    pair.first(OK, answer(1, 2, 3), 0.1)
    pair.answered(OK, answer(1, 2, 4))
    await shadowed.reader.quiet()
    [worst] = shadowed.reader.report.worst()
    assert (worst.overlap, worst.missing, worst.unexpected) == (2 / 3, (3,), (4,))


async def test_a_difference_in_a_key_that_is_not_clean_is_none(shadowed: Shadowed) -> None:
    shadowed.reader.unclean = lambda collection, ids: {4} & set(ids) if collection == "docs" else set()
    for theirs in (answer(1, 2, 4), answer(1, 2, 5)):
        pair = shadowed.asked()
        pair.first(OK, answer(1, 2, 3), 0.1)
        pair.answered(OK, theirs)
        await shadowed.reader.quiet()
    assert (shadowed.counted("unsettled"), shadowed.counted("compared")) == (1, 1)


@pytest.mark.parametrize("packed", ["ours", "theirs", "both"])
async def test_compressed_answers_are_compared_unpacked(shadowed: Shadowed, packed: str) -> None:
    pair = shadowed.asked()
    ours, theirs = answer(1, 2), answer(1, 2, time=7)
    pair.first(*((PACKED, gzip.compress(ours)) if packed != "theirs" else (OK, ours)), 0.1)
    pair.answered(*((PACKED, gzip.compress(theirs)) if packed != "ours" else (OK, theirs)))
    assert shadowed.counted("compared") == 1
    assert shadowed.reader.report.figures().agreed == 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ((AnswerHead(401, ()), answer(1)), (OK, answer(1))),
        ((OK, answer(1)), (AnswerHead(500, ()), answer(1))),
        ((AnswerHead(404, ()), answer(1)), (AnswerHead(404, ()), answer(1))),
        ((OK, answer(1)), (OK, answer(1)[:-9])),
        ((OK, answer(1)), (PACKED, answer(1))),
        ((OK, answer(1)), (AnswerHead(200, (("content-encoding", "br"),)), answer(1))),
    ],
)
async def test_what_is_no_answer_is_an_error(
    shadowed: Shadowed, ours: tuple[AnswerHead, bytes], theirs: tuple[AnswerHead, bytes]
) -> None:
    pair = shadowed.asked()
    pair.first(*ours, 0.1)
    pair.answered(*theirs)
    await shadowed.reader.quiet()
    assert (shadowed.counted("error"), shadowed.counted("compared")) == (1, 0)
    assert shadowed.reader.report.figures().errors == 1


async def test_a_store_that_fails_is_an_error_whether_asked_by_a_passage_or_not(shadowed: Shadowed) -> None:
    pair = shadowed.asked()
    pair.failed(Unavailable("gone"))
    pair.first(OK, answer(1), 0.1)
    assert shadowed.counted("error") == 1
    shadowed.there.is_free = False
    pair = shadowed.asked()
    pair.first(OK, answer(1), 0.1)
    shadowed.there.response.set_exception(Unavailable("gone"))
    await shadowed.reader.quiet()
    assert shadowed.counted("error") == 2


async def test_without_a_free_connection_it_is_forwarded(shadowed: Shadowed) -> None:
    shadowed.there.is_free = False
    pair = shadowed.asked()
    pair.first(OK, answer(1), 0.1)
    shadowed.there.response.set_result(Response(200, (), answer(1, time=3)))
    await shadowed.reader.quiet()
    assert shadowed.there.forwarded == [ASKED]
    assert shadowed.counted("compared") == 1


async def test_one_that_takes_too_long_is_given_up() -> None:
    shadowed = Shadowed(Metrics(), timeout_seconds=0.05)
    pair = shadowed.asked()
    pair.first(OK, answer(1), 0.1)
    async with asyncio.timeout(10):
        await shadowed.reader.quiet()
    assert shadowed.counted("error") == 1
    assert shadowed.there.given_up == 1
    pair.answered(OK, answer(1))  # comes all the same
    assert shadowed.counted("compared") == 0
    assert shadowed.is_empty
    await shadowed.reader.close()


async def test_it_is_the_other_store_that_has_a_time_out() -> None:
    shadowed = Shadowed(Metrics(), timeout_seconds=0.02)
    slow, mute = shadowed.asked(), shadowed.asked()
    slow.answered(OK, answer(1))
    await shadowed.there.left.wait()
    assert (slow.is_over, mute.is_over) == (False, True)
    slow.first(OK, answer(1), 0.1)
    assert (shadowed.counted("compared"), shadowed.counted("error")) == (1, 1)
    await shadowed.reader.close()


async def test_nothing_is_counted_of_what_a_client_leaves(shadowed: Shadowed) -> None:
    for theirs_came in (False, True):
        pair = shadowed.asked()
        if theirs_came:
            pair.answered(OK, answer(1))
        pair.give_up()
        pair.first(OK, answer(1), 0.1)
        pair.answered(OK, answer(1))
    assert shadowed.there.given_up == 1
    assert all(shadowed.counted(outcome) == 0 for outcome in ("compared", "error", "shed", "unsettled"))
    assert shadowed.is_empty


async def test_as_many_as_may_be_under_way_and_as_much_as_may_be_held(shadowed: Shadowed) -> None:
    pairs = [shadowed.ask() for _ in range(5)]
    assert [pair is not None for pair in pairs] == [True] * 4 + [False]
    assert shadowed.counted("shed") == 1
    first, second, *_ = pairs
    assert first is not None
    assert second is not None
    first.first(OK, bytes(HELD_BYTES // 2), 0.1)
    second.first(OK, bytes(HELD_BYTES // 2), 0.1)  # with the searches it is too much
    assert shadowed.counted("shed") == 2
    assert shadowed.there.given_up == 1
    assert shadowed.reader.in_flight == 3


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_answer_of_the_other_store_that_is_too_large_is_shed(shadowed: Shadowed, is_first: bool) -> None:
    pair = shadowed.asked()
    if not is_first:
        pair.first(OK, answer(1), 0.1)
    pair.answered(OK, bytes(HELD_BYTES))  # with the search it is too much
    pair.first(OK, answer(1), 0.1)
    assert shadowed.counted("shed") == 1
    assert shadowed.is_empty


async def test_a_stream_is_the_clients_or_too_large(shadowed: Shadowed) -> None:
    closed = 0

    class Stream:
        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> bytes:
            raise AssertionError("it is read")

        def close(self) -> None:
            nonlocal closed
            closed += 1

    pair = shadowed.asked()
    pair.first(OK, Stream(), 0.1)
    assert (shadowed.there.given_up, closed) == (1, 0)
    assert shadowed.counted("shed") == 0
    pair = shadowed.asked()
    pair.answered(OK, Stream())
    assert (shadowed.there.given_up, closed) == (1, 1)
    assert shadowed.counted("shed") == 1


async def test_what_the_model_cannot_say_is_not_counted(shadowed: Shadowed) -> None:
    fusion = Request("http", "POST", ASKED.path, (), orjson.dumps({"query": {"fusion": "rrf"}}))
    pair = shadowed.other.ask(BODY, lambda: fusion, shadowed.reader.now())
    assert pair is not None
    pair.first(OK, answer(1), 0.1)
    pair.answered(OK, answer(2))
    await shadowed.reader.quiet()
    assert all(shadowed.counted(outcome) == 0 for outcome in ("compared", "error", "shed", "unsettled"))


async def test_a_defect_of_ours_ends_in_a_figure(shadowed: Shadowed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QdrantRest, "likeness", lambda *_: 1 / 0)
    pair = shadowed.asked()
    pair.first(OK, answer(1), 0.1)
    pair.answered(OK, answer(1))
    assert shadowed.counted("error") == 1
