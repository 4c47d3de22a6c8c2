"""Connections to a gRPC server, which here is the library h2 and does what good servers do now and then, or never."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from proxy.errors import CrossfadeError, InvalidRequest, Unavailable, Unclear
from proxy.protocols import grpc
from proxy.protocols.http2 import Connection
from proxy.stores import Passage, grpc_upstream
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.telemetry.tasks import spawn
from proxy.wire import AnswerHead, Body, Request, Response
from tests.support.event_loops import on_each_loop
from tests.support.form import written_only

event_loop_policy = on_each_loop()
HEAD = ((":status", "200"), ("content-type", "application/grpc"))
TRAILERS = (("grpc-status", "0"), ("grpc-message", "f%C3%BCr"), ("x-t", "1"))
Script = Callable[["Peer", int], None]


class Peer(asyncio.Protocol):
    """One connection of a server; `script` says what it does when the request of a stream is whole."""

    def __init__(self, script: Script, peers: list[Peer], streams: int, is_mute: bool) -> None:
        self.http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.streams: list[int] = []  # whose requests are whole
        self.reset: list[int] = []
        self.pings = 0
        self.gone = asyncio.Event()
        self.transport: Any = None
        self._script = script
        self._peers = peers
        self._most = streams
        self._is_mute = is_mute

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._peers.append(self)
        self.http2.local_settings = h2.settings.Settings(
            client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: self._most}
        )
        self.http2.initiate_connection()
        self.write()

    def data_received(self, data: bytes) -> None:
        for event in self.http2.receive_data(data):
            match event:
                case h2.events.DataReceived(flow_controlled_length=size, stream_id=stream_id):
                    self.http2.acknowledge_received_data(size, stream_id)
                case h2.events.StreamEnded(stream_id=stream_id):
                    self.streams.append(stream_id)
                    self._script(self, stream_id)
                case h2.events.StreamReset(stream_id=stream_id):
                    self.reset.append(stream_id)
                case h2.events.PingReceived():
                    self.pings += 1
        if self._is_mute and self.pings:
            self.http2.data_to_send()
        self.write()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()

    def answer(self, stream_id: int, body: bytes = b"x", head: Any = HEAD, trailers: Any = TRAILERS) -> None:
        self.http2.send_headers(stream_id, head, end_stream=not trailers and not body)
        if body:
            self.http2.send_data(stream_id, grpc.framed(body), end_stream=not trailers)
        if trailers:
            self.http2.send_headers(stream_id, trailers, end_stream=True)
        self.write()

    def write(self) -> None:
        self.transport.write(self.http2.data_to_send())


@asynccontextmanager
async def serving(
    script: Script, streams: int = 100, is_mute: bool = False, **options: Any
) -> AsyncIterator[tuple[GrpcForwarder, list[Peer]]]:
    peers: list[Peer] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Peer(script, peers, streams, is_mute), "127.0.0.1", 0
    )
    forwarder = GrpcForwarder(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", **options)
    try:
        yield forwarder, peers
    finally:
        await forwarder.close()
        server.close()
        for peer in peers:
            peer.transport.abort()


def rpc(**more: Any) -> Request:
    return Request("grpc", "", "/a.B/C", body=b"ask", **more)


async def test_an_answer_has_its_message_and_metadata() -> None:
    async with serving(lambda peer, stream_id: peer.answer(stream_id)) as (forwarder, _):
        answer = await forwarder.forward(rpc())
    assert answer == Response(0, (), b"x", message="für", trailers=(("x-t", "1"),))


async def test_a_compressed_answer_is_uncompressed() -> None:
    def compressed(peer: Peer, stream_id: int) -> None:
        packed = gzip.compress(b"answer" * 100)
        peer.http2.send_headers(stream_id, (*HEAD, ("grpc-encoding", "gzip")))
        peer.http2.send_data(stream_id, b"\x01" + len(packed).to_bytes(4, "big") + packed)
        peer.http2.send_headers(stream_id, TRAILERS, end_stream=True)

    async with serving(compressed) as (forwarder, _):
        assert (await forwarder.forward(rpc())).body == b"answer" * 100


def _refuse(peer: Peer, stream_id: int) -> None:
    peer.http2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)


def _leave(peer: Peer, _: int) -> None:
    """Says that it has looked at no stream at all."""
    peer.http2.close_connection(last_stream_id=0)


def _fail(peer: Peer, stream_id: int) -> None:
    peer.http2.reset_stream(stream_id, ErrorCodes.INTERNAL_ERROR)


def _hang_up(peer: Peer, _: int) -> None:
    peer.transport.abort()


def _say_no_status(peer: Peer, stream_id: int) -> None:
    peer.answer(stream_id, trailers=())


def _be_no_grpc(peer: Peer, stream_id: int) -> None:
    peer.answer(stream_id, b"", ((":status", "502"), ("content-type", "text/html")), ())


def _say_half(peer: Peer, stream_id: int) -> None:
    peer.http2.send_headers(stream_id, HEAD)
    peer.http2.send_data(stream_id, grpc.framed(b"1234567")[:8])
    peer.http2.send_headers(stream_id, TRAILERS, end_stream=True)


def _babble(peer: Peer, _: int) -> None:
    peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (_refuse, Unavailable),
        (_leave, Unavailable),
        (_fail, Unclear),
        (_hang_up, Unclear),
        (_say_no_status, Unclear),
        (_be_no_grpc, Unclear),
        (_say_half, Unclear),
        (_babble, Unclear),
    ],
)
async def test_without_an_answer_it_counts_whether_the_server_may_have_worked(
    script: Script, error: type[CrossfadeError]
) -> None:
    async with serving(script) as (forwarder, peers):
        with pytest.raises(error):
            await forwarder.forward(rpc())
        assert sum(len(peer.streams) for peer in peers) == 1  # sent once


def _end_well(peer: Peer) -> None:
    peer.http2.send_headers(1, HEAD)
    peer.http2.send_headers(1, TRAILERS, end_stream=True)


@pytest.mark.parametrize("end", [_end_well, lambda peer: _fail(peer, 1)], ids=["an answer", "a failure"])
@pytest.mark.parametrize("is_cancelled_first", [False, True])
async def test_a_call_that_is_cancelled_in_the_turn_of_its_end_ends_once(
    end: Callable[[Peer], None], is_cancelled_first: bool
) -> None:
    """Or its connection would be closed under others, or never."""
    async with serving(lambda peer, stream_id: None) as (forwarder, peers):
        call, other = (spawn(forwarder.forward(rpc()), name="call") for _ in range(2))
        await asyncio.wait_for(_until(lambda: bool(peers) and len(peers[0].streams) == 2), 10)
        line = forwarder.lines.sendable()
        assert line is not None
        end(peers[0])
        what_comes = peers[0].http2.data_to_send()
        if is_cancelled_first:
            call.cancel()
        line.connection.data_received(what_comes)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert line.calls == 1
        forwarder.lines.retire(line)
        peers[0].answer(3)
        await other
        assert line.calls == 0
        await asyncio.wait_for(peers[0].gone.wait(), 10)


async def test_how_long_was_waited_is_told_with_the_time_for_a_free_place() -> None:
    async with serving(lambda peer, stream_id: None, streams=1) as (forwarder, peers):
        first = spawn(forwarder.forward(rpc()), name="first")
        await asyncio.wait_for(_until(lambda: bool(peers and peers[0].streams)), 10)
        second = spawn(forwarder.forward(rpc(timeout_seconds=1.5)), name="second")
        await asyncio.sleep(0.2)
        peers[0].answer(1)
        await first
        with pytest.raises(Unclear, match=r"no answer within 1\.500 s"):
            await second


async def test_calls_beyond_what_the_server_takes_at_once_wait_their_turn() -> None:
    async with serving(lambda peer, stream_id: None, streams=1) as (forwarder, peers):
        first = spawn(forwarder.forward(rpc()), name="first")
        await asyncio.wait_for(_until(lambda: bool(peers and peers[0].streams)), 10)
        second = spawn(forwarder.forward(rpc()), name="second")
        with pytest.raises(Unavailable, match="took no call within"):  # and may be tried elsewhere
            await forwarder.forward(rpc(timeout_seconds=0.2))
        assert peers[0].streams == [1]
        peers[0].answer(1)
        await first
        await asyncio.wait_for(_until(lambda: peers[0].streams == [1, 3]), 10)
        peers[0].answer(3)
        await second
        assert len(peers) == 1


@written_only
async def test_a_place_that_becomes_free_does_not_stir_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, can_open, callers = 0, vars(Connection)["can_open"], 60

    def counted(connection: Connection) -> bool:
        nonlocal looks
        looks += 1
        return bool(can_open.fget(connection))

    monkeypatch.setattr(Connection, "can_open", property(counted))
    async with serving(lambda peer, stream_id: peer.answer(stream_id), streams=1) as (forwarder, peers):
        await forwarder.forward(rpc())  # it is connected
        looks = 0
        answers = await asyncio.gather(*(forwarder.forward(rpc()) for _ in range(callers)))
        assert [answer.body for answer in answers] == [b"x"] * callers
        assert peers[0].streams == list(range(1, 2 * callers + 3, 2))
    assert looks < 8 * callers


class Eager:
    """Sends the next call as soon as one is answered. The `Heard` of its calls."""

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.most = 200
        self.sent = self.heard = 0
        self.then: Callable[[], object] = self.send

    def send(self) -> None:
        if self.sent < self.most and self.passage.send(b"eager", None, self) is not None:
            self.sent += 1

    def answered(self, head: AnswerHead, body: Body) -> None:
        self.heard += 1
        self.then()

    def failed(self, error: CrossfadeError) -> None:
        raise AssertionError(error)


async def test_whoever_waits_for_a_place_goes_before_those_who_come_when_it_is_free() -> None:
    async with serving(lambda peer, stream_id: peer.answer(stream_id), streams=1) as (forwarder, _):
        await forwarder.forward(rpc())  # it is connected
        passage = forwarder.passage(rpc())
        assert passage is not None
        eager = Eager(passage)
        eager.send()
        calls = [spawn(forwarder.forward(rpc()), name="call") for _ in range(3)]
        async with asyncio.timeout(10):
            await asyncio.gather(*calls)
        assert eager.sent == 1
        eager.most = 2
        eager.send()  # nobody waits any more
        assert eager.sent == 2
        await asyncio.wait_for(_until(lambda: eager.heard == 2), 10)


async def test_whoever_looks_for_a_place_in_the_turn_of_somebody_else_waits() -> None:
    async with serving(lambda peer, stream_id: peer.answer(stream_id), streams=1) as (forwarder, _):
        await forwarder.forward(rpc())
        passage, line = forwarder.passage(rpc()), forwarder.line
        assert passage is not None
        assert line is not None
        first = Eager(passage)
        first.send()
        second = spawn(forwarder.forward(rpc()), name="second")
        looking = line.connection.room()  # type: ignore[attr-defined]
        first.then = lambda: looking.send(None)  # raises StopIteration if it has one at once
        assert (await second).body == b"x"
        assert first.heard == 1
        looking.close()


async def test_a_place_that_nobody_took_is_the_next_ones() -> None:
    async with serving(lambda peer, stream_id: None, streams=1) as (forwarder, peers):
        connecting = spawn(forwarder.forward(rpc()), name="connecting")
        await asyncio.wait_for(_until(lambda: bool(peers and peers[0].streams)), 10)
        peers[0].answer(1)
        await connecting
        passage = forwarder.passage(rpc())
        assert passage is not None
        first = Eager(passage)
        first.send()
        second = spawn(forwarder.forward(rpc()), name="second")
        first.then = second.cancel  # in the turn in which its own has come
        await asyncio.wait_for(_until(lambda: peers[0].streams == [1, 3]), 10)
        peers[0].answer(3)
        with pytest.raises(asyncio.CancelledError):
            await second
        third = spawn(forwarder.forward(rpc()), name="third")
        await asyncio.wait_for(_until(lambda: peers[0].streams == [1, 3, 5]), 10)
        peers[0].answer(5)
        assert (await third).body == b"x"


async def test_a_server_that_takes_more_than_it_did_gets_more() -> None:
    async with serving(lambda peer, stream_id: None, streams=1) as (forwarder, peers):
        calls = [spawn(forwarder.forward(rpc()), name="call") for _ in range(5)]
        await asyncio.wait_for(_until(lambda: bool(peers and peers[0].streams)), 10)
        peers[0].http2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 100})
        peers[0].answer(1)
        await asyncio.wait_for(_until(lambda: len(peers[0].streams) == 5), 10)
        for stream_id in peers[0].streams[1:]:
            peers[0].answer(stream_id)
        await asyncio.gather(*calls)


async def test_what_cannot_be_sent_waits_for_no_place() -> None:
    """Or the turn that it gets would be lost to those behind it."""
    async with serving(lambda peer, stream_id: None, streams=1) as (forwarder, peers):
        first = spawn(forwarder.forward(rpc()), name="first")
        await asyncio.wait_for(_until(lambda: bool(peers and peers[0].streams)), 10)
        for name in ("not a name", "\ud800"):
            with pytest.raises(InvalidRequest, match="metadata cannot be passed on"):
                await asyncio.wait_for(forwarder.forward(rpc(headers=((name, "x"),))), 10)
        peers[0].answer(1)
        await first


async def test_a_server_that_goes_finishes_what_it_has_and_the_next_call_goes_elsewhere() -> None:
    async with serving(lambda peer, stream_id: None) as (forwarder, peers):
        first = spawn(forwarder.forward(rpc()), name="first")
        await asyncio.wait_for(_until(lambda: bool(peers and peers[0].streams)), 10)
        peers[0].http2.close_connection(last_stream_id=1)
        peers[0].write()
        await asyncio.wait_for(_until(lambda: forwarder.line is None), 10)
        second = spawn(forwarder.forward(rpc()), name="second")
        await asyncio.wait_for(_until(lambda: len(peers) == 2 and bool(peers[1].streams)), 10)
        peers[1].answer(1)
        assert (await second).body == b"x"
        peers[0].transport.write(_late_answer(1))
        assert (await first).body == b"late"
        await asyncio.wait_for(peers[0].gone.wait(), 10)


def _late_answer(stream_id: int) -> bytes:
    """From a server whose library would say no more after its GOAWAY."""
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    peer.receive_data(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"))
    peer.data_to_send()
    asking = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    asking.send_headers(
        stream_id, ((":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")), end_stream=True
    )
    peer.receive_data(asking.data_to_send())
    peer.data_to_send()
    peer.send_headers(stream_id, HEAD)
    peer.send_data(stream_id, grpc.framed(b"late"))
    peer.send_headers(stream_id, TRAILERS, end_stream=True)
    said: bytes = peer.data_to_send()
    return said


@pytest.mark.parametrize("is_mute", [False, True])
async def test_a_silent_connection_is_asked_whether_it_is_there(monkeypatch: pytest.MonkeyPatch, is_mute: bool) -> None:
    monkeypatch.setattr(grpc_upstream, "_PONG_SECONDS", 0.3)
    answered = lambda peer, stream_id: peer.answer(stream_id)  # noqa: E731
    async with serving(answered, is_mute=is_mute, ping_seconds=0.1) as (forwarder, peers):
        await forwarder.forward(rpc())
        await asyncio.wait_for(_until(lambda: peers[0].pings >= 1), 10)
        if is_mute:
            await asyncio.wait_for(peers[0].gone.wait(), 10)
            assert forwarder.line is None
        else:
            await asyncio.wait_for(_until(lambda: peers[0].pings >= 2), 10)
            assert forwarder.line is not None


async def test_a_call_that_has_to_go_out_on_one_connection_goes_out_on_no_other() -> None:
    async with serving(lambda peer, stream_id: peer.answer(stream_id)) as (forwarder, peers):
        await forwarder.forward(rpc())
        line = forwarder.line
        await forwarder.forward(rpc(), line=line)
        peers[0].transport.abort()
        await asyncio.wait_for(_until(lambda: forwarder.line is None), 10)
        with pytest.raises(Unavailable):
            await forwarder.forward(rpc(), line=line)
        await forwarder.forward(rpc())
        with pytest.raises(Unavailable):
            await forwarder.forward(rpc(), line=line)
        assert [len(peer.streams) for peer in peers] == [2, 1]


async def test_metadata_that_http2_does_not_allow_is_the_clients_fault() -> None:
    async with serving(lambda peer, stream_id: peer.answer(stream_id)) as (forwarder, peers):
        with pytest.raises(InvalidRequest, match="metadata"):
            await forwarder.forward(rpc(headers=(("x-a", "1\r\nx-b: 2"),)))
        assert (await forwarder.forward(rpc())).body == b"x"
        assert [peer.streams for peer in peers] == [[1]]


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  what it waits for happens on sockets
        await asyncio.sleep(0.005)
