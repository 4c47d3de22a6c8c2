"""Messages of HTTP/1.1 as they come over the wire, sound ones and bad ones, and how a test talks to a reader.

The tables are data for several tests: what a message means, that cutting it anywhere changes nothing, and that h11 sees
the same (`test_http1_oracle`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from proxy.protocols.http1 import (
    End,
    Malformed,
    RequestEvent,
    RequestReader,
    ResponseEvent,
    ResponseReader,
)
from proxy.protocols.http1_body import Limits
from proxy.protocols.http1_fields import Fields
from proxy.protocols.http1_head import RequestHead, ResponseHead

Event = TypeVar("Event", RequestEvent, ResponseEvent)

CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERED_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

# --- sound messages -------------------------------------------------------------------------

SOUND_REQUESTS: dict[str, bytes] = {
    "no body": b"GET /collections HTTP/1.1\r\nHost: h:6333\r\n\r\n",
    "body of a length": b"PUT /c/d?wait=true HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab\r\nc",
    "length with zeros before it": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 003\r\n\r\nabc",
    "empty body": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"3\r\nabc\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n",
    "chunked, sizes in both cases": CHUNKED + b"a\r\n0123456789\r\nA\r\n0123456789\r\n000\r\n\r\n",
    "chunked, extensions": CHUNKED + b'3;a;b=c; d = "e;\\"\x80" ;f\r\nabc\r\n0;last\r\n\r\n',
    "chunked, trailers": CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 9 \r\nX-Sum:\r\n\r\n",
    "chunked, none": CHUNKED + b"0\r\n\r\n",
    "chunked, in capitals": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "white space around values": b"GET / HTTP/1.1\r\nHost:h\r\nA:\t b c\td \t\r\nB:\r\nC: \r\n\r\n",
    "bytes beyond ASCII in a value": b"GET / HTTP/1.1\r\nHost: h\r\nX-Text: caf\xc3\xa9 \xff\r\n\r\n",
    "every token byte in a name": b"GET / HTTP/1.1\r\nHost: h\r\n!#$%&'*+-.^_`|~09AZaz: 1\r\n\r\n",
    "a method of its own": b"M-SEARCH* / HTTP/1.1\r\nHost: h\r\n\r\n",
    "one empty line before": b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "1.0 without Host": b"GET / HTTP/1.0\r\n\r\n",
    "1.0, kept alive": b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    "1.0, a body": b"POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx",
    "1.9 is 1.1": b"GET / HTTP/1.9\r\nHost: h\r\n\r\n",
    "to be closed": b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x-a, CLOSE ,\r\n\r\n",
    "to be closed, in a second field": b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x-a\r\nConnection: close\r\n\r\n",
    "empty Host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "Host in brackets": b"GET / HTTP/1.1\r\nHost: [::1]:6333\r\n\r\n",
    "absolute form": b"GET http://Other:1/a%2Fb?q=1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "absolute form, no path": b"GET HTTPS://other?q=/1 HTTP/1.1\r\nHost: h\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "authority form": b"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    "odd but visible target": b'GET //a/../{"}|^`[]\\%zz?<>&?/ HTTP/1.1\r\nHost: h\r\n\r\n',
    "waiting to be let in": b"PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
    "upgrade": b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
}

# name -> (method of the request, bytes)
SOUND_RESPONSES: dict[str, tuple[bytes, bytes]] = {
    "body of a length": (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
    "chunked": (b"POST", ANSWERED_CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n"),
    "no reason": (b"GET", b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"),
    "no reason, nor the space before it": (b"GET", b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n"),
    "a reason of its own": (b"GET", b"HTTP/1.1 599 Odd \t\xe9(but) Fine\r\nContent-Length: 0\r\n\r\n"),
    "to HEAD": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"),
    "to HEAD, chunked": (b"HEAD", ANSWERED_CHUNKED),
    "204": (b"DELETE", b"HTTP/1.1 204 No Content\r\n\r\n"),
    "204 with a length": (b"DELETE", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    "304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"),
    "interim ones before": (
        b"PUT",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ),
    "upgraded": (b"GET", b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    "a tunnel": (b"CONNECT", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"),
    "no tunnel": (b"CONNECT", b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nabc"),
    "1.0, kept alive": (b"GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"),
    "1.0": (b"GET", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "to be closed": (b"GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    "two of Host mean nothing here": (b"GET", b"HTTP/1.1 200 OK\r\nHost: a\r\nHost: /\r\nContent-Length: 0\r\n\r\n"),
}

# Those that the end of the connection ends.
SOUND_UNTIL_CLOSE: dict[str, tuple[bytes, bytes]] = {
    "1.1": (b"GET", b"HTTP/1.1 200 OK\r\n\r\nabc\r\n\r\ndef"),
    "1.0, kept alive in vain": (b"GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nabc"),
    "no body at all": (b"GET", b"HTTP/1.1 200 OK\r\n\r\n"),
}

# --- bad messages: status to answer, a part of what is said, the bytes --------------------------


def _fields(*lines: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: h\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def _line(line: bytes) -> bytes:
    return line + b"\r\nHost: h\r\n\r\n"


def _host(*hosts: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + b"".join(b"Host: %b\r\n" % host for host in hosts) + b"\r\n"


BAD_REQUESTS: list[tuple[int, str, bytes]] = [
    # the request line
    (400, "begins with", _line(b" GET / HTTP/1.1")),
    (400, "begins with", _line(b"\tGET / HTTP/1.1")),
    (400, "begins with", _line(b"\r\n\r\nGET / HTTP/1.1")),
    (400, "begins with", _line(b"\nGET / HTTP/1.1")),
    (400, "begins with", _line(b"\rGET / HTTP/1.1")),
    (400, "begins with", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),  # TLS on a port without it
    (400, "begins with", _line(b"\x00GET / HTTP/1.1")),
    (400, "begins with", _line(b"\xef\xbb\xbfGET / HTTP/1.1")),
    (400, "words", _line(b"GET  / HTTP/1.1")),
    (400, "words", _line(b"GET / HTTP/1.1 ")),
    (400, "words", _line(b"GET /a b HTTP/1.1")),
    (400, "words", _line(b"GET /")),
    (400, "words", _line(b"GET")),
    (400, "words", _line(b"GET\t/\tHTTP/1.1")),
    (400, "the method", _line(b"GE(T / HTTP/1.1")),
    (400, "the method", _line(b"GET\x00 / HTTP/1.1")),
    (400, "the method", _line(b"G\xc9T / HTTP/1.1")),
    (400, "the method", _line(b"GET\x0b / HTTP/1.1")),
    (400, "the method", _line(b"Host: / HTTP/1.1")),
    (400, "the version", _line(b"GET / http/1.1")),
    (400, "the version", _line(b"GET / HTTP/1.1\x0b")),
    (400, "the version", _line(b"GET / HTTP/1.1\r")),
    (400, "the version", _line(b"GET / HTTP/1.10")),
    (400, "the version", _line(b"GET / HTTP/01.1")),
    (400, "the version", _line(b"GET / HTTP/1,1")),
    (400, "the version", _line(b"GET / HTTP/1")),
    (400, "the version", _line("GET / HTTP/1.١".encode())),
    (505, "the version", _line(b"GET / HTTP/2.0")),
    (505, "the version", _line(b"GET / HTTP/0.9")),
    (505, "the version", b"PRI * HTTP/2.0\r\n\r\n"),  # HTTP/2 on a port without it
    # the target
    (400, "the target is b''", _line(b"GET  HTTP/1.1")),
    (400, "byte 0x23", _line(b"GET /a#b HTTP/1.1")),
    (400, "byte 0x00", _line(b"GET /a\x00b HTTP/1.1")),
    (400, "byte 0x09", _line(b"GET /a\tb HTTP/1.1")),
    (400, "byte 0x0d", _line(b"GET /a\rb HTTP/1.1")),
    (400, "byte 0x0a", _line(b"GET /a\nb HTTP/1.1")),
    (400, "byte 0x7f", _line(b"GET /a\x7fb HTTP/1.1")),
    (400, "byte 0xe4", _line("GET /中 HTTP/1.1".encode())),
    (400, "the target", _line(b"GET collections HTTP/1.1")),
    (400, "the target", _line(b"GET ?a HTTP/1.1")),
    (400, "the target", _line(b"GET * HTTP/1.1")),
    (400, "the target", _line(b"OPTIONS ** HTTP/1.1")),
    (400, "the target", _line(b"GET h:80 HTTP/1.1")),
    (400, "the target", _line(b"GET http:///a HTTP/1.1")),
    (400, "the target", _line(b"GET http://:80/a HTTP/1.1")),
    (400, "the target", _line(b"GET http://user@h/a HTTP/1.1")),
    (400, "the target", _line(b"GET http://h:8a/a HTTP/1.1")),
    (400, "the target", _line(b"GET http:/h/a HTTP/1.1")),
    (400, "the target", _line(b"GET ftp://h/a HTTP/1.1")),
    (400, "CONNECT", _line(b"CONNECT / HTTP/1.1")),
    (400, "CONNECT", _line(b"CONNECT h HTTP/1.1")),
    (400, "CONNECT", _line(b"CONNECT h: HTTP/1.1")),
    (400, "CONNECT", _line(b"CONNECT http://h:1/ HTTP/1.1")),
    (400, "CONNECT", _line(b"CONNECT u@h:1 HTTP/1.1")),
    (400, "CONNECT", _line(b"CONNECT :1 HTTP/1.1")),
    # Host
    (400, "no Host", b"GET / HTTP/1.1\r\n\r\n"),
    (400, "no Host", b"GET http://h/ HTTP/1.1\r\n\r\n"),
    (400, "Host is", _host(b"h", b"h")),
    (400, "Host is", _host(b"h", b"g")),
    (400, "Host is", _host(b"", b"")),
    (400, "Host is", b"GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n"),
    (400, "Host is", b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"),
    (400, "Host is", _host(b"a b")),
    (400, "Host is", _host(b"a/b")),
    (400, "Host is", _host(b"http://a")),
    (400, "Host is", _host(b"u@a")),
    (400, "Host is", _host(b"a:b")),
    (400, "Host is", _host(b"a:1:2")),
    (400, "Host is", _host(b"::1")),
    (400, "Host is", _host(b"[::1")),
    (400, "Host is", _host(b"[h]")),
    (400, "Host is", _host(b"a%zz")),
    (400, "Host is", _host(b"caf\xe9")),
    (400, "Host is", _host(b"h" * 400)),
    # field lines
    (400, "begins with white space", _fields(b" A: b")),
    (400, "begins with white space", _fields(b"A: b", b"\tc")),
    (400, "begins with white space", _fields(b"A: b", b" c")),
    (400, "begins with white space", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n"),
    (400, "begins with white space", b"GET / HTTP/1.1\r\n \r\nHost: h\r\n\r\n"),
    (400, "has no colon", _fields(b"Ab")),
    (400, "begins with a colon", _fields(b": b")),
    (400, "byte 0x20", _fields(b"A : b")),
    (400, "byte 0x09", _fields(b"A\t: b")),
    (400, "byte 0x20", _fields(b"A b: c")),
    (400, "byte 0x00", _fields(b"A\x00: c")),
    (400, "byte 0x0b", _fields(b"A\x0b: c")),
    (400, "byte 0xe9", _fields(b"A\xe9: c")),
    (400, "byte 0x28", _fields(b"A(b): c")),
    (400, "byte 0x00", _fields(b"A: b\x00c")),
    (400, "byte 0x0d", _fields(b"A: b\rc")),
    (400, "byte 0x0d", _fields(b"A: b\r")),
    (400, "byte 0x01", _fields(b"A: \x01")),
    (400, "byte 0x0b", _fields(b"A: b\x0b")),
    (400, "byte 0x0c", _fields(b"A: \x0cb")),
    (400, "byte 0x1c", _fields(b"A: b\x1cc")),
    (400, "byte 0x7f", _fields(b"A: b\x7f")),
    (400, "0x0a", _fields(b"A: b\nC: d")),
    (400, "0x0a", _fields(b"A: b\n\nc")),
    (400, "bare LF", b"GET / HTTP/1.1\nHost: h\n\n"),
    (400, "bare LF", b"GET / HTTP/1.1\r\nHost: h\n\n"),
    (400, "bare LF", b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
    # the length
    (400, "Content-Length is", _fields(b"Content-Length:")),
    (400, "Content-Length is", _fields(b"Content-Length: 3", b"Content-Length: 3") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: 3", b"Content-Length: 4") + b"abcd"),
    (400, "Content-Length is", _fields(b"Content-Length: 3, 3") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: 3,") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: +3") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: -3") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: 1_0") + b"0123456789"),
    (400, "Content-Length is", _fields(b"Content-Length: 1 0") + b"0123456789"),
    (400, "Content-Length is", _fields(b"Content-Length: 0x3") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: 3.0") + b"abc"),
    (400, "Content-Length is", _fields(b"Content-Length: a")),
    (400, "Content-Length is", _fields("Content-Length: ٣".encode())),
    (400, "Content-Length is", _fields(b"Content-Length: \xb2")),
    (400, "Content-Length is", _fields(b"Content-Length: 1" + b"0" * 18)),
    (400, "Content-Length is", _fields(b"Content-Length: " + b"0" * 5000)),
    (400, "value of field b'content-length'", _fields(b"Content-Length: 3\x0b") + b"abc"),
    # the coding
    (400, "expected one of them", _fields(b"Content-Length: 3", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    (400, "expected one of them", _fields(b"Transfer-Encoding: chunked", b"Content-Length: 0") + b"0\r\n\r\n"),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunked, chunked")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunked, identity")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: identity")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding:")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: xchunked")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunkedx")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: ,chunked")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunked,")),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunked;a=b")),
    (400, "Transfer-Encoding is", _fields(b'Transfer-Encoding: "chunked"')),
    (400, "Transfer-Encoding is", _fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip")),
    (501, "Transfer-Encoding is", _fields(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked")),
    (501, "Transfer-Encoding is", _fields(b"Transfer-Encoding: gzip, chunked")),
    (400, "byte 0x0b", _fields(b"Transfer-Encoding: \x0bchunked")),
    (400, "byte 0x20", _fields(b"Transfer-Encoding : chunked")),
    (400, "HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # what it expects
    (417, "Expect is", _fields(b"Expect: 200-ok", b"Content-Length: 1") + b"x"),
    (417, "Expect is", _fields(b"Expect: 100-continue, x", b"Content-Length: 1") + b"x"),
    (417, "Expect is", _fields(b"Expect:")),
]

# What follows a chunked request's head. h11 and others differ here most, and the payload before it has been given.
BAD_CHUNKS: list[tuple[int, str, bytes]] = [
    (400, "size", b"\r\n"),
    (400, "size", b"g\r\n"),
    (400, "size", b"+3\r\nabc\r\n"),
    (400, "size", b"-3\r\nabc\r\n"),
    (400, "size", b"0x3\r\nabc\r\n"),
    (400, "size", b"0X0\r\n\r\n"),
    (400, "size", b"1_0\r\n0123456789abcdef\r\n"),
    (400, "size", b" 3\r\nabc\r\n"),
    (400, "size", b"3 \r\nabc\r\n"),
    (400, "size", b"3\t\r\nabc\r\n"),
    (400, "size", b"3 ;a\r\nabc\r\n"),
    (400, "size", b"3\x0b\r\nabc\r\n"),
    (400, "size", b"3\x00\r\nabc\r\n"),
    (400, "size", b"3\r\r\nabc\r\n"),
    (400, "size", b";a\r\nabc\r\n"),
    (400, "size", b"\xd9\xa3\r\nabc\r\n"),
    (400, "size", b"0000000000000003\r\nabc\r\n"),
    (400, "size", b"ffffffffffffffff1\r\nabc\r\n"),
    (400, "size", b"3,4\r\nabc\r\n"),
    (400, "bare LF", b"3\nabc\n0\n\n"),
    (400, "bare LF", b"3;a\nabc"),
    (400, "extensions", b"3;\r\nabc\r\n"),
    (400, "extensions", b"3;a=\r\nabc\r\n"),
    (400, "extensions", b"3;a;;b\r\nabc\r\n"),
    (400, "extensions", b"3;a \r\nabc\r\n"),
    (400, "extensions", b'3;a="b\r\nabc\r\n'),
    (400, "extensions", b"3;a\x00\r\nabc\r\n"),
    (400, "extensions", b"3;a\rb\r\nabc\r\n"),
    (400, "extensions", b"3;a\nb\r\nabc\r\n"),
    (400, "extensions", b"3;a=b c\r\nabc\r\n"),
    (400, "follows a chunk's data", b"3\r\nabcd\r\n"),
    (400, "follows a chunk's data", b"3\r\nabc0\r\n\r\n"),
    (400, "follows a chunk's data", b"3\r\nabc\n0\r\n\r\n"),
    (400, "follows a chunk's data", b"3\r\nabc\r0\r\n\r\n"),
    (400, "follows a chunk's data", b"3\r\nabc\n\r0\r\n\r\n"),
    (400, "size", b"3\r\nabc\r\n\r\n"),
    (400, "size", b"3\r\nabc\r\n\r\n0\r\n\r\n"),
    (400, "b'content-length'", b"0\r\nContent-Length: 5\r\n\r\n"),
    (400, "b'transfer-encoding'", b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (400, "b'host'", b"0\r\nX: 1\r\nHost: h\r\n\r\n"),
    (400, "b'trailer'", b"0\r\nTrailer: x\r\n\r\n"),
    (400, "b'connection'", b"0\r\nConnection: close\r\n\r\n"),
    (400, "white space", b"0\r\n X: 1\r\n\r\n"),
    (400, "white space", b"0\r\nX: 1\r\n y\r\n\r\n"),
    (400, "byte 0x20", b"0\r\nX : 1\r\n\r\n"),
    (400, "no colon", b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    (400, "bare LF", b"0\r\nX: 1\n\n"),
    (400, "bare LF", b"0\r\n\n"),
    (400, "byte 0x0d", b"0\r\nX: 1\r2\r\n\r\n"),
]

# A client answers its own client 502, whatever was wrong.
BAD_RESPONSES: list[tuple[bytes, str, bytes]] = [
    (b"GET", "begins with", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (b"GET", "begins with", b"http/1.1 200 OK\r\n\r\n"),
    (b"GET", "begins with", b"ICY 200 OK\r\n\r\n"),
    (b"GET", "begins with", b"\x15\x03\x03\x00\x02\x02\x28"),
    (b"GET", "the status line", b"HTTP/1.1  200 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 20 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 2000 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 099 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 600 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 +20 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 2_0 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 200\tOK\r\n\r\n"),
    (b"GET", "the status line", "HTTP/1.1 20٠ OK\r\n\r\n".encode()),
    (b"GET", "the status line", b"HTTP/1.1 200 O\x00K\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 200 O\rK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1 200 O\x7fK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1 200 OK\r\n\r\n"),
    (b"GET", "the status line", b"HTTP/1.1\r\n\r\n"),
    (b"GET", "the version", b"HTTP/2.0 200 OK\r\n\r\n"),
    (b"GET", "bare LF", b"HTTP/1.1 200 OK\n\n"),
    (b"GET", "Content-Length is", b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc"),
    (b"GET", "Content-Length is", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    (b"HEAD", "Content-Length is", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    (
        b"GET",
        "expected one of them",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (b"GET", "Transfer-Encoding is", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
    (b"GET", "Transfer-Encoding is", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (b"GET", "white space", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
    (b"GET", "byte 0x20", b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"),
    (b"PUT", "Content-Length is", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    (b"GET", "size", ANSWERED_CHUNKED + b"3\r\nabc\r\n0x0\r\n\r\n"),
    (b"GET", "b'content-length'", ANSWERED_CHUNKED + b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n"),
]


# --- talking to a reader ----------------------------------------------------------------------


def hear(data: Iterable[bytes], limits: Limits | None = None) -> list[RequestEvent]:
    """The events of one request, its payload in one piece."""
    reader = RequestReader(limits) if limits else RequestReader()
    return joined(event for piece in data for event in reader.feed(piece))


def answer(
    method: bytes, data: Iterable[bytes], *, closed: bool = False, limits: Limits | None = None
) -> list[ResponseEvent]:
    """The events of one response to a request of `method`, its payload in one piece; `closed`: the server has."""
    reader = ResponseReader(limits) if limits else ResponseReader()
    reader.expect(method)
    events = [event for piece in data for event in reader.feed(piece)]
    return joined(events + reader.eof() if closed else events)


def joined(events: Iterable[Event]) -> list[Event]:
    """The events with payloads that follow each other made one."""
    result: list[Event] = []
    for event in events:
        if isinstance(event, bytes) and result and isinstance(result[-1], bytes):
            result[-1] = result[-1] + event
        else:
            result.append(event)
    return result


def told(events: Iterable[RequestEvent | ResponseEvent]) -> list[object]:
    """The events, less the words of a Malformed: what is wrong first depends on how much is there."""
    return [event.status if isinstance(event, Malformed) else event for event in events]


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` in two pieces, cut at every place; and byte by byte."""
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]
    yield [data[at : at + 1] for at in range(len(data))]


def body_of(events: Iterable[object]) -> bytes:
    return b"".join(event for event in events if isinstance(event, bytes))


def request_of(data: bytes) -> tuple[RequestHead, bytes, Fields]:
    """A whole, sound request."""
    head, *payload, end = hear([data])
    assert isinstance(head, RequestHead)
    assert isinstance(end, End)
    return head, body_of(payload), end.trailers


def response_of(method: bytes, data: bytes, *, closed: bool = False) -> tuple[ResponseHead, bytes, Fields]:
    """A whole, sound response, after those in the interim."""
    events = [
        event
        for event in answer(method, [data], closed=closed)
        if not (isinstance(event, ResponseHead) and event.interim)
    ]
    head, *payload, end = events
    assert isinstance(head, ResponseHead)
    assert isinstance(end, End)
    return head, body_of(payload), end.trailers
