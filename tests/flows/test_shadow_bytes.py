"""Shadow reads between two Qdrants: both are asked the same bytes at once, and it counts as on the slow path."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import grpc as grpcio
import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as qdrant

from examples.engines import poll
from proxy.serving.twin import Twin
from proxy.shadow.pair import Pair
from proxy.shadow.reader import ShadowReader
from proxy.shadow.report import Report
from tests.support.form import written_only
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations, ProxyThread
from tests.support.qdrant_engines import QdrantEmulator
from tests.support.taps import GrpcTap, RestTap

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
DIM, POINTS, SEARCHES = 4, 60, 12
OURS, THEIRS = "the-key-of-clients", "the-key-of-the-target"


class Forms:
    """How many shadow reads took which form."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counted: Counter[str] = Counter()
        for owner, method, form in (
            (Pair, "begin", "asked as bytes"),
            (ShadowReader, "agreed", "alike"),
            (ShadowReader, "settle", "decoded"),
            (ShadowReader, "offer", "slow"),
        ):
            monkeypatch.setattr(owner, method, self._counting(getattr(owner, method), form))

    def _counting(self, method: Callable[..., Any], form: str) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            self.counted[form] += 1
            return method(*arguments, **named)

        return counting


@pytest.fixture
def forms(monkeypatch: pytest.MonkeyPatch) -> Forms:
    return Forms(monkeypatch)


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def between(
    migrations: Migrations,
    target: QdrantEmulator,
    rest_port: int | None = None,
    grpc_port: int | None = None,
    change: Callable[[dict[str, Any]], None] = lambda config: None,
    max_in_flight: int = 100,
    source: QdrantEmulator | None = None,
) -> Migration:
    """All searches shadowed, to that target, by way of those ports."""

    def to_qdrant(config: dict[str, Any]) -> None:
        config["stores"]["new"] = {
            "kind": "qdrant",
            "url": f"http://127.0.0.1:{rest_port or target.rest_port}",
            "grpc_url": f"http://127.0.0.1:{grpc_port or target.grpc_port}",
            "longest_request_seconds": 1,
        }
        change(config)

    return migrations(source=source, change=to_qdrant, shadow={"sample_percent": 100, "max_in_flight": max_in_flight})


def vector(seed: int) -> list[float]:
    return [math.sin(place * seed + place) for place in (1.0, 2.1, 3.3, 4.7)]  # no two scores are equal


def points(*ids: int, **payload: Any) -> list[models.PointStruct]:
    return [models.PointStruct(id=i, vector=vector(i), payload={"n": i, "time": i, "b": "x"} | payload) for i in ids]


def backfilled(migration: Migration, **options: Any) -> str:
    direct, name = migration.direct(**options), migration.name("old")
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    direct.upsert(name, points(*range(POINTS)))
    migration.mirror()
    migration.backfill()
    migration.rest()
    return name


def ask(client: QdrantClient, name: str, number: int = SEARCHES, first: int = 0) -> list[list[int]]:
    found = []
    for seed in range(first, first + number):
        hits = client.query_points(name, query=vector(seed), limit=10, with_payload=True).points
        found.append([int(hit.id) for hit in hits])
    return found


def ask_with_metadata(migration: Migration, name: str, *metadata: tuple[str, str]) -> None:
    with grpcio.insecure_channel(f"127.0.0.1:{migration.grpc_port}") as channel:
        query = channel.unary_unary("/qdrant.Points/Query")
        for seed in range(SEARCHES):
            nearest = qdrant.VectorInput(dense=qdrant.DenseVector(data=vector(seed)))
            asked = qdrant.QueryPoints(collection_name=name, query=qdrant.Query(nearest=nearest))
            query(asked.SerializeToString(), metadata=metadata, timeout=PATIENCE_SECONDS)


def report(migration: Migration, whole: int) -> Report:
    """Once so many shadow reads have come to an end."""

    def ended() -> bool:
        return sum(migration.counts("shadow_reads").values()) >= whole

    assert poll(ended, PATIENCE_SECONDS), migration.counts("shadow_reads")
    return shadow(migration).report


def shadow(migration: Migration) -> ShadowReader:
    assert isinstance(migration.proxy, ProxyThread)
    return migration.proxy.app.routes[ROUTE].shadow


