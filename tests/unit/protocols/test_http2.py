"""One HTTP/2 connection as a dialogue: what the peer says, what comes of it, what is said back."""

from __future__ import annotations

import pytest

from proxy.protocols import http2_frames as f
from proxy.protocols.hpack import encode
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import (
    Broken,
    Data,
    Event,
    Going,
    Head,
    Limits,
    Pong,
    Ready,
    Reset,
    Role,
    Sent,
    Trailers,
)
from proxy.protocols.http2_frames import Code
from tests.unit.protocols.http2_dialogue import (
    ACK,
    ANSWER,
    HELLO,
    REQUEST,
    TRAILERS,
    client,
    data,
    frames,
    headers,
    payload,
    resets,
    said,
    server,
)

WINDOW = f.DEFAULT_WINDOW_BYTES
GOOD = encode(REQUEST)
SMALL = Limits(frame_bytes=16_384, stream_window_bytes=WINDOW, connection_window_bytes=WINDOW)


def by_reason(value: object) -> str:
    """A test's name: what is wrong, and not the bytes."""
    return value if isinstance(value, str) else ""


def broken(events: list[Event]) -> Broken:
    """The last of them."""
    assert isinstance(events[-1], Broken), events
    return events[-1]


def shown(events: list[Event]) -> list[tuple[str, int]]:
    return [(type(event).__name__, getattr(event, "stream_id", 0)) for event in events]


# --- greetings ---------------------------------------------------------------------------------


def test_a_server_greets_at_once() -> None:
    written = Connection(Role.SERVER).take()
    (settings, window) = frames(written)
    assert dict(f.settings_in(settings[3])) == {
        f.Setting.HEADER_TABLE_SIZE: 0,
        f.Setting.MAX_CONCURRENT_STREAMS: 1024,
        f.Setting.INITIAL_WINDOW_SIZE: 2**20,
        f.Setting.MAX_FRAME_SIZE: 65_536,
        f.Setting.MAX_HEADER_LIST_SIZE: 65_536,
    }
    assert (window[0], f.number_in(window[3])) == (f.WINDOW_UPDATE, 2**24 - WINDOW)


def test_a_client_begins_with_the_preface_and_wants_no_push() -> None:
    written = Connection(Role.CLIENT).take()
    assert written.startswith(f.PREFACE)
    assert dict(f.settings_in(frames(written)[0][3]))[f.Setting.ENABLE_PUSH] == 0


def test_settings_are_acknowledged() -> None:
    connection = Connection(Role.SERVER)
    connection.take()
    assert said(connection, HELLO) == [Ready()]
    assert connection.take() == ACK
    assert said(connection, f.settings({f.Setting.MAX_FRAME_SIZE: 20_000})) == []
    assert connection.take() == ACK


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n", b"P", b"PRI * HTTP/2.0\r\n\r\nXX", b"\x16\x03\x01"])
def test_what_is_not_http2_is_told_from_its_first_bytes(first: bytes) -> None:
    events = said(Connection(Role.SERVER), first)
    assert events == [] if f.PREFACE.startswith(first) else "not HTTP/2" in broken(events).why


@pytest.mark.parametrize("role", Role)
def test_settings_come_first(role: Role) -> None:
    preface = f.PREFACE if role is Role.SERVER else b""
    fault = broken(said(Connection(role), preface, f.frame(f.PING, 0, 0, bytes(8))))
    assert (fault.code, "before any settings" in fault.why) == (Code.PROTOCOL_ERROR, True)


def test_the_table_of_field_blocks_is_used_until_the_peer_has_acknowledged_that_there_is_none() -> None:
    keeps, refers = b"\x40\x01a\x011", b"\xbe"
    connection = Connection(Role.SERVER)
    events = said(connection, HELLO, f.frame(f.HEADERS, 5, 1, GOOD + keeps), f.frame(f.HEADERS, 5, 3, GOOD + refers))
    assert shown(events) == [("Ready", 0), ("Head", 1), ("Head", 3)]
    assert "index 62" in broken(said(connection, ACK, f.frame(f.HEADERS, 5, 5, GOOD + refers))).why


def opened(connection: Connection) -> int:
    while connection.can_open and connection.open_streams < 300:
        connection.open(REQUEST)
    return connection.open_streams


def test_a_server_takes_as_many_streams_as_it_says_and_any_number_if_it_says_nothing() -> None:
    assert opened(Connection(Role.CLIENT)) == 100  # before it has said
    assert opened(client(max_concurrent_streams=3)) == 3
    assert opened(client()) == 300


# --- a call -------------------------------------------------------------------------------------


