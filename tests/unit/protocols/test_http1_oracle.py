"""Our readers beside h11, over sound messages and over ones with something broken in them.

A difference in where a message ends is how requests are smuggled; so whatever ours accepts, h11 has to see as the very
same message. The other way round, ours is stricter on purpose: `LAXER` lists how.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.protocols.http1_fields import NOT_IN_TRAILERS
from tests.unit.protocols.http1_dialogues import (
    ANSWERED_CHUNKED,
    BAD_CHUNKS,
    BAD_REQUESTS,
    BAD_RESPONSES,
    CHUNKED,
    SOUND_REQUESTS,
    SOUND_RESPONSES,
    SOUND_UNTIL_CLOSE,
)
from tests.unit.protocols.http1_oracle import (
    disagreement,
    h11_request,
    h11_response,
    our_request,
    our_response,
)

FRAMING = {b"host", b"content-length", b"transfer-encoding", b"expect", b"connection", b"upgrade"}
CLIENTS = Path(__file__).parents[2] / "fuzz" / "corpus" / "http1"
METHODS = [b"GET", b"HEAD", b"PUT", b"CONNECT"]

# --- sound messages are the same --------------------------------------------------------------

token = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8).map(str.encode)
text = st.lists(st.sampled_from([*range(0x20, 0x7F), 9, 0x80, 0xA0, 0xFF]), max_size=12).map(bytes)
space = st.sampled_from([b"", b" ", b"\t", b" \t "])


@st.composite
def field_lines(draw: st.DrawFn, forbidden: frozenset[bytes] = frozenset(FRAMING)) -> bytes:
    names = token.filter(lambda name: name.lower() not in forbidden)
    lines = draw(st.lists(st.tuples(names, space, text), max_size=5))
    return b"".join(b"%b:%b%b\r\n" % line for line in lines)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The field that frames a body, and the body as it is sent."""
    if draw(st.booleans()):
        body = draw(st.binary(max_size=40))
        return b"Content-Length:%b%d\r\n" % (draw(space), len(body)), body
    sent = b""
    for payload in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4)):
        extensions = draw(st.sampled_from([b"", b";a", b";a=b", b'; a = "\t\\"b;c"', b";a;b"]))
        sent += b"%b%b\r\n%b\r\n" % (draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(payload), extensions, payload)
    coding = draw(st.sampled_from([b"chunked", b"Chunked", b"CHUNKED"]))
    trailers = draw(field_lines(frozenset(NOT_IN_TRAILERS)))
    return b"Transfer-Encoding: %b\r\n" % coding, sent + b"0\r\n" + trailers + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(token | st.sampled_from([b"GET", b"POST"]))
    target = draw(st.sampled_from([b"/", b"/a%2Fb?c=d&e", b"http://h:1/x", b"https://[::1]?q"]))
    host = b"Host:%b\r\n" % draw(st.sampled_from([b"h", b" h:6333 ", b"", b"\t[::1]:1"]))
    framing, body = draw(st.just((b"", b"")) | bodies())
    lines = draw(st.permutations([host, framing, draw(field_lines()), draw(field_lines())]))
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, b"".join(lines), body)


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 503]))
    framing, body = draw(st.just((b"", b"")) | bodies())
    lines = draw(st.permutations([framing, draw(field_lines()), draw(field_lines())]))
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 \r\nLink: a\r\n\r\n"]))
    return b"%bHTTP/1.1 %d %b\r\n%b\r\n%b" % (interim, status, draw(text), b"".join(lines), body)


@given(requests(), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"\x00"]))
def test_sound_requests_are_what_h11_sees(request_bytes: bytes, behind: bytes) -> None:
    ours, theirs = our_request(request_bytes + behind), h11_request(request_bytes + behind)
    assert ours.refused == theirs.refused == ""
    assert ours == theirs
    assert ours.ended
    assert ours.rest == len(behind)


@given(st.sampled_from(METHODS), responses(), st.booleans())
def test_sound_responses_are_what_h11_sees(method: bytes, response: bytes, closed: bool) -> None:
    ours, theirs = our_response(method, response, closed=closed), h11_response(method, response, closed=closed)
    assert ours.refused == theirs.refused == ""
    assert disagreement(ours, theirs) == ""


@pytest.mark.parametrize("name", SOUND_REQUESTS)
def test_the_sound_requests_of_the_tables(name: str) -> None:
    data = SOUND_REQUESTS[name] + b"x"
    ours = our_request(data)
    assert (ours.ended, ours.rest) == (True, 1)
    assert disagreement(ours, h11_request(data)) == ""


@pytest.mark.parametrize(("method", "data"), [*SOUND_RESPONSES.values(), *SOUND_UNTIL_CLOSE.values()])
def test_the_sound_responses_of_the_tables(method: bytes, data: bytes) -> None:
    ours = our_response(method, data, closed=True)
    assert ours.ended
    assert disagreement(ours, h11_response(method, data, closed=True)) == ""


