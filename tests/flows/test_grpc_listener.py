"""The gRPC listener and clients that do what gRPC's libraries do not: over real sockets, frame by frame."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from proxy.errors import BodyTooLarge
from proxy.frames import Frames
from proxy.listeners import grpc_connection
from proxy.listeners.admission import Admission
from proxy.listeners.grpc_listener import GrpcListener
from proxy.protocols import http2_frames as f
from proxy.protocols.field_block import Field
from proxy.protocols.grpc import framed
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Broken, Data, Event, Going, Head, Limits, Ready, Reset, Role, Trailers
from proxy.protocols.http2_frames import Code
from proxy.wire import Handler, Headers, Request, Response, collected
from tests.support.event_loops import on_each_loop

REQUEST: tuple[Field, ...] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"a"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)


event_loop_policy = on_each_loop()


async def echo(request: Request) -> Response:
    return Response(0, body=request.bytes)


@asynccontextmanager
async def listening(handler: Handler = echo) -> AsyncIterator[GrpcListener]:
    listener = GrpcListener(handler, "127.0.0.1", 0)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(drain_seconds=5)


class Client:
    """Our own HTTP/2 on a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: Limits) -> None:
        self.http2 = Connection(Role.CLIENT, limits)
        self.heard: list[Event] = []
        self._reader = reader
        self._writer = writer

    def close(self) -> None:
        self._writer.close()

    async def say(self) -> None:
        self._writer.write(self.http2.take())
        await self._writer.drain()

    async def hear(self, *kinds: type) -> Event:
        """The next event of one of `kinds`, or EOFError."""
        while True:
            while self.heard:
                event = self.heard.pop(0)
                if isinstance(event, Data):
                    self.http2.consume(event.stream_id, event.size_bytes)
                if isinstance(event, kinds):
                    return event
            data = await asyncio.wait_for(self._reader.read(65_536), 10)
            if not data:
                raise EOFError
            self.heard += self.http2.receive(data, 0.0)
            self._writer.write(self.http2.take())  # who waited here while the listener waits would wait for ever

    async def ask(self, fields: Sequence[Field] = REQUEST, body: bytes | None = None) -> int:
        """The stream of a request; without a body if it is None."""
        stream_id = self.http2.open(fields, ends=body is None)
        if body is not None:
            self.http2.send_data(stream_id, body, ends=True)
        await self.say()
        return stream_id

    async def status(self) -> dict[bytes, bytes]:
        """The last fields of the next answer."""
        while True:
            event = await self.hear(Head, Trailers)
            assert isinstance(event, Head | Trailers)
            if isinstance(event, Trailers) or event.ends:
                return dict(event.block.fields)


@asynccontextmanager
async def connected(listener: GrpcListener, limits: Limits | None = None) -> AsyncIterator[Client]:
    sock = socket.create_connection(("127.0.0.1", listener.port))
    if limits is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # else the system takes what it likes
    reader, writer = await asyncio.open_connection(sock=sock)
    client = Client(reader, writer, limits or Limits())
    await client.say()
    await client.hear(Ready)
    try:
        yield client
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (((b":method", b"GET"), *REQUEST[1:]), b"405"),
        (REQUEST[:-1], b"415"),
        ((*REQUEST[:-1], (b"content-type", b"application/json")), b"415"),
    ],
)
@pytest.mark.parametrize("body", [None, framed(b"x")])
async def test_what_is_not_grpc_is_told_so(fields: Sequence[Field], status: bytes, body: bytes | None) -> None:
    async with listening() as listener, connected(listener) as client:
        await client.ask(fields, body)
        assert (await client.status())[b":status"] == status
        await client.ask(body=framed(b"x"))
        assert (await client.status())[b"grpc-status"] == b"0"