def test_a_call_from_its_request_to_its_trailers() -> None:
    connection = server()
    head, body = said(connection, headers(1), data(1, b"question", ends=True))
    assert isinstance(head, Head)
    assert (head.stream_id, head.block.fields, head.ends) == (1, REQUEST, False)
    assert body == Data(1, b"question", 8, ends=True)
    connection.send_head(1, ANSWER)
    connection.send_data(1, b"answer")
    connection.send_trailers(1, TRAILERS)
    assert connection.take() == b"".join(
        (
            f.frame(f.HEADERS, f.END_HEADERS, 1, b"\x20" + encode(ANSWER)),
            data(1, b"answer"),
            headers(1, TRAILERS, ends=True),
        )
    )
    assert connection.open_streams == 0


def test_a_call_from_the_clients_side() -> None:
    connection = client()
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"question", ends=True)
    assert (stream_id, connection.open(REQUEST, ends=True)) == (1, 3)
    assert [frame[:3] for frame in frames(connection.take())] == [
        (f.HEADERS, f.END_HEADERS, 1),
        (f.DATA, f.END_STREAM, 1),
        (f.HEADERS, f.END_HEADERS | f.END_STREAM, 3),
    ]
    events = said(connection, headers(1, ANSWER), data(1, b"answer"), headers(1, TRAILERS, ends=True))
    assert shown(events) == [("Head", 1), ("Data", 1), ("Trailers", 1)]
    assert isinstance(events[2], Trailers)
    assert events[2].block.fields == TRAILERS
    assert connection.open_streams == 1


def test_an_answer_of_trailers_only() -> None:
    connection = client()
    connection.open(REQUEST, ends=True)
    (head,) = said(connection, headers(1, (*ANSWER, *TRAILERS), ends=True))
    assert isinstance(head, Head)
    assert head.ends
    assert connection.open_streams == 0


def test_interim_answers_are_passed_over() -> None:
    connection = client()
    connection.open(REQUEST, ends=True)
    events = said(connection, headers(1, ((b":status", b"103"),)), headers(1, ANSWER, ends=True))
    assert shown(events) == [("Head", 1)]


def test_messages_in_both_directions_at_once() -> None:
    connection = server()
    said(connection, headers(1))
    connection.send_head(1, ANSWER)
    for number in range(3):
        assert said(connection, data(1, b"%d" % number)) == [Data(1, b"%d" % number, 1, ends=False)]
        connection.send_data(1, b"%d" % number)
    assert said(connection, data(1, ends=True)) == [Data(1, b"", 0, ends=True)]
    connection.send_trailers(1, TRAILERS)
    assert payload(connection.take(), 1) == b"012"
    assert connection.open_streams == 0


def test_trailers_of_a_request() -> None:
    connection = server()
    events = said(connection, headers(1), data(1, b"x"), headers(1, ((b"x-sum", b"1"),), ends=True))
    assert shown(events) == [("Head", 1), ("Data", 1), ("Trailers", 1)]


DIALOGUE = b"".join(
    (
        HELLO,
        ACK,
        f.settings({f.Setting.INITIAL_WINDOW_SIZE: 100, f.Setting.MAX_FRAME_SIZE: 20_000}),
        headers(1),
        f.frame(f.PING, 0, 0, b"12345678"),
        f.frame(f.DATA, f.PADDED, 1, b"\x03abc\0\0\0"),
        f.frame(f.PRIORITY, 0, 3, b"\0\0\0\x01\x10"),
        f.frame(f.HEADERS, f.PADDED | f.WITH_PRIORITY, 3, b"\x02\0\0\0\0\x10" + encode(REQUEST)[:5] + b"\0\0"),
        f.frame(f.CONTINUATION, 0, 3, encode(REQUEST)[5:9]),
        f.frame(f.CONTINUATION, 0, 3, b""),
        f.frame(f.CONTINUATION, f.END_HEADERS, 3, encode(REQUEST)[9:]),
        f.window_update(0, 10),
        f.window_update(1, 10),
        f.frame(200, 0xFF, 77, b"of another kind"),
        data(3, b"x" * 300, ends=True),
        data(1, ends=True),
        headers(5, ends=True),
        f.rst_stream(5, Code.CANCEL),
        f.goaway(0, Code.NO_ERROR, b"bye"),
    )
)


def test_it_does_not_matter_in_which_pieces_bytes_arrive() -> None:
    whole = Connection(Role.SERVER)
    events, written = whole.receive(DIALOGUE, 0.0), whole.take()
    assert shown(events) == [
        ("Ready", 0),
        ("Head", 1),
        ("Data", 1),
        ("Head", 3),
        ("Data", 3),
        ("Data", 1),
        ("Head", 5),
        ("Reset", 5),
        ("Going", 0),
    ]
    for size in (1, 2, 3, 7, 8, 9, 10, 23, 25, 100):
        connection = Connection(Role.SERVER)
        found = [
            event
            for start in range(0, len(DIALOGUE), size)
            for event in connection.receive(DIALOGUE[start : start + size], 0.0)
        ]
        assert (found, connection.take()) == (events, written)
    for cut in range(len(DIALOGUE)):
        connection = Connection(Role.SERVER)
        found = connection.receive(DIALOGUE[:cut], 0.0) + connection.receive(DIALOGUE[cut:], 0.0)
        assert (found, connection.take()) == (events, written)


