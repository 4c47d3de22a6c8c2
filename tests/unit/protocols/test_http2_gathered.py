"""What is told as one request or answer is what its parts would have been told as, whatever stands around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Data, Event, Head, Limits, Role, Trailers, WholeAnswer, WholeRequest
from proxy.protocols.http2_frames import Code
from tests.unit.protocols.http2_dialogue import ACK, ANSWER, HELLO, REQUEST, TRAILERS, data, headers, resets

NARROW = Limits(
    streams=4,
    orphans=2,
    frame_bytes=16_384,
    stream_window_bytes=f.DEFAULT_WINDOW_BYTES,
    connection_window_bytes=f.DEFAULT_WINDOW_BYTES,
    fields_bytes=2000,
)
ASKED, ANSWERED, ENDED = encode(REQUEST), encode(ANSWER), encode(TRAILERS)
LONG = encode(((b"x-long", b"why " * 600),))
LENGTHS = [encode(((b"content-length", size),)) for size in (b"3", b"4")]
ODD = [b"\0\3Odd\0", b"\0\4:odd\0", b"\0\2te\3odd"]  # fields that nobody may say
MOST = f.LARGEST_WINDOW - f.DEFAULT_WINDOW_BYTES  # that a window can grow by
MORE = [1, 5, MOST]
KEPT = b"\x40\1x\1y"  # a literal that goes into the table, as its first entry (0xbe)
PADDED_END = f.END_HEADERS | f.END_STREAM | f.PADDED
SIZES = st.sampled_from([0, 1, 3, 3000, 16_384, 16_385])
CUTS = st.lists(st.integers(0, 40_000), max_size=5)


def request(stream_id: int, size: int = 3, head: bytes = ASKED, between: bytes = b"") -> bytes:
    return f.frame(f.HEADERS, f.END_HEADERS, stream_id, head) + between + data(stream_id, b"q" * size, ends=True)


def widened(stream_id: int, more: int = 5, size: int = 3) -> bytes:
    """As a client of grpcio sends it."""
    return request(stream_id, size, between=f.window_update(stream_id, more))


def answer(stream_id: int, size: int = 3, head: bytes = ANSWERED, end: bytes = ENDED) -> bytes:
    begun = f.frame(f.HEADERS, f.END_HEADERS, stream_id, head) + data(stream_id, b"a" * size)
    return begun + f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, stream_id, end)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    stream_id = draw(st.sampled_from([1, 2, 3, 5, 7, 9, 11]))
    match draw(st.integers(0, 8)):
        case 0 | 1 | 2:
            return request(stream_id, draw(SIZES))
        case 7:
            return widened(stream_id, draw(st.sampled_from([*MORE, 0, MOST + 1, 2**31 + 5])), draw(SIZES))
        case 8:
            odd = [f.window_update(draw(st.sampled_from([0, 1, 3])), 5), f.window_update(stream_id, 5) * 2]
            odd += [f.frame(f.WINDOW_UPDATE, 1, stream_id, bytes_) for bytes_ in (b"\0\0\0\1", b"\0\0\1", b"\0" * 5)]
            return request(stream_id, between=draw(st.sampled_from(odd)))
        case 3:
            heads = [encode(REQUEST[1:]), ENDED, b"\xff", *(ASKED + more for more in (*ODD, *LENGTHS, LONG))]
            return request(stream_id, 3, draw(st.sampled_from(heads)))
        case 4:
            return headers(stream_id) + f.frame(f.DATA, f.PADDED | f.END_STREAM, stream_id, b"\2ab\0\0")
        case 5:
            more = draw(st.sampled_from([data(stream_id, b"more"), headers(stream_id, TRAILERS, ends=True), b""]))
            return headers(stream_id, ends=draw(st.booleans())) + more
        case _:
            return draw(st.sampled_from([f.rst_stream(stream_id, Code.CANCEL), f.window_update(0, 5), b"\0"]))


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    stream_id = draw(st.sampled_from([1, 3, 5, 7, 9]))  # 7 has not sent all of its request, 9 nobody has opened
    match draw(st.integers(0, 9)):
        case 0 | 1 | 2:
            return answer(stream_id, draw(SIZES))
        case 3:
            heads = [encode(((b":status", b"404"),)), encode(((b":status", b"100"),)), b"\xff", b""]
            heads += [ANSWERED + more for more in (*ODD, *LENGTHS, LONG)]
            return answer(stream_id, 3, draw(st.sampled_from(heads)))
        case 4:
            ends = [ANSWERED, b"\xff", b"", *(ENDED + more for more in (*ODD, *LENGTHS, LONG))]
            return answer(stream_id, 3, ANSWERED, draw(st.sampled_from(ends)))
        case 5:
            return headers(stream_id, ANSWER) + data(stream_id, b"and more")
        case 6:
            return data(stream_id, b"more", ends=draw(st.booleans())) + headers(stream_id, TRAILERS, ends=True)
        case 7:
            padded = f.frame(f.DATA, f.PADDED, stream_id, b"\2ab\0\0")
            return headers(stream_id, ANSWER) + padded + headers(stream_id, TRAILERS, ends=True)
        case 8:
            between = draw(st.sampled_from([f.frame(f.PING, 0, 0, b"8 bytes!"), f.window_update(0, 5), data(5, b"x")]))
            rest = data(stream_id, b"ok") + headers(stream_id, TRAILERS, ends=True)
            return headers(stream_id, ANSWER) + between + rest
        case _:
            return draw(st.sampled_from([f.rst_stream(stream_id, Code.CANCEL), b"\0\0\0\xff\0\0\0\0\1", b"\0"]))


def serving(*, gathers: bool, is_acknowledged: bool = True) -> Connection:
    connection = Connection(Role.SERVER, NARROW, gathers=gathers)
    connection.receive(HELLO + (ACK if is_acknowledged else b""), 0.0)
    connection.take()
    return connection


def asking(*, gathers: bool, is_acknowledged: bool = True) -> Connection:
    """It has sent three requests, and a part of one."""
    connection = Connection(Role.CLIENT, NARROW, gathers=gathers)
    connection.receive(f.settings({}) + (ACK if is_acknowledged else b""), 0.0)
    for _ in range(3):
        connection.ask(REQUEST, b"?")
    connection.open(REQUEST)
    connection.take()
    return connection


def heard(connection: Connection, events: Sequence[Event]) -> Iterator[Event]:
    """As a caller would that gives back at once what it gets."""
    for event in events:
        match event:
            case Data():
                connection.consume(event.stream_id, event.size_bytes)
                yield event
            case WholeRequest():
                connection.consume(event.stream_id, len(event.data))
                yield Head(event.stream_id, event.block, ends=False)
                yield Data(event.stream_id, event.data, len(event.data), ends=True)
            case WholeAnswer():
                connection.consume(event.stream_id, len(event.data))
                yield Head(event.stream_id, event.head, ends=False)
                yield Data(event.stream_id, event.data, len(event.data), ends=False)
                yield Trailers(event.stream_id, event.trailers)
            case _:
                yield event


def said_the_same(whole: Connection, parted: Connection, parts: list[bytes], cuts: list[int]) -> None:
    """Whether they hear and write the same, if they are told these parts in pieces that end there."""
    said = b"".join(parts)
    for start, end in pairwise(sorted({0, len(said), *(min(cut, len(said)) for cut in cuts)})):
        told = [list(map(repr, heard(one, one.receive(said[start:end], 0.0)))) for one in (whole, parted)]
        assert told[0] == told[1]
        assert whole.take() == parted.take()
        assert whole.open_streams == parted.open_streams
        assert _windows(whole) == _windows(parted)
        assert (whole._receive_window, whole._owed_bytes) == (parted._receive_window, parted._owed_bytes)
        assert whole._allowance._left == pytest.approx(parted._allowance._left)


def _windows(connection: Connection) -> dict[int, int]:
    return {stream.id: stream.send_window for stream in connection._streams.values()}


@given(st.lists(requests(), max_size=12), CUTS, st.booleans(), st.sampled_from(["", "drain", "finish_draining"]))
@example([request(1), request(1), request(5), request(3)], [], True, "")
@example([request(stream_id, 16_384) for stream_id in (1, 3, 5, 7)], [], True, "")
@example([request(stream_id) for stream_id in (1, 3, 5, 7, 9)], [], True, "")
@example([request(1, 3, ASKED + LONG), request(3, 3, ASKED + ODD[0]), request(5, 3, ASKED + LENGTHS[1])], [], True, "")
@example([request(1, 3, encode(REQUEST[1:])), request(3, 0), request(5, 16_385)], [], True, "")
@example([request(1), request(3)], [], True, "finish_draining")
@example([request(1), headers(3), data(1, b"x", ends=True)], [], True, "")
@example([widened(1, 0), widened(3, MOST), widened(5, MOST + 1), widened(7, 2**31 + 5)], [], True, "")
@example([request(1, between=f.window_update(3, 5)), widened(3)], [], True, "")
@example([request(1), request(3, between=f.window_update(1, 5)), widened(5)], [], True, "")
@example([request(1, between=f.window_update(1, 5) * 2), request(3, between=f.window_update(0, 5))], [], True, "")
@example([request(1, between=f.frame(f.WINDOW_UPDATE, 0, 1, bytes(3)))], [], True, "")
@example([headers(1), f.window_update(1, 5), data(1, b"x"), headers(1, TRAILERS, ends=True)], [], True, "")
@example([widened(1)], [len(headers(1)) + len(f.window_update(1, 5)) + 2], True, "")  # within the third head
@example([request(1, 3, ASKED + KEPT + ODD[0]), request(3, 3, ASKED + b"\xbf")], [], False, "")  # kept once, not twice
def test_requests(parts: list[bytes], cuts: list[int], is_acknowledged: bool, before: str) -> None:
    whole, parted = (serving(gathers=gathers, is_acknowledged=is_acknowledged) for gathers in (True, False))
    for connection in (whole, parted):
        if before:
            getattr(connection, before)()
    said_the_same(whole, parted, parts, cuts)


@given(st.lists(answers(), max_size=12), CUTS, st.booleans())
@example([answer(1), answer(3, 16_384), answer(5, 16_385)], [], True)
@example([answer(stream_id, 16_384) for stream_id in (1, 1, 3, 5)], [], True)
@example([answer(7), answer(1, 0), answer(3, 3, ANSWERED + LENGTHS[1])], [], True)
@example([answer(1, 3, ANSWERED, ANSWERED), answer(3, 3, ANSWERED, ENDED + LONG)], [], True)
@example([answer(1, 3, ANSWERED + ODD[0]), answer(3, 3, ANSWERED, ENDED + ODD[0])], [], True)
@example([answer(1, 3, encode(((b":status", b"100"),)))], [], True)
@example([headers(1, ANSWER), data(1, b"x"), answer(1)], [], True)
@example([headers(1, ANSWER), data(3, b"x"), headers(1, TRAILERS, ends=True)], [], True)
@example([headers(1, ANSWER), data(1, b"x"), headers(3, TRAILERS, ends=True)], [], True)
@example([answer(1, 3, ANSWERED, bytes(16_385))], [], True)
@example([headers(1, ANSWER), data(1, b"x"), f.frame(f.HEADERS, PADDED_END, 1, b"\1" + ENDED + b"\0")], [], True)
def test_answers(parts: list[bytes], cuts: list[int], is_acknowledged: bool) -> None:
    whole, parted = (asking(gathers=gathers, is_acknowledged=is_acknowledged) for gathers in (True, False))
    said_the_same(whole, parted, parts, cuts)


@pytest.mark.parametrize("wide", ["stream_window_bytes", "connection_window_bytes"])
def test_an_answer_may_use_up_the_window_and_no_more(wide: str) -> None:
    for size, kind in ((f.DEFAULT_WINDOW_BYTES, WholeAnswer), (f.DEFAULT_WINDOW_BYTES + 1, Head)):
        limits = structs.replace(NARROW, frame_bytes=100_000, **{wide: 2**20})
        connection = Connection(Role.CLIENT, limits, gathers=True)
        connection.receive(f.settings({}) + ACK, 0.0)
        connection.ask(REQUEST, b"?")
        [first, *rest] = connection.receive(answer(1, size), 0.0)
        assert type(first) is kind
        assert bool(rest) == (kind is Head)  # what is wrong


def test_a_request_in_one_piece_is_told_at_once() -> None:
    said = request(1) + request(3, 16_384) + widened(5) + headers(7) + data(7, b"x")
    events = serving(gathers=True).receive(said, 0.0)
    assert [type(event) for event in events] == [WholeRequest, WholeRequest, WholeRequest, Head, Data]
    [first, *_] = events
    assert isinstance(first, WholeRequest)
    assert (first.stream_id, first.block.fields, first.data) == (1, REQUEST, b"qqq")


def test_an_answer_in_one_piece_is_told_at_once() -> None:
    events = asking(gathers=True).receive(answer(1) + answer(3, 16_384) + headers(5, ANSWER) + data(5, b"x"), 0.0)
    assert [type(event) for event in events] == [WholeAnswer, WholeAnswer, Head, Data]
    [first, *_] = events
    assert isinstance(first, WholeAnswer)
    assert (first.stream_id, first.data) == (1, b"aaa")
    assert (first.head.fields, first.trailers.fields) == (ANSWER, TRAILERS)


def test_requests_that_were_taken_back_and_are_still_worked_on_count() -> None:
    connection = serving(gathers=True)
    for stream_id in (1, 3):
        assert [type(event) for event in connection.receive(request(stream_id), 0.0)] == [WholeRequest]
        connection.hold(stream_id)
        connection.receive(f.rst_stream(stream_id, Code.CANCEL), 0.0)
    assert connection.receive(request(5), 0.0) == []
    assert resets(connection.take()) == [(5, Code.REFUSED_STREAM)]


def test_what_was_told_is_not_kept() -> None:
    for connection, said in ((serving(gathers=True), request(1)), (asking(gathers=True), answer(1))):
        connection.receive(said, 0.0)
        assert connection._reader.rest() == (b"", b"")


def test_an_answer_to_half_a_request_is_an_early_one() -> None:
    connection = asking(gathers=True)
    assert WholeAnswer not in map(type, connection.receive(answer(7), 0.0))
    assert resets(connection.take()) == [(7, Code.NO_ERROR)]


def test_while_blocks_may_lean_on_each_other_they_are_read_in_their_order() -> None:
    connection = asking(gathers=True, is_acknowledged=False)
    events = connection.receive(answer(1, 3, ANSWERED + KEPT, b"\xbe"), 0.0)
    assert [type(event) for event in events] == [Head, Data, Trailers]
    assert isinstance(events[-1], Trailers)
    assert events[-1].block.fields == ((b"x", b"y"),)
