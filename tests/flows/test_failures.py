"""Crashes, stores that are down, a journal that cannot be written: what was acknowledged is there afterwards, both
stores come to hold the same, and nobody has to do anything about it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models

from examples.engines import poll
from tests.support.both_stores import assert_equal, in_source
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations, ProxyProcess
from tests.support.qdrant_engines import QdrantEmulator
from tests.support.relay import Relay

DIM = 4
OLD_POINTS = 150


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


def _filled(migration: Migration, points: int = OLD_POINTS) -> str:
    """A collection on the source with points that were there before the proxy."""
    direct, name = migration.direct(), migration.name("old")
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.COSINE))
    direct.upsert(
        name, [models.PointStruct(id=i, vector=vector(i), payload={"n": i, "turn": 0}) for i in range(points)]
    )
    return name


class Load:
    """Writers, each with keys of its own, that remember what was acknowledged: for each key the last turn."""

    def __init__(self, migration: Migration, name: str, writers: int = 3) -> None:
        self.acknowledged: dict[int, int] = {}
        self.errors: list[BaseException] = []
        self.some = threading.Semaphore(0)  # released with every acknowledged write
        self._name = name
        self._ended = threading.Event()
        self._pool = ThreadPoolExecutor(writers)
        self._running = [
            self._pool.submit(self._write, migration.client(grpc=number == 1), range(number, 60, writers))
            for number in range(writers)
        ]

    def wait_for(self, writes: int) -> None:
        """Return when so many more writes have been acknowledged."""
        for _ in range(writes):
            assert self.some.acquire(timeout=PATIENCE_SECONDS), self.errors

    def end(self) -> None:
        self._ended.set()
        for running in self._running:
            running.result(PATIENCE_SECONDS)
        self._pool.shutdown()

    def _write(self, client: QdrantClient, keys: range) -> None:
        turn = 0
        while not self._ended.is_set():
            turn += 1
            for key in keys:
                try:
                    self._one(client, key, turn)
                except Exception as error:  # noqa: BLE001  judged by the test
                    self.errors.append(error)
                    return
                self.acknowledged[key] = turn
                self.some.release()

    def _one(self, client: QdrantClient, key: int, turn: int) -> None:
        """A whole point, or a part of one, by turns; a point of its own that is deleted every other time."""
        if turn % 2:
            payload = {"turn": turn, "whole": True}
            client.upsert(self._name, [models.PointStruct(id=key, vector=vector(key + turn), payload=payload)])
            client.upsert(self._name, [models.PointStruct(id=1000 + key, vector=vector(key), payload={"turn": turn})])
        else:
            client.set_payload(self._name, {"turn": turn}, [key])
            client.delete(self._name, [1000 + key])


@contextmanager
def load(migration: Migration, name: str) -> Iterator[Load]:
    running = Load(migration, name)
    try:
        yield running
    finally:
        running.end()


def _assert_nothing_lost(migration: Migration, name: str, acknowledged: dict[int, int]) -> None:
    here = {record.id: record for record in migration.direct().scroll(name, limit=10_000)[0]}
    for key, turn in acknowledged.items():
        found = (here[key].payload or {})["turn"]
        assert found in (turn, turn + 1), f"{key}: acknowledged {turn}, found {found}"  # the next may have arrived


# --- the proxy is killed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "after"),
    [
        ("BEGIN durable", 40),
        ("primary answered", 40),
        ("reconciliation begun", 5),
        ("reconciliation read", 5),
        ("reconciliation written", 5),
    ],
)
def test_killed_under_load_it_loses_nothing(migrations: Migrations, point: str, after: int) -> None:
    """Everything old has been copied, so only what is known of the keys under way can repair them."""
    migration = migrations(as_process=True)
    name, proxy = _filled(migration), migration.process
    migration.backfill()
    proxy.stop()
    proxy.dies_at, proxy.after = point, after
    proxy.start()
    with load(migration, name) as writers:
        assert proxy.died(), f"it never came to {point!r}"
    proxy.dies_at = ""
    proxy.start()
    assert_equal(migration, name)
    _assert_nothing_lost(migration, name, writers.acknowledged)
    assert migration.verify()["different"] == 0


@pytest.mark.parametrize("point", ["page read", "page written"])
def test_killed_under_load_during_a_backfill_it_goes_on_with_it(migrations: Migrations, point: str) -> None:
    migration = migrations(as_process=True, start=False, backfill={"page_points": 16, "requests_per_second": 30})
    name, proxy = _filled(migration), migration.process
    proxy.dies_at, proxy.after = point, 4
    proxy.start()
    with load(migration, name) as writers:
        writers.wait_for(10)
        migration.control.start_job("backfill", ROUTE)
        assert proxy.died(), f"it never came to {point!r}"
    proxy.dies_at = ""
    proxy.start()
    assert_equal(migration, name)
    _assert_nothing_lost(migration, name, writers.acknowledged)
    assert [job.status for job in migration.control.jobs() if job.kind == "backfill"] == ["done"]
    assert migration.verify()["different"] == 0


def test_killed_at_any_time_again_and_again(migrations: Migrations) -> None:
    migration = migrations(as_process=True, start=False, backfill={"page_points": 16, "requests_per_second": 20})
    name = _filled(migration)
    migration.process.start()
    migration.control.start_job("backfill", ROUTE)
    acknowledged: dict[int, int] = {}
    for writes in (20, 50, 30):
        with load(migration, name) as writers:
            writers.wait_for(writes)
            migration.process.kill()
        acknowledged = writers.acknowledged
        migration.process.start()
        _assert_nothing_lost(migration, name, acknowledged)
    assert_equal(migration, name)
    assert migration.verify()["different"] == 0


def test_killed_during_a_definition_the_target_gets_the_new_collection(migrations: Migrations) -> None:
    """The collection was dropped and made anew with another dimension when the proxy died."""
    migration = migrations(as_process=True)
    name, client = _filled(migration), migration.client()
    migration.backfill()
    client.delete_collection(name)
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    migration.process.kill()
    direct = migration.direct()
    assert direct.get_collection(name).config.params.vectors.size == 2  # type: ignore[union-attr]
    migration.process.start()
    migration.client().upsert(name, [models.PointStruct(id=i, vector=[1.0, i]) for i in range(10)])
    assert_equal(migration, name, 10)


def test_a_second_proxy_at_the_same_address_does_not_start(migrations: Migrations) -> None:
    migration = migrations(as_process=True)
    first = migration.process
    second = ProxyProcess(migration.directory / "second", migration.config_path, migration.rest_port)
    second.start()  # returns because the first one answers at the same address
    assert second.died()
    assert "address already in use" in second.log_tail()
    assert first.is_running()


# --- requests that land late -----------------------------------------------------------------------


def test_a_write_that_lands_after_its_client_was_told_that_it_timed_out(
    migrations: Migrations, qdrant_emulator: QdrantEmulator
) -> None:
    """Nobody may copy the point before the request can not land any more."""
    with Relay(qdrant_emulator.rest_port) as relay:
        migration = migrations(change=_through(relay, "old", "url", "http://127.0.0.1:{}"))
        name, client = _filled(migration), migration.client()
        migration.backfill()
        migration.rest()
        relay.keep()
        with pytest.raises(Exception, match="504"):
            client.upsert(name, [models.PointStruct(id=1, vector=vector(9), payload={"late": True})])
        assert migration.status().keys.held == 1
        relay.let_go()
        assert_equal(migration, name, OLD_POINTS)
        assert migration.direct().retrieve(name, [1])[0].payload == {"late": True}


def test_a_copy_that_lands_after_the_point_was_written_again(migrations: Migrations) -> None:
    """The target takes the old state after the proxy has given up on it."""
    target = migrations.own_target()
    with Relay(int(target.address.rpartition(":")[2])) as relay:
        migration = migrations(target=target, change=_through(relay, "new", "address", "127.0.0.1:{}"))
        name, client = _filled(migration), migration.client()
        migration.backfill()
        migration.rest()
        relay.keep()
        client.upsert(name, [models.PointStruct(id=1, vector=vector(9), payload={"turn": "first"})])
        migration.until(lambda route: route.keys.held == 1, "held")
        client.upsert(name, [models.PointStruct(id=1, vector=vector(10), payload={"turn": "second"})])
        relay.let_go()
        assert_equal(migration, name, OLD_POINTS)


def _through(relay: Relay, store: str, key: str, form: str) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        config["stores"][store][key] = form.format(relay.port)

    return change


# --- a store is down -------------------------------------------------------------------------------


def test_a_target_that_is_gone_for_a_while_under_load_is_not_noticed_by_clients(migrations: Migrations) -> None:
    migration = migrations(target=migrations.own_target())
    name = _filled(migration)
    migration.backfill()
    migration.weight(100)
    reader = migration.client()
    with load(migration, name) as writers:
        writers.wait_for(20)
        migration.target.kill()
        writers.wait_for(40)
        for _ in range(10):
            assert reader.count(name).count >= OLD_POINTS
            assert len(reader.query_points(name, query=vector(3), limit=5).points) == 5
        assert migration.status().keys.lag > 0
        migration.target.start()
        writers.wait_for(40)
    assert writers.errors == []
    assert_equal(migration, name)
    _assert_nothing_lost(migration, name, writers.acknowledged)


def test_a_target_that_is_stopped_for_a_while_under_load_is_not_noticed_by_clients(migrations: Migrations) -> None:
    """It takes connections and requests, and answers nothing: outcomes are unclear, and keys are held."""
    migration = migrations(target=migrations.own_target())
    name = _filled(migration)
    migration.backfill()
    migration.weight(100)
    reader = migration.client(timeout=20)
    with load(migration, name) as writers:
        writers.wait_for(20)
        migration.target.pause()
        writers.wait_for(40)
        assert len(reader.query_points(name, query=vector(3), limit=5).points) == 5
        migration.target.resume()
        writers.wait_for(40)
    assert writers.errors == []
    assert_equal(migration, name)


def test_a_target_that_is_down_when_the_proxy_starts(migrations: Migrations) -> None:
    target = migrations.own_target()
    target.kill()
    migration = migrations(target=target)
    name, client = _filled(migration), migration.client()
    client.upsert(name, [models.PointStruct(id=1, vector=vector(1), payload={"before": True})])
    [down] = [store for store in migration.control.status().stores if store.name == "new"]
    assert not down.up
    assert "127.0.0.1" in down.problem
    assert migration.control.ready() is None
    target.start()
    assert poll(lambda: all(store.up for store in migration.control.status().stores), PATIENCE_SECONDS)
    migration.backfill()
    assert_equal(migration, name, OLD_POINTS)


def test_a_backfill_waits_for_a_target_that_is_down(migrations: Migrations) -> None:
    target = migrations.own_target()
    target.kill()
    migration = migrations(target=target)
    name = _filled(migration)
    job = migration.control.start_job("backfill", ROUTE)
    assert poll(lambda: "127.0.0.1" in migration.control.job(job.id).waiting_for, PATIENCE_SECONDS)
    target.start()
    assert migration.finished(job).waiting_for == ""
    assert_equal(migration, name, OLD_POINTS)


def test_mirroring_goes_on_with_a_target_that_is_down_when_the_proxy_starts_again(migrations: Migrations) -> None:
    target = migrations.own_target()
    migration = migrations(target=target)
    name = _filled(migration)
    migration.backfill()
    migration.proxy.stop()
    target.kill()
    migration.proxy.start()
    client = migration.client()
    client.upsert(name, [models.PointStruct(id=1, vector=vector(9), payload={"new": True})])
    client.delete(name, [2])
    target.start()
    assert_equal(migration, name, OLD_POINTS - 1)


def test_it_stops_when_it_is_told_to_although_the_target_is_down(migrations: Migrations) -> None:
    target = migrations.own_target()
    migration = migrations(target=target)
    name, client = _filled(migration), migration.client()
    migration.backfill()
    failures = migration.counts("reconcile_errors")
    target.kill()
    client.upsert(name, [models.PointStruct(id=i, vector=vector(9), payload={"new": True}) for i in range(5)])
    assert poll(lambda: migration.counts("reconcile_errors") != failures, PATIENCE_SECONDS)
    migration.proxy.stop()
    target.start()
    migration.proxy.start()
    assert_equal(migration, name, OLD_POINTS)


def test_a_source_that_is_down_when_the_proxy_starts(migrations: Migrations) -> None:
    """Clients get an error of the kind that a gateway gives, and everything works once the source is there."""
    source = migrations.own_source()
    migration = migrations(source=source)
    name = _filled(migration)
    migration.backfill()
    migration.proxy.stop()
    source.kill()
    migration.proxy.start()
    with httpx.Client(base_url=migration.url) as http:
        upserted = http.put(f"/collections/{name}/points", json={"points": [{"id": 1, "vector": vector(1)}]})
        counted = http.post(f"/collections/{name}/points/count", json={})
    assert (upserted.status_code, counted.status_code) == (503, 502)
    assert int(upserted.headers["retry-after"]) >= 1
    source.start()
    new = models.PointStruct(id=1, vector=vector(9), payload={"new": True})
    _retried(lambda: migration.client().upsert(name, [new]), "the source does not answer yet")
    assert_equal(migration, name, OLD_POINTS)


def test_a_source_that_crashes_under_load(migrations: Migrations) -> None:
    """Writes fail as they would without the proxy; what became of those under way is found out afterwards."""
    source = migrations.own_source()
    migration = migrations(source=source)
    name = _filled(migration)
    migration.backfill()
    with load(migration, name) as writers:
        writers.wait_for(30)
        source.kill()
        assert poll(lambda: len(writers.errors) == 3, PATIENCE_SECONDS)
    source.start()
    assert_equal(migration, name)
    _assert_nothing_lost(migration, name, writers.acknowledged)


def test_a_target_that_comes_back_empty_is_filled_again(migrations: Migrations) -> None:
    target = migrations.own_target()
    migration = migrations(target=target)
    name, client = _filled(migration), migration.client()
    migration.backfill()
    migration.weight(100)
    target.kill()
    shutil.rmtree(target.directory / "data")
    target.start()
    assert client.count(name).count == OLD_POINTS
    client.upsert(name, [models.PointStruct(id=1, vector=vector(9), payload={"new": True})])
    assert_equal(migration, name, OLD_POINTS)
    migration.until(lambda route: route.readable, "readable")
    with migration.reads() as reads:
        assert client.count(name).count == OLD_POINTS
    assert reads == {("weight 100 (operator)", "secondary"): 1}


# --- the journal cannot be written -----------------------------------------------------------------


@contextmanager
def full_disk(migration: Migration) -> Iterator[None]:
    """The proxy's process may write no file any more (RLIMIT_FSIZE)."""
    pid = migration.process.pid
    assert pid is not None
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the test ended it
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _writes(name: str) -> dict[str, Callable[[QdrantClient], Any]]:
    chosen = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=7))])
    return {
        "upsert": lambda client: client.upsert(name, [models.PointStruct(id=500, vector=vector(1))]),
        "delete": lambda client: client.delete(name, [1]),
        "by filter": lambda client: client.set_payload(name, {"x": 1}, chosen),
        "drop": lambda client: client.delete_collection(name),
    }