@pytest.mark.parametrize("name", sorted(path.name for path in CLIENTS.iterdir()))
def test_what_real_clients_and_servers_send(name: str) -> None:
    data = (CLIENTS / name).read_bytes()
    if data.startswith(b"HTTP/"):
        ours, theirs = our_response(b"GET", data, closed=True), h11_response(b"GET", data, closed=True)
    else:
        ours, theirs = our_request(data), h11_request(data)
    assert ours.ended == (name != "typed_h2_preface")
    assert disagreement(ours, theirs) == ""


# --- broken ones are refused, or still the same --------------------------------------------------

CORPUS = [*SOUND_REQUESTS.values(), *(bad for _, _, bad in BAD_REQUESTS), *(CHUNKED + bad for _, _, bad in BAD_CHUNKS)]
ANSWERS = [
    *SOUND_RESPONSES.values(),
    *SOUND_UNTIL_CLOSE.values(),
    *((method, bad) for method, _, bad in BAD_RESPONSES),
    *((b"GET", ANSWERED_CHUNKED + bad) for _, _, bad in BAD_CHUNKS),
]
ODD = [bytes((byte,)) for byte in b'\x00\t\n\x0b\x0c\r\x1c !"#%+,-/0159:;=?@AFaf[_x\x7f\x80\x85\xa0\xff'] + [
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n ",
    b"0\r\n\r\n",
    b"0x",
    b"chunked",
    b", chunked",
    b"HTTP/1.0",
    b"HTTP/1.1",
    b"Host: h\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"HTTP/1.1 100 \r\n\r\n",
]


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with a few bytes more, less or other ones, in any place."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        removed = draw(st.sampled_from([0, 0, 1, 1, 2, 4]))
        data = data[:at] + draw(st.sampled_from([*ODD, b""])) + data[at + removed :]
    return data


@settings(max_examples=500)
@given((st.sampled_from(CORPUS) | requests()).flatmap(broken), st.booleans())
@example(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False)
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\x85Content-Length: 3\r\n\r\nabc", False)
def test_a_broken_request_is_refused_or_what_h11_sees(data: bytes, closed: bool) -> None:
    assert disagreement(our_request(data, closed=closed), h11_request(data, closed=closed)) == ""


@st.composite
def broken_answers(draw: st.DrawFn) -> tuple[bytes, bytes]:
    method, data = draw(st.sampled_from(ANSWERS) | st.tuples(st.sampled_from(METHODS), responses()))
    return method, draw(broken(data))


@settings(max_examples=500)
@given(broken_answers(), st.booleans())
def test_a_broken_response_is_refused_or_what_h11_sees(answer: tuple[bytes, bytes], closed: bool) -> None:
    method, data = answer
    assert disagreement(our_response(method, data, closed=closed), h11_response(method, data, closed=closed)) == ""


# --- where ours is stricter ---------------------------------------------------------------------

HEAD = b"POST / HTTP/1.1\r\nHost: h\r\n"
# What h11 takes and ours refuses, by the rule that it breaks.
LAXER: dict[str, bytes] = {
    "lines end with CRLF (2.2 allows a bare LF)": b"GET / HTTP/1.1\nHost: h\n\n",
    "no line continues the one before (5.2)": HEAD + b"A: b\r\n c\r\n\r\n",
    "a length is stated once (6.3, rule 5, allows equal ones)": HEAD
    + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a length is no list (6.3, rule 5, allows equal ones)": HEAD + b"Content-Length: 1, 1\r\n\r\nx",
    "a length fits 63 bits": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "a length or chunks, not both (6.1 allows chunks to win)": HEAD
    + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no chunks in HTTP/1.0 (6.1)": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no control characters in values (RFC 9110, 5.5)": HEAD + b"A: \x01\r\n\r\n",
    "Host is a host (3.2)": b"GET / HTTP/1.1\r\nHost: a b/c\r\n\r\n",
    "a target has a form that goes with its method (3.2)": b"GET x HTTP/1.1\r\nHost: h\r\n\r\n",
    "* is for OPTIONS (3.2.4)": b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    "a target has no fragment (3.2)": b"GET /#a HTTP/1.1\r\nHost: h\r\n\r\n",
    "a major version is known (RFC 9110, 15.6.6)": b"GET / HTTP/3.0\r\nHost: h\r\n\r\n",
    "an expectation is known (RFC 9110, 10.1.1)": HEAD + b"Expect: x\r\n\r\n",
    "no white space behind a chunk's size (7.1)": CHUNKED + b"1 \r\nx\r\n0\r\n\r\n",
    "a chunk's size fits 63 bits": CHUNKED + b"0000000000000001\r\nx\r\n0\r\n\r\n",
    "chunk extensions are names and values (7.1.1)": CHUNKED + b"1;\x01\r\nx\r\n0\r\n\r\n",
    "no framing in trailers (RFC 9110, 6.5.1)": CHUNKED + b"0\r\nContent-Length: 1\r\n\r\n",
}


@pytest.mark.parametrize("rule", LAXER)
def test_where_ours_is_stricter(rule: str) -> None:
    assert our_request(LAXER[rule]).refused
    assert not h11_request(LAXER[rule]).refused


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_is_one_that_is_defined(status: int) -> None:
    data = b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status
    assert our_response(b"GET", data).refused
    assert not h11_response(b"GET", data).refused
