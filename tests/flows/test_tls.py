"""TLS, with certificates of an authority made for the test: listeners, a rotation of theirs, and forwarders."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme

from proxy.config import MilvusConfig, QdrantConfig
from proxy.errors import ConfigError, StoreError, Unavailable
from proxy.listeners import tls, tls_protocol
from proxy.listeners.grpc_listener import GrpcListener
from proxy.listeners.http_listener import HttpListener
from proxy.listeners.shared_listener import SharedListener
from proxy.listeners.tls import Certificate
from proxy.stores.forward_grpc import GrpcForwarder
from proxy.stores.forward_http import HttpForwarder
from proxy.stores.opening import open_forwarders, open_store
from proxy.wire import Request, Response, collected
from tests.support.event_loops import on_each_loop

event_loop_policy = on_each_loop()
MEBIBYTE = 1024 * 1024


class Authority:
    """Issues certificates into the files of a listener."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.issue()

    def issue(self) -> None:
        issued = self._ca.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(str(self.key))
        issued.cert_chain_pems[0].write_to_path(str(self.certificate))

    def trust(self, *protocols: str) -> ssl.SSLContext:
        """Of a client."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    @property
    def root(self) -> bytes:
        root: bytes = self._ca.cert_pem.bytes()
        return root


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def echo(request: Request) -> Response:
    body = (await collected(request, 100 * MEBIBYTE)).bytes
    return Response(200 if request.transport == "http" else 0, (), body)


@asynccontextmanager
async def listening(authority: Authority, kind: Any, *protocols: str) -> AsyncIterator[Any]:
    certificate = Certificate(authority.certificate, authority.key, protocols)
    listener = kind(echo, "127.0.0.1", 0, certificate=certificate)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.stop(drain_seconds=5)


def shown(port: int, context: ssl.SSLContext) -> tuple[bytes, str | None]:
    """The certificate that a listener shows, and the protocol that was agreed on."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        certificate = encrypted.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate, encrypted.selected_alpn_protocol()


async def test_https_in_both_directions(authority: Authority) -> None:
    body = bytes(range(256)) * 20_000
    async with listening(authority, HttpListener, "http/1.1") as listener:
        url = f"https://localhost:{listener.port}"
        async with httpx.AsyncClient(verify=authority.trust()) as client:
            for sent in (b"", b"abc", body):
                assert (await client.put(f"{url}/", content=sent)).content == sent
        forwarder = HttpForwarder(url, tls=authority.trust())
        for sent in (b"", b"abc", body):
            answer = await forwarder.forward(Request("http", "PUT", "/", body=sent))
            taken = answer.body if isinstance(answer.body, bytes) else b"".join([part async for part in answer.body])
            assert taken == sent
        await forwarder.close()


async def test_grpc_in_both_directions(authority: Authority) -> None:
    body = bytes(range(256)) * 20_000
    async with listening(authority, GrpcListener, "h2") as listener:
        address = f"localhost:{listener.port}"
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        credentials = grpc.ssl_channel_credentials(authority.root)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            for sent in (b"", b"abc", body):
                assert await channel.unary_unary("/a.B/C")(sent) == sent
        forwarder = GrpcForwarder(address, tls=authority.trust("h2"))
        for sent in (b"", b"abc", body):
            assert (await forwarder.forward(Request("grpc", "", "/a.B/C", body=sent))).body == sent
        await forwarder.close()


@pytest.mark.parametrize(("kind", "protocol"), [(HttpListener, "http/1.1"), (GrpcListener, "h2")])
async def test_the_protocol_is_agreed_on(authority: Authority, kind: Any, protocol: str) -> None:
    async with listening(authority, kind, protocol) as listener:
        _, agreed = await asyncio.to_thread(shown, listener.port, authority.trust("h2", "http/1.1"))
    assert agreed == protocol


async def test_on_one_port_they_are_told_apart_by_what_is_agreed_on(authority: Authority) -> None:
    async def which(request: Request) -> Response:
        return Response(200 if request.transport == "http" else 0, (), request.transport.encode())

    certificate = Certificate(authority.certificate, authority.key, ("h2", "http/1.1"))
    here = ("127.0.0.1", 0)
    http, grpc_ = HttpListener(which, *here), GrpcListener(which, *here)
    listener = SharedListener(http, grpc_, *here, certificate=certificate)
    await listener.start()
    address = f"localhost:{listener.port}"
    credentials = grpc.ssl_channel_credentials(authority.root)
    async with (
        httpx.AsyncClient(verify=authority.trust()) as client,
        grpc.aio.secure_channel(address, credentials) as channel,
    ):
        assert (await client.get(f"https://{address}/")).text == "http"
        assert await channel.unary_unary("/a.B/C")(b"") == b"grpc"
    await listener.stop(drain_seconds=5)


