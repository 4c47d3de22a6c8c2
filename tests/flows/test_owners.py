"""Several proxy processes on one journal: they write the same keys, one is killed, one is stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from qdrant_client import QdrantClient, models

from examples.engines import EngineError, free_ports, poll
from proxy.errors import GateClosed
from tests.support.both_stores import assert_equal
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations, ProxyProcess
from tests.support.owners import another
from tests.support.sockets import is_refused

DIM = 4
KEYS = range(12)


def vector(seed: int) -> list[float]:
    return [1.0 + (seed * 7 + i * i) % 11 for i in range(DIM)]


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def backfilled(migration: Migration) -> str:
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    direct.upsert(name, [models.PointStruct(id=key, vector=vector(key), payload={"n": key}) for key in KEYS])
    migration.backfill()
    migration.rest()
    migration.verify()
    return name


@dataclass
class Racers:
    """Threads that write the same keys through different proxies. Errors are kept: a killed proxy answers nobody."""

    errors: list[Exception] = field(default_factory=list)
    written: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def race(self, client: QdrantClient, name: str, seed: int) -> None:
        turn = seed
        while not self._ended.is_set():
            turn += 10
            key = turn * 7 % len(KEYS)
            try:
                match turn // 10 % 4:
                    case 0:
                        point = models.PointStruct(id=key, vector=vector(turn), payload={"turn": turn})
                        client.upsert(name, [point])
                    case 1:
                        client.set_payload(name, {f"by{seed}": turn}, [key])
                    case 2:
                        client.delete(name, [key])
                    case _:
                        chosen = models.FieldCondition(key="turn", range=models.Range(lt=turn // 2))
                        client.set_payload(name, {"old": turn}, models.Filter(must=[chosen]))
            except Exception as error:  # noqa: BLE001  judged by the test
                if "No point with id" not in str(error):  # somebody else has deleted it
                    self.errors.append(error)
                    self._ended.wait(0.05)
            else:
                self.written += 1

    def end(self) -> None:
        self._ended.set()


@contextmanager
def racing(clients: list[QdrantClient], name: str) -> Iterator[Racers]:
    racers = Racers()
    with ThreadPoolExecutor(len(clients)) as pool:
        threads = [pool.submit(racers.race, client, name, seed) for seed, client in enumerate(clients)]
        try:
            assert poll(lambda: racers.written > 20, PATIENCE_SECONDS), racers.errors
            yield racers
        finally:
            racers.end()
        for thread in threads:
            thread.result()


def test_two_processes_write_the_same_keys_and_the_stores_stay_the_same(
    migrations: Migrations, running: ExitStack
) -> None:
    migration = migrations(as_process=True)
    name = backfilled(migration)
    other = another(migration, running)
    with racing([migration.client(), other.client(), migration.client(grpc=True)], name) as racers:
        assert poll(lambda: racers.written > 300, PATIENCE_SECONDS), racers.errors
    assert racers.errors == []
    assert_equal(migration, name)
    assert other.control.status().routes[0].keys.lag == 0


def test_what_a_killed_process_had_open_is_brought_home_by_the_others(
    migrations: Migrations, running: ExitStack
) -> None:
    migration = migrations(as_process=True)
    name = backfilled(migration)
    others = [another(migration, running) for _ in range(2)]
    clients = [migration.client(), *(other.client() for other in others)]
    with racing(clients, name) as racers:
        assert poll(lambda: racers.written > 100, PATIENCE_SECONDS)
        migration.process.kill()  # the one that leads
        written = racers.written
        assert poll(lambda: racers.written > written + 100, PATIENCE_SECONDS)
    migration.process.start()
    assert_equal(migration, name)


def test_a_job_goes_on_in_another_process(migrations: Migrations, running: ExitStack) -> None:
    migration = migrations(as_process=True, backfill={"page_points": 2, "requests_per_second": 4})
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    direct.upsert(name, [models.PointStruct(id=key, vector=vector(key), payload={"n": key}) for key in range(40)])
    other = another(migration, running)
    job = migration.control.start_job("backfill", ROUTE)
    assert poll(lambda: migration.control.job(job.id).done >= 4, PATIENCE_SECONDS)
    with pytest.raises(GateClosed, match="runs in the process"):
        other.control.act_on_job(job.id, "pause")
    migration.process.kill()
    assert poll(lambda: other.control.job(job.id).status == "done", PATIENCE_SECONDS)
    migration.process.start()
    assert_equal(migration, name, 40)


def test_a_stopped_process_is_not_gone_and_the_primary_does_not_move_without_its_word(
    migrations: Migrations, running: ExitStack
) -> None:
    migration = migrations(as_process=True, cutover={"min_shadow_reads": 0, "hold_ms": 500})
    name = backfilled(migration)
    migration.weight(100)
    other = another(migration, running)
    other.process.pause()
    with racing([migration.client(), migration.client()], name) as racers:
        with pytest.raises(GateClosed, match="1 of 2 processes had not stopped their writes"):
            migration.control.cutover(ROUTE, force="to see what it says")
        written = racers.written
        assert poll(lambda: racers.written > written + 60, PATIENCE_SECONDS)
    assert racers.errors == []
    other.process.resume()
    assert_equal(migration, name)
    assert migration.control.cutover(ROUTE, force="now").primary == "target"


def test_a_process_that_was_stopped_when_mirroring_began_slips_no_write_past_the_journal(
    migrations: Migrations, running: ExitStack
) -> None:
    """It goes on with what it has received, before it reads that it has to journal. The backfill waits for that."""
    migration = migrations(as_process=True)
    name = migration.name("docs")
    migration.direct().create_collection(
        name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT)
    )
    other = another(migration, running)
    clients = [other.client(timeout=60) for _ in range(8)]
    for number, client in enumerate(clients):
        client.upsert(name, [models.PointStruct(id=number, vector=vector(number), payload={"turn": 1})])
    other.process.pause()
    with ThreadPoolExecutor(len(clients)) as pool:
        writing = [
            pool.submit(client.upsert, name, [models.PointStruct(id=number, vector=vector(number + 5))])
            for number, client in enumerate(clients)
        ]
        migration.control.mirror(ROUTE)
        job = migration.control.start_job("backfill", ROUTE)
        assert not poll(lambda: migration.control.job(job.id).status != "running", 3.0)
        other.process.resume()
        for each in writing:
            each.result()
    migration.finished(job)
    assert_equal(migration, name, len(clients))


def test_a_process_that_is_stopped_amid_its_writes_changes_nothing_when_it_goes_on(
    migrations: Migrations, running: ExitStack
) -> None:
    """Should it be stopped in a commit, the others can write nothing either until it goes on; they say so."""
    migration = migrations(as_process=True)
    name = backfilled(migration)
    other = another(migration, running)
    with racing([migration.client(), other.client()], name) as racers:
        for _ in range(3):
            other.process.pause()
            migration.control.status()
            written = racers.written
            poll(lambda: racers.written > written + 30, 1.5)  # noqa: B023
            other.process.resume()
            assert poll(lambda: racers.written > written + 60, PATIENCE_SECONDS)  # noqa: B023
    assert_equal(migration, name)


def test_the_primary_moves_for_all_of_them(migrations: Migrations, running: ExitStack) -> None:
    migration = migrations(as_process=True, cutover={"min_shadow_reads": 0})
    name = backfilled(migration)
    migration.weight(100)
    other = another(migration, running)
    with racing([migration.client(), other.client()], name) as racers:
        for _ in range(2):
            assert migration.control.cutover(ROUTE, force="load").primary == "target"
            assert poll(lambda: other.control.status().routes[0].primary == "target", PATIENCE_SECONDS)
            written = racers.written
            assert poll(lambda: racers.written > written + 40, PATIENCE_SECONDS)  # noqa: B023
            assert other.control.rollback(ROUTE, force="load").primary == "source"
            migration.until(lambda route: route.phase == "shift", "the other's move")
    assert racers.errors == []  # writes are held while it moves, never refused
    assert_equal(migration, name)


# --- one after the other --------------------------------------------------------------------------------


class Successor(ProxyProcess):
    """`crossfade serve --take-over`."""

    def command(self) -> list[str]:
        return [*super().command(), "--take-over"]

    def answers(self) -> bool:
        """It says so itself: at its ports the process before answers as well."""
        return '"serving"' in self.log_tail()


def successor_of(migration: Migration, name: str, port: int) -> Successor:
    return Successor(migration.directory / name, migration.config_path, port)


def test_a_restart_drops_no_request(migrations: Migrations, running: ExitStack) -> None:
    """The next process takes the sockets, the old one answers what it has and ends; clients of both transports notice
    nothing, and a job goes on."""
    migration = migrations(as_process=True, backfill={"page_points": 2, "requests_per_second": 4})
    name, direct = migration.name("docs"), migration.direct()
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    direct.upsert(name, [models.PointStruct(id=100 + key, vector=vector(key)) for key in range(60)])
    job = migration.control.start_job("backfill", ROUTE)
    clients = [migration.client(), migration.client(grpc=True), migration.client(), migration.client(grpc=True)]
    successors = [successor_of(migration, name, migration.rest_port) for name in ("second", "third")]
    with racing(clients, name) as racers:
        for successor in successors:
            running.callback(successor.stop)
            successor.start()
            written = racers.written
            assert poll(lambda: racers.written > written + 100, PATIENCE_SECONDS)  # noqa: B023
        for old in (migration.process, successors[0]):
            assert poll(lambda: not old.is_running(), 2 * PATIENCE_SECONDS)  # noqa: B023
    assert racers.errors == []
    migration.finished(job)
    assert_equal(migration, name)


def test_what_the_next_process_does_not_use_is_closed(migrations: Migrations, running: ExitStack) -> None:
    """As long as it had a socket open in which nobody listens, clients would connect and wait for ever."""
    migration = migrations(as_process=True, start=False)
    (probes_port, moved_port) = free_ports(2)
    migration.config["probes"] = {"address": f"127.0.0.1:{probes_port}"}
    migration.save()
    migration.process.start()
    running.callback(migration.process.stop)
    assert not is_refused(probes_port)
    del migration.config["probes"]
    migration.config["listeners"][0]["address"] = f"127.0.0.1:{moved_port}"
    migration.save()
    successor = successor_of(migration, "second", moved_port)
    running.callback(successor.stop)
    successor.start()
    assert poll(lambda: not migration.process.is_running(), PATIENCE_SECONDS)
    ports = [migration.rest_port, probes_port, moved_port, migration.grpc_port]
    assert [is_refused(port) for port in ports] == [True, True, False, False]


def test_a_grpc_port_of_another_proxy_is_not_shared(migrations: Migrations) -> None:
    first, second = migrations(), migrations(as_process=True, start=False)
    second.config["listeners"][1]["address"] = f"127.0.0.1:{first.grpc_port}"
    second.save()
    with pytest.raises(EngineError, match=f"cannot listen on 127.0.0.1:{first.grpc_port}: address already in use"):
        second.process.start()


def test_without_a_proxy_to_take_over_from_it_does_not_start(migrations: Migrations) -> None:
    migration = migrations(as_process=True, start=False)
    successor = successor_of(migration, "second", migration.rest_port)
    with pytest.raises(EngineError, match="no proxy offers its sockets"):
        successor.start()