# --- windows: what arrives ------------------------------------------------------------------------


def test_what_is_given_back_may_be_sent_again() -> None:
    connection = server(SMALL)
    said(connection, headers(1), data(1, b"x" * 16_384), data(1, b"x" * 16_384))
    connection.consume(1, 16_384)
    assert connection.take() == b""
    connection.consume(1, 16_384)
    assert connection.take() == f.window_update(0, 32_768) + f.window_update(1, 32_768)
    assert len(said(connection, *[data(1, b"x" * 16_384)] * 2)) == 2
    connection.consume(1, 32_768)
    assert connection.take() == f.window_update(0, 32_768) + f.window_update(1, 32_768)


def test_padding_takes_window_too() -> None:
    connection = server(SMALL)
    (_, event) = said(connection, headers(1), f.frame(f.DATA, f.PADDED, 1, b"\x05abc" + bytes(5)))
    assert event == Data(1, b"abc", 9, ends=False)


def test_more_than_the_window_of_a_stream_ends_the_stream() -> None:
    connection = server(Limits(stream_window_bytes=WINDOW))
    events = said(connection, headers(1), data(1, b"x" * WINDOW), data(1, b"x"))
    assert shown(events) == [("Head", 1), ("Data", 1), ("Reset", 1)]
    assert resets(connection.take()) == [(1, Code.FLOW_CONTROL_ERROR)]


def test_more_than_the_window_of_the_connection_ends_it() -> None:
    connection = server(Limits(connection_window_bytes=WINDOW))
    fault = broken(said(connection, headers(1), data(1, b"x" * WINDOW), data(1, b"x")))
    assert fault.code == Code.FLOW_CONTROL_ERROR


def test_data_of_a_stream_that_was_ended_here_takes_no_window_for_good() -> None:
    connection = server(SMALL)
    said(connection, headers(1))
    connection.reset(1, Code.CANCEL)
    for _ in range(20):
        assert said(connection, data(1, b"x" * 16_384)) == []
    connection.consume(1, 100)  # of before: for the connection


# --- windows: what is sent --------------------------------------------------------------------------


def test_data_waits_for_the_window_of_its_stream() -> None:
    connection = client(initial_window_size=10)
    one, two = connection.open(REQUEST), connection.open(REQUEST)
    connection.send_data(one, b"x" * 25, ends=True)
    connection.send_data(two, b"y" * 10)
    assert connection.waiting_bytes(one) == 15
    written = connection.take()
    assert (payload(written, one), payload(written, two)) == (b"x" * 10, b"y" * 10)
    assert said(connection, f.window_update(one, 10)) == []
    assert frames(connection.take()) == [(f.DATA, 0, one, b"x" * 10)]
    assert said(connection, f.window_update(one, 10)) == [Sent(one)]
    assert frames(connection.take()) == [(f.DATA, f.END_STREAM, one, b"x" * 5)]
    assert connection.waiting_bytes(one) == 0


def test_data_waits_for_the_window_of_the_connection_in_turn() -> None:
    """A large message does not keep a small one waiting."""
    connection = client(initial_window_size=2**20)
    large, small = connection.open(REQUEST), connection.open(REQUEST)
    connection.send_data(large, b"x" * 200_000)
    connection.send_data(small, b"y" * 100, ends=True)
    assert len(payload(connection.take(), large)) == WINDOW
    assert said(connection, f.window_update(0, 20_000)) == [Sent(small)]
    written = connection.take()
    assert (len(payload(written, large)), payload(written, small)) == (19_900, b"y" * 100)
    assert said(connection, f.window_update(0, 200_000)) == [Sent(large)]
    assert len(payload(connection.take(), large)) == 200_000 - WINDOW - 19_900


def test_who_waits_for_the_connections_window_gets_a_frame_in_turn() -> None:
    connection = client(initial_window_size=2**20)
    streams = [connection.open(REQUEST) for _ in range(3)]
    for stream_id in streams:
        connection.send_data(stream_id, b"x" * 100_000)
    connection.take()
    for _ in range(2):
        said(connection, f.window_update(0, 3 * 16_384))
        assert [frame[2] for frame in frames(connection.take())] == streams


