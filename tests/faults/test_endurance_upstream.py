"""An upstream of the endurance run answers each request with its own number, and writes down exactly what it cut."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.endurance.matching import ResetConnection
from tests.faults.endurance.messages import FIRST_ID, http_body, over_http
from tests.faults.endurance.resets import Resets
from tests.faults.endurance.served_http import HttpServed


class Due(Resets):
    """Whatever is asked is due, if it is to be."""

    now = ""

    def drawn(self, number: int, way: str, missing_bytes: int = 0) -> str:
        super().drawn(number, way, missing_bytes)
        return self.now


@asynccontextmanager
async def upstream(tmp_path: Path) -> AsyncIterator[tuple[Due, Callable[[], Awaitable[Any]]]]:
    resets = Due(tmp_path / "resets", "source", random.Random(1))
    server = await asyncio.get_running_loop().create_server(lambda: HttpServed(resets), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield resets, lambda: asyncio.open_connection("127.0.0.1", port, limit=1 << 22)


def logged(tmp_path: Path) -> list[tuple[str, list[int]]]:
    lines = (tmp_path / "resets").read_bytes().splitlines()
    return [(one.kind, one.numbers) for one in (msgspec.json.decode(line, type=ResetConnection) for line in lines)]


async def answered(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


@pytest.mark.parametrize("in_body", [True, False])
async def test_it_answers_with_the_number_of_each(tmp_path: Path, in_body: bool) -> None:
    async with upstream(tmp_path) as (resets, connect):
        reader, writer = await connect()
        for number in (FIRST_ID, FIRST_ID + 1):
            asked = over_http("search", number, in_body)
            writer.write(asked.head + asked.body[:10])
            await asyncio.sleep(0)
            writer.write(asked.body[10:])
            assert await answered(reader) == http_body("search", number)
        assert resets.arrived[:3] == b"\1\1\0"
        writer.close()
    assert logged(tmp_path) == []


@pytest.mark.parametrize("due", ["request", "answer"])
async def test_it_writes_down_what_it_cuts(tmp_path: Path, due: str) -> None:
    async with upstream(tmp_path) as (resets, connect):
        reader, writer = await connect()
        resets.now = due
        asked = over_http("write", FIRST_ID + 5, False)
        writer.write(asked.head + asked.body)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await answered(reader)
        writer.close()
    assert logged(tmp_path) == [(due, [FIRST_ID + 5])]


async def test_one_that_only_looks_idle_is_answered(tmp_path: Path) -> None:
    """Its request has arrived, and nobody has read it yet."""
    async with upstream(tmp_path) as (resets, connect):
        reader, writer = await connect()
        asked = over_http("fetch", FIRST_ID + 6, False)
        writer.write(asked.head)
        await asyncio.sleep(0.05)
        assert await answered(reader) == http_body("fetch", FIRST_ID + 6)
        [served] = resets.connections
        served.transport.pause_reading()
        asked = over_http("fetch", FIRST_ID + 7, False)
        writer.write(asked.head)
        for _ in range(3):
            await asyncio.sleep(0.01)
        resets.strike(served, "idle")
        assert await answered(reader) == http_body("fetch", FIRST_ID + 7)
        assert logged(tmp_path) == []
        resets.strike(served, "idle")
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await answered(reader)
        writer.close()
    assert logged(tmp_path) == [("idle", [])]
