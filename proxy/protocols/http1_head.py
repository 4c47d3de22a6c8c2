"""Heads of HTTP/1.1: the lines before the empty one, to a value with everything known about the message.

Contract: `request_head` and `response_head` take the bytes before CRLF CRLF and give a head whose framing is beyond
doubt, or raise Http1Error. Beyond doubt means that every conforming peer sees the message end at the same byte: where
RFC 9112 offers a recipient to repair or to choose, the answer is no.

Rules of the file, with their sections in RFC 9112 unless said otherwise:

- The request line is `method SP target SP version` with single spaces (3); the method is a token. A target is
  visible ASCII without "#", of the form that goes with its method (3.2): "/path", "http://host/path", "*" for OPTIONS
  only, "host:port" for CONNECT and only there. Percent-encoding is not looked at; it goes on as it came.
- Versions 1.0 and 1.1; 1.2 to 1.9 are read as 1.1 (RFC 9110, 2.5 and 6.2). Another major version is 505.
- The values of fields of one name are joined with a comma (RFC 9110, 5.3) before a rule looks at them. So a repeated
  Content-Length, Host or Transfer-Encoding is malformed as a list is, even if all say the same.
- Content-Length is 1 to 18 ASCII digits (6.2); Transfer-Encoding is `chunked` and nothing else: other codings before
  it are 501, anything else 400 (6.1, 6.3). Never both, never Transfer-Encoding in 1.0 (6.1).
- A request of HTTP/1.1 has one Host, which may be empty; no request has two, or one that is no `host[:port]` (3.2).
- Expect is `100-continue` or 417 (RFC 9110, 10.1.1). It counts only in 1.1 and if there is a body to wait for.
- Upgrade counts only in 1.1 and if Connection names it (RFC 9110, 7.8).
- A status line may lack the space before an empty reason: it harms nobody and some servers send it so.

Deliberately elsewhere: finding the end of a head and its limits in bytes (`http1`), bodies (`http1_body`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from proxy.protocols.http1_fields import LINES, OWS, TOKEN, Fields, Http1Error, first_of, remembered_line, shown

# NamedTuples where this project has frozen dataclasses: as immutable, and made in a third of the time.


class RequestHead(NamedTuple):
    """A request without its body.

    target: as sent. version: b"1.1" or b"1.0". fields: in order, names in lower case.
    options: the words of Connection, in lower case. body_bytes: how many bytes of body follow, None if they are
    `chunked`. keep_alive: whether the client lets the connection live on after this exchange.
    expects_continue: it waits for "100 Continue" before it sends the body. upgrade: the protocols it offers to go on
    with, or b"".
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    options: frozenset[bytes]
    body_bytes: int | None
    chunked: bool
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes

    @property
    def origin_form(self) -> bytes:
        """Path and query, also of a target in absolute form (RFC 9112, 3.2.1 and 3.2.2)."""
        if self.target[:1] in (b"/", b"*") or self.method == b"CONNECT":
            return self.target
        after_scheme = self.target.partition(b"://")[2]
        rest = after_scheme[len(_authority_of(after_scheme)) :]
        return rest if rest[:1] == b"/" else b"/" + rest

    @property
    def authority(self) -> bytes:
        """Host and port that are asked for: those of the target if it has any, whatever Host says (RFC 9112, 3.2.2)."""
        if self.method == b"CONNECT":
            return self.target
        if self.target[:1] not in (b"/", b"*"):
            return _authority_of(self.target.partition(b"://")[2])
        return next((value for name, value in self.fields if name == b"host"), b"")


class ResponseHead(NamedTuple):
    """A response without its body; `interim` ones (1xx) come before the response proper and have no end of their own.

    body_bytes: how many bytes of body follow (0 to a HEAD, whatever Content-Length says); None if they are `chunked`,
    or go on until the server closes (`until_close`). keep_alive: whether the connection can be used again afterwards.
    The rest as in a request's head.
    """

    status: int
    reason: bytes
    version: bytes
    fields: Fields
    options: frozenset[bytes]
    body_bytes: int | None
    chunked: bool
    keep_alive: bool
    upgrade: bytes

    @property
    def interim(self) -> bool:
        return self.status < 200 and self.status != 101

    @property
    def until_close(self) -> bool:
        return self.body_bytes is None and not self.chunked


