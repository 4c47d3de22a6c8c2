"""Calls with several messages, through the listener and on to a server: real clients and servers of gRPC's own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest

from proxy.errors import CrossfadeError, Unclear
from proxy.frames import Frames
from proxy.listeners.admission import Admission
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.grpc_stream import GrpcStream
from proxy.protocols.grpc import framed
from proxy.protocols.http2 import Connection
from proxy.protocols.http2_events import Role
from proxy.protocols.http2_frames import Code
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.telemetry.tasks import spawn
from proxy.wire import Answer, AnswerHead, Body, Request, Response
from tests.support.event_loops import on_each_loop
from tests.support.form import written_only
from tests.support.migration import Migrations
from tests.support.sockets import relay

event_loop_policy = on_each_loop()
METHOD = "/some.Service/Method"
PATIENCE_SECONDS = 10.0
Behaviour = Callable[[Iterator[bytes], Any], Iterator[bytes]]


class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]  # the package is not typed
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.metadata: list[tuple[str, str | bytes]] = []

    def service(self, handler_call_details: Any) -> Any:
        self.metadata += [(key, value) for key, value in handler_call_details.invocation_metadata]
        return grpc.stream_stream_rpc_method_handler(self.behaviour)


@asynccontextmanager
async def through(behaviour: Behaviour, *, cut: bool = False) -> AsyncIterator[tuple[Any, AnyMethod, Any]]:
    """A client's channel to a listener, which passes everything on to a server that behaves so; with `cut`, what ends
    the line to the server."""
    handler = AnyMethod(behaviour)
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, handlers=(handler,), options=(("grpc.so_reuseport", 0),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        async with relay(port) as (line, cut_line):
            forwarder = GrpcForwarder(f"127.0.0.1:{line if cut else port}", timeout_seconds=5)
            listener = GrpcListener(forwarder.forward, "127.0.0.1", 0, streams=lambda _: True)
            await listener.start()
            with grpc.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
                yield channel, handler, cut_line
            await listener.stop(drain_seconds=5)
            await forwarder.close()
        await asyncio.to_thread(server.stop(0).wait)


async def in_thread(work: Callable[[], Any]) -> Any:
    async with asyncio.timeout(2 * PATIENCE_SECONDS):
        return await asyncio.to_thread(work)


def echo(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
    context.send_initial_metadata((("x-initial", "i"), ("raw-bin", b"\x00\xff")))
    context.set_trailing_metadata((("x-trailing", "t"), ("more-bin", b"\xfe")))
    yield from messages


async def test_messages_go_to_and_fro() -> None:
    """Each is answered before the next is sent."""
    async with through(echo) as (channel, server, _):

        def talk() -> Any:
            answered = threading.Semaphore(0)

            def say() -> Iterator[bytes]:
                for number in range(50):
                    yield b"%d" % number
                    assert answered.acquire(timeout=PATIENCE_SECONDS)

            call = channel.stream_stream(METHOD)(say(), metadata=(("api-key", "secret"), ("trace-bin", b"\xff")))
            heard = []
            for answer in call:
                heard.append(answer)
                answered.release()
            return heard, call.initial_metadata(), call.trailing_metadata(), call.code()

        heard, initial, trailing, code = await in_thread(talk)
    assert heard == [b"%d" % number for number in range(50)]
    assert (("x-initial", "i") in initial, ("raw-bin", b"\x00\xff") in initial) == (True, True)
    assert sorted(trailing) == [("more-bin", b"\xfe"), ("x-trailing", "t")]
    assert code is grpc.StatusCode.OK
    assert {("api-key", "secret"), ("trace-bin", b"\xff")} <= set(server.metadata)


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_messages_of_any_size_and_coding(compression: Any) -> None:
    sizes = [0, 1, 70_000, 3_000_000]
    async with through(echo) as (channel, _, _):
        call = channel.stream_stream(METHOD)
        sent = [bytes(size) for size in sizes]
        assert await in_thread(lambda: list(call(iter(sent), compression=compression))) == sent


async def test_who_is_slow_slows_the_other_down() -> None:
    """The client reads nothing for a while; neither does the proxy, beyond its windows."""
    given = 0

    def flood(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        nonlocal given
        next(messages)
        for _ in range(400):
            given += 1
            yield bytes(100_000)

    async with through(flood) as (channel, _, _):

        def read() -> tuple[int, int]:
            call = channel.stream_stream(METHOD)(iter([b"go"]))
            next(call)
            before = -1
            while given > before:
                before = given
                time.sleep(0.5)
            return before, 1 + sum(1 for _ in call)

        before, read_in_all = await in_thread(read)
    assert before < 200  # of 40 MB, what fits into the windows and buffers on the way
    assert read_in_all == 400


async def test_who_sends_is_slowed_down_too() -> None:
    taken = threading.Event()
    sent = 0

    def wait(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        taken.wait(PATIENCE_SECONDS)
        yield b"%d" % sum(len(message) for message in messages)

    def say() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(400):
            sent += 1
            yield bytes(100_000)

    async with through(wait) as (channel, _, _):

        def talk() -> tuple[int, list[bytes]]:
            call = channel.stream_stream(METHOD)(say())
            before = -1
            while sent > before:
                before = sent
                time.sleep(0.5)
            taken.set()
            return before, list(call)

        before, answers = await in_thread(talk)
    assert before < 200
    assert answers == [b"40000000"]


@pytest.mark.parametrize("messages", [0, 3])
async def test_a_status_is_the_servers_own(messages: int) -> None:
    def refuse(_: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for number in range(messages):
            yield b"%d" % number
        context.set_trailing_metadata((("retry-after", "3"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: ü")

    async with through(refuse) as (channel, _, _):

        def ask() -> tuple[list[bytes], Any]:
            call, heard = channel.stream_stream(METHOD)(iter([b"x"])), []
            with pytest.raises(grpc.RpcError) as told:
                heard += call
            return heard, told.value

        heard, told = await in_thread(ask)
    assert (told.code(), told.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no: ü")
    assert told.trailing_metadata() == (("retry-after", "3"),)
    assert len(heard) in (0, messages)


async def test_a_client_that_leaves_is_known_to_the_server() -> None:
    began, ended = threading.Event(), threading.Event()

    def wait(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        began.set()
        yield b"first"
        yield from messages

    async with through(wait) as (channel, _, _):

        def leave() -> bool:
            call = channel.stream_stream(METHOD)(iter(threading.Event().wait, None))
            assert began.wait(PATIENCE_SECONDS)
            next(call)
            call.cancel()
            return ended.wait(PATIENCE_SECONDS)

        assert await in_thread(leave)


async def test_a_line_that_is_cut_is_told() -> None:
    async with through(echo, cut=True) as (channel, _, cut):
        loop = asyncio.get_running_loop()

        def talk() -> Any:
            call = channel.stream_stream(METHOD)(iter(lambda: b"again", None))
            next(call)
            loop.call_soon_threadsafe(cut)
            with pytest.raises(grpc.RpcError) as told:
                for _ in call:
                    pass
            return told.value.code()

        assert await in_thread(talk) is grpc.StatusCode.UNAVAILABLE


async def test_a_deadline_is_passed_on() -> None:
    granted: list[float] = []

    def remember(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        granted.append(context.time_remaining())
        yield from messages

    async with through(remember) as (channel, _, _):
        await in_thread(lambda: list(channel.stream_stream(METHOD)(iter([b"x"]), timeout=7)))
    assert 5 < granted[0] <= 8


# --- large answers of unary calls ------------------------------------------------------------------------


class Passing:
    """Every call goes on the fast path."""

    def __init__(self, forwarder: GrpcForwarder) -> None:
        self._forwarder = forwarder

    def begin(self, key: bytes | None, body: bytes, draw: float, request: Callable[[], Request], answer: Answer) -> Any:
        passage = self._forwarder.passage(request())
        assert passage is not None
        return passage.send(body, None, Told(answer))


class Told:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def answered(self, head: AnswerHead, body: Body) -> None:
        self.answer(head, body)

    def failed(self, error: CrossfadeError) -> None:
        self.answer(AnswerHead(14, (), str(error)), b"")


@asynccontextmanager
async def unary(answer: Callable[[bytes, Any], bytes]) -> AsyncIterator[Any]:
    """A client's call, on the fast path to a server that answers so."""

    class One(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    sizes = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, handlers=(One(),), options=(("grpc.so_reuseport", 0), *sizes))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        forwarder = GrpcForwarder(f"127.0.0.1:{port}", timeout_seconds=5)
        await forwarder.forward(Request("grpc", "", METHOD, body=b"0"))  # so that there is a connection
        listener = GrpcListener(forwarder.forward, "127.0.0.1", 0, fast=Passing(forwarder))
        await listener.start()
        with grpc.insecure_channel(f"127.0.0.1:{listener.port}", options=sizes) as channel:
            yield channel.unary_unary(METHOD)
        await listener.stop(drain_seconds=5)
        await forwarder.close()
        await asyncio.to_thread(server.stop(0).wait)


