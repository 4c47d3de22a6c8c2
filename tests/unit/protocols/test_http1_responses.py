"""What responses mean, to the one who asked."""

from __future__ import annotations

import pytest

from proxy.protocols.http1 import End, Malformed, ResponseReader
from proxy.protocols.http1_head import ResponseHead
from tests.unit.protocols.http1_dialogues import (
    ANSWERED_CHUNKED,
    BAD_RESPONSES,
    SOUND_RESPONSES,
    SOUND_UNTIL_CLOSE,
    answer,
    cuts,
    response_of,
    told,
)


def test_a_response_is_a_head_its_payload_and_an_end() -> None:
    assert answer(b"GET", [b"HTTP/1.1 207 Odd but Fine\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc"]) == [
        ResponseHead(
            status=207,
            reason=b"Odd but Fine",
            version=b"1.1",
            fields=((b"server", b"x"), (b"content-length", b"3")),
            options=frozenset(),
            body_bytes=3,
            chunked=False,
            keep_alive=True,
            upgrade=b"",
        ),
        b"abc",
        End(),
    ]


@pytest.mark.parametrize(
    ("name", "body", "facts"),
    [
        ("chunked", b"abc", {"chunked": True, "body_bytes": None, "until_close": False, "keep_alive": True}),
        ("no reason", b"", {"status": 404, "reason": b""}),
        ("no reason, nor the space before it", b"", {"status": 404, "reason": b""}),
        ("a reason of its own", b"", {"status": 599, "reason": b"Odd \t\xe9(but) Fine"}),
        ("to HEAD", b"", {"body_bytes": 0, "keep_alive": True}),
        ("to HEAD, chunked", b"", {"body_bytes": 0, "chunked": False, "keep_alive": True}),
        ("204", b"", {"body_bytes": 0, "keep_alive": True}),
        ("204 with a length", b"", {"body_bytes": 0, "keep_alive": True}),
        ("304", b"", {"body_bytes": 0, "keep_alive": True}),
        ("interim ones before", b"x", {"status": 200, "interim": False}),
        ("upgraded", b"", {"status": 101, "upgrade": b"h2c", "keep_alive": False, "interim": False}),
        ("a tunnel", b"", {"keep_alive": False, "body_bytes": 0}),
        ("no tunnel", b"abc", {"keep_alive": True, "body_bytes": 3}),
        ("1.0, kept alive", b"", {"version": b"1.0", "keep_alive": True}),
        ("1.0", b"", {"version": b"1.0", "keep_alive": False}),
        ("to be closed", b"", {"keep_alive": False}),
    ],
)
def test_facts(name: str, body: bytes, facts: dict[str, object]) -> None:
    head, payload, _ = response_of(*SOUND_RESPONSES[name])
    assert payload == body
    assert {fact: getattr(head, fact) for fact in facts} == facts


def test_interim_responses_have_no_end() -> None:
    first, second, final, payload, end = answer(*_whole("interim ones before"))
    assert isinstance(first, ResponseHead)
    assert isinstance(second, ResponseHead)
    assert isinstance(final, ResponseHead)
    assert [first.status, second.status, final.status] == [100, 103, 200]
    assert [first.interim, second.interim, final.interim] == [True, True, False]
    assert (payload, end) == (b"x", End())


@pytest.mark.parametrize("name", SOUND_UNTIL_CLOSE)
def test_bodies_that_end_with_the_connection(name: str) -> None:
    method, data = SOUND_UNTIL_CLOSE[name]
    head, payload, _ = response_of(method, data, closed=True)
    assert head.until_close
    assert not head.keep_alive
    assert payload == data.partition(b"\r\n\r\n")[2]
    assert not any(isinstance(event, End) for event in answer(method, [data]))


@pytest.mark.parametrize("name", SOUND_RESPONSES)
def test_a_connection_that_ends_within_a_response_is_told(name: str) -> None:
    method, data = SOUND_RESPONSES[name]
    for end in range(len(data)):
        assert told(answer(method, [data[:end]], closed=True))[-1] == 502
    assert isinstance(answer(method, [data], closed=True)[-1], End)


def test_responses_one_after_another() -> None:
    reader = ResponseReader()
    assert reader.eof() == []
    reader = ResponseReader()
    for name in ("body of a length", "to HEAD", "chunked", "204"):
        method, data = SOUND_RESPONSES[name]
        reader.expect(method)
        assert reader.feed(data)[-1] in (End(), End(((b"x-sum", b"9"),)))
        assert reader.at_end
        assert reader.held_bytes == 0
    assert reader.eof() == []