def test_trailers_wait_for_the_data_before_them() -> None:
    connection = server()
    said(connection, f.settings({f.Setting.INITIAL_WINDOW_SIZE: 4}), headers(1, ends=True))
    connection.send_head(1, ANSWER)
    connection.send_data(1, b"answer")
    connection.send_trailers(1, TRAILERS)
    assert [frame[0] for frame in frames(connection.take())] == [f.SETTINGS, f.HEADERS, f.DATA]
    assert said(connection, f.window_update(1, 100)) == []
    assert frames(connection.take()) == [
        (f.DATA, 0, 1, b"er"),
        (f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, encode(TRAILERS)),
    ]
    assert connection.open_streams == 0


def test_trailers_need_no_window() -> None:
    """Also where the data before them has used up the last of both, and where nobody ever widens the stream's."""
    connection = server()
    said(connection, headers(1, ends=True), headers(3, ends=True))
    connection.send_head(1, ANSWER)
    connection.send_data(1, bytes(30_000))
    connection.send_head(3, ANSWER)
    connection.send_data(3, bytes(WINDOW))
    connection.send_trailers(3, TRAILERS)
    connection.take()
    assert said(connection, f.window_update(0, 30_000)) == []
    assert frames(connection.take())[-1] == (f.HEADERS, f.END_HEADERS | f.END_STREAM, 3, encode(TRAILERS))
    assert connection.open_streams == 1


def test_an_empty_end_needs_no_window_behind_data_and_below_zero_either() -> None:
    connection = client(initial_window_size=2**20)
    large, behind, shrunk = (connection.open(REQUEST) for _ in range(3))
    connection.send_data(shrunk, bytes(10_000))
    connection.send_data(large, bytes(100_000))
    connection.send_data(behind, bytes(100))
    connection.send_data(behind, b"", ends=True)
    connection.take()
    said(connection, f.settings({f.Setting.INITIAL_WINDOW_SIZE: 100}))
    connection.send_data(shrunk, b"", ends=True)
    assert frames(connection.take())[-1] == (f.DATA, f.END_STREAM, shrunk, b"")
    said(connection, f.window_update(0, 100))
    written = frames(connection.take())
    assert [frame[1:] for frame in written] == [(0, behind, bytes(100)), (f.END_STREAM, behind, b"")]


def test_nothing_follows_the_end() -> None:
    connection = client(initial_window_size=1)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"ab", ends=True)
    connection.send_data(stream_id, b"more")
    connection.send_trailers(stream_id, TRAILERS)
    said(connection, f.window_update(stream_id, 100))
    assert [frame[:2] for frame in frames(connection.take())[1:]] == [(f.DATA, 0), (f.DATA, f.END_STREAM)]


def test_an_empty_end_needs_no_window() -> None:
    connection = client(initial_window_size=0)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"", ends=True)
    assert frames(connection.take())[1] == (f.DATA, f.END_STREAM, stream_id, b"")


def test_frames_are_no_larger_than_the_peer_takes() -> None:
    connection = client(initial_window_size=2**20, max_frame_size=20_000)
    large = ((b"x-large", b"x" * 50_000),)
    stream_id = connection.open((*REQUEST, *large))
    connection.send_data(stream_id, b"x" * 50_000)
    written = frames(connection.take())
    assert [(frame[0], frame[1], len(frame[3])) for frame in written[:2]] == [
        (f.HEADERS, 0, 20_000),
        (f.CONTINUATION, 0, 20_000),
    ]
    assert (written[2][0], written[2][1]) == (f.CONTINUATION, f.END_HEADERS)
    assert [len(frame[3]) for frame in written[3:]] == [20_000, 20_000, 10_000]


def test_a_window_that_shrinks_is_negative_until_it_has_grown() -> None:
    connection = client(initial_window_size=100)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"x" * 100)
    connection.take()
    said(connection, f.settings({f.Setting.INITIAL_WINDOW_SIZE: 10}))
    connection.send_data(stream_id, b"y" * 5)
    said(connection, f.window_update(stream_id, 90))
    assert payload(connection.take(), stream_id) == b""
    assert said(connection, f.settings({f.Setting.INITIAL_WINDOW_SIZE: 15})) == [Sent(stream_id)]
    assert payload(connection.take(), stream_id) == b"y" * 5


def test_wider_windows_are_acknowledged_before_they_are_used() -> None:
    """gRPC's own servers count by the windows that have been acknowledged, and end a stream that takes more."""
    connection = client(initial_window_size=10)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"x" * 30)
    connection.take()
    said(connection, f.settings({f.Setting.INITIAL_WINDOW_SIZE: 30}))
    written = connection.take()
    acknowledgement = f.frame(f.SETTINGS, f.ACK, 0, b"")
    assert written.startswith(acknowledgement)
    assert payload(written, stream_id) == b"x" * 20


# --- ends ------------------------------------------------------------------------------------------