@written_only
@pytest.mark.parametrize(("compression", "flowing"), [(grpc.Compression.NoCompression, 2), (grpc.Compression.Gzip, 0)])
async def test_a_large_answer_of_a_unary_call(compression: Any, flowing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Passed on while it comes, unless it is compressed, which not every client can read."""
    flowed = 0
    answer_with = GrpcStream.answer

    async def counted(*arguments: Any) -> None:
        nonlocal flowed
        flowed += 1
        await answer_with(*arguments)

    monkeypatch.setattr(GrpcStream, "answer", counted)

    def of_size(message: bytes, context: Any) -> bytes:
        context.set_compression(compression)
        context.set_trailing_metadata((("x-trailing", "t"),))
        return bytes(int(message))

    async with unary(of_size) as call:
        for size in (0, 1_000_000, 1_100_000, 30_000_000):
            answer, told = await in_thread(partial(call.with_call, b"%d" % size))
            assert len(answer) == size
            assert ("x-trailing", "t") in told.trailing_metadata()
    assert flowed == flowing


async def test_a_large_answer_is_left_with_its_client() -> None:
    async with unary(lambda message, _: bytes(40_000_000)) as call:

        def leave() -> None:
            for _ in range(10):
                waiting = call.future(b"x")
                time.sleep(0.02)
                waiting.cancel()

        await in_thread(leave)
        assert len(await in_thread(lambda: call(b"x"))) == 40_000_000


@pytest.mark.parametrize(
    "method",
    ["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"],
)
def test_through_a_proxy_it_is_as_without(migrations: Migrations, method: str) -> None:
    migration = migrations()

    def asked(address: str) -> Any:
        with grpc.insecure_channel(address) as channel:
            try:
                return next(channel.stream_stream(method)(iter([b""]), timeout=PATIENCE_SECONDS))
            except grpc.RpcError as error:
                return error.code()

    assert asked(f"127.0.0.1:{migration.grpc_port}") == asked(migration.source.grpc_address)


# --- what is left behind ---------------------------------------------------------------------------------


async def test_answers_that_are_left_give_their_windows_back() -> None:
    """Far more than a connection's window, of which nobody reads the rest."""

    async def ask(forwarder: GrpcForwarder, read: bool) -> int:
        asked = Frames(b"identity", lambda _: None)
        asked.feed(framed(b"go"), 0)
        asked.end()
        response = await forwarder.forward(Request("grpc", "", METHOD, body=asked))
        assert isinstance(response.body, Frames)
        size = 0
        async for part in response.body:
            size += len(part)
            if not read:
                await asyncio.sleep(0.05)  # so that more of it has come
                response.body.close()
                break
        return size

    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, handlers=(AnyMethod(lambda *_: iter([bytes(100_000)] * 40)),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        forwarder = GrpcForwarder(f"127.0.0.1:{port}", timeout_seconds=5)
        async with asyncio.timeout(30):
            for _ in range(40):
                await ask(forwarder, read=False)
            assert await ask(forwarder, read=True) > 4_000_000
        await forwarder.close()
        await asyncio.to_thread(server.stop(0).wait)


async def test_a_call_that_is_taken_back_at_once_takes_no_place() -> None:
    """Its head and its reset come in one piece, before anybody has begun with it."""
    admission = Admission(4, 1_000_000, 600_000, lambda _: Response(8, message="too many"))

    async def never(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    listener = GrpcListener(never, "127.0.0.1", 0, streams=lambda _: True, admission=admission)
    await listener.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    http2 = Connection(Role.CLIENT)
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"h"),
        (b":path", METHOD.encode()),
        (b"content-type", b"application/grpc"),
    )
    for _ in range(20):
        http2.reset(http2.open(fields), Code.CANCEL)
    writer.write(http2.take())
    async with asyncio.timeout(10):
        await reader.read(1)
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not admission.requests:
                break
    assert not admission.requests
    writer.close()
    await listener.stop(drain_seconds=5)


async def test_what_is_cut_off_at_the_end_of_a_drain_is_told_so() -> None:
    """Also where the answer has begun, so that its end are trailers."""
    async with through(echo) as (channel, _, _):
        heard = threading.Event()

        def talk() -> Any:
            call = channel.stream_stream(METHOD)(_and_then_nothing(heard))
            next(call)
            heard.set()
            with pytest.raises(grpc.RpcError) as told:
                next(call)
            return told.value

        talking = spawn(in_thread(talk), name="a call that is cut off")
        assert await in_thread(lambda: heard.wait(PATIENCE_SECONDS))
        [listener] = [each for each in gc.get_objects() if isinstance(each, GrpcListener) and each._running]
        await listener.stop(drain_seconds=0.2)
        told = await talking
    assert (told.code(), "cut off" in told.details()) == (grpc.StatusCode.UNKNOWN, True)


def _and_then_nothing(heard: threading.Event) -> Iterator[bytes]:
    yield b"first"
    heard.wait(PATIENCE_SECONDS)
    time.sleep(2)


async def test_an_answer_that_falls_silent_is_given_up() -> None:
    frames = Frames(b"identity", lambda _: None, silence_seconds=0.1)
    frames.feed(b"x", 1)
    assert await anext(frames) == b"x"
    with pytest.raises(Unclear, match=r"nothing of the answer came for 0\.1 s"):
        await anext(frames)
