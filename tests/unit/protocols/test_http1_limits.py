"""Memory is bounded and time is linear, whatever a peer sends; shown by counting, never by a clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from proxy.protocols import http1_fields
from proxy.protocols.http1 import End, Malformed, RequestReader, ResponseReader
from proxy.protocols.http1_body import ChunkedBody, Limits
from proxy.protocols.http1_fields import Http1Error, remembered_line
from proxy.protocols.http1_head import RequestHead
from tests.unit.protocols.http1_dialogues import ANSWERED_CHUNKED, CHUNKED, answer, hear, told

SMALL = Limits(start_line_bytes=40, head_bytes=100, fields=4, trailer_bytes=30, chunk_line_bytes=10, extension_bytes=25)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n"


def single(data: bytes) -> Iterator[bytes]:
    """Byte by byte, as often as it takes."""
    while True:
        for at in range(len(data)):
            yield data[at : at + 1]


def split(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def fed_until_malformed(reader: RequestReader | ResponseReader, endless: bytes) -> tuple[int, int, Malformed]:
    """How many bytes it took, how many were held at most, and what was said, byte by byte."""
    most = 0
    for count, byte in enumerate(single(endless), start=1):
        events = reader.feed(byte)
        if events and isinstance(events[-1], Malformed):
            assert reader.held_bytes == 0
            return count, most, events[-1]
        most = max(most, reader.held_bytes)
        assert count < 1_000_000, "no end of it"
    raise AssertionError


# --- at the limit and beyond ------------------------------------------------------------------


def line_of(size: int) -> bytes:
    return b"GET /" + b"a" * (size - 14) + b" HTTP/1.1"


def method_of(size: int) -> bytes:
    return b"A" * size + b" / HTTP/1.1"


def head_of(size: int) -> bytes:
    return GET + b"A: " + b"b" * (size - len(GET) - 3) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("within", "beyond", "status"),
    [
        (line_of(40) + b"\r\nHost: h\r\n\r\n", line_of(41) + b"\r\nHost: h\r\n\r\n", 414),
        (method_of(29) + b"\r\nHost: h\r\n\r\n", method_of(41) + b"\r\nHost: h\r\n\r\n", 501),
        (head_of(100), head_of(101), 431),
        (GET + b"a:\r\n" * 3 + b"\r\n", GET + b"a:\r\n" * 4 + b"\r\n", 431),
    ],
)
def test_heads(within: bytes, beyond: bytes, status: int) -> None:
    for pieces in ([within], split(within)):
        assert isinstance(hear(pieces, SMALL)[-1], End)
    for pieces in ([beyond], split(beyond)):
        assert told(hear(pieces, SMALL)) == [status]


@pytest.mark.parametrize(
    ("within", "beyond", "status"),
    [
        (b"1;abcdefgh\r\nx\r\n0\r\n\r\n", b"1;abcdefghi\r\nx\r\n0\r\n\r\n", 400),
        (b"1;abcdefgh\r\nx\r\n" * 2 + b"0;abcdef\r\n\r\n", b"1;abcdefgh\r\nx\r\n" * 2 + b"0;abcdefg\r\n\r\n", 400),
        (b"0\r\nA: " + b"b" * 25 + b"\r\n\r\n", b"0\r\nA: " + b"b" * 26 + b"\r\n\r\n", 431),
        (b"0\r\n" + b"a:\r\n" * 4 + b"\r\n", b"0\r\n" + b"a:\r\n" * 5 + b"\r\n", 431),
    ],
)
def test_chunks_and_trailers(within: bytes, beyond: bytes, status: int) -> None:
    limits = replace(SMALL, start_line_bytes=1000, head_bytes=1000)
    for pieces in ([within], split(within)):
        assert isinstance(hear([CHUNKED, *pieces], limits)[-1], End)
    for pieces in ([beyond], split(beyond)):
        assert told(hear([CHUNKED, *pieces], limits))[-1] == status


def test_responses_have_the_same_limits() -> None:
    start = b"HTTP/1.1 200 OK\r\n"
    assert told(answer(b"GET", [start + b"a:\r\n" * 5 + b"\r\n"], limits=SMALL)) == [502]
    assert told(answer(b"GET", [start + b"a: " + b"b" * 100], limits=SMALL)) == [502]
    assert told(answer(b"GET", [b"HTTP/1.1 200 " + b"b" * 41], limits=SMALL)) == [502]
    assert told(answer(b"GET", [ANSWERED_CHUNKED, b"0\r\na: " + b"b" * 100], limits=SMALL))[-1] == 502


# --- without end ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "endless", "bytes_taken", "status"),
    [
        (b"", b"a", 40 + 2, 501),
        (b"GET /", b"a", 40 - 5 + 2, 414),
        (GET, b"a", 100 - len(GET) + 4, 431),
        (GET, b"a: b\r\n", 100 - len(GET) + 4, 431),
        (GET, b"a: b\r", 100 - len(GET) + 4, 431),
    ],
)
def test_a_head_without_end_is_refused_at_its_limit(
    start: bytes, endless: bytes, bytes_taken: int, status: int
) -> None:
    reader = RequestReader(SMALL)
    assert reader.feed(start) == []
    count, held, malformed = fed_until_malformed(reader, endless)
    assert (count, malformed.status) == (bytes_taken, status)
    assert held == len(start) + count - 1


@pytest.mark.parametrize("endless", [b"a", b"a: b\r\n"])
def test_64_kilobytes_of_a_head_byte_by_byte_are_the_default_limit(endless: bytes) -> None:
    reader = RequestReader()
    reader.feed(GET)
    count, held, malformed = fed_until_malformed(reader, endless)
    assert malformed.status == 431
    assert held == len(GET) + count - 1 == 64 * 1024 + 3


@pytest.mark.parametrize(
    ("start", "endless", "bytes_taken", "status"),
    [
        (b"", b"1", 10 + 2, 400),
        (b"3\r\nabc\r\n", b"1", 10 + 2, 400),
        (b"1;", b"a", 10 - 2 + 2, 400),
        (b"0\r\n", b"a", 30 + 2, 431),
        (b"0\r\n", b"a: b\r\n", 30 + 2, 431),
    ],
)
def test_a_chunk_line_or_trailers_without_end_are_refused_at_their_limit(
    start: bytes, endless: bytes, bytes_taken: int, status: int
) -> None:
    body = ChunkedBody(SMALL)
    body.take(start, 0, [])
    endlessly = single(endless)
    for _ in range(bytes_taken - 1):
        body.take(next(endlessly), 0, [])
    with pytest.raises(Http1Error) as raised:
        body.take(next(endlessly), 0, [])
    assert raised.value.status == status


def test_what_waits_behind_a_request_is_held_once() -> None:
    """Requests that are sent ahead byte by byte are one buffer; the caller stops reading when he has enough."""
    reader = RequestReader()
    reader.feed(GET + b"\r\n")
    for byte in (GET + b"\r\n") * 100:
        assert reader.feed(bytes((byte,))) == []
    assert reader.held_bytes == 100 * (len(GET) + 2)
    for left in range(99, -1, -1):
        assert isinstance(reader.resume()[-1], End)
        assert reader.held_bytes == left * (len(GET) + 2)


def test_a_reader_keeps_no_reference_to_what_was_used_up() -> None:
    reader = RequestReader()
    for data in (GET + b"\r\n", b"\r\n", GET, b"\r\n"):
        reader.feed(data)
        if reader.at_end:
            reader.resume()
    assert reader._held == b""


# --- each byte is looked at a bounded number of times ---------------------------------------------


class Counting(bytearray):
    """A buffer that counts the bytes that it searches."""

    searched = 0

    def find(self, sub: object, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else min(end, len(self))
        type(self).searched += max(0, end - start)
        return super().find(sub, start, end)  # type: ignore[arg-type]

    def count(self, sub: object, start: int = 0) -> int:  # type: ignore[override]
        type(self).searched += max(0, len(self) - start)
        return super().count(sub, start)  # type: ignore[arg-type]


def test_a_head_that_comes_byte_by_byte_is_not_searched_again() -> None:
    reader = RequestReader()
    head = (
        b"GET /"
        + b"a" * 10_000
        + b" HTTP/1.1\r\nHost: h\r\n"
        + b"a: b\r\n" * 100
        + b"c: "
        + b"d" * 20_000
        + b"\r\n\r\n"
    )
    reader.feed(head[:1])
    reader._held = Counting(head[:1])
    Counting.searched = 0
    events = [event for at in range(1, len(head)) for event in reader.feed(head[at : at + 1])]
    assert isinstance(events[0], RequestHead)
    assert Counting.searched <= 12 * len(head)


def test_a_head_that_comes_byte_by_byte_is_not_copied_again() -> None:
    reader = RequestReader()
    reader.feed(GET)
    reader.feed(b"a")
    held = reader._held
    for _ in range(1000):
        reader.feed(b"a")
    assert reader._held is held


def test_trailers_that_come_byte_by_byte_are_not_searched_again() -> None:
    body = ChunkedBody(Limits())
    body.take(b"0\r\n", 0, [])
    body._line = Counting(body._line)
    Counting.searched = 0
    trailers = b"a: b\r\n" * 100 + b"c: " + b"d" * 7000 + b"\r\n\r\n"
    for at in range(len(trailers)):
        body.take(trailers[at : at + 1], 0, [])
    assert body.done
    assert Counting.searched <= 12 * len(trailers)


# --- what is remembered -----------------------------------------------------------------------


def test_the_memo_of_lines_is_bounded_in_entries_and_in_their_length() -> None:
    http1_fields.LINES.clear()
    for number in range(5000):
        remembered_line(b"x-request-id: %d" % number)
    assert 0 < len(http1_fields.LINES) <= 2048
    remembered_line(b"x-long: " + b"a" * 300)
    assert max(map(len, http1_fields.LINES)) <= 256


def test_a_line_that_is_refused_is_not_remembered() -> None:
    http1_fields.LINES.clear()
    assert told(hear([GET + b"api key: k\r\n\r\n"])) == [400]
    assert http1_fields.LINES.keys() == {b"Host: h"}


def test_what_is_remembered_means_the_same_the_second_time() -> None:
    http1_fields.LINES.clear()
    data = b"PUT / HTTP/1.1\r\nHOST: h\r\nContent-LENGTH: 1\r\nConnection: close\r\nA:  b \r\n\r\nx"
    assert hear([data]) == hear([data])