@written_only
@pytest.mark.parametrize("grpc", [False, True])
def test_what_is_known_of_a_head_holds_nobodys_body(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch, grpc: bool
) -> None:
    """There may be a thousand heads, and bodies are large."""
    held: list[object] = []
    may = Twin.may

    def noted(twin: Twin, *asked: Any) -> bool:
        held.append(twin.other.asked.body)
        return may(twin, *asked)

    monkeypatch.setattr(Twin, "may", noted)
    migration = between(migrations, migrations.own_source())
    ask(migration.client(grpc=grpc), backfilled(migration))
    assert len(held) >= SEARCHES - 2
    assert set(held) == {b""}


@written_only
@pytest.mark.parametrize("grpc", [False, True])
def test_what_is_the_same_counts_as_on_the_slow_path(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch, forms: Forms, grpc: bool
) -> None:
    migration = between(migrations, migrations.own_source())
    name, client = backfilled(migration), migration.client(grpc=grpc)
    ask(client, name)
    client.query_points(name, query=vector(0), limit=1, score_threshold=1e9)  # finds nothing
    fast = report(migration, SEARCHES + 1).figures()
    assert forms.counted["alike"] >= SEARCHES - 2, forms.counted  # those before connections were there
    assert forms.counted["decoded"] == 0
    assert migration.counts("reads_passed_unread")[()] >= SEARCHES - 2
    monkeypatch.setattr(Twin, "may", lambda *_: False)
    before = Counter(forms.counted)
    client.query_points(name, query=vector(0), limit=1, score_threshold=1e9)
    ask(client, name)
    both = report(migration, 2 * SEARCHES + 2).figures()
    assert forms.counted["slow"] - before["slow"] == SEARCHES + 1
    assert (fast.compared, fast.agreed) == (SEARCHES + 1, SEARCHES + 1)
    assert (both.compared, both.agreed) == (2 * SEARCHES + 2, 2 * SEARCHES + 2)
    assert (fast.overlap, fast.overlap_p05, fast.score_difference_p95) == (1.0, 1.0, 0.0)
    assert (both.overlap, both.overlap_p05, both.score_difference_p95) == (1.0, 1.0, 0.0)
    assert fast.latency_ratio_p50 is not None
    page = migration.control.metrics()
    assert f'crossfade_shadow_overlap_ratio_count{{route="{ROUTE}"}} {2.0 * (SEARCHES + 1)}' in page
    hits = f'crossfade_shadow_score_difference_count{{route="{ROUTE}"}} {2.0 * SEARCHES}'
    assert hits in page, [line for line in page.splitlines() if "shadow_score" in line]


@written_only
@pytest.mark.parametrize("grpc", [False, True])
def test_what_differs_is_told_as_on_the_slow_path(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch, forms: Forms, grpc: bool
) -> None:
    target = migrations.own_source()
    migration = between(migrations, target)
    name, client = backfilled(migration), migration.client(grpc=grpc)
    [first, *_] = ask(client, name)
    there = migration.client_at(target.rest_port, target.grpc_port)
    gone, changed = first[0], first[1]
    there.delete(name, [gone])
    there.set_payload(name, {"n": -1}, [changed])
    told = []
    for form in ("fast", "slow"):
        if form == "slow":
            monkeypatch.setattr(Twin, "may", lambda *_: False)
        done = sum(migration.counts("shadow_reads").values())
        assert ask(client, name, 1) == [first]  # of the source
        worst = report(migration, done + 1).worst()[0]
        told.append(replace(worst, at=0.0, latency_ratio=0.0))
    assert told[0] == told[1]
    assert (told[0].overlap, told[0].missing, told[0].changed) == (0.9, (gone,), (changed,))
    assert len(told[0].unexpected) == 1
    assert forms.counted["decoded"] == 1


@written_only
def test_a_key_that_is_not_clean_is_left_to_the_slow_path(migrations: Migrations, forms: Forms) -> None:
    target = migrations.own_source()
    migration = between(migrations, target)
    name, client = backfilled(migration), migration.client()
    ask(client, name)
    report(migration, SEARCHES)
    before = Counter(forms.counted)
    with migration.hooks.stop_at("reconciliation begun") as stop:
        client.upsert(name, points(*range(POINTS), turn=2))
        stop.reached()
        ask(client, name)
        figures = report(migration, 2 * SEARCHES).figures()
    assert forms.counted["asked as bytes"] == before["asked as bytes"]
    assert figures.unsettled == SEARCHES
    assert figures.agreed == figures.compared == SEARCHES