def test_a_stream_that_the_peer_resets_is_gone() -> None:
    connection = server()
    events = said(connection, headers(1), f.rst_stream(1, Code.CANCEL))
    assert events[1:] == [Reset(1, Code.CANCEL, refused=False)]
    connection.send_head(1, ANSWER)
    connection.send_data(1, b"x", ends=True)
    connection.send_trailers(1, TRAILERS)
    connection.reset(1, Code.CANCEL)
    assert connection.take() == b""


def test_what_waits_of_a_stream_that_is_reset_is_not_sent() -> None:
    connection = client(initial_window_size=1)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"xyz")
    said(connection, f.rst_stream(stream_id, Code.CANCEL))
    connection.take()
    said(connection, f.window_update(0, 100))
    assert connection.take() == b""


def test_an_early_answer_asks_for_no_more_of_the_request() -> None:
    connection = server()
    said(connection, headers(1), data(1, b"x"))
    connection.send_head(1, (*ANSWER, *TRAILERS), ends=True)
    assert resets(connection.take()) == [(1, Code.NO_ERROR)]
    assert said(connection, data(1, b"rest"), headers(1, TRAILERS, ends=True)) == []


def test_who_gets_an_early_answer_sends_no_more() -> None:
    connection = client(initial_window_size=1)
    stream_id = connection.open(REQUEST)
    connection.send_data(stream_id, b"xyz", ends=True)
    events = said(connection, headers(1, (*ANSWER, *TRAILERS), ends=True), f.rst_stream(1, Code.NO_ERROR))
    assert shown(events) == [("Head", 1)]
    assert resets(connection.take()) == [(1, Code.NO_ERROR)]
    assert connection.open_streams == 0


def test_streams_beyond_the_limit_are_refused() -> None:
    connection = server(Limits(streams=2))
    events = said(connection, headers(1), headers(3), headers(5), data(5, b"x", ends=True))
    assert shown(events) == [("Head", 1), ("Head", 3)]
    assert resets(connection.take()) == [(5, Code.REFUSED_STREAM)]
    connection.reset(1, Code.CANCEL)
    assert shown(said(connection, headers(7))) == [("Head", 7)]


def test_a_client_keeps_to_the_servers_number_of_streams() -> None:
    connection = client(max_concurrent_streams=1)
    could = [connection.can_open]
    connection.open(REQUEST, ends=True)
    could.append(connection.can_open)
    said(connection, headers(1, ANSWER, ends=True))
    could.append(connection.can_open)
    assert could == [True, False, True]


def test_a_refused_stream_can_be_sent_again() -> None:
    connection = client()
    connection.open(REQUEST)
    assert said(connection, f.rst_stream(1, Code.REFUSED_STREAM)) == [Reset(1, Code.REFUSED_STREAM, refused=True)]


# --- going -------------------------------------------------------------------------------------------


def test_a_server_that_drains_takes_what_is_on_its_way() -> None:
    connection = server()
    said(connection, headers(1, ends=True))
    connection.drain()
    goaway, ping = frames(connection.take())
    assert f.goaway_in(goaway[3])[:2] == (f.LARGEST_ID, Code.NO_ERROR)
    assert shown(said(connection, headers(3, ends=True))) == [("Head", 3)]
    assert said(connection, f.frame(f.PING, f.ACK, 0, ping[3])) == []
    (goaway,) = frames(connection.take())
    assert f.goaway_in(goaway[3])[:2] == (3, Code.NO_ERROR)
    assert said(connection, headers(5), data(5, b"x", ends=True), f.window_update(5, 1)) == []
    drained = [connection.is_drained]
    for stream_id in (1, 3):
        connection.send_head(stream_id, ANSWER, ends=True)
        drained.append(connection.is_drained)
    assert drained == [False, False, True]
    connection.take()
    connection.finish_draining()
    assert connection.take() == b""


def test_a_client_whose_server_goes_opens_nothing_more() -> None:
    connection = client()
    for _ in range(3):
        connection.open(REQUEST, ends=True)
    assert said(connection, f.goaway(f.LARGEST_ID, Code.NO_ERROR)) == [Going(f.LARGEST_ID, Code.NO_ERROR, b"")]
    assert not connection.can_open
    events = said(connection, f.goaway(3, Code.NO_ERROR, b"x" * 300))
    assert events == [Going(3, Code.NO_ERROR, b"x" * 200), Reset(5, Code.REFUSED_STREAM, refused=True)]
    assert said(connection, headers(5, ANSWER, ends=True)) == []
    assert shown(said(connection, headers(1, ANSWER, ends=True), headers(3, ANSWER, ends=True))) == [
        ("Head", 1),
        ("Head", 3),
    ]
    assert connection.is_drained