_VERSIONS: Final = {b"HTTP/1.0": b"1.0"} | {b"HTTP/1.%d" % minor: b"1.1" for minor in range(1, 10)}
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_TARGET: Final = bytes(range(0x21, 0x7F)).replace(b"#", b"")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]+)(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
# uri-host [":" port] of RFC 3986, 3.2.2: an address in brackets, or a name (an IPv4 address reads as one).
_HOST_AND_PORT: Final = re.compile(
    rb"(\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
_CONNECT: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+):[0-9]{1,5}")
_STATUS_LINE: Final = re.compile(rb"(HTTP/[0-9]\.[0-9]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_MEMO_BYTES: Final = 256
_HOST_BYTES: Final = 320  # a name of 255 bytes (RFC 1035, 2.3.4), a port, and some air
_LENGTH_DIGITS: Final = 18  # so that it fits 63 bits everywhere
_NO_OPTIONS: Final[frozenset[bytes]] = frozenset()


def request_head(head: bytes, max_fields: int, max_line_bytes: int) -> RequestHead:
    """The head that `head` is, without the empty line. Raises Http1Error with the status to answer."""
    lines = head.split(b"\r\n")
    line = lines[0]
    if len(line) > max_line_bytes:
        raise line_too_long(line, max_line_bytes)
    method, target, version = _known_request_line(line) if len(line) <= _MEMO_BYTES else _request_line(line)
    fields, known = _fields(lines, max_fields)
    host = known.get(b"host")
    if host is None:
        if version == b"1.1":
            raise Http1Error(400, "the request has no Host; expected one in HTTP/1.1")
    elif len(host) > _HOST_BYTES or not _is_host(host):
        raise Http1Error(400, f"Host is {shown(host)}; expected one `host` or `host:port`")
    options = _options(known.get(b"connection"))
    body_bytes = _framing(known, version)
    chunked = body_bytes is None and b"transfer-encoding" in known
    if not chunked and body_bytes is None:
        body_bytes = 0
    expects_continue = b"expect" in known and _expects_continue(known[b"expect"], version) and body_bytes != 0
    upgrade = known.get(b"upgrade", b"") if b"upgrade" in options and version == b"1.1" else b""
    return RequestHead(
        method,
        target,
        version,
        fields,
        options,
        body_bytes,
        chunked,
        _keep_alive(options, version),
        expects_continue,
        upgrade,
    )


def response_head(head: bytes, method: bytes, max_fields: int, max_line_bytes: int) -> ResponseHead:
    """The head that `head` is, without the empty line, in answer to a request of `method`. Raises Http1Error."""
    lines = head.split(b"\r\n")
    line = lines[0]
    if len(line) > max_line_bytes:
        raise line_too_long(line, max_line_bytes)
    version, status, reason = _known_status_line(line) if len(line) <= _MEMO_BYTES else _status_line(line)
    fields, known = _fields(lines, max_fields)
    options = _options(known.get(b"connection"))
    body_bytes = _framing(known, version)
    chunked = body_bytes is None and b"transfer-encoding" in known
    tunnel = status == 101 or (method == b"CONNECT" and 200 <= status < 300)
    if tunnel or status < 200 or status in (204, 304) or method == b"HEAD":  # 6.3, rules 1 and 2
        body_bytes, chunked = 0, False
    keep_alive = not tunnel and (chunked or body_bytes is not None) and _keep_alive(options, version)
    upgrade = known.get(b"upgrade", b"") if b"upgrade" in options and version == b"1.1" else b""
    return ResponseHead(status, reason, version, fields, options, body_bytes, chunked, keep_alive, upgrade)


def field_lines(lines: list[bytes], max_fields: int) -> Fields:
    """The fields of some lines without their CRLFs, as of trailers. Raises Http1Error (400, 431)."""
    return _fields([b"", *lines], max_fields)[0]


def line_too_long(line: bytes | bytearray, max_line_bytes: int) -> Http1Error:
    """The error for a start line of more than `max_line_bytes`, of which `line` is the beginning (RFC 9112, 3)."""
    if b" " in line[:max_line_bytes]:
        return Http1Error(414, f"the first line has over {max_line_bytes} bytes; expected fewer")
    return Http1Error(501, f"the first word has over {max_line_bytes} bytes; expected a method or a version")


def _fields(lines: list[bytes], max_fields: int) -> tuple[Fields, dict[bytes, bytes]]:
    """The fields in all lines but the first; and the values of those that are acted on, by name."""
    if len(lines) - 1 > max_fields:
        raise Http1Error(431, f"the message has {len(lines) - 1} fields; expected {max_fields} at most")
    fields = []
    known: dict[bytes, bytes] = {}
    recall = LINES.get
    del lines[0]
    for line in lines:
        field, acted_on = recall(line) or remembered_line(line)
        fields.append(field)
        if acted_on:
            name, value = field
            known[name] = known[name] + b", " + value if name in known else value
    return tuple(fields), known


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    words = line.split(b" ")
    if len(words) != 3:
        raise Http1Error(400, f"the request line has {len(words)} words; expected `method target version`")
    method, target, version = words
    odd = method.translate(None, TOKEN)
    if odd or not method:
        raise Http1Error(400, f"the method is {shown(method)}; expected a token")
    if version not in _VERSIONS:
        raise _not_a_version(version)
    _check_target(method, target)
    return method, target, _VERSIONS[version]


_known_request_line: Final = lru_cache(1024)(_request_line)


def _check_target(method: bytes, target: bytes) -> None:
    odd = target.translate(None, _TARGET)
    if odd:
        raise Http1Error(400, f"the target has {first_of(odd, target)}; expected visible ASCII without '#'")
    if method == b"CONNECT":
        if not _CONNECT.fullmatch(target):
            raise Http1Error(400, f"the target of CONNECT is {shown(target)}; expected `host:port`")
        return
    if target[:1] == b"/" or (target == b"*" and method == b"OPTIONS"):
        return
    absolute = _ABSOLUTE.fullmatch(target)
    host = _HOST_AND_PORT.fullmatch(absolute[1]) if absolute else None
    if host is None or not host[1]:
        start = shown(target.partition(b"?")[0])
        raise Http1Error(400, f"the target is {start}; expected `/path` or `http://host/path`")


def _status_line(line: bytes) -> tuple[bytes, int, bytes]:
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise Http1Error(400, f"the status line is {shown(line)}; expected `HTTP/1.1 200 reason`")
    version, status, reason = match.groups()
    if version not in _VERSIONS:
        raise _not_a_version(version)
    return _VERSIONS[version], int(status), reason or b""


_known_status_line: Final = lru_cache(256)(_status_line)


def _not_a_version(version: bytes) -> Http1Error:
    status = 505 if _VERSION.fullmatch(version) else 400
    return Http1Error(status, f"the version is {shown(version)}; expected HTTP/1.1 or HTTP/1.0")


@lru_cache(1024)
def _is_host(value: bytes) -> bool:
    return _HOST_AND_PORT.fullmatch(value) is not None


def _authority_of(after_scheme: bytes) -> bytes:
    return after_scheme.partition(b"?")[0].partition(b"/")[0]


def _options(value: bytes | None) -> frozenset[bytes]:
    if value is None:
        return _NO_OPTIONS
    return _known_options(value) if len(value) <= _MEMO_BYTES else _known_options.__wrapped__(value)


@lru_cache(256)
def _known_options(value: bytes) -> frozenset[bytes]:
    words = {word.strip(OWS).lower() for word in value.split(b",")}
    return frozenset(words - {b""})


def _keep_alive(options: frozenset[bytes], version: bytes) -> bool:
    if b"close" in options:
        return False
    return version == b"1.1" or b"keep-alive" in options  # 9.3


def _framing(known: dict[bytes, bytes], version: bytes) -> int | None:
    """The stated length; None if there is none, also because the body is chunked."""
    length = known.get(b"content-length")
    coding = known.get(b"transfer-encoding")
    if coding is not None:
        _check_coding(coding, version)
        if length is not None:
            raise Http1Error(400, "the message has Content-Length and Transfer-Encoding; expected one of them")
        return None
    if length is None:
        return None
    if not length.isdigit() or len(length) > _LENGTH_DIGITS:  # of bytes: ASCII digits only
        raise Http1Error(
            400, f"Content-Length is {shown(length)}; expected one number of up to {_LENGTH_DIGITS} digits"
        )
    return int(length)


def _check_coding(value: bytes, version: bytes) -> None:
    coding = value.lower()
    if coding == b"chunked" and version == b"1.1":
        return
    if version != b"1.1":
        raise Http1Error(400, f"Transfer-Encoding is {shown(value)}; expected none in HTTP/1.0")
    *before, last = [word.strip(OWS) for word in coding.split(b",")]
    readable = last == b"chunked" and b"chunked" not in before and all(before)
    raise Http1Error(501 if readable else 400, f"Transfer-Encoding is {shown(value)}; expected `chunked` alone")


def _expects_continue(value: bytes, version: bytes) -> bool:
    if value.lower() != b"100-continue":
        raise Http1Error(417, f"Expect is {shown(value)}; expected `100-continue`")
    return version == b"1.1"