def test_without_a_journal_writes_are_refused_and_nothing_reaches_the_source(migrations: Migrations) -> None:
    migration = migrations(as_process=True)
    name = _filled(migration)
    migration.backfill()
    migration.rest()
    before = in_source(migration.direct(), name)
    with full_disk(migration):
        for client in (migration.client(), migration.client(grpc=True)):
            for write in _writes(name).values():
                with pytest.raises(Exception, match="journal"):
                    write(client)
            assert client.count(name).count == OLD_POINTS  # reads go on
        with httpx.Client(base_url=migration.url) as http:
            refused = http.put(f"/collections/{name}/points", json={"points": [{"id": 501, "vector": vector(1)}]})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "journal" in refused.json()["status"]["error"]
        assert "journal" in (migration.control.ready() or "")
    assert in_source(migration.direct(), name) == before
    _retried(lambda: migration.client().upsert(name, [models.PointStruct(id=500, vector=vector(1))]))
    assert_equal(migration, name, OLD_POINTS + 1)
    assert migration.control.ready() is None


def test_it_stops_when_it_is_told_to_although_the_journal_cannot_be_written(migrations: Migrations) -> None:
    """A copy is under way whose END cannot be journalled."""
    target = migrations.own_target()
    migration = migrations(target=target, as_process=True)
    name, client, pid = _filled(migration), migration.client(), migration.process.pid
    migration.backfill()
    migration.rest()
    target.pause()
    client.upsert(name, [models.PointStruct(id=1, vector=vector(9), payload={"new": True})])
    migration.until(lambda route: route.keys.open > 0, "a copy under way")
    with full_disk(migration):
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        assert migration.process.died()
    target.resume()
    migration.process.start()
    assert_equal(migration, name, OLD_POINTS)


def test_who_chose_to_go_on_without_the_journal_gets_a_sweep_when_it_is_back(migrations: Migrations) -> None:
    migration = migrations(as_process=True, writes={"on_journal_loss": "continue"})
    name, client = _filled(migration), migration.client()
    migration.backfill()
    migration.rest()
    with full_disk(migration):
        client.upsert(name, [models.PointStruct(id=500, vector=vector(1))])
        client.delete(name, [1, 2])
        client.set_payload(name, {"x": 1}, [3])
    _retried(lambda: client.upsert(name, [models.PointStruct(id=501, vector=vector(1))]))
    assert_equal(migration, name, OLD_POINTS)


def _retried(write: Callable[[], Any], while_refused_with: str = "journal") -> None:
    """Write as a client does that is told to try again."""

    def worked() -> bool:
        try:
            write()
        except Exception as error:  # noqa: BLE001  of any transport
            assert while_refused_with in str(error)  # noqa: PT017
            return False
        return True

    assert poll(worked, PATIENCE_SECONDS)