@written_only
def test_no_write_under_way_shows_as_a_disagreement(migrations: Migrations, forms: Forms) -> None:
    target = migrations.own_source()
    migration = between(migrations, target)
    name, ended = backfilled(migration), threading.Event()

    def write() -> None:
        client, turn = migration.client(grpc=True), 0
        while not ended.is_set():
            turn += 1
            client.upsert(name, points(*range(0, POINTS, 5), turn=turn))
            time.sleep(0.02)  # so that there is rest between

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for grpc in (False, True):
            ask(migration.client(grpc=grpc), name, 150)
    finally:
        ended.set()
        writer.join(PATIENCE_SECONDS)
    figures = report(migration, 300).figures()
    assert figures.compared == figures.agreed, shadow(migration).report.worst()
    assert forms.counted["asked as bytes"] > 20
    assert forms.counted["slow"] > 20


@written_only
@pytest.mark.parametrize("mood", ["mute", "mad", "gone"])
def test_a_target_that_does_not_answer_well_is_only_a_figure(
    migrations: Migrations, running: ExitStack, forms: Forms, mood: Any
) -> None:
    target = migrations.own_source()
    tap = RestTap(target.rest_port)
    running.callback(tap.close)
    migration = between(migrations, target, rest_port=tap.port)
    name, client = backfilled(migration), migration.client()
    expected = ask(client, name)
    assert report(migration, SEARCHES).figures().agreed == SEARCHES
    asked = forms.counted["asked as bytes"]
    tap.mood = mood
    began = time.monotonic()
    assert ask(client, name) == expected
    assert time.monotonic() - began < 0.9  # less than any time-out here
    figures = report(migration, 2 * SEARCHES).figures()
    assert (figures.agreed, figures.errors) == (SEARCHES, SEARCHES)
    assert forms.counted["asked as bytes"] == asked + SEARCHES
    tap.mood = "well"
    assert ask(client, name) == expected
    assert report(migration, 3 * SEARCHES).figures().agreed == 2 * SEARCHES


@written_only
@pytest.mark.parametrize("grpc", [False, True])
def test_nothing_of_the_client_but_what_it_asks_goes_to_the_other_store(
    migrations: Migrations,
    running: ExitStack,
    start_qdrant_emulator: Callable[..., QdrantEmulator],
    forms: Forms,
    grpc: bool,
) -> None:
    target = start_qdrant_emulator(api_key=THEIRS)
    rest, rpc = RestTap(target.rest_port), GrpcTap(target.grpc_address, running)
    running.callback(rest.close)

    def guarded(config: dict[str, Any]) -> None:
        config["auth"] = {"mode": "keys", "keys": [OURS]}
        config["stores"]["new"]["api_key"] = THEIRS

    migration = between(migrations, target, rest.port, rpc.port, guarded)
    name = backfilled(migration)
    if grpc:
        ask_with_metadata(migration, name, ("api-key", OURS), ("authorization", OURS), ("x-tenant", "secret"))
    else:
        ask(migration.client(api_key=OURS, metadata={"x-tenant": "secret"}), name)
    assert report(migration, SEARCHES).figures().agreed == SEARCHES
    assert forms.counted["asked as bytes"] >= SEARCHES - 2
    heads = [each.partition(b"\r\n\r\n")[0].lower() for each in rest.seen if b"/points/query" in each]
    metadata = [dict(each) for method, each in rpc.seen if method == "/qdrant.Points/Query"]
    assert len(metadata if grpc else heads) >= SEARCHES - 2
    for head in heads:
        assert OURS.encode() not in head
        assert b"secret" not in head
        names = {line.partition(b":")[0] for line in head.split(b"\r\n")[1:]}
        assert names == {b"host", b"content-type", b"content-length", b"api-key"}
    for each in metadata:
        assert each["api-key"] == THEIRS
        assert each.keys() == {"api-key", "user-agent"}
        assert each["user-agent"] == "crossfade"


@written_only
def test_without_a_checked_key_the_targets_own_is_not_used_for_it(
    migrations: Migrations, running: ExitStack, start_qdrant_emulator: Callable[..., QdrantEmulator], forms: Forms
) -> None:
    """The slow path asks once the source has answered."""
    target = start_qdrant_emulator(api_key=THEIRS)
    tap = RestTap(target.rest_port)
    running.callback(tap.close)

    def guarded(config: dict[str, Any]) -> None:
        config["stores"]["new"]["api_key"] = THEIRS

    migration = between(migrations, target, tap.port, change=guarded)
    name = backfilled(migration)
    ask(migration.client(), name)
    assert report(migration, SEARCHES).figures().agreed == SEARCHES
    assert forms.counted["asked as bytes"] == 0
    assert not [each for each in tap.seen if b"/points/query" in each]


