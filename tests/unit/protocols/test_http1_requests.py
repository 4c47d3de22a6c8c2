"""What requests mean: bytes in, events out."""

from __future__ import annotations

import pytest

from proxy.protocols.http1 import End, Malformed, RequestReader
from proxy.protocols.http1_head import RequestHead
from tests.unit.protocols.http1_dialogues import (
    BAD_CHUNKS,
    BAD_REQUESTS,
    CHUNKED,
    SOUND_REQUESTS,
    body_of,
    cuts,
    hear,
    request_of,
    told,
)


def test_a_request_is_a_head_its_payload_and_an_end() -> None:
    assert hear([b"PUT /c?wait=true HTTP/1.1\r\nHost: h:1\r\nAPI-Key: k\r\nContent-Length: 3\r\n\r\nabc"]) == [
        RequestHead(
            method=b"PUT",
            target=b"/c?wait=true",
            version=b"1.1",
            fields=((b"host", b"h:1"), (b"api-key", b"k"), (b"content-length", b"3")),
            options=frozenset(),
            body_bytes=3,
            chunked=False,
            keep_alive=True,
            expects_continue=False,
            upgrade=b"",
        ),
        b"abc",
        End(),
    ]


def test_payload_comes_as_it_arrives() -> None:
    reader = RequestReader()
    (head,) = reader.feed(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n")
    assert isinstance(head, RequestHead)
    assert reader.feed(b"abc") == [b"abc"]
    assert reader.feed(b"") == []
    assert reader.feed(b"defghi") == [b"defghi", End()]
    assert reader.held_bytes == 0


def test_a_read_that_is_all_body_is_not_copied() -> None:
    reader = RequestReader()
    reader.feed(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n")
    middle, last = bytes(1000), bytes(1000)
    assert reader.feed(middle)[0] is middle
    assert reader.feed(last)[0] is last


def test_chunks_are_decoded_one_piece_a_read() -> None:
    reader = RequestReader()
    reader.feed(CHUNKED)
    assert reader.feed(b"3\r\nabc\r\n2;x=1\r\nde\r\n9\r\nfgh") == [b"abcdefgh"]
    assert reader.feed(b"ijklmn") == [b"ijklmn"]
    assert reader.feed(b"\r\n0\r") == []
    assert reader.feed(b"\nX-Sum: 14\r\n\r\n") == [End(((b"x-sum", b"14"),))]


@pytest.mark.parametrize(
    ("name", "body", "trailers"),
    [
        ("no body", b"", ()),
        ("body of a length", b"ab\r\nc", ()),
        ("length with zeros before it", b"abc", ()),
        ("chunked", b"abc\r\n\r\n", ()),
        ("chunked, sizes in both cases", b"01234567890123456789", ()),
        ("chunked, extensions", b"abc", ()),
        ("chunked, trailers", b"abc", ((b"x-sum", b"9"), (b"x-sum", b""))),
        ("chunked, none", b"", ()),
        ("chunked, in capitals", b"a", ()),
    ],
)
def test_bodies(name: str, body: bytes, trailers: tuple[tuple[bytes, bytes], ...]) -> None:
    assert request_of(SOUND_REQUESTS[name])[1:] == (body, trailers)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("no body", {"body_bytes": 0, "chunked": False, "keep_alive": True, "version": b"1.1", "upgrade": b""}),
        ("chunked", {"body_bytes": None, "chunked": True}),
        ("one empty line before", {"method": b"GET"}),
        ("a method of its own", {"method": b"M-SEARCH*"}),
        ("1.0 without Host", {"version": b"1.0", "keep_alive": False}),
        ("1.0, kept alive", {"version": b"1.0", "keep_alive": True, "options": frozenset({b"keep-alive"})}),
        ("1.9 is 1.1", {"version": b"1.1", "keep_alive": True}),
        ("to be closed", {"keep_alive": False, "options": frozenset({b"x-a", b"close"})}),
        ("to be closed, in a second field", {"keep_alive": False, "options": frozenset({b"x-a", b"close"})}),
        ("absolute form", {"origin_form": b"/a%2Fb?q=1", "authority": b"Other:1"}),
        ("absolute form, no path", {"origin_form": b"/?q=/1", "authority": b"other"}),
        ("asterisk form", {"origin_form": b"*", "authority": b"h"}),
        ("authority form", {"origin_form": b"other:443", "authority": b"other:443"}),
        ("odd but visible target", {"origin_form": b'//a/../{"}|^`[]\\%zz?<>&?/', "authority": b"h"}),
        ("waiting to be let in", {"expects_continue": True, "body_bytes": 1}),
        ("upgrade", {"upgrade": b"h2c", "options": frozenset({b"upgrade", b"http2-settings"})}),
    ],
)
def test_facts(name: str, facts: dict[str, object]) -> None:
    head, *_ = request_of(SOUND_REQUESTS[name])
    assert {fact: getattr(head, fact) for fact in facts} == facts