def test_bytes_that_nobody_asked_for_are_malformed() -> None:
    reader = ResponseReader()
    assert reader.feed(b"") == []
    assert reader.feed(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n") == [
        Malformed(502, "51 bytes answer no request; expected none")
    ]
    with pytest.raises(ValueError, match="must have ended"):
        reader.expect(b"GET")


def test_bytes_behind_a_response_forbid_another_request() -> None:
    method, data = SOUND_RESPONSES["204 with a length"]
    for pieces in ([data + b"abcde"], [data, b"abcde"]):  # a server that sends a body where there is none
        reader = ResponseReader()
        reader.expect(method)
        events = [event for piece in pieces for event in reader.feed(piece)]
        assert events[1:] == [End(), Malformed(502, "5 bytes answer no request; expected none")]
        with pytest.raises(ValueError, match="must have ended"):
            reader.expect(method)


def test_one_request_at_a_time() -> None:
    reader = ResponseReader()
    reader.expect(b"GET")
    with pytest.raises(ValueError, match="must have ended"):
        reader.expect(b"GET")


@pytest.mark.parametrize("name", ["upgraded", "a tunnel"])
def test_what_comes_behind_a_connection_handed_over_is_given_away(name: str) -> None:
    method, data = SOUND_RESPONSES[name]
    for pieces in ([data + b"\x00\x01"], [data, b"\x00", b"\x01"]):
        reader = ResponseReader()
        reader.expect(method)
        assert [event for piece in pieces for event in reader.feed(piece)][-1] == End()
        with pytest.raises(ValueError, match="HTTP go on"):
            reader.expect(method)
        assert reader.rest() == b"\x00\x01"
        assert reader.feed(b"\x02") == []


@pytest.mark.parametrize(("method", "part", "data"), BAD_RESPONSES)
def test_bad_responses(method: bytes, part: str, data: bytes) -> None:
    event = answer(method, [data])[-1]
    assert isinstance(event, Malformed)
    assert event.status == 502
    assert part in event.reason


@pytest.mark.parametrize(
    ("method", "data"),
    [
        *SOUND_RESPONSES.values(),
        *((method, data + b"ab") for method, data in SOUND_RESPONSES.values()),
        *SOUND_UNTIL_CLOSE.values(),
        *((method, bad) for method, _, bad in BAD_RESPONSES),
    ],
)
def test_how_a_response_is_cut_changes_nothing(method: bytes, data: bytes) -> None:
    whole = answer(method, [data], closed=True)
    for pieces in cuts(data):
        assert told(answer(method, pieces, closed=True)) == told(whole), pieces


def test_a_chunked_response_may_fail_after_payload_was_given() -> None:
    events = answer(b"GET", [ANSWERED_CHUNKED + b"3\r\nabc\r\n"], closed=True)
    assert events[1:] == [b"abc", Malformed(502, "the connection ended in the chunked body; expected all of it")]


def _whole(name: str) -> tuple[bytes, list[bytes]]:
    method, data = SOUND_RESPONSES[name]
    return method, [data]


# --- heads that come again ------------------------------------------------------------------------------


def test_a_response_whose_head_is_known_means_the_same_at_once() -> None:
    response = b"HTTP/1.1 200 OK\r\nx-known: 1\r\nContent-Length: 3\r\n\r\nabc"
    reader = ResponseReader()
    reader.expect(b"POST")
    assert reader.whole(response) is None  # not yet
    once = reader.feed(response)
    reader.expect(b"POST")
    whole = reader.whole(response)
    assert whole is not None
    assert [whole[1], whole[2], End()] == once
    reader.expect(b"POST")
    for other in (response + b"x", response[:-1]):
        assert reader.whole(other) is None


def test_what_a_head_means_after_another_method_is_not_taken_from_what_is_known() -> None:
    """To HEAD the same bytes have no body; nobody must take what is behind them for one."""
    response = b"HTTP/1.1 200 OK\r\nx-known: 2\r\nContent-Length: 3\r\n\r\n"
    reader = ResponseReader()
    reader.expect(b"HEAD")
    assert reader.feed(response)[-1] == End()
    reader.expect(b"POST")
    assert reader.whole(response) is None
    assert reader.feed(response + b"abc")[-1] == End()
    reader.expect(b"HEAD")
    assert reader.whole(response + b"abc") is None
