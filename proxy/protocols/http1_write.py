"""HTTP/1.1 messages into bytes: heads, chunks and the end of a chunked body.

Contract: what is written here is read back as it was given, by any conforming peer: names are tokens, values are text
without CR, LF, NUL and other control characters (RFC 9112, 5 and 11.1), so that no value becomes a field or a message
of its own. Whatever is not so raises Http1Error (500) and nothing is written.

Which fields a message needs (its length, Host, Connection) is the caller's to say; so is the choice of fields that a
proxy passes on (`http1_fields.end_to_end`).

Lines that repeat are remembered, as in reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from proxy.protocols.http1_body import check_trailers
from proxy.protocols.http1_fields import OWS, TEXT, TOKEN, Field, Http1Error, first_of, shown

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_TARGET: Final = bytes(range(0x21, 0x7F)).replace(b"#", b"")
_MEMO_BYTES: Final = 256


def request_bytes(method: bytes, target: bytes, fields: Iterable[Field]) -> bytes:
    """A request's head of HTTP/1.1, with the empty line. Raises Http1Error."""
    if not method or method.translate(None, TOKEN):
        raise Http1Error(500, f"the method to write is {shown(method)}; expected a token")
    if not target or target.translate(None, _TARGET):
        raise Http1Error(500, f"the target to write is {shown(target)}; expected visible ASCII without '#'")
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, _field_lines(fields))


def response_bytes(status: int, reason: bytes, fields: Iterable[Field]) -> bytes:
    """A response's head of HTTP/1.1, with the empty line. Raises Http1Error."""
    if not 100 <= status <= 599:
        raise Http1Error(500, f"the status to write is {status}; expected 100 to 599")
    if reason.translate(None, TEXT):
        raise Http1Error(500, f"the reason to write is {shown(reason)}; expected visible text")
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, reason, _field_lines(fields))


def chunk(payload: bytes) -> tuple[bytes, ...]:
    """A chunk's parts, to be written one after another without copying the payload; none for an empty one, which would
    end the body."""
    return (b"%x\r\n" % len(payload), payload, b"\r\n") if payload else ()


def last_chunk(trailers: Iterable[Field] = ()) -> bytes:
    """The end of a chunked body. Raises Http1Error, also for a field that cannot be a trailer."""
    trailers = [(name.lower(), value) for name, value in trailers]
    check_trailers(trailers)
    return b"0\r\n%b\r\n" % _field_lines(trailers)


def _field_lines(fields: Iterable[Field]) -> bytes:
    return b"".join(
        [_known_line(field) if len(field[0]) + len(field[1]) <= _MEMO_BYTES else _line(field) for field in fields]
    )


def _line(field: Field) -> bytes:
    name, value = field
    if not name or name.translate(None, TOKEN):
        raise Http1Error(500, f"the field name to write is {shown(name)}; expected a token")
    odd = value.translate(None, TEXT)
    if odd:
        raise Http1Error(500, f"the value to write of {shown(name)} has {first_of(odd, value)}; expected visible text")
    if value != value.strip(OWS):
        raise Http1Error(500, f"the value to write of {shown(name)} has white space around it; expected none")
    return b"%b: %b\r\n" % field


_known_line: Final = lru_cache(2048)(_line)
