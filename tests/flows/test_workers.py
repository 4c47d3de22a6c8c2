"""Several processes behind the same ports: they write the same keys, are killed, told, and replaced."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from qdrant_client import QdrantClient, models

from examples.engines import poll
from proxy.sockets import listening
from tests.flows.test_owners import KEYS, backfilled, racing
from tests.support.both_stores import assert_equal
from tests.support.migration import PATIENCE_SECONDS, Migration, Migrations, ProxyProcess
from tests.support.owners import in_turn


def with_workers(number: int) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(workers=number)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def workers_of(migration: Migration) -> list[int]:
    """Process ids."""
    pid = migration.process.pid
    assert pid is not None
    return children(pid)


def by_worker(migration: Migration, metric: str = "requests") -> Counter[str]:
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(migration.control.metrics()):
        for sample in family.samples:
            if sample.name == f"crossfade_{metric}_total":
                found[sample.labels["worker"]] += int(sample.value)
    return found


def many(migration: Migration, number: int = 12, **options: Any) -> list[QdrantClient]:
    """Clients with a connection each."""
    return [migration.client(**options) for _ in range(number)]


def alone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_they_share_the_connections_and_the_stores_stay_the_same(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(3))
    name = backfilled(migration)
    clients = [*many(migration), *many(migration, 4, grpc=True)]
    with racing(clients, name) as racers:
        assert poll(lambda: racers.written > 400, PATIENCE_SECONDS), racers.errors
    assert racers.errors == []
    assert_equal(migration, name)
    assert set(by_worker(migration)) == {"0", "1", "2"}


def test_one_that_is_killed_is_started_again_and_loses_nothing(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(2))
    name = backfilled(migration)
    with racing(many(migration), name) as racers:
        for _ in range(2):
            [worker] = workers_of(migration)
            os.kill(worker, signal.SIGKILL)
            assert poll(lambda gone=worker: gone not in workers_of(migration), PATIENCE_SECONDS)  # type: ignore[misc]
            assert poll(lambda: migration.control.ready() is None and len(workers_of(migration)) == 1, PATIENCE_SECONDS)
            written = racers.written
            assert poll(lambda more=written: racers.written > more + 50, PATIENCE_SECONDS)  # type: ignore[misc]
    assert_equal(migration, name)


def test_while_one_is_not_serving_the_proxy_is_not_ready_and_says_which(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(2))
    [worker] = workers_of(migration)
    os.kill(worker, signal.SIGKILL)
    assert poll(lambda: migration.control.ready() == "worker 1 is not serving", PATIENCE_SECONDS)
    assert poll(lambda: migration.control.ready() is None, PATIENCE_SECONDS)


def test_one_that_hangs_is_told_of_and_replaced_in_the_end(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(2))
    name = backfilled(migration)
    [worker] = workers_of(migration)
    os.kill(worker, signal.SIGSTOP)
    assert poll(lambda: (migration.control.ready() or "").startswith("worker 1 has not answered for"), PATIENCE_SECONDS)
    os.kill(worker, signal.SIGCONT)
    assert poll(lambda: migration.control.ready() is None, PATIENCE_SECONDS)
    assert workers_of(migration) == [worker]

    os.kill(worker, signal.SIGSTOP)
    with ThreadPoolExecutor(12) as clients:  # whoever comes to it waits until there is another one
        asked = f"{migration.url}/collections/{name}"
        answers = list(clients.map(lambda _: httpx.get(asked, timeout=PATIENCE_SECONDS).status_code, range(12)))
    assert answers == [200] * 12
    assert poll(lambda: worker not in workers_of(migration) and migration.control.ready() is None, PATIENCE_SECONDS)
    fresh = in_turn(many(migration))
    for key in KEYS:
        fresh.upsert(name, [models.PointStruct(id=key, vector=[1.0] * 4, payload={"n": key})])
    assert_equal(migration, name)


def test_they_end_when_the_first_process_is_gone(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(3))
    workers = workers_of(migration)
    assert len(workers) == 2
    pid = migration.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # it alone: its workers are in its process group
    assert poll(lambda: all(map(alone, workers)), PATIENCE_SECONDS)
    migration.process.start()  # the ports are free


def test_to_stop_is_to_answer_what_is_under_way_in_all_of_them(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(2))
    name = backfilled(migration)
    workers = workers_of(migration)
    with racing(many(migration), name):
        pid = migration.process.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        assert migration.process.died()
    assert all(map(alone, workers))
    migration.process.start()
    assert_equal(migration, name)


def test_an_edit_and_an_operators_weight_hold_in_all_of_them(migrations: Migrations) -> None:
    migration = migrations(as_process=True, change=with_workers(2))
    name = backfilled(migration)

    def who() -> set[str]:
        """Who answers on fresh connections."""
        found = set()
        for _ in range(16):
            answer = httpx.post(f"{migration.url}/collections/{name}/points/count", json={})
            found.add(answer.raise_for_status().headers["x-crossfade-route"])
        return found

    assert who() == {"primary; weight 0"}
    migration.route["reads"] = {"weight": 100}
    migration.save()
    assert poll(lambda: who() == {"secondary; weight 100"}, PATIENCE_SECONDS), who()
    migration.route["reads"] = {"weight": 125}  # refused, by the first process, for all
    migration.save()
    time.sleep(1)
    [worker] = workers_of(migration)
    os.kill(worker, signal.SIGKILL)
    assert poll(lambda: migration.control.ready() is not None, PATIENCE_SECONDS)
    assert poll(lambda: migration.control.ready() is None, PATIENCE_SECONDS)  # with the text that is in force
    migration.weight(0)
    assert poll(lambda: who() == {"primary; weight 0 (operator)"}, PATIENCE_SECONDS), who()


@pytest.mark.parametrize(("before", "after"), [(2, 2), (1, 3)])
def test_a_next_process_takes_over_with_its_own(migrations: Migrations, before: int, after: int) -> None:
    migration = migrations(as_process=True, change=with_workers(before))
    name = backfilled(migration)
    migration.config["workers"] = after
    migration.save()
    clients = many(migration)
    with racing(clients, name) as racers, ExitStack() as stack:
        successor = Successor(migration)
        stack.callback(successor.stop)
        successor.start()
        assert migration.process.died()
        written = racers.written
        assert poll(lambda: racers.written > written + 100, PATIENCE_SECONDS)
        assert successor.pid is not None
        assert len(children(successor.pid)) == after - 1
        assert racers.errors == []
        fresh = in_turn(many(migration))
        for key in KEYS:
            fresh.upsert(name, [models.PointStruct(id=key, vector=[1.0] * 4, payload={"n": key})])
    migration.process.start()
    assert_equal(migration, name)


class Successor(ProxyProcess):
    def __init__(self, migration: Migration) -> None:
        super().__init__(migration.directory / "successor", migration.config_path, migration.rest_port)

    def command(self) -> list[str]:
        return [*super().command(), "--take-over"]


def test_nobody_else_can_listen_at_their_ports(migrations: Migrations) -> None:
    """SO_REUSEPORT would let a second proxy have some of the connections."""
    migration = migrations(as_process=True, change=with_workers(2))
    for apart in (False, True):
        with pytest.raises(OSError, match="address already in use"):
            listening("127.0.0.1", migration.rest_port, apart=apart)


def test_the_first_of_several_sockets_may_have_any_port() -> None:
    with listening("127.0.0.1", 0, apart=True) as first:
        port = first.getsockname()[1]
        with listening("127.0.0.1", port, shared=True) as second:
            assert second.getsockname() == first.getsockname()
            clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
            got = Counter[int]()
            for number, sock in enumerate((first, second)):
                while True:
                    try:
                        sock.accept()[0].close()
                    except BlockingIOError:
                        break
                    got[number] += 1
            for client in clients:
                client.close()
    assert got.total() == 40
    assert min(got[0], got[1]) > 5