async def test_a_new_certificate_is_shown_to_whoever_connects_from_then_on(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "_LOOK_SECONDS", 0.0)
    trust = authority.trust()
    async with listening(authority, HttpListener, "http/1.1") as listener, httpx.AsyncClient(verify=trust) as kept:
        url = f"https://localhost:{listener.port}/"
        await kept.put(url, content=b"1")
        old, _ = await asyncio.to_thread(shown, listener.port, trust)
        authority.key.write_text("half of it")
        assert (await asyncio.to_thread(shown, listener.port, trust))[0] == old
        assert any(record.levelno == logging.ERROR for record in caplog.records)
        authority.issue()
        assert (await asyncio.to_thread(shown, listener.port, trust))[0] != old
        assert (await kept.put(url, content=b"2")).content == b"2"  # on the connection that it has


@pytest.mark.parametrize("kind", [HttpListener, GrpcListener])
async def test_who_is_connected_and_says_nothing_does_not_hold_up_the_end(authority: Authority, kind: Any) -> None:
    async with listening(authority, kind, "http/1.1") as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as silent:
            await asyncio.sleep(0.1)
            async with asyncio.timeout(8):
                await listener.stop(drain_seconds=20)
            silent.settimeout(10)
            assert await asyncio.to_thread(silent.recv, 1) == b""


async def test_many_at_once_get_each_their_own(authority: Authority) -> None:
    """Whatever they send, in whatever pieces, and however slowly they read."""
    async with listening(authority, HttpListener, "http/1.1") as listener:

        async def talk(number: int) -> None:
            chance = random.Random(number)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", listener.port, ssl=authority.trust(), server_hostname="localhost", limit=4096
            )
            for _ in range(5):
                body = chance.randbytes(chance.choice((0, 1, 5000, 6144, 16_384, 70_000, 900_000)))
                head = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
                sent = head + body
                while sent:
                    size = chance.choice((1, 4000, 6144, 60_000))
                    writer.write(sent[:size])
                    sent = sent[size:]
                    await asyncio.sleep(0)
                answer = await reader.readuntil(b"\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 200 ")
                heard = b""
                while len(heard) < len(body):
                    heard += await reader.read(chance.choice((100, 5000, 50_000)))
                assert heard == body
            writer.close()

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(talk(number))


async def test_who_says_goodbye_is_answered_so(authority: Authority) -> None:
    async with listening(authority, HttpListener, "http/1.1") as listener:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", listener.port, ssl=authority.trust(), server_hostname="localhost"
        )
        writer.write(b"PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        async with asyncio.timeout(10):
            assert (await reader.read()).endswith(b"hi")  # and an orderly end, or this would raise
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(600), b"\x16"])
async def test_who_speaks_no_tls_is_hung_up_on(
    authority: Authority, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_protocol, "HANDSHAKE_SECONDS", 0.5)
    async with listening(authority, HttpListener, "http/1.1") as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):
            async with asyncio.timeout(10):
                assert not (await reader.read()).startswith(b"HTTP")
        writer.close()
        async with httpx.AsyncClient(verify=authority.trust()) as client:
            assert (await client.put(f"https://localhost:{listener.port}/", content=b"x")).content == b"x"


async def test_stores_are_trusted_by_the_authorities_that_are_named(authority: Authority, tmp_path: Path) -> None:
    named = tmp_path / "ca.pem"
    named.write_bytes(authority.root)
    async with (
        listening(authority, HttpListener, "http/1.1") as rest,
        listening(authority, GrpcListener, "h2") as grpc_,
    ):
        for ca in (str(named), None):
            at_rest, at_grpc = f"https://localhost:{rest.port}", f"https://localhost:{grpc_.port}"
            forwarders = open_forwarders(QdrantConfig(kind="qdrant", ca=ca, url=at_rest, grpc_url=at_grpc))
            for transport, forwarder in forwarders.items():
                request = Request(transport, "PUT" if transport == "http" else "", "/a.B/C", body=b"x")
                if ca is None:
                    with pytest.raises(Unavailable, match="certificate"):
                        await forwarder.forward(request)
                else:
                    assert (await forwarder.forward(request)).body == b"x"
                await forwarder.close()
        for ca in (str(named), None):
            config = MilvusConfig(kind="milvus", address=f"localhost:{grpc_.port}", tls=True, ca=ca)
            milvus = open_store(config)
            if ca is None:
                with pytest.raises(StoreError, match="certificate"):
                    await milvus.probe()
            else:
                await milvus.probe()
            await milvus.close()


def test_authorities_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the authorities in .*none\.pem cannot be used: No such file"):
        open_forwarders(QdrantConfig(kind="qdrant", url="https://localhost:1", ca=str(tmp_path / "none.pem")))


async def test_who_is_not_trusted_is_sent_nothing(authority: Authority) -> None:
    async with listening(authority, HttpListener, "http/1.1") as listener:
        forwarder = HttpForwarder(f"https://localhost:{listener.port}")
        with pytest.raises(Unavailable, match="certificate"):
            await forwarder.forward(Request("http", "PUT", "/", body=b"x"))
        await forwarder.close()


def test_a_certificate_that_cannot_be_used_keeps_the_program_from_starting(authority: Authority) -> None:
    authority.key.write_text("not a key")
    with pytest.raises(ConfigError, match=r"tls\.crt with the key .*tls\.key cannot be used"):
        Certificate(authority.certificate, authority.key, ["h2"])
    with pytest.raises(ConfigError, match="No such file"):
        Certificate(authority.certificate.with_name("none.crt"), authority.key, ["h2"])