def test_fields_are_kept_in_order_without_the_white_space_around_them() -> None:
    assert request_of(SOUND_REQUESTS["white space around values"])[0].fields == (
        (b"host", b"h"),
        (b"a", b"b c\td"),
        (b"b", b""),
        (b"c", b""),
    )
    assert request_of(SOUND_REQUESTS["bytes beyond ASCII in a value"])[0].fields[1] == (b"x-text", b"caf\xc3\xa9 \xff")
    assert request_of(SOUND_REQUESTS["every token byte in a name"])[0].fields[1] == (b"!#$%&'*+-.^_`|~09azaz", b"1")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",  # RFC 9110, 10.1.1
        b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_nothing_waits_for_100_where_it_makes_no_sense(request_bytes: bytes) -> None:
    assert not request_of(request_bytes)[0].expects_continue


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n",  # Connection does not name it
        b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_an_upgrade_that_does_not_count(request_bytes: bytes) -> None:
    assert request_of(request_bytes)[0].upgrade == b""


# --- one after another ------------------------------------------------------------------------


def test_what_follows_a_request_waits_until_it_is_asked_for() -> None:
    reader = RequestReader()
    first, second, third = (SOUND_REQUESTS[name] for name in ("body of a length", "chunked, trailers", "no body"))
    heard = reader.feed(first + second + third[:10])
    assert heard[1:] == [b"ab\r\nc", End()]
    assert (reader.at_end, reader.held_bytes) == (True, len(second) + 10)
    assert reader.feed(third[10:20]) == []
    assert reader.resume()[1:] == [b"abc", End(((b"x-sum", b"9"), (b"x-sum", b"")))]
    assert reader.resume() == []
    assert reader.feed(third[20:]) == hear([third])
    assert reader.eof() == []


def test_many_requests_in_one_read_come_one_by_one() -> None:
    reader = RequestReader()
    numbered = [b"PUT /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d" % (n, n % 10) for n in range(50)]
    events = reader.feed(b"\r\n".join(numbered))
    for n in range(50):
        head, payload, end = events
        assert isinstance(head, RequestHead)
        assert (head.target, payload, end) == (b"/%d" % n, b"%d" % (n % 10), End())
        events = reader.resume()
    assert events == []


def test_only_a_request_that_has_ended_is_gone_on_from() -> None:
    reader = RequestReader()
    with pytest.raises(ValueError, match="must have ended"):
        reader.resume()
    reader.feed(CHUNKED)
    with pytest.raises(ValueError, match="must have ended"):
        reader.resume()


def test_the_rest_is_given_away_for_another_protocol() -> None:
    reader = RequestReader()
    reader.feed(SOUND_REQUESTS["upgrade"] + b"PRI * HTTP/2.0\r\n")
    reader.feed(b"\r\nSM")
    assert reader.rest() == b"PRI * HTTP/2.0\r\n\r\nSM"
    assert reader.feed(b"more") == []
    assert reader.eof() == []


@pytest.mark.parametrize("name", SOUND_REQUESTS)
def test_a_connection_may_end_between_requests_and_nowhere_else(name: str) -> None:
    request = SOUND_REQUESTS[name]
    for end in range(len(request) + 1):
        reader = RequestReader()
        reader.feed(request[:end])
        whole, begun = end == len(request), request[:end] not in (b"", b"\r\n")
        expected = [] if whole or not begun else [400]
        assert told(reader.eof()) == expected, request[:end]
        assert reader.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n") == []


