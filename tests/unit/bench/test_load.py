"""bench/load and bench/processes.LoadProcess: what a burst counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import orjson
import pytest
from qdrant_client import grpc as qdrant

from bench import processes, stub
from bench.bodies import UPSERT_POINTS, payload, prepared, upserts
from bench.load import Answer, Burst, Order, Watch, clients, raw_http, who
from bench.load.raw_grpc import timeouts
from bench.processes import LoadProcess
from examples.engines import ChildProcess


def burst(warm_seconds: float) -> Burst:
    return Burst("127.0.0.1:1", "http", "search", "docs", "raw", 1, warm_seconds, seconds=1.0)


def test_what_is_answered_in_the_warm_up_is_counted_apart() -> None:
    watch = Watch(burst(warm_seconds=1e6))
    watch.ended(began=0.0)
    answer = watch.answer()
    assert (answer.requests, answer.latencies_seconds, answer.in_all) == (0, [], 1)


def test_what_is_answered_after_it_counts_for_both() -> None:
    watch = Watch(burst(warm_seconds=0.0))
    watch.ended(began=0.0)
    assert (watch.answer().requests, watch.answer().in_all) == (1, 1)


class Canned(LoadProcess):
    """100 requests, 80 of them in the time."""

    def obey(self, order: Order) -> Answer:
        return Answer(80, 2.0, [0.001] * 80, in_all=100)


def test_cpu_time_is_shared_by_all_requests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = iter([7.0, 7.5])
    monkeypatch.setattr(processes, "used_seconds", lambda _: next(clock))
    load = Canned(tmp_path / "log").burst(burst(warm_seconds=0.5), ChildProcess(tmp_path, 1))
    assert (load.requests_per_second, load.proxy_cpu_seconds) == (40.0, 0.005)


def test_callers_are_named() -> None:
    assert who("raw", 1) == "1 raw caller"
    assert who("raw", 32) == "32 raw callers"
    assert who("official", 1) == "qdrant-client"
    assert who("official", 4) == "4 threads of qdrant-client"


class Answering(asyncio.Protocol):
    """Says so once a request is there, whose body ends in "}"."""

    def __init__(self, status: bytes, seen: list[bytes]) -> None:
        self._status, self._seen = status, seen
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if data.endswith(b"}"):
            self._seen.append(self._received)
            self._received = b""
            self._transport.write(b"HTTP/1.1 " + self._status + b"\r\ncontent-length: 0\r\n\r\n")


@asynccontextmanager
async def answering(status: bytes, seen: list[bytes]) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(status, seen), "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_application_that_writes_twice_sends_the_same_to_both() -> None:
    first: list[bytes] = []
    second: list[bytes] = []
    async with answering(b"200 OK", first) as address, answering(b"200 OK", second) as also:
        twice = Burst(address, "http", "write", "docs", "raw", 1, 0.0, 0.05, also=also)
        answer = (await raw_http.run(twice)).answer()
    assert answer.failure == ""
    assert first == second
    assert len(first) == answer.in_all > 0


async def test_a_refusal_by_the_second_is_a_failure() -> None:
    seen: list[bytes] = []
    async with answering(b"200 OK", seen) as address, answering(b"503 Busy", seen) as also:
        twice = Burst(address, "http", "write", "docs", "raw", 1, 0.0, 0.05, also=also)
        answer = (await raw_http.run(twice)).answer()
    assert answer.failure.startswith("HTTP/1.1 503 Busy")
    assert answer.in_all == 0


def test_a_write_is_one_point_and_an_upsert_a_hundred() -> None:
    for work, points in (("write", 1), ("upsert", UPSERT_POINTS)):
        [message, *_] = [one.body for one in prepared("grpc", work, "docs", "")]
        [request, *_] = [one.body for one in prepared("http", work, "docs", "127.0.0.1:1")]
        assert len(qdrant.UpsertPoints.FromString(message).points) == points
        assert len(orjson.loads(request.partition(b"\r\n\r\n")[2])["points"]) == points


def test_clients_read_and_write_every_point() -> None:
    message = prepared("grpc", "upsert", "docs", "")[0].body
    rows = clients.read(message)
    ids, vectors = upserts()[0]
    assert [row["id"] for row in rows] == list(ids)
    assert rows[0]["vector"] == vectors[0].tolist()
    assert rows[99] == {"id": 99, "vector": vectors[99].tolist(), **payload(99)}
    assert vectors.tobytes() in clients.written("docs", rows)


def test_the_stub_has_the_points_that_are_written() -> None:
    asked = qdrant.GetPoints(ids=[qdrant.PointId(num=number) for number in (3, 999, 1000)])
    found = qdrant.GetResponse.FromString(stub.fetched(asked.SerializeToString())).result
    assert [point.id.num for point in found] == [3, 999]
    assert list(found[0].vectors.vector.dense.data) == upserts()[0][1][3].tolist()
    assert found[0].payload["number"].integer_value == 3


def test_a_deadline_leaves_another_time_for_every_call() -> None:
    found = [round(seconds, 2) for seconds in islice(timeouts(caller=3), 700)]
    assert len(set(found)) == 700
    assert 3.0 <= min(found) < max(found) < 10.0
    assert found[0] != round(next(timeouts(caller=4)), 2)