@pytest.mark.parametrize("body", [None, b"", b"\0\0", framed(b"a") * 2, b"\x01" + framed(b"a")[1:]])
async def test_what_is_no_message_is_refused(body: bytes | None) -> None:
    async with listening() as listener, connected(listener) as client:
        await client.ask((*REQUEST, (b"grpc-encoding", b"gzip")), body)
        said = await client.status()
        assert (said[b"grpc-status"], said[b":status"]) == (b"13", b"200")
        assert b"message" in said[b"grpc-message"]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages_are_taken(compression: grpc.Compression) -> None:
    message = b"again and again " * 1000
    async with (
        listening() as listener,
        grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}", compression=compression) as channel,
    ):
        assert await channel.unary_unary("/a.B/C")(message) == message


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"])
async def test_who_speaks_something_else_is_hung_up_on(first: bytes) -> None:
    async with listening() as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(first)
        written = await asyncio.wait_for(reader.read(), 10)
        assert b"which is not HTTP/2" in written
        writer.close()


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_connection, "_GREETING_SECONDS", 0.1)
    async with listening() as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert await asyncio.wait_for(reader.read(), 10)  # its greeting, to the end
        writer.close()
        async with connected(listener) as client:
            await asyncio.sleep(0.3)
            await client.ask(body=framed(b"x"))
            assert (await client.status())[b"grpc-status"] == b"0"


async def test_an_upload_that_is_broken_off_concerns_nobody_else() -> None:
    heard: list[bytes] = []

    async def handler(request: Request) -> Response:
        heard.append(request.bytes)
        return Response(0)

    async with listening(handler) as listener, connected(listener) as client:
        half = client.http2.open(REQUEST)
        client.http2.send_data(half, framed(b"abc")[:6])
        client.http2.reset(half, Code.CANCEL)
        await client.ask(body=framed(b"whole"))
        assert (await client.status())[b"grpc-status"] == b"0"
    assert heard == [b"whole"]


async def test_an_answer_waits_for_a_client_that_reads_slowly() -> None:
    answer = bytes(5_000_000)

    async def handler(request: Request) -> Response:
        return Response(0, body=answer if request.bytes == b"large" else b"")

    narrow = Limits(frame_bytes=16_384, stream_window_bytes=65_535, connection_window_bytes=2**20)
    async with listening(handler) as listener, connected(listener, narrow) as client:
        await client.ask(body=framed(b"large"))
        first = await client.hear(Data)
        assert isinstance(first, Data)
        await client.ask(body=framed(b"small"))
        assert (await client.status())[b"grpc-status"] == b"0"  # of the small one: it is not kept waiting
        assert client.http2.open_streams == 1


@pytest.mark.parametrize("headers", [(), (("x-a", "1"), ("x-b-bin", b"\xfe"))])
@pytest.mark.parametrize("trailers", [(), (("x-c", "2"),)])
@pytest.mark.parametrize("status", [0, 5])
async def test_what_is_said_beside_an_answer_arrives(status: int, headers: Headers, trailers: Headers) -> None:
    async def answer(_: Request) -> Response:
        return Response(status, headers, b"body", "why" if status else "", trailers)

    async with listening(answer) as listener, grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        call = channel.unary_unary("/a.B/C")(b"asked")
        assert (await call.code()).value[0] == status
        assert await call.details() == ("why" if status else "")
        begun, ended = tuple(await call.initial_metadata()), tuple(await call.trailing_metadata())
        if status == 0:
            assert await call == b"body"
        assert {*headers, *trailers} <= {*begun, *ended}
        assert set(trailers) <= set(ended)


async def test_metadata_that_cannot_be_sent_fails_the_call_alone() -> None:
    async def handler(request: Request) -> Response:
        return Response(0, (("Not Allowed", "x"),) if request.bytes == b"bad" else ())

    async with listening(handler) as listener, connected(listener) as client:
        await client.ask(body=framed(b"bad"))
        reset = await client.hear(Reset)
        assert isinstance(reset, Reset)
        assert reset.code == Code.INTERNAL_ERROR
        await client.ask(body=framed(b"good"))
        assert (await client.status())[b"grpc-status"] == b"0"