def test_pings_are_answered_and_come_back() -> None:
    connection = server()
    assert said(connection, f.frame(f.PING, 0, 0, b"12345678")) == []
    assert connection.take() == f.frame(f.PING, f.ACK, 0, b"12345678")
    connection.ping(b"abcdefgh")
    assert connection.take() == f.frame(f.PING, 0, 0, b"abcdefgh")
    assert said(connection, f.frame(f.PING, f.ACK, 0, b"abcdefgh")) == [Pong(b"abcdefgh")]
    assert said(connection, f.frame(f.PING, f.ACK, 0, b"draining")) == []  # which nobody has sent


def test_a_connection_that_is_over_says_and_hears_nothing() -> None:
    connection = server()
    said(connection, headers(1))
    connection.close(Code.INTERNAL_ERROR, "the program is stopping")
    (goaway,) = frames(connection.take())
    assert f.goaway_in(goaway[3]) == (1, Code.INTERNAL_ERROR, b"the program is stopping")
    connection.send_head(1, ANSWER)
    connection.close(Code.NO_ERROR)
    assert said(connection, headers(3)) == []
    assert connection.take() == b""


# --- faults ------------------------------------------------------------------------------------------

PROTOCOL, SIZE, FLOW, CLOSED = Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED


@pytest.mark.parametrize(
    ("bytes_said", "code", "why"),
    [
        (f.head(f.DATA, 0, 1, 65_537), SIZE, "a frame of 65537 bytes, where 65536 are allowed"),
        (data(0, b"x"), PROTOCOL, "data of stream 0, which nobody has opened"),
        (data(1, b"x"), PROTOCOL, "data of stream 1, which nobody has opened"),
        (data(2, b"x"), PROTOCOL, "data of stream 2, which nobody has opened"),
        (headers(1) + f.frame(f.DATA, f.PADDED, 1, b""), SIZE, "padding without its length"),
        (headers(1) + f.frame(f.DATA, f.PADDED, 1, b"\x04abc"), PROTOCOL, "4 bytes of padding in a frame of 4"),
        (headers(1, ends=True) + data(1, b"x"), CLOSED, "data of stream 1, which has ended"),
        (headers(1, ends=True) + headers(1, TRAILERS, ends=True), CLOSED, "fields of stream 1, which has ended"),
        (headers(1) + f.rst_stream(1, 8) + data(1, b"x"), CLOSED, "data of stream 1, which has ended"),
        (headers(5) + headers(3), CLOSED, "fields of stream 3, which has ended"),
        (headers(0), PROTOCOL, "fields of stream 0"),
        (headers(2), PROTOCOL, "a client's stream 2, which is even"),
        (f.frame(f.HEADERS, f.END_HEADERS | f.PADDED, 1, b"\xff" + GOOD), PROTOCOL, "255 bytes of padding"),
        (f.frame(f.HEADERS, f.END_HEADERS | f.WITH_PRIORITY, 1, b"\0\0"), SIZE, "a priority of 2 bytes"),
        (f.frame(f.HEADERS, f.END_HEADERS | f.WITH_PRIORITY, 1, b"\0\0\0\x01\0" + GOOD), PROTOCOL, "on itself"),
        (f.frame(f.HEADERS, f.END_HEADERS, 1, b"\x80"), Code.COMPRESSION_ERROR, "the fields of stream 1: index 0"),
        (headers(1, flags=0) + data(1), PROTOCOL, "a frame of kind 0 within the fields"),
        (headers(1, flags=0) + headers(1), PROTOCOL, "a frame of kind 1 within the fields"),
        (headers(1, flags=0) + f.frame(f.CONTINUATION, 4, 3, b""), PROTOCOL, "a frame of kind 9 within the fields"),
        (headers(1, flags=0) + f.frame(99, 0, 0, b""), PROTOCOL, "a frame of kind 99 within the fields"),
        (f.frame(f.CONTINUATION, 4, 1, b""), PROTOCOL, "fields of stream 1 go on that have not begun"),
        (f.frame(f.PRIORITY, 0, 0, bytes(5)), PROTOCOL, "the priority of stream 0"),
        (f.frame(f.PRIORITY, 0, 1, bytes(4)), SIZE, "PRIORITY of 4 bytes"),
        (f.frame(f.PRIORITY, 0, 1, b"\0\0\0\x01\0"), PROTOCOL, "stream 1 depends on itself"),
        (f.rst_stream(0, 8), PROTOCOL, "RST_STREAM of stream 0, which nobody has opened"),
        (f.rst_stream(1, 8), PROTOCOL, "RST_STREAM of stream 1, which nobody has opened"),
        (headers(1) + f.frame(f.RST_STREAM, 0, 1, b""), SIZE, "RST_STREAM of 0 bytes"),
        (f.frame(f.SETTINGS, 0, 1, b""), PROTOCOL, "SETTINGS of stream 1"),
        (f.frame(f.SETTINGS, 0, 0, b"12345"), SIZE, "settings of 5 bytes"),
        (f.frame(f.SETTINGS, f.ACK, 0, bytes(6)), SIZE, "SETTINGS that acknowledge of 6 bytes"),
        (f.settings({f.Setting.ENABLE_PUSH: 2}), PROTOCOL, "ENABLE_PUSH is 2"),
        (f.settings({f.Setting.INITIAL_WINDOW_SIZE: 2**31}), FLOW, "INITIAL_WINDOW_SIZE is 2147483648"),
        (f.settings({f.Setting.MAX_FRAME_SIZE: 16_383}), PROTOCOL, "MAX_FRAME_SIZE is 16383"),
        (f.settings({f.Setting.MAX_FRAME_SIZE: 2**24}), PROTOCOL, "MAX_FRAME_SIZE is 16777216"),
        (f.frame(f.PUSH_PROMISE, 4, 1, bytes(4) + GOOD), PROTOCOL, "push is not allowed"),
        (f.frame(f.PING, 0, 1, bytes(8)), PROTOCOL, "PING of stream 1"),
        (f.frame(f.PING, 0, 0, bytes(7)), SIZE, "PING of 7 bytes"),
        (f.frame(f.GOAWAY, 0, 1, bytes(8)), PROTOCOL, "GOAWAY of stream 1"),
        (f.frame(f.GOAWAY, 0, 0, bytes(7)), SIZE, "a GOAWAY of 7 bytes"),
        (f.window_update(0, 0), PROTOCOL, "grows by 0 bytes"),
        (f.window_update(0, 2**31 - 1), FLOW, "more than 2 GiB"),
        (f.window_update(1, 1), PROTOCOL, "WINDOW_UPDATE of stream 1, which nobody has opened"),
        (f.frame(f.WINDOW_UPDATE, 0, 0, bytes(3)), SIZE, "WINDOW_UPDATE of 3 bytes"),
        (
            headers(1)
            + f.window_update(1, 2**31 - 1 - WINDOW)
            + f.settings({f.Setting.INITIAL_WINDOW_SIZE: WINDOW + 1}),
            FLOW,
            "over 2 GiB",
        ),
    ],
    ids=by_reason,
)
def test_faults_of_the_connection(bytes_said: bytes, code: Code, why: str) -> None:
    connection = server()
    fault = broken(said(connection, bytes_said))
    assert (fault.code, why in fault.why) == (code, True), fault
    assert [f.goaway_in(frame[3])[1] for frame in frames(connection.take()) if frame[0] == f.GOAWAY] == [code]
    assert connection.is_broken