# --- bad ones -------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "part", "request_bytes"), BAD_REQUESTS)
def test_bad_requests(status: int, part: str, request_bytes: bytes) -> None:
    (event,) = hear([request_bytes])
    assert isinstance(event, Malformed)
    assert event.status == status
    assert part in event.reason


@pytest.mark.parametrize(("status", "part", "chunks"), BAD_CHUNKS)
def test_bad_chunks(status: int, part: str, chunks: bytes) -> None:
    head, *_, event = hear([CHUNKED + b"5\r\nhello\r\n" + chunks])
    assert isinstance(head, RequestHead)
    assert isinstance(event, Malformed)
    assert event.status == status
    assert part in event.reason


@pytest.mark.parametrize("data", [bad for _, _, bad in BAD_REQUESTS] + [CHUNKED + bad for _, _, bad in BAD_CHUNKS])
def test_nothing_comes_after_a_malformed(data: bytes) -> None:
    reader = RequestReader()
    assert isinstance(reader.feed(data)[-1], Malformed)
    assert reader.feed(b"\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n") == []
    assert reader.eof() == []
    assert reader.held_bytes == 0
    assert not reader.at_end


def test_errors_tell_no_value_that_may_be_a_key() -> None:
    for line in (b"api-key: s3cret\x00", b"authorization: Bearer s3cret\n", b"api-key: x\r\n s3cret", b"s3cret"):
        (event,) = hear([b"GET / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n\r\n"])
        assert isinstance(event, Malformed)
        assert "s3cret" not in event.reason


# --- cut anywhere ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        *SOUND_REQUESTS.values(),
        *(bad for _, _, bad in BAD_REQUESTS if len(bad) < 2000),
        *(CHUNKED + b"5\r\nhello\r\n" + bad for _, _, bad in BAD_CHUNKS),
    ],
)
def test_how_a_request_is_cut_changes_nothing(data: bytes) -> None:
    whole = hear([data])
    assert whole
    for pieces in cuts(data):
        assert told(hear(pieces)) == told(whole), pieces


@pytest.mark.parametrize("name", SOUND_REQUESTS)
def test_how_two_requests_are_cut_changes_nothing(name: str) -> None:
    data = SOUND_REQUESTS[name]
    for pieces in cuts(data * 2):
        reader = RequestReader()
        events = [event for piece in pieces for event in reader.feed(piece)]
        first, again = body_of(events), reader.resume()
        assert first == body_of(again) == request_of(data)[1]
        assert isinstance(again[-1], End)
        assert again[0] == events[0]
        assert reader.held_bytes == 0


# --- heads that come again ------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", SOUND_REQUESTS.values(), ids=SOUND_REQUESTS)
def test_a_request_whose_head_is_known_means_the_same_at_once(request_: bytes) -> None:
    once = RequestReader().feed(request_)
    reader = RequestReader()
    whole = reader.whole(request_)
    if whole is None:
        assert RequestReader().feed(request_) == once
        return
    key, head, body = whole
    assert request_ == key + b"\r\n\r\n" + body
    assert once == [head, *([body] if body else []), End()]
    assert reader.at_end
    reader.resume()
    assert reader.whole(request_) == whole


def test_what_is_not_one_whole_request_is_left_to_feed() -> None:
    request_ = b"PUT /known HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
    RequestReader().feed(request_)
    assert RequestReader().whole(request_) is not None
    for other in (request_[:-1], request_ + b"P", request_[1:], b"\r\n" + request_, request_.replace(b"3", b"2")):
        reader = RequestReader()
        assert reader.whole(other) is None
        assert reader.feed(other) == RequestReader().feed(other)
    reader = RequestReader()
    reader.feed(request_[:10])
    assert reader.whole(request_) is None  # something is held
    reader = RequestReader()
    reader.feed(request_)
    assert reader.whole(request_) is None  # the last one has not been answered


def test_the_key_of_a_head_is_its_bytes_if_it_is_known() -> None:
    reader = RequestReader()
    reader.feed(b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na")
    assert reader.key == b"PUT /k HTTP/1.1\r\nHost: h\r\nContent-Length: 3"
    reader.feed(b"bc")
    reader.resume()
    reader.feed(b"PUT /k HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    assert reader.key is None
