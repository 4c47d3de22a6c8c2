"""What must hold whatever a peer sends, as functions of bytes. Each raises if it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from proxy.dialects.qdrant.grpc_searches import QUERY, SEARCH
from proxy.protocols.hpack import Decoder, HpackError
from proxy.protocols.http1 import End, RequestReader
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Data, Head, Role, Trailers
from proxy.protocols.http2_frames import PREFACE
from tests.unit.dialects.search_oracle import search_disagreement
from tests.unit.dialects.unread_oracle import grpc_disagreement, rest_disagreement
from tests.unit.protocols.http1_dialogues import answer, hear, told
from tests.unit.protocols.http1_oracle import disagreement, h11_request, h11_response, our_request, our_response

METHODS = (b"GET", b"HEAD", b"CONNECT")
_CUT_BYTES = 2


def http1(data: bytes) -> None:
    """What is accepted is what h11 sees (http1_oracle); how the bytes are cut changes nothing; and a request whose head
    is known means the same at once. The last byte says where it is cut."""
    cut = data[-1] % len(data) if data else 0
    for closed in (False, True):
        why = disagreement(our_request(data, closed=closed), h11_request(data, closed=closed))
        assert not why, why
    for pieces in ([data[:cut], data[cut:]], [data[at : at + 1] for at in range(len(data))]):
        _assert_same(told(hear([data])), told(hear(pieces)))
    if (whole := RequestReader().whole(data)) is not None:
        assert RequestReader().feed(data) == [whole[1], *([whole[2]] if whole[2] else []), End()]
    if not data.startswith(b"HTTP/"):
        return
    for method in METHODS:
        why = disagreement(our_response(method, data, closed=True), h11_response(method, data, closed=True))
        assert not why, why
        for pieces in ([data[:cut], data[cut:]], [data[at : at + 1] for at in range(len(data))]):
            _assert_same(told(answer(method, [data], closed=True)), told(answer(method, pieces, closed=True)))


def http2_server(data: bytes) -> None:
    _http2(Role.SERVER, PREFACE, data)


def http2_client(data: bytes) -> None:
    _http2(Role.CLIENT, b"", data)


def hpack(data: bytes) -> None:
    """Blocks that a decoder with a table has, and one without."""
    size = 1 + (data[0] if data else 0)
    for table in (True, False):
        decoder = Decoder(16_384)
        if not table:
            decoder.limit_table(0)
        for start in range(1, len(data), size):
            try:
                block = decoder.decode(data[start : start + size])
            except HpackError:
                break
            assert sum(len(name) + len(value) for name, value in block.fields) <= 16_384


def rest_upsert(data: bytes) -> None:
    why = rest_disagreement(data)
    assert not why, why


def grpc_upsert(data: bytes) -> None:
    why = grpc_disagreement(data)
    assert not why, why


def grpc_search(data: bytes) -> None:
    for path in (QUERY, SEARCH):
        why = search_disagreement(path, data)
        assert not why, why


TARGETS: dict[str, Callable[[bytes], None]] = {
    "http1": http1,
    "http2_server": http2_server,
    "http2_client": http2_client,
    "hpack": hpack,
    "rest_upsert": rest_upsert,
    "grpc_upsert": grpc_upsert,
    "grpc_search": grpc_search,
}


def _assert_same(whole: list[object], cut: list[object]) -> None:
    """The same events. Two faults in one message may be found in another order if it comes in pieces."""
    if whole and cut and isinstance(whole[-1], int) and isinstance(cut[-1], int):
        whole, cut = whole[:-1], cut[:-1]
    assert whole == cut, (whole, cut)


def _pieces(data: bytes) -> Iterator[bytes]:
    """Cut where the first two bytes say."""
    at = int.from_bytes(data[:_CUT_BYTES], "big") % max(1, len(data))
    rest = data[_CUT_BYTES:]
    yield from (rest[:at], rest[at : at + 1], rest[at + 1 :])


def _http2(role: Role, greeting: bytes, data: bytes) -> None:
    """The same events however the bytes come, none after the end, and no more said than is due."""
    once, again = Connection(role), Connection(role)
    events = _heard(once, [greeting + data[_CUT_BYTES:]])
    assert events == _heard(again, [greeting, *_pieces(data)])
    assert len(once.take()) <= 1024 + 64 * len(data)
    assert not once.is_broken or not once.receive(b"\x00", 1.0)


def _heard(connection: Connection, pieces: list[bytes]) -> list[object]:
    events: list[object] = []
    for piece in pieces:
        for event in connection.receive(piece, 1.0):
            assert not events or not isinstance(events[-1], Broken)
            match event:
                case Data(stream_id=stream_id, size_bytes=size_bytes):
                    connection.consume(stream_id, size_bytes)
                    events.append(("data", stream_id, event.data, event.ends))
                case Head() | Trailers():
                    events.append((type(event).__name__, event.stream_id, event.block.fields))
                case Broken():
                    events.append(event)
                case _:
                    events.append(repr(event))
    return [event if not isinstance(event, Broken) else "broken" for event in events]
