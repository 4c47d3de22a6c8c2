"""TLS of several connections over the same buffers: nothing of one gets to another, whatever comes in between."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest
import trustme

from proxy.listeners import tls_protocol
from proxy.listeners.tls_protocol import TlsProtocol

LARGE_BYTES = 700_000  # more than is decrypted at a time
PIECE_BYTES = 65_536  # that a socket gives at most


def nothing_is_left_over() -> bool:
    return tls_protocol._INCOMING.pending == tls_protocol._OUTGOING.pending == 0


class Raw(asyncio.Transport):
    """The socket's side."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reads = True
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert nothing_is_left_over()
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    close = abort

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


class Inner(asyncio.Protocol):
    """What hears the plain text."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.transport = cast(asyncio.Transport, None)
        self.on_data: Callable[[], None] = lambda: None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert nothing_is_left_over()
        self.heard += data
        self.on_data()

    def eof_received(self) -> None:
        assert nothing_is_left_over()
        self.ended = True


class Peer:
    """A client, the protocol that serves it, and the bytes between them."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext) -> None:
        self.inner = Inner()
        self.raw = Raw()
        self.protocol = TlsProtocol(lambda: self.inner, server)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.protocol.connection_made(self.raw)

    def sent(self) -> bytes:
        """What the client has put out since the last time."""
        return self.outgoing.read()

    def deliver(self, data: bytes) -> None:
        """To the server, as a socket does."""
        for start in range(0, len(data), PIECE_BYTES):
            self.protocol.data_received(data[start : start + PIECE_BYTES])

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.turn()
            else:
                break
        self.turn()

    def turn(self) -> None:
        self.deliver(self.sent())
        self.incoming.write(bytes(self.raw.written))
        self.raw.written.clear()

    def encrypted(self, plain: bytes) -> bytes:
        rest = memoryview(plain)
        while rest:
            rest = rest[self.tls.write(rest) :]
        return self.sent()

    def decrypted(self) -> bytes:
        """What the server has said."""
        self.turn()
        found = bytearray()
        try:
            while more := self.tls.read(1 << 20):
                found += more
        except ssl.SSLWantReadError:
            pass
        return bytes(found)


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def contexts(request: pytest.FixtureRequest) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    server.minimum_version = client.maximum_version = request.param
    server.maximum_version = request.param
    return server, client


