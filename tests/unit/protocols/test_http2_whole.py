"""A request or an answer that is sent whole is what its parts would be, whatever the windows allow."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Head, Role, Trailers
from tests.unit.protocols.http2_dialogue import ANSWER, HELLO, REQUEST, TRAILERS, client, data, headers, said

LONG = encode(((b"x-long", b"why " * 5000),))  # more than a frame
ENDS = st.sampled_from([encode(TRAILERS), encode(TRAILERS) + LONG])
SIZES = st.sampled_from([0, 1, 3000, 16_384, 16_385, 65_535, 65_536, 70_000])
MORE = st.lists(st.tuples(st.sampled_from([0, 1, 3]), st.sampled_from([1, 5000, 2**20])), max_size=6)


def written_with(connection: Connection, more: list[tuple[int, int]]) -> bytes:
    """What is sent at once, and then as the peer's windows grow."""
    parts = [connection.take()]
    for stream_id, size in more:
        said(connection, f.window_update(stream_id, size))
        parts.append(connection.take())
    return b"".join((*parts, b"%d" % connection.open_streams))


def serving(window: int) -> Connection:
    """Asked twice, by a client that grants each stream so much."""
    connection = Connection(Role.SERVER)
    connection.take()
    said(connection, HELLO, f.settings({f.Setting.INITIAL_WINDOW_SIZE: window}))
    said(connection, headers(1), headers(3, ends=True), data(1, b"question", ends=True))
    connection.take()
    return connection


@given(window=SIZES, sizes=st.tuples(SIZES, SIZES), extra=st.sampled_from([b"", LONG]), trailers=ENDS, more=MORE)
@example(window=0, sizes=(1, 1), extra=b"", trailers=encode(TRAILERS), more=[(1, 1), (3, 1)])
@example(window=70_000, sizes=(3000, 65_535), extra=b"", trailers=encode(TRAILERS), more=[(0, 5000)])
@example(window=70_000, sizes=(3000, 3000), extra=LONG, trailers=encode(TRAILERS), more=[])
def test_an_answer(
    window: int, sizes: tuple[int, int], extra: bytes, trailers: bytes, more: list[tuple[int, int]]
) -> None:
    whole, parted = serving(window), serving(window)
    for stream_id, size in zip((1, 3), sizes, strict=True):
        whole.answer(stream_id, encode(ANSWER) + extra, bytes(size), trailers)
        parted.send_head(stream_id, encode(ANSWER) + extra)
        parted.send_data(stream_id, bytes(size))
        parted.send_trailers(stream_id, trailers)
    assert written_with(whole, more) == written_with(parted, more)


@given(sizes=st.lists(SIZES, min_size=2, max_size=3), more=MORE)
@example(sizes=[3000, 3000], more=[])
def test_a_request(sizes: list[int], more: list[tuple[int, int]]) -> None:
    whole, parted = client(), client()
    for size in sizes:
        whole.ask(REQUEST, bytes(size))
        parted.send_data(parted.open(REQUEST), bytes(size), ends=True)
    assert written_with(whole, more) == written_with(parted, more)
    for connection in (whole, parted):
        said(connection, headers(1, ANSWER), data(1, b"answer"), headers(1, TRAILERS, ends=True))
    assert written_with(whole, []) == written_with(parted, [])


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (1000, (f.settings({f.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}), f.window_update(1, 1000))),
        (10_000, (f.window_update(1, 10_000), f.settings({f.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}))),
    ],
)
def test_what_a_request_has_taken_of_its_window_may_be_granted_again(size: int, said: tuple[bytes, bytes]) -> None:
    connection = client(initial_window_size=2**31 - 1) if said[0][3] == f.SETTINGS else client()
    connection.ask(REQUEST, bytes(size))
    assert connection.receive(b"".join(said), 0.0) == []
    answer = connection.receive(headers(1, ANSWER) + headers(1, TRAILERS, ends=True), 0.0)
    assert [type(event) for event in answer] == [Head, Trailers]


def test_an_answer_before_the_request_is_whole_ends_the_stream() -> None:
    connection = Connection(Role.SERVER)
    said(connection, HELLO, headers(1))
    connection.take()
    connection.answer(1, encode(ANSWER), b"no", encode(TRAILERS))
    assert connection.take().endswith(f.rst_stream(1, f.Code.NO_ERROR))
    assert connection.open_streams == 0


def test_of_a_stream_that_is_gone_nothing_is_said() -> None:
    connection = serving(65_535)
    said(connection, f.rst_stream(1, f.Code.CANCEL))
    connection.take()
    connection.answer(1, encode(ANSWER), b"late", encode(TRAILERS))
    assert connection.take() == b""