async def test_a_flood_is_cut_off() -> None:
    async with listening() as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(f.PREFACE + f.settings({}) + f.frame(f.PING, 0, 0, bytes(8)) * 1100)
        written = await asyncio.wait_for(reader.read(), 10)
        assert b"too many frames that bring nothing" in written
        writer.close()
        async with connected(listener) as other:
            await other.ask(body=framed(b"x"))
            assert (await other.status())[b"grpc-status"] == b"0"


async def test_a_client_that_does_not_heed_is_left_alone_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """It neither answers the ping nor closes its connection."""
    monkeypatch.setattr(grpc_connection, "_HEEDING_SECONDS", 0.1)
    monkeypatch.setattr(grpc_connection, "_CLOSING_SECONDS", 0.1)
    listener = GrpcListener(echo, "127.0.0.1", 0)
    await listener.start()
    async with connected(listener):
        await asyncio.wait_for(listener.stop(drain_seconds=60), 20)


async def test_what_a_slow_client_has_not_read_yet_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its window takes the whole answer at once, so for HTTP/2 all is said."""
    monkeypatch.setattr(grpc_connection, "_HEEDING_SECONDS", 0.05)
    monkeypatch.setattr(grpc_connection, "_CLOSING_SECONDS", 0.05)
    answer = bytes(30_000_000)

    async def handler(_: Request) -> Response:
        return Response(0, body=answer)

    wide = Limits(stream_window_bytes=2**31 - 1, connection_window_bytes=2**31 - 1)
    listener = GrpcListener(handler, "127.0.0.1", 0)
    await listener.start()
    async with connected(listener, wide) as client, asyncio.TaskGroup() as tasks:
        await client.ask(body=framed(b""))
        assert isinstance(await client.hear(Head), Head)
        tasks.create_task(listener.stop(drain_seconds=60))
        await asyncio.sleep(0.5)
        assert (await client.status())[b"grpc-status"] == b"0"
        client.close()


async def test_a_call_that_is_on_its_way_when_the_listener_stops_is_answered() -> None:
    listener = GrpcListener(echo, "127.0.0.1", 0)
    await listener.start()
    async with connected(listener) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(listener.stop(drain_seconds=60))
        await asyncio.sleep(0.05)
        could = [client.http2.can_open]  # it has been told, and has not read it yet
        await client.ask(body=framed(b"x"))
        assert (await client.status())[b"grpc-status"] == b"0"
        could.append(client.http2.can_open)
        assert could == [True, False]
        with pytest.raises(EOFError):
            await client.hear(Broken)
        client.close()


async def test_a_client_that_does_not_read_its_answers_is_not_read_either() -> None:
    asked = 0

    async def handler(_: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(0, body=bytes(100_000))

    wide = Limits(stream_window_bytes=2**31 - 1, connection_window_bytes=2**31 - 1)
    async with listening(handler) as listener, connected(listener, wide) as client, asyncio.TaskGroup() as tasks:

        async def ask() -> None:
            for _ in range(300):
                await client.ask(body=framed(bytes(60_000)))

        tasks.create_task(ask())
        before = -1
        while asked > before:
            before = asked
            await asyncio.sleep(0.5)
        assert asked < 200  # what fits into the system's buffers, and what is read at a time
        for _ in range(300):
            assert (await client.status())[b"grpc-status"] == b"0"
    assert asked == 300


async def test_a_call_that_streams_may_come_in_one_piece() -> None:
    async def handler(request: Request) -> Response:
        assert isinstance(request.body, Frames)
        return Response(5, message=repr(b"".join([part async for part in request.body])))

    listener = GrpcListener(handler, "127.0.0.1", 0, streams=lambda path: path == "/a.B/C")
    await listener.start()
    async with connected(listener) as client:
        await client.ask(body=framed(b"x"))
        assert (await client.status())[b"grpc-message"] == repr(framed(b"x")).encode()
    await listener.stop(drain_seconds=5)


async def test_messages_in_one_piece_have_a_bound_together() -> None:
    going = asyncio.Event()

    async def handler(request: Request) -> Response:
        await going.wait()
        return Response(0)

    admission = Admission(10, 1000, 600_000, lambda _: Response(8, message="too many"))
    listener = GrpcListener(handler, "127.0.0.1", 0, admission=admission)
    await listener.start()
    async with connected(listener) as client:
        for _ in range(2):
            await client.ask(body=framed(bytes(600)))
        assert (await client.status())[b"grpc-message"] == b"too many"
        going.set()
        assert (await client.status())[b"grpc-status"] == b"0"
    await listener.stop(drain_seconds=5)
    assert not admission.bytes


async def test_a_message_over_the_limit_is_the_handlers_to_answer() -> None:
    """As the vendor would; and before all of it has come."""

    async def handler(request: Request) -> Response:
        try:
            await collected(request, limit_bytes=2**30)
        except BodyTooLarge as error:
            return Response(11, message=f"over {error.limit_bytes} bytes")
        return Response(0)

    listener = GrpcListener(handler, "127.0.0.1", 0, max_body_bytes=1000)
    await listener.start()
    async with connected(listener) as client:
        await client.ask(body=framed(bytes(1000)))
        assert (await client.status())[b"grpc-status"] == b"0"
        half = client.http2.open(REQUEST)
        client.http2.send_data(half, framed(bytes(1_000_000))[:2000])
        await client.say()
        assert (await client.status())[b"grpc-message"] == b"over 1000 bytes"
        packed = gzip.compress(bytes(1_000_000))
        await client.ask((*REQUEST, (b"grpc-encoding", b"gzip")), b"\x01" + len(packed).to_bytes(4) + packed)
        assert (await client.status())[b"grpc-status"] == b"11"
    await listener.stop(drain_seconds=5)


async def test_every_call_is_answered_whatever_becomes_of_its_handler() -> None:
    async def handler(request: Request) -> Response:
        if request.bytes == b"cancelled":
            raise asyncio.CancelledError
        return Response(5, message="no such \udcff")

    async with listening(handler) as listener, connected(listener) as client:
        await client.ask(body=framed(b"cancelled"))
        said = await client.status()
        assert (said[b"grpc-status"], said[b"grpc-message"]) == (
            b"2",
            b"the call was cut off here; it may have been carried out",
        )
        await client.ask(body=framed(b"odd"))
        reset = await client.hear(Reset)
        assert isinstance(reset, Reset)
        assert reset.code == Code.INTERNAL_ERROR
        assert client.http2.open_streams == 0


async def test_what_is_cut_off_at_the_end_of_a_drain_is_told_so() -> None:
    begun = asyncio.Event()

    async def handler(_: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    listener = GrpcListener(handler, "127.0.0.1", 0)
    await listener.start()
    async with connected(listener) as client, asyncio.TaskGroup() as tasks:
        await client.ask(body=framed(b""))
        await begun.wait()
        tasks.create_task(listener.stop(drain_seconds=0.2))
        assert (await client.status())[b"grpc-status"] == b"2"
        client.close()


async def test_what_an_upload_takes_of_its_deadline_is_not_granted_again() -> None:
    granted: list[float | None] = []

    async def handler(request: Request) -> Response:
        granted.append(request.timeout_seconds)
        return Response(0)

    async with listening(handler) as listener, connected(listener) as client:
        stream_id = client.http2.open((*REQUEST, (b"grpc-timeout", b"60S")))
        await client.say()
        await asyncio.sleep(0.5)
        client.http2.send_data(stream_id, framed(b"x"), ends=True)
        await client.say()
        await client.status()
    assert granted[0] is not None
    assert 50 < granted[0] < 59.7


async def test_a_connection_that_was_accepted_just_before_a_stop_is_served() -> None:
    for turns in range(6):
        listener = GrpcListener(echo, "127.0.0.1", 0)
        await listener.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for _ in range(turns):
            await asyncio.sleep(0)
        client = Client(reader, writer, Limits())
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(listener.stop(drain_seconds=20))
            await client.ask(body=framed(b"x"))
            assert (await client.status())[b"grpc-status"] == b"0"
            assert not stopping.done()
            client.close()


async def test_a_client_that_goes_and_stays_does_not_keep_a_listener_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grpc_connection, "_CLOSING_SECONDS", 0.3)
    listener = GrpcListener(echo, "127.0.0.1", 0)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(f.PREFACE + f.settings({}) + f.goaway(0, Code.NO_ERROR))
    while await reader.read(1000):  # until it has said all
        pass
    await asyncio.wait_for(listener.stop(drain_seconds=60), 20)
    writer.close()


async def test_what_a_client_sends_after_it_said_that_it_goes_is_not_done_in_secret() -> None:
    """Nothing can be answered any more by then; that it was not taken is said before."""
    asked: list[bytes] = []

    async def handler(request: Request) -> Response:
        asked.append(request.bytes)
        return Response(0)

    async with listening(handler) as listener, connected(listener) as client:
        await client.ask(body=framed(b"first"))
        await client.status()
        client._writer.write(f.goaway(0, Code.NO_ERROR))
        going = await client.hear(Going)
        while isinstance(going, Going) and going.last_id == f.LARGEST_ID:
            going = await client.hear(Going)
        assert isinstance(going, Going)
        assert going.last_id == 1
        late = Connection(Role.CLIENT)
        late.take()
        late._next_id = 3
        late.open(REQUEST)
        late.send_data(3, framed(b"late"), ends=True)
        client._writer.write(late.take())
        with pytest.raises(EOFError):
            await client.hear(Broken)
        await asyncio.sleep(0.1)
    assert asked == [b"first"]


async def test_a_busy_client_that_hears_late_of_a_drain_gets_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it goes on to send meanwhile is not taken, and is no flood."""
    monkeypatch.setattr(grpc_connection, "_HEEDING_SECONDS", 0.05)
    begun, proceed = asyncio.Event(), asyncio.Event()

    async def handler(_: Request) -> Response:
        begun.set()
        await proceed.wait()
        return Response(0)

    listener = GrpcListener(handler, "127.0.0.1", 0)
    await listener.start()
    async with connected(listener) as client, asyncio.TaskGroup() as tasks:
        await client.ask(body=framed(b""))
        await begun.wait()
        tasks.create_task(listener.stop(drain_seconds=20))
        await asyncio.sleep(0.3)
        late = Connection(Role.CLIENT)
        late._has_settings, late._peer_streams, late._next_id = True, 5000, 3
        late.take()
        for _ in range(3000):
            late.open(REQUEST, ends=True)
        client._writer.write(late.take())
        await client._writer.drain()
        await asyncio.sleep(0.3)
        proceed.set()
        assert (await client.status())[b"grpc-status"] == b"0"
        client.close()


async def test_a_client_that_vanishes_is_noticed() -> None:
    async with listening() as listener, connected(listener):
        (connection,) = listener._connections
        assert connection._transport is not None
        sock = connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_a_connection_of_some_age_is_left_without_losing_a_call() -> None:
    """The client connects anew by itself, amid its calls; one that is under way then is still answered."""
    peers: list[Any] = []
    proceed = asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.bytes == b"slow":
            await proceed.wait()
        return Response(0, body=request.bytes)

    listener = GrpcListener(handler, "127.0.0.1", 0, max_age_seconds=0.3)
    made = listener.made

    def counted(connection: Any) -> None:
        peers.append(connection)
        made(connection)

    listener.made = counted  # type: ignore[method-assign]
    await listener.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        call = channel.unary_unary("/a.B/C")
        slow = call(b"slow")
        deadline = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < deadline:
            assert await call(b"x") == b"x"
        proceed.set()
        assert await slow == b"slow"
    await listener.stop(drain_seconds=5)
    assert len(peers) >= 3