@pytest.fixture
async def pair(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> tuple[Peer, Peer]:
    """Two connections that are open."""
    one, other = Peer(*contexts), Peer(*contexts)
    for peer in (one, other):
        peer.shake_hands()
    return one, other


async def test_handshakes_side_by_side(contexts: Any) -> None:
    peers = [Peer(*contexts) for _ in range(3)]
    for _ in range(4):
        for peer in peers:
            try:
                peer.tls.do_handshake()
            except ssl.SSLWantReadError:
                peer.turn()
    for number, peer in enumerate(peers):
        peer.deliver(peer.encrypted(b"%d" % number))
        assert peer.inner.heard == b"%d" % number


@pytest.mark.parametrize("contexts", [ssl.TLSVersion.TLSv1_3], indirect=True)  # before it the server has the last word
async def test_data_right_behind_the_handshake_is_heard(contexts: Any) -> None:
    peer = Peer(*contexts)
    try:
        peer.tls.do_handshake()
    except ssl.SSLWantReadError:
        peer.turn()
    peer.tls.do_handshake()
    peer.deliver(peer.sent() + peer.encrypted(b"early"))
    assert peer.inner.heard == b"early"


async def test_records_in_pieces_and_another_s_in_between(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    said, others = bytes(range(256)) * 200, b"x" * 40_000
    whole, whole_other = one.encrypted(said), other.encrypted(others)
    pieces = [whole[start : start + 999] for start in range(0, len(whole), 999)]
    for number, piece in enumerate(pieces):
        one.deliver(piece)
        other.deliver(whole_other[number * 1000 : (number + 1) * 1000])
    assert one.inner.heard == said
    assert other.inner.heard == others


async def test_who_does_not_read_gets_it_later_and_nobody_else_does(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    said = bytes(range(256)) * (LARGE_BYTES // 256)
    one.inner.on_data = lambda: one.inner.transport.pause_reading()
    one.protocol.data_received(one.encrypted(said))  # all at once: more than is decrypted at a time
    heard = len(one.inner.heard)
    assert 0 < heard < len(said)
    assert not one.raw.reads
    other.deliver(other.encrypted(b"hello"))
    other.inner.transport.write(b"and back")
    assert other.inner.heard == b"hello"
    assert other.decrypted() == b"and back"
    one.deliver(one.encrypted(b"the end"))  # was on its way
    one.inner.on_data = lambda: None
    one.inner.transport.resume_reading()
    await asyncio.sleep(0)
    assert one.inner.heard == said + b"the end"


async def test_what_was_kept_is_heard_although_the_end_comes_before_it_is_read_on(pair: tuple[Peer, Peer]) -> None:
    one, _ = pair
    said = bytes(range(256)) * (LARGE_BYTES // 256)
    one.inner.on_data = lambda: one.inner.transport.pause_reading()
    one.protocol.data_received(one.encrypted(said))
    one.inner.on_data = lambda: None
    one.inner.transport.resume_reading()
    one.protocol.eof_received()
    assert one.inner.heard == said
    assert one.inner.ended


async def test_one_that_is_closed_before_all_was_read_says_goodbye(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    one.inner.on_data = lambda: one.inner.transport.pause_reading()
    one.protocol.data_received(one.encrypted(bytes(LARGE_BYTES)) + one.encrypted(b"half a record")[:-7])
    one.inner.transport.close()
    assert nothing_is_left_over()
    one.incoming.write(bytes(one.raw.written))
    assert one.tls.read(100) == b""
    other.deliver(other.encrypted(b"hello"))
    assert other.inner.heard == b"hello"


async def test_what_is_said_to_one_that_is_gone_gets_to_nobody(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    one.raw.closed = True
    one.inner.transport.write(b"to nobody")
    assert nothing_is_left_over()
    other.inner.transport.write(b"hello")
    assert other.decrypted() == b"hello"


async def test_many_small_records_at_once(pair: tuple[Peer, Peer]) -> None:
    one, _ = pair
    records = [one.encrypted(bytes([number % 256]) * 1000) for number in range(600)]
    one.protocol.data_received(b"".join(records))
    assert one.inner.heard == b"".join(bytes([number % 256]) * 1000 for number in range(600))


async def test_what_is_heard_of_one_may_write_to_another_and_close_it(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    said = b"z" * LARGE_BYTES
    times = []

    def heard() -> None:
        times.append(1)
        if len(times) == 1:
            other.inner.transport.write(b"news")
            other.inner.transport.close()
        one.inner.transport.write(b"thanks")

    one.inner.on_data = heard
    one.protocol.data_received(one.encrypted(said))
    assert one.inner.heard == said
    assert len(times) > 1
    assert one.decrypted() == b"thanks" * len(times)
    other.incoming.write(bytes(other.raw.written))
    assert other.tls.read(100) == b"news"
    assert other.tls.read(100) == b""  # and no more


async def test_rubbish_of_one_is_no_rubbish_of_another(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    one.deliver(b"\x17\x03\x03\x00\x20" + bytes(32) + b"more of it" * 10_000)
    assert one.inner.ended
    other.deliver(other.encrypted(b"hello"))
    assert other.inner.heard == b"hello"


async def test_rubbish_instead_of_a_handshake(contexts: Any, pair: tuple[Peer, Peer]) -> None:
    bad = Peer(*contexts)
    bad.deliver(b"GET / HTTP/1.1\r\n\r\n" * 100)
    with pytest.raises(ConnectionResetError):
        await bad.protocol.ready
    _, other = pair
    other.deliver(other.encrypted(b"hello"))
    assert other.inner.heard == b"hello"


async def test_an_end_in_the_middle_of_a_record_is_the_end(pair: tuple[Peer, Peer]) -> None:
    one, other = pair
    one.deliver(one.encrypted(b"cut" * 100)[:-7])
    one.protocol.eof_received()
    assert one.inner.ended
    assert not one.inner.heard
    other.deliver(other.encrypted(b"hello"))
    assert other.inner.heard == b"hello"
