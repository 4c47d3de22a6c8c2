"""Streams of cheap frames: they are cut off, and what a busy client does is not."""

from __future__ import annotations

import pytest

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Limits
from proxy.protocols.http2_frames import Code
from tests.unit.protocols.http2_dialogue import ANSWER, REQUEST, TRAILERS, client, data, headers, said, server

FLOODS = {
    "pings": lambda n: f.frame(f.PING, 0, 0, bytes(8)),
    "answers to pings": lambda n: f.frame(f.PING, f.ACK, 0, bytes(8)),
    "settings": lambda n: f.settings({}),
    "acknowledgements": lambda n: f.frame(f.SETTINGS, f.ACK, 0, b""),
    "resets": lambda n: headers(2 * n + 3) + f.rst_stream(2 * n + 3, Code.CANCEL),
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
    assert written < 100_000


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
    assert len(connection._reader._chunks) > 59_000  # joined once, and not with every byte
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