@pytest.mark.parametrize(
    ("bytes_said", "why"),
    [
        (headers(2, ANSWER), "fields of stream 2, which nobody has opened"),
        (headers(5, ANSWER), "fields of stream 5, which nobody has opened"),
        (f.settings({f.Setting.ENABLE_PUSH: 1}), "ENABLE_PUSH is 1"),
        (f.frame(f.PUSH_PROMISE, 4, 1, b"\0\0\0\x02" + GOOD), "push is not allowed"),
        (f.frame(f.SETTINGS, f.ACK, 0, b""), ""),
    ],
    ids=by_reason,
)
def test_faults_of_a_server(bytes_said: bytes, why: str) -> None:
    connection = client()
    connection.open(REQUEST)
    events = said(connection, bytes_said)
    assert why in broken(events).why if why else events == []


def test_an_acknowledgement_comes_first_of_nobody() -> None:
    assert "before any are sent" in broken(said(Connection(Role.CLIENT), ACK)).why


@pytest.mark.parametrize(
    ("bytes_said", "code", "why"),
    [
        (headers(1, (*REQUEST[:3], REQUEST[4])), PROTOCOL, "without :authority and host"),
        (headers(1, (*REQUEST, (b"host", b"b"))), PROTOCOL, "the host 'b'"),
        (headers(1, REQUEST[1:]), PROTOCOL, "expected :method, :scheme and :path"),
        (headers(1, (*REQUEST[:3], (b":status", b"200"))), PROTOCOL, "expected :method, :scheme and :path"),
        (headers(1, (*REQUEST, (b":authority", b"a"))), PROTOCOL, "comes twice, or after other fields"),
        (headers(1, (*REQUEST, (b"content-length", b"x"))), PROTOCOL, "expected one number"),
        (headers(1, (*REQUEST, (b"content-length", b"1")), ends=True), PROTOCOL, "less bytes than content-length"),
        (headers(1, (*REQUEST, (b"content-length", b"1"))) + data(1, b"xy"), PROTOCOL, "more bytes"),
        (headers(1, (*REQUEST, (b"content-length", b"3"))) + data(1, b"xy", ends=True), PROTOCOL, "less bytes"),
        (
            headers(1, (*REQUEST, (b"content-length", b"3"))) + headers(1, TRAILERS, ends=True),
            PROTOCOL,
            "less bytes",
        ),
        (headers(1) + headers(1, TRAILERS), PROTOCOL, "fields in the middle of a message"),
        (headers(1) + headers(1, REQUEST, ends=True), PROTOCOL, "at the end of a message"),
        (headers(1) + headers(1, ((b"x", b"y" * 65_536),), ends=True), PROTOCOL, "where 65536 are allowed"),
        (headers(1) + f.window_update(1, 0), PROTOCOL, "grows by 0 bytes"),
        (headers(1) + f.window_update(1, 2**31 - 1), FLOW, "more than 2 GiB"),
        (f.frame(f.HEADERS, 5, 1, GOOD + b"\x00\x01A\x011"), PROTOCOL, "the field name 'A'"),
        (f.frame(f.HEADERS, 5, 1, GOOD + b"\x00\x01a\x02\r\n"), PROTOCOL, "the value of 'a' holds"),
    ],
    ids=by_reason,
)
def test_faults_of_a_stream_leave_the_others_alone(bytes_said: bytes, code: Code, why: str) -> None:
    connection = server()
    events = said(connection, bytes_said, headers(3, ends=True))
    assert shown(events)[-1] == ("Head", 3)
    (reset,) = [event for event in events if isinstance(event, Reset)]
    assert (reset.stream_id, reset.code, reset.refused, why in reset.why) == (1, code, False, True), reset
    assert resets(connection.take()) == [(1, code)]
    assert connection.open_streams == 1


