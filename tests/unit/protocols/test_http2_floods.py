"""Streams of cheap frames: they are cut off, and what a busy client does is not."""

from __future__ import annotations

import pytest

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Limits
from proxy.protocols.http2_frames import Code
from tests.unit.protocols.http2_dialogue import (
    ANSWER,
    REQUEST,
    TRAILERS,
    client,
    data,
    headers,
    resets,
    said,
    server,
)

FLOODS = {
    "pings": lambda n: f.frame(f.PING, 0, 0, bytes(8)),
    "answers to pings": lambda n: f.frame(f.PING, f.ACK, 0, bytes(8)),
    "settings": lambda n: f.settings({}),
    "acknowledgements": lambda n: f.frame(f.SETTINGS, f.ACK, 0, b""),
    "requests that are taken back": lambda n: headers(2 * n + 3) + f.rst_stream(2 * n + 3, Code.CANCEL),
    "resets of nothing": lambda n: f.rst_stream(1, Code.CANCEL),
    "empty data": lambda n: data(1),
    "padding": lambda n: f.frame(f.DATA, f.PADDED, 1, b"\x00"),
    "priorities": lambda n: f.frame(f.PRIORITY, 0, 3, bytes(5)),
    "frames of no known kind": lambda n: f.frame(99, 0, 0, b""),
    "windows": lambda n: f.window_update(0, 1),
    "malformed requests": lambda n: headers(2 * n + 3, REQUEST[1:], ends=True),
    "requests beyond the limit": lambda n: headers(2 * n + 3, ends=True),
    "requests with large fields": lambda n: headers(2 * n + 3, (*REQUEST, (b"x", b"y" * 65_000)), ends=True),
    "data for a stream that was ended": lambda n: data(5, b""),
    "goaways": lambda n: f.goaway(0, Code.NO_ERROR),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_is_cut_off(kind: str) -> None:
    connection = server(Limits(streams=2))
    said(connection, headers(1))
    if kind == "data for a stream that was ended":
        said(connection, headers(5))
        connection.reset(5, Code.CANCEL)
    if kind == "requests beyond the limit":
        said(connection, headers(3))
    written = 0
    for number in range(25_000):
        events = said(connection, FLOODS[kind](number + 1))
        written += len(connection.take())
        if events and isinstance(events[-1], Broken):
            assert events[-1].code == Code.ENHANCE_YOUR_CALM
            break
    else:
        pytest.fail("it goes on for ever")
    assert written < 300_000


def test_settings_are_paid_for_one_by_one() -> None:
    """Each of a window may walk all streams."""
    connection = server()
    many = f.frame(f.SETTINGS, 0, 0, f.settings({f.Setting.INITIAL_WINDOW_SIZE: 1})[9:] * 1001)
    assert isinstance(said(connection, many)[-1], Broken)


def test_what_is_worked_on_is_bounded_also_when_its_client_takes_it_back() -> None:
    connection = server(Limits(streams=4, orphans=10))
    for stream_id in range(1, 21, 2):
        assert len(said(connection, headers(stream_id))) == 1
        connection.hold(stream_id)
        said(connection, f.rst_stream(stream_id, Code.CANCEL))
    assert said(connection, headers(21)) == []
    assert resets(connection.take()) == [(21, Code.REFUSED_STREAM)]
    connection.release(1)
    connection.release(1)
    assert len(said(connection, headers(23), headers(25))) == 2  # an orphan less, and streams of their own
    connection.hold(23)
    connection.release(23)
    said(connection, f.rst_stream(23, Code.CANCEL))
    assert len(said(connection, headers(27))) == 1


def test_fields_that_go_on_for_ever_are_cut_off() -> None:
    for piece in (b"", b"x", b"x" * 1000):
        connection = server()
        said(connection, headers(1, flags=0))
        for _ in range(2000):
            events = said(connection, f.frame(f.CONTINUATION, 0, 1, piece))
            if events:
                break
        assert isinstance(events[-1], Broken)
        assert events[-1].code == Code.ENHANCE_YOUR_CALM
        assert connection._reader._block_bytes <= 2 * 65_536 + 1000


def test_what_waits_to_be_a_frame_is_bounded() -> None:
    """A frame's announced size is judged before its bytes are kept."""
    connection = server()
    (event,) = said(connection, f.head(f.DATA, 0, 1, 2**24 - 1))
    assert isinstance(event, Broken)
    whole = data(1, b"x" * 60_000)
    connection = server()
    said(connection, headers(1))
    assert [event for byte in whole[:-1] for event in said(connection, bytes([byte]))] == []
    assert len(connection._reader._pieces) > 59_000  # joined once, and not with every byte
    assert len(said(connection, whole[-1:])) == 1


def answered(connection: Connection, stream_id: int) -> None:
    connection.send_head(stream_id, ANSWER)
    connection.send_data(stream_id, b"x" * 3000)
    connection.send_trailers(stream_id, TRAILERS)
    connection.take()


def test_a_busy_client_is_not_cut_off() -> None:
    """Calls, each with pings and windows as gRPC's library sends them; one of three is cancelled."""
    connection = server()
    for number in range(20_000):
        stream_id = 2 * number + 1
        events = said(
            connection,
            headers(stream_id),
            data(stream_id, b"x" * 3000, ends=True),
            f.window_update(0, 3000),
            f.frame(f.PING, 0, 0, bytes(8)) if number % 2 else b"",
            f.rst_stream(stream_id, Code.CANCEL) if number % 3 == 0 else b"",
        )
        assert not connection.is_broken, events[-1]
        connection.consume(stream_id, 3000)
        answered(connection, stream_id)


def test_calls_that_say_little_pay_for_their_pings() -> None:
    connection = server()
    for stream_id in range(1, 10_000, 2):
        said(connection, headers(stream_id, ends=True), f.frame(f.PING, 0, 0, bytes(8)), f.window_update(0, 1))
        connection.send_head(stream_id, ANSWER, ends=True)
        connection.take()
    assert not connection.is_broken


def test_an_upload_pays_for_its_pings() -> None:
    connection = server()
    said(connection, headers(1))
    for _ in range(5000):
        said(connection, data(1, b"x" * 16_384), f.frame(f.PING, 0, 0, bytes(8)), f.window_update(1, 1))
        connection.consume(1, 16_384)
        connection.take()
    assert not connection.is_broken


@pytest.mark.parametrize("calls_per_second", [20, 200, 1000])
def test_a_client_whose_calls_all_time_out_is_not_cut_off(calls_per_second: int) -> None:
    """The store hangs. Its other calls, to a store that is well, go through the same connection."""
    connection = server()
    under_way: list[int] = []
    for number in range(60 * calls_per_second):
        stream_id, now = 2 * number + 1, number / calls_per_second
        said(connection, headers(stream_id), data(stream_id, b"x" * 300, ends=True), at_seconds=now)
        connection.consume(stream_id, 300)
        connection.hold(stream_id)
        under_way.append(stream_id)
        if len(under_way) > calls_per_second // 2:  # a deadline of half a second
            said(connection, f.rst_stream(under_way.pop(0), Code.CANCEL), at_seconds=now)
        if number >= 4 * calls_per_second:
            connection.release(2 * (number - 4 * calls_per_second) + 1)  # of the store's time-out
        assert not connection.is_broken
        assert resets(connection.take()) == []


def test_a_client_that_keeps_an_idle_connection_alive_is_not_cut_off() -> None:
    connection = server()
    for minute in range(60 * 24 * 7):
        said(connection, f.frame(f.PING, 0, 0, bytes(8)) * 6, at_seconds=60.0 * minute)
    assert not connection.is_broken


def test_a_large_answer_may_be_paid_for_in_small_windows() -> None:
    connection = client(initial_window_size=2**31 - 1)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, bytes(50_000_000), ends=True)
    for _ in range(50_000_000 // 2000):
        said(connection, f.window_update(0, 2000))
        assert not connection.is_broken
    assert connection.waiting_bytes(stream_id) == 0


def test_a_request_of_one_byte_pieces_is_not_cut_off() -> None:
    connection = server()
    block = encode(REQUEST)
    said(connection, f.frame(f.HEADERS, 0, 1, block[:1]))
    for at in range(1, len(block) - 1):
        said(connection, f.frame(f.CONTINUATION, 0, 1, block[at : at + 1]))
    (head,) = said(connection, f.frame(f.CONTINUATION, f.END_HEADERS, 1, block[-1:]))
    assert not isinstance(head, Broken)
