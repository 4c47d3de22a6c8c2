"""Messages that are written are read back as they were meant; what could be read as another one is not written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocols.http1_fields import HOP_BY_HOP, TEXT, TOKEN, Fields, Http1Error, end_to_end
from proxy.protocols.http1_write import CONTINUE, chunk, last_chunk, request_bytes, response_bytes
from tests.unit.protocols.http1_dialogues import ANSWERED_CHUNKED, CHUNKED, answer, hear, request_of, response_of

FRAMING = {b"host", b"content-length", b"transfer-encoding", b"expect"}

tokens = st.lists(st.sampled_from(TOKEN), min_size=1, max_size=12).map(bytes)
names = tokens.map(bytes.lower).filter(lambda name: name not in FRAMING)
values = st.lists(st.sampled_from(TEXT), max_size=20).map(lambda value: bytes(value).strip(b" \t"))
fields = st.lists(st.tuples(names, values), max_size=8).map(tuple)
targets = st.lists(st.sampled_from(bytes(range(0x21, 0x7F)).replace(b"#", b"")), max_size=20).map(
    lambda rest: b"/" + bytes(rest)
)


@given(tokens.filter(lambda method: method != b"CONNECT"), targets, fields)
def test_a_request_reads_back(method: bytes, target: bytes, fields: Fields) -> None:
    fields = ((b"host", b"h"), *fields)
    head, *_ = request_of(request_bytes(method, target, fields))
    assert (head.method, head.target, head.version, head.fields) == (method, target, b"1.1", fields)


@given(st.integers(200, 599).filter(lambda status: status not in (204, 304)), values, fields, st.binary(max_size=50))
def test_a_response_reads_back(status: int, reason: bytes, fields: Fields, body: bytes) -> None:
    fields = (*fields, (b"content-length", b"%d" % len(body)))
    head, payload, _ = response_of(b"GET", response_bytes(status, reason, fields) + body)
    assert (head.status, head.reason, head.fields, payload) == (status, reason, fields, body)


@given(st.lists(st.binary(max_size=300), max_size=5), fields)
def test_a_chunked_body_reads_back(pieces: list[bytes], trailers: Fields) -> None:
    trailers = tuple(field for field in trailers if field[0] not in HOP_BY_HOP)
    body = b"".join(part for piece in pieces for part in chunk(piece)) + last_chunk(trailers)
    assert request_of(CHUNKED + body)[1:] == (b"".join(pieces), trailers)
    assert response_of(b"GET", ANSWERED_CHUNKED + body)[1:] == (b"".join(pieces), trailers)


def test_what_is_written_byte_for_byte() -> None:
    fields = ((b"Host", b"h"), (b"x", b""), (b"x", b"1, \t2"))
    assert request_bytes(b"GET", b"/a?b", fields) == b"GET /a?b HTTP/1.1\r\nHost: h\r\nx: \r\nx: 1, \t2\r\n\r\n"
    assert response_bytes(200, b"OK", ()) == b"HTTP/1.1 200 OK\r\n\r\n"
    assert response_bytes(404, b"", ()) == b"HTTP/1.1 404 \r\n\r\n"
    assert b"".join(chunk(b"0123456789")) == b"a\r\n0123456789\r\n"
    assert last_chunk() == b"0\r\n\r\n"
    assert last_chunk(((b"X-Sum", b"9"),)) == b"0\r\nx-sum: 9\r\n\r\n"


def test_an_empty_chunk_would_end_the_body_and_is_none() -> None:
    assert chunk(b"") == ()


def test_a_chunk_does_not_copy_its_payload() -> None:
    payload = bytes(1000)
    assert chunk(payload)[1] is payload


def test_100_continue() -> None:
    events = answer(b"PUT", [CONTINUE])
    assert len(events) == 1
    assert getattr(events[0], "interim", False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"a", b"b\r\nc: d"),
        (b"a", b"b\nc: d"),
        (b"a", b"b\r"),
        (b"a", b"b\x00"),
        (b"a", b"\x0bb"),
        (b"a", b"b\x7f"),
        (b"a", b" b"),
        (b"a", b"b\t"),
        (b"", b"b"),
        (b"a b", b"c"),
        (b"a:", b"c"),
        (b"a\r\n", b"c"),
        (b"a\x00", b"c"),
        (b"\xe9", b"c"),
    ],
)
def test_fields_that_are_not_written(name: bytes, value: bytes) -> None:
    for pad in (b"", b"x" * 300):  # short lines are remembered, long ones are not
        for write in (
            lambda fields: request_bytes(b"GET", b"/", fields),
            lambda fields: response_bytes(200, b"OK", fields),
            last_chunk,
        ):
            with pytest.raises(Http1Error) as raised:
                write([(name, pad + value if value.strip() == value else value)])
            assert raised.value.status == 500
            assert b"c: d".decode() not in str(raised.value)


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"", b"/"), (b"G T", b"/"), (b"GET\r\n", b"/"), (b"GET", b""), (b"GET", b"/ HTTP/1.1\r\n"), (b"GET", b"/a b")]
    + [(b"GET", b"/" + bytes((byte,))) for byte in b"\r\n\x00\t\x7f\x80#"],
)
def test_request_lines_that_are_not_written(method: bytes, target: bytes) -> None:
    with pytest.raises(Http1Error, match="to write"):
        request_bytes(method, target, ())


@pytest.mark.parametrize(("status", "reason"), [(99, b""), (600, b""), (200, b"O\r\nK"), (200, b"O\x00K")])
def test_status_lines_that_are_not_written(status: int, reason: bytes) -> None:
    with pytest.raises(Http1Error, match="to write"):
        response_bytes(status, reason, ())


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"HOST", b"Trailer", b"Connection"])
def test_framing_is_not_written_as_a_trailer(name: bytes) -> None:
    with pytest.raises(Http1Error, match="in the head only"):
        last_chunk([(name, b"1")])


def test_fields_for_one_connection_are_dropped_and_those_that_it_names() -> None:
    (head, *_) = hear(
        [
            b"POST / HTTP/1.1\r\nHost: h\r\nConnection: X-Mine, close\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
            b"Trailer: x\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\nProxy-Authorization: k\r\nX-Yours: 2\r\n\r\n"
        ]
    )
    assert end_to_end(head.fields, head.options) == [(b"host", b"h"), (b"x-yours", b"2")]  # type: ignore[union-attr]


def test_connection_cannot_drop_what_the_message_hangs_on() -> None:
    options = frozenset({b"host", b"content-length", b"close", *(b"x-%d" % number for number in range(20))})
    fields = ((b"host", b"h"), (b"content-length", b"3"), (b"x-7", b"1"), (b"a", b"b"))
    assert end_to_end(fields, options) == [(b"host", b"h"), (b"content-length", b"3"), (b"a", b"b")]
    assert end_to_end(fields, frozenset({b"content-length"})) == list(fields)