@pytest.mark.parametrize(
    ("bytes_said", "why"),
    [
        (headers(1, ((b"content-type", b"a"),)), "and the status b''"),
        (headers(1, ((b":status", b"2000"),)), "and the status b'2000'"),
        (headers(1, ((b":status", b"abc"),)), "and the status b'abc'"),
        (headers(1, ((b":status", b"200"), (b":path", b"/"))), "b':path'"),
        (headers(1, ((b":status", b"103"),), ends=True), "an interim answer (103) that is the last"),
        (data(1, b"x"), "data before any fields"),
        (headers(1, (*ANSWER, (b"content-length", b"1"))) + data(1, b"xy"), "more bytes than content-length says"),
    ],
    ids=by_reason,
)
def test_faults_of_an_answer(bytes_said: bytes, why: str) -> None:
    connection = client()
    connection.open(REQUEST, ends=True)
    reset = said(connection, bytes_said)[-1]
    assert isinstance(reset, Reset)
    assert (reset.code, why in reset.why) == (PROTOCOL, True), reset


def test_an_answer_without_a_body_may_tell_its_length() -> None:
    """As to HEAD, and 304."""
    connection = client()
    connection.open(REQUEST, ends=True)
    assert shown(said(connection, headers(1, (*ANSWER, (b"content-length", b"5")), ends=True))) == [("Head", 1)]


def test_fields_that_are_too_large_are_told_so() -> None:
    connection = server()
    large = tuple((b"x-%d" % number, b"y" * 10_000) for number in range(7))
    assert said(connection, headers(1, (*REQUEST, *large[:6]))) != []
    connection.take()
    assert said(connection, headers(3, (*REQUEST, *large)), data(3, b"x", ends=True)) == []
    (answer, reset) = frames(connection.take())
    assert (answer[0], answer[3], reset[0]) == (
        f.HEADERS,
        b"\x20"
        + encode(
            (
                (b":status", b"431"),
                (b"content-type", b"application/grpc"),
                (b"grpc-status", b"8"),
                (b"grpc-message", b"the metadata is too large"),
            )
        ),
        f.RST_STREAM,
    )
    fault = broken(said(connection, headers(5, (*REQUEST, *large, *large))))
    assert (fault.code, "fields of more than 131072 bytes" in fault.why) == (Code.ENHANCE_YOUR_CALM, True)


def test_events_before_a_fault_are_told() -> None:
    connection = server()
    events = said(connection, headers(1), data(1, b"x", ends=True), f.frame(f.PING, 0, 0, b""))
    assert shown(events) == [("Head", 1), ("Data", 1), ("Broken", 0)]


def test_the_number_of_streams_that_were_ended_here_and_are_remembered_is_bounded() -> None:
    connection = server()
    for stream_id in range(1, 20_001, 2):
        said(connection, headers(stream_id), at_seconds=stream_id)
        connection.reset(stream_id, Code.CANCEL)
        connection.take()
    assert len(connection._abandoned) < 5000
