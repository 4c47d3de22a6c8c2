"""A body that somebody wants whole: when its reader is woken, what holds the client up, and how it fails."""

from __future__ import annotations

import asyncio
import time

import pytest

from proxy.errors import BodyTooLarge, InvalidRequest
from proxy.listeners import http_body
from proxy.listeners.http_body import WAITING_BYTES, BodyStream
from proxy.telemetry.tasks import spawn
from proxy.wire import Request, collected

PIECE = b"x" * 100_000


def _request(body: BodyStream) -> Request:
    return Request(transport="http", method="PUT", path="/", body=body)


class _Client:
    """What is told of a body's reader: how often it looked whether to read the socket, and whether it was bidden on."""

    def __init__(self, limit_bytes: int | None = None, *, expects: bool = False) -> None:
        self.looked = 0
        self.bidden = False
        self.body = BodyStream(self._look, self._bid if expects else None, limit_bytes)

    def _look(self) -> None:
        self.looked += 1

    def _bid(self) -> None:
        self.bidden = True


async def _begun(body: BodyStream, limit_bytes: int = 10_000_000) -> asyncio.Task[Request]:
    reader = spawn(collected(_request(body), limit_bytes), name="reader")
    await asyncio.sleep(0)
    return reader


async def test_it_is_read_without_a_pause_and_its_reader_woken_once() -> None:
    client = _Client()
    for _ in range(5):
        client.body.feed(PIECE)
    stood = client.body.is_full
    reader = await _begun(client.body)
    assert (stood, client.body.is_full, client.looked) == (True, False, 1)  # so the socket is read again
    waits = client.body._moved
    for _ in range(20):
        client.body.feed(PIECE)
        await asyncio.sleep(0)
        assert not client.body.is_full
    assert client.body._moved is waits
    assert waits is not None
    assert not waits.done()
    client.body.end()
    assert (await reader).body == PIECE * 25


async def test_one_that_has_ended_is_there_at_once() -> None:
    client = _Client()
    for piece in (b"ab", b"c"):
        client.body.feed(piece)
    client.body.end()
    assert (await _begun(client.body)).done()


@pytest.mark.parametrize(("of_request", "of_listener"), [(250_000, None), (250_000, 10_000_000), (10_000_000, 250_000)])
@pytest.mark.parametrize("ends", [True, False])
async def test_past_the_limit_it_is_refused_and_the_client_held_up(
    of_request: int, of_listener: int | None, ends: bool
) -> None:
    client = _Client(of_listener)
    reader = await _begun(client.body, of_request)
    client.body.feed(PIECE)
    client.body.feed(PIECE)
    client.body.feed(PIECE)
    if ends:
        client.body.end()
    with pytest.raises(BodyTooLarge, match="250000"):
        await asyncio.wait_for(reader, 10)
    assert client.body.is_full


async def test_one_of_just_the_limit_is_taken() -> None:
    client = _Client()
    reader = await _begun(client.body, 2 * len(PIECE))
    client.body.feed(PIECE)
    client.body.feed(PIECE)
    client.body.end()
    assert (await reader).body == PIECE * 2


async def test_a_client_that_leaves_is_an_invalid_request() -> None:
    client = _Client()
    client.body.feed(PIECE * (WAITING_BYTES // len(PIECE) + 1))
    reader = await _begun(client.body)
    client.body.fail("the connection is gone")
    with pytest.raises(InvalidRequest, match="the connection is gone"):
        await reader


async def test_a_client_that_asks_is_bidden_to_go_on() -> None:
    client = _Client(expects=True)
    reader = await _begun(client.body)
    assert client.bidden
    client.body.feed(b"abc")
    client.body.end()
    assert (await reader).body == b"abc"


async def test_it_ends_where_nothing_comes_any_more_but_not_where_it_comes_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_body, "SILENCE_SECONDS", 1.0)
    client = _Client()
    reader = await _begun(client.body)
    for _ in range(12):
        await asyncio.sleep(0.1)
        client.body.feed(PIECE)
    assert not reader.done()
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="nothing of it came"):
        await asyncio.wait_for(reader, 10)
    assert time.monotonic() - began < 1.5  # from what came last, not from when that was looked at
