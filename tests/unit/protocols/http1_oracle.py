"""The same bytes given to our readers and to h11, and what each made of them, in the same words.

What ours accepts, h11 has to accept as the same message with the same end; where h11 takes more, ours is meant to be
the stricter one (`LAXER` in `test_http1_oracle`). There are two places where h11 would refuse what is sound, and both
are taken out of its way here:

- one empty line before a request, which RFC 9112, 2.2 asks a server to ignore;
- a response that switches protocols without having been asked to: whether it was is not this reader's to know, so h11
  is told that every request asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import h11

from proxy.protocols.http1 import End, Malformed, RequestEvent, RequestReader, ResponseEvent, ResponseReader
from proxy.protocols.http1_fields import Fields
from proxy.protocols.http1_head import RequestHead, ResponseHead

_NO_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Seen:
    """One message as far as it was there. `start` is its first line's content, `rest` how much came behind its end."""

    start: tuple[object, ...] = ()
    interim: tuple[int, ...] = ()
    fields: Fields = ()
    body: bytes = b""
    ended: bool = False
    trailers: Fields = ()
    rest: int = 0
    refused: str = ""


def our_request(data: bytes, *, closed: bool = False) -> Seen:
    reader = RequestReader()
    events = reader.feed(data)
    rest = reader.held_bytes
    return _ours([*events, *reader.eof()] if closed else events, rest)


def our_response(method: bytes, data: bytes, *, closed: bool = False) -> Seen:
    reader = ResponseReader()
    reader.expect(method)
    events = reader.feed(data)
    return _ours([*events, *reader.eof()] if closed else events, _behind_response(method, data))


def _behind_response(method: bytes, data: bytes) -> int:
    """How much comes behind a response's end, which a reader does not hold: what is left when it has ended."""
    reader = ResponseReader()
    reader.expect(method)
    for at in range(len(data)):
        reader.feed(data[at : at + 1])
        if reader.at_end:
            return len(data) - at - 1
    return 0


def h11_request(data: bytes, *, closed: bool = False) -> Seen:
    return _theirs(h11.Connection(h11.SERVER, _NO_LIMIT), data.removeprefix(b"\r\n"), closed)


def h11_response(method: bytes, data: bytes, *, closed: bool = False) -> Seen:
    connection = h11.Connection(h11.CLIENT, _NO_LIMIT)
    asking = [(b"host", b"h"), (b"connection", b"upgrade"), (b"upgrade", b"x")]
    connection.send(h11.Request(method=method, target=b"/", headers=asking))
    connection.send(h11.EndOfMessage())
    return _theirs(connection, data, closed, tunnel=method == b"CONNECT")


def disagreement(ours: Seen, theirs: Seen) -> str:
    """Why what ours accepted is not what h11 saw; empty if it is, or if there is nothing to compare."""
    if ours.refused or not ours.start:
        return ""
    if theirs.refused:
        return f"ours accepts what h11 refuses: {theirs.refused}"
    names = ("start", "interim", "fields", "body", "ended", "trailers") + (("rest",) if ours.ended else ())
    return "; ".join(
        f"{name}: {getattr(ours, name)!r} is not {getattr(theirs, name)!r}"
        for name in names
        if getattr(ours, name) != getattr(theirs, name)
    )


def _ours(events: Sequence[RequestEvent | ResponseEvent], rest: int) -> Seen:
    start: tuple[object, ...] = ()
    interim: list[int] = []
    fields: Fields = ()
    body = b""
    for event in events:
        match event:
            case Malformed():
                return Seen(start, refused=event.reason)
            case RequestHead():
                start, fields = (event.method, event.target), event.fields
            case ResponseHead() if event.interim:
                interim.append(event.status)
            case ResponseHead():
                start, fields = (event.status, event.reason), event.fields
            case bytes():
                body += event
            case End():
                return Seen(start, tuple(interim), _comparable(fields), body, True, event.trailers, rest)
    return Seen(start, tuple(interim), _comparable(fields), body, rest=rest)


def _theirs(connection: h11.Connection, data: bytes, closed: bool, tunnel: bool = False) -> Seen:
    start: tuple[object, ...] = ()
    interim: list[int] = []
    fields: Fields = ()
    body = b""
    ended = False
    trailers: Fields = ()
    try:
        connection.receive_data(data)
        if closed:
            connection.receive_data(b"")
        while not ended:
            event = connection.next_event()
            match event:
                case h11.Request():
                    start, fields = (event.method, event.target), _fields(event)
                case h11.InformationalResponse() if event.status_code != 101:
                    interim.append(event.status_code)
                case h11.Response() | h11.InformationalResponse():
                    start, fields = (event.status_code, bytes(event.reason)), _fields(event)
                    ended = event.status_code == 101 or (tunnel and event.status_code < 300)
                case h11.Data():
                    body += event.data
                case h11.EndOfMessage():
                    ended, trailers = True, _fields(event)
                case _:
                    break
    except h11.RemoteProtocolError as error:
        return Seen(start, refused=str(error))
    rest = len(connection.trailing_data[0])
    return Seen(start, tuple(interim), _comparable(fields), body, ended, trailers, rest)


def _fields(event: h11.Request | h11.Response | h11.InformationalResponse | h11.EndOfMessage) -> Fields:
    return tuple((bytes(name), bytes(value)) for name, value in event.headers)


def _comparable(fields: Fields) -> Fields:
    """h11 gives a coding's name in lower case."""
    return tuple((name, value.lower() if name == b"transfer-encoding" else value) for name, value in fields)