@written_only
@pytest.mark.parametrize("grpc", [False, True])
def test_a_collection_that_is_called_otherwise_there_and_one_by_an_alias(
    migrations: Migrations, running: ExitStack, forms: Forms, grpc: bool
) -> None:
    target = migrations.own_source()
    tap = RestTap(target.rest_port)
    running.callback(tap.close)

    def renamed(config: dict[str, Any]) -> None:
        [route] = config["routes"]
        route["names"] = {route["collections"][0].replace("*", "old"): "another name"}

    migration = between(migrations, target, tap.port, change=renamed)
    name, client = backfilled(migration), migration.client(grpc=grpc)
    alias = migration.name("alias")
    client.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))]
    )
    expected = ask(client, name)
    assert ask(client, alias) == expected
    figures = report(migration, 2 * SEARCHES).figures()
    assert (figures.agreed, figures.errors) == (2 * SEARCHES, 0)
    asked = [each.partition(b" HTTP")[0] for each in tap.seen if b"/points/query" in each]
    if grpc:
        assert forms.counted["asked as bytes"] == 0  # the name is in the message
    else:
        assert len(asked) >= 2 * SEARCHES - 4
        assert set(asked) == {b"POST /collections/another%20name/points/query"}


def test_what_the_model_cannot_say_goes_to_the_source_alone(migrations: Migrations, running: ExitStack) -> None:
    target = migrations.own_source()
    tap = RestTap(target.rest_port)
    running.callback(tap.close)
    migration = between(migrations, target, tap.port)
    name = backfilled(migration)
    ask(migration.client(), name, 3)
    report(migration, 3)
    seen = len(tap.seen)
    urls = (migration.url, migration.source.url)
    for _ in range(3):
        body = {"query": {"sample": "random"}, "limit": 3}
        answers = [httpx.post(f"{url}/collections/{name}/points/query", json=body) for url in urls]
        assert answers[0].status_code == answers[1].status_code
    assert sum(migration.counts("shadow_reads").values()) == 3
    assert len(tap.seen) == seen


@written_only
def test_nothing_is_left_of_what_a_client_leaves(migrations: Migrations, running: ExitStack, forms: Forms) -> None:
    source = migrations.own_source()
    tap = RestTap(source.rest_port)
    running.callback(tap.close)

    def tapped(config: dict[str, Any]) -> None:
        config["stores"]["old"]["url"] = tap.url

    migration = between(migrations, migrations.own_source(), change=tapped, source=source)
    name = backfilled(migration)
    ask(migration.client(), name)
    report(migration, SEARCHES)
    counted, asked = migration.counts("shadow_reads"), forms.counted["asked as bytes"]
    tap.mood = "mute"
    body = json.dumps({"query": vector(1), "limit": 10})
    head = f"POST /collections/{name}/points/query HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", migration.rest_port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset at the end
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        assert poll(lambda: forms.counted["asked as bytes"] == asked + 1, PATIENCE_SECONDS)
    assert poll(lambda: shadow(migration).in_flight == 0, PATIENCE_SECONDS)
    assert migration.counts("shadow_reads") == counted


@written_only
def test_compressed_answers_are_compared_unpacked(migrations: Migrations, forms: Forms) -> None:
    migration = between(migrations, migrations.own_source())
    name = backfilled(migration)
    url, body = f"{migration.url}/collections/{name}/points/query", {"query": vector(1), "limit": 50}
    with httpx.Client(headers={"accept-encoding": "br, gzip"}) as client:
        for _ in range(5):
            assert client.post(url, json=body).status_code == 200
    assert report(migration, 5).figures().agreed == 5
    assert forms.counted["alike"] >= 3


def test_more_than_may_be_under_way_are_shed_and_the_client_does_not_wait(
    migrations: Migrations, running: ExitStack
) -> None:
    target = migrations.own_source()
    tap = RestTap(target.rest_port)
    running.callback(tap.close)
    migration = between(migrations, target, tap.port, max_in_flight=2)
    name, client = backfilled(migration), migration.client()
    for first in range(3):  # one after the other, so that none of them is shed
        ask(client, name, 1, first)
        report(migration, first + 1)
    tap.mood = "mute"
    before = migration.counts("shadow_reads")
    ask(client, name, 10)

    def outcomes() -> tuple[int, int]:
        counted = migration.counts("shadow_reads") - before
        return counted[("shed",)], counted[("error",)]

    assert poll(lambda: sum(outcomes()) == 10, PATIENCE_SECONDS)
    shed, failed = outcomes()
    assert shed > 0
    assert failed >= 2  # more, if the ten take longer than one may live
