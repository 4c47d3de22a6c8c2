"""Who answers a read, while weights, lag, keys and stores change; shadow reads and verify, which find what differs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models

from examples.engines import EngineError, poll
from proxy.errors import Unclear
from proxy.stores.forward_http import HttpForwarder
from proxy.wire import Request, Response
from tests.support.both_stores import assert_equal, milvus_of
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations
from tests.support.qdrant_engines import QdrantEmulator

pytestmark = pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
DIM = 4
POINTS = 100
KEY = "the-application's-own-key"


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


def points(*ids: int, **payload: Any) -> list[models.PointStruct]:
    return [models.PointStruct(id=i, vector=vector(i), payload={"n": i, "tenant": f"t{i % 3}"} | payload) for i in ids]


def backfilled(migration: Migration, client: QdrantClient | None = None) -> str:
    """A collection of POINTS points on both stores."""
    direct, name = client or migration.direct(), migration.name("old")
    direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
    direct.upsert(name, points(*range(POINTS)))
    migration.backfill()
    migration.rest()
    return name


@contextmanager
def readers(migration: Migration, name: str) -> Iterator[Callable[[], Counter[str]]]:
    """Clients that search, count and fetch all the time, and fail the test if one request fails. Gives a function that
    tells who has answered since it was asked last."""
    ended = threading.Event()

    def read(grpc: bool) -> int:
        client, done = migration.client(grpc=grpc), 0
        while not (done and ended.is_set()):
            assert client.count(name).count == POINTS
            assert len(client.query_points(name, query=vector(done), limit=5).points) == 5
            assert client.retrieve(name, [done % POINTS])
            done += 3
        return done

    known: Counter[tuple[str, ...]] = migration.counts("reads")

    def answered() -> Counter[str]:
        nonlocal known
        before, known = known, migration.counts("reads")
        by: Counter[str] = Counter()
        for (_, store), number in (known - before).items():
            by[store] += number
        return by

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(read, grpc) for grpc in (False, True, False)]
        try:
            yield answered
        finally:
            ended.set()
        assert all(each.result(PATIENCE_SECONDS) for each in running)


# --- the configuration file ------------------------------------------------------------------------


def test_weights_are_edited_while_requests_run(migrations: Migrations) -> None:
    migration = migrations(as_process=True)
    name = backfilled(migration)
    with readers(migration, name) as answered:
        for weight, expected in ((100, {"secondary"}), (50, {"primary", "secondary"}), (0, {"primary"})):
            migration.route["reads"] = {"weight": weight}
            migration.save()
            migration.until(lambda route, wish=weight: route.weight.wish == wish, f"weight {weight}")  # type: ignore[misc]
            answered()
            seen: Counter[str] = Counter()
            assert poll(lambda into=seen: into.update(answered()) or into.total() > 30, PATIENCE_SECONDS)  # type: ignore[misc]
            assert set(seen) == expected or _only_in_passing(seen, expected)


def _only_in_passing(seen: Counter[str], expected: set[str]) -> bool:
    """Requests that were under way when the weight changed."""
    return sum(number for store, number in seen.items() if store not in expected) <= 3


def test_an_operators_weight_is_gone_with_the_next_edit(migrations: Migrations) -> None:
    migration = migrations(as_process=True)
    backfilled(migration)
    migration.weight(25)
    assert (migration.status().weight.wish, migration.status().weight.effective) == (0, 25)
    migration.route["reads"] = {"weight": 10}
    migration.save()
    status = migration.until(lambda route: route.weight.override is None, "no override")
    assert status.weight.effective == 10


def test_an_invalid_edit_changes_nothing_and_says_on_which_line(migrations: Migrations) -> None:
    migration = migrations(as_process=True, reads={"weight": 100})
    name = backfilled(migration)
    migration.until(lambda route: route.readable, "readable")
    with readers(migration, name) as answered:
        migration.route["reads"] = {"weight": 125}
        migration.save()
        assert poll(lambda: migration.control.status().config_problem != "", PATIENCE_SECONDS)
        [line] = [n for n, text in enumerate(migration.config_path.read_text().splitlines(), 1) if ": 125" in text]
        assert f"line {line}: routes[0].reads.weight: 125" in migration.control.status().config_problem
        answered()
        assert poll(lambda: answered()["secondary"] > 0, PATIENCE_SECONDS)
        assert migration.status().weight.effective == 100
        migration.route["reads"] = {"weight": 0}
        migration.save()
        assert poll(lambda: migration.control.status().config_problem == "", PATIENCE_SECONDS)
    assert migration.status().weight.effective == 0


# --- rules, sticky clients -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def _who(http: httpx.Client, url: str, body: dict[str, Any], **headers: str) -> str:
    answer = http.post(url, json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-crossfade-route"]


def test_rules_decide_by_header_operation_and_tenant(migrations: Migrations, http: httpx.Client) -> None:
    rules = [
        {"when": {"headers": {"x-try": "target"}}, "read": "target"},
        {"when": {"operations": ["count"]}, "read": "source"},
        {"when": {"tenants": ["t1"]}, "weight": 100},
    ]
    migration = migrations(rules=rules, tenant_field="tenant")
    name = backfilled(migration)
    count, scroll = (f"{migration.url}/collections/{name}/points/{what}" for what in ("count", "scroll"))
    tenants = {tenant: {"filter": {"must": [{"key": "tenant", "match": {"value": tenant}}]}} for tenant in ("t1", "t2")}
    assert _who(http, count, {}, **{"x-try": "target"}) == "secondary; rule 1"
    assert _who(http, count, {}) == "primary; rule 2"
    assert _who(http, scroll, tenants["t1"]) == "secondary; rule 3: weight 100"
    assert _who(http, scroll, tenants["t2"]) == "primary; weight 0"
    migration.weight(0)
    assert _who(http, count, {}, **{"x-try": "target"}) == "primary; weight 0 (operator)"
    client = migration.client(grpc=True, grpc_options=None, headers={"x-try": "target"})
    migration.control.clear_weight(ROUTE)
    with migration.reads() as reads:
        client.count(name)
    assert reads == {("rule 1", "secondary"): 1}


def test_a_sticky_client_stays_where_it_is_and_a_higher_weight_moves_nobody_back(
    migrations: Migrations, http: httpx.Client
) -> None:
    migration = migrations(reads={"sticky": "header:x-user"})
    path = f"{migration.url}/collections/{backfilled(migration)}/points/count"
    users = [f"user {number}" for number in range(30)]
    on_target: set[str] = set()
    for weight in (20, 50, 80, 100):
        migration.weight(weight)
        sides = {user: {_who(http, path, {}, **{"x-user": user}).split(";")[0] for _ in range(2)} for user in users}
        assert all(len(found) == 1 for found in sides.values())
        now = {user for user, found in sides.items() if found == {"secondary"}}
        assert on_target <= now
        on_target = now
    assert on_target == set(users)


# --- lag, keys that are not clean, scrolls ---------------------------------------------------------


def test_reads_leave_the_secondary_while_it_lags_and_come_back(migrations: Migrations) -> None:
    migration = migrations(reads={"weight": 100, "max_lag_keys": 5})
    name, client = backfilled(migration), migration.client()
    migration.until(lambda route: route.readable, "readable")
    with migration.hooks.stop_at("reconciliation begun") as stop:
        client.upsert(name, points(*range(20), new=True))
        stop.reached()
        migration.until(lambda route: not route.readable, "lag")
        with migration.reads() as reads:
            assert client.query_points(name, query=vector(1), limit=1).points
        assert reads == {("source: lag", "primary"): 1}
    migration.until(lambda route: route.readable, "readable again")
    with migration.reads() as reads:
        assert client.query_points(name, query=vector(1), limit=1).points
    assert reads == {("weight 100", "secondary"): 1}


def test_a_point_whose_copy_may_be_old_is_fetched_from_the_primary(migrations: Migrations) -> None:
    migration = migrations(reads={"weight": 100})
    name, client = backfilled(migration), migration.client()
    migration.until(lambda route: route.readable, "readable")
    with migration.hooks.stop_at("reconciliation begun") as stop:
        client.set_payload(name, {"new": 1}, [1])
        stop.reached()
        with migration.reads() as reads:
            assert (client.retrieve(name, [1])[0].payload or {})["new"] == 1
            assert (client.retrieve(name, [2, 1])[1].payload or {})["new"] == 1
            assert client.retrieve(name, [2])
    assert reads == {("source: key not clean", "primary"): 2, ("weight 100", "secondary"): 1}
    migration.rest()
    with migration.reads() as reads:
        assert (client.retrieve(name, [1])[0].payload or {})["new"] == 1
    assert reads == {("weight 100", "secondary"): 1}


def test_scrolls_at_any_weight_see_every_point_once(migrations: Migrations) -> None:
    migration = migrations(reads={"weight": 50})
    name = backfilled(migration)
    migration.until(lambda route: route.readable, "readable")
    for turn in range(10):
        client = migration.client(grpc=turn % 2 == 0)
        seen: list[Any] = []
        offset = None
        while True:
            records, offset = client.scroll(name, limit=15 + turn, offset=offset)
            seen += [record.id for record in records]
            if offset is None:
                break
        assert seen == list(range(POINTS))


@pytest.mark.parametrize("path", ["points/recommend", "points/search/groups", "points/discover", "facet"])
def test_a_read_that_only_the_source_knows_is_asked_again_where_its_connection_was_just_being_closed(
    migrations: Migrations, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """With its body, although it is a POST."""
    forward, asked = HttpForwarder.forward, list[Any]()

    async def closed_once(forwarder: HttpForwarder, request: Request) -> Response:
        if not request.path.endswith(f"/{path}"):
            return await forward(forwarder, request)
        asked.append(request.body)
        if len(asked) == 1:
            raise Unclear("the connection was closed")
        return Response(200, (), b"{}")

    monkeypatch.setattr(HttpForwarder, "forward", closed_once)
    migration = migrations()
    name, body = backfilled(migration), b'{"positive": [1], "limit": 3}'
    answer = httpx.post(f"{migration.url}/collections/{name}/{path}", content=body)
    assert (answer.status_code, asked) == (200, [body, body])


def test_a_scroll_goes_on_where_it_began_when_the_weight_changes(migrations: Migrations) -> None:
    migration = migrations()
    name, client = backfilled(migration), migration.client()
    _, second = client.scroll(name, limit=30)
    migration.weight(100)
    with migration.reads() as reads:
        records, third = client.scroll(name, limit=30, offset=second)
        first, on_secondary = client.scroll(name, limit=20)
    assert reads == {("source: scroll began there", "primary"): 1, ("weight 100 (operator)", "secondary"): 1}
    assert ([record.id for record in records], third) == (list(range(30, 60)), 60)
    migration.weight(5)
    with migration.reads() as reads:
        records, _ = client.scroll(name, limit=20, offset=on_secondary)
    assert [record.id for record in first + records] == list(range(40))
    assert reads == {("weight 5 (operator)", "secondary"): 1}


# --- who may read ----------------------------------------------------------------------------------


@pytest.fixture
def guarded_source(start_qdrant_emulator: Callable[..., QdrantEmulator]) -> QdrantEmulator:
    return start_qdrant_emulator(api_key=KEY)


def _error(call: Callable[[], Any]) -> tuple[str, str]:
    """(status, text) of a refused call, over either transport."""
    with pytest.raises(Exception) as raised:
        call()
    error: Any = raised.value
    if hasattr(error, "details"):
        return str(error.code()), str(error.details())
    return str(error.status_code), error.content.decode()


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_ask_primary_gives_nothing_to_whom_the_source_refuses(
    migrations: Migrations, guarded_source: QdrantEmulator, grpc: bool
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["stores"]["old"]["api_key"] = KEY
        config["auth"] = {"mode": "ask-primary"}

    migration = migrations(source=guarded_source, change=change)
    name = backfilled(migration, migration.direct(api_key=KEY))
    migration.weight(100)
    with migration.reads() as reads:
        assert migration.client(grpc=grpc, api_key=KEY).count(name).count == POINTS
    assert reads == {("weight 100 (operator)", "secondary"): 1}
    for wrong in ({"api_key": "wrong"}, {}):
        refused = _error(lambda options=wrong: migration.client(grpc=grpc, **options).count(name))  # type: ignore[misc]
        assert refused == _error(lambda options=wrong: migration.direct(grpc=grpc, **options).count(name))  # type: ignore[misc]
        with pytest.raises(Exception, match=r"[Aa][Pp][Ii] key"):
            migration.client(grpc=grpc, **wrong).upsert(name, points(500))
    assert migration.counts("reads")[("weight 100 (operator)", "secondary")] == 1
    migration.client(grpc=grpc, api_key=KEY).upsert(name, points(501))
    migration.rest()
    assert migration.direct(api_key=KEY).count(name).count == POINTS + 1
    assert migration.verify()["different"] == 0


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_keys_of_the_proxy_are_asked_for_before_anything_else(migrations: Migrations, grpc: bool) -> None:
    def change(config: dict[str, Any]) -> None:
        config["auth"] = {"mode": "keys", "keys": ["one", "two"]}

    migration = migrations(change=change)
    name = backfilled(migration)
    migration.weight(100)
    for key in ("one", "two"):
        assert migration.client(grpc=grpc, api_key=key).count(name).count == POINTS
    for options in ({"api_key": "three"}, {}):
        client = migration.client(grpc=grpc, **options)
        for call in (
            lambda client=client: client.count(name),
            lambda client=client: client.upsert(name, points(500)),
            lambda client=client: client.delete_collection(name),
            lambda client=client: client.get_collections(),
        ):
            status, _ = _error(call)
            assert status in ("401", "StatusCode.UNAUTHENTICATED")
    assert_equal(migration, name, POINTS)


@pytest.mark.parametrize("grpc", [False, True], ids=["rest", "grpc"])
def test_between_guarded_servers_clients_show_a_key_of_the_proxy(
    migrations: Migrations,
    guarded_source: QdrantEmulator,
    start_qdrant_emulator: Callable[..., QdrantEmulator],
    grpc: bool,
) -> None:
    """config/qdrant-to-qdrant.yaml: each server has a key of its own, and neither knows the application's."""
    cloud = start_qdrant_emulator(api_key="the-cloud's-key")

    def change(config: dict[str, Any]) -> None:
        config["auth"] = {"mode": "keys", "keys": ["application"]}
        config["stores"]["old"]["api_key"] = KEY
        address = {"url": cloud.url, "grpc_url": f"http://{cloud.grpc_address}"}
        config["stores"]["new"] = {**config["stores"]["old"], **address, "api_key": "the-cloud's-key"}

    migration = migrations(source=guarded_source, change=change)
    direct = migration.direct(api_key=KEY)
    name, client = backfilled(migration, direct), migration.client(grpc=grpc, api_key="application")
    client.upsert(name, points(500))
    client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER)
    assert name in [each.name for each in client.get_collections().collections]
    assert direct.count(name).count == client.count(name).count == POINTS + 1
    migration.rest()
    migration.weight(100)
    with migration.reads() as reads:
        assert client.count(name).count == POINTS + 1
    assert reads == {("weight 100 (operator)", "secondary"): 1}
    for key in (KEY, "the-cloud's-key"):
        status, _ = _error(lambda key=key: migration.client(grpc=grpc, api_key=key).count(name))  # type: ignore[misc]
        assert status in ("401", "StatusCode.UNAUTHENTICATED")
    bearer = {"authorization": "Bearer application"}
    answer = httpx.post(f"{migration.url}/collections/{name}/points/count", headers=bearer, json={})
    assert answer.json()["result"]["count"] == POINTS + 1
    migration.weight(0)
    answer = httpx.post(f"{migration.url}/collections/{name}/points/count", headers=bearer, json={})
    assert answer.json()["result"]["count"] == POINTS + 1
    assert migration.verify()["different"] == 0


def test_whose_key_the_source_gets_follows_the_mode_of_the_moment(
    migrations: Migrations, guarded_source: QdrantEmulator
) -> None:
    def change(config: dict[str, Any]) -> None:
        config["auth"] = {"mode": "keys", "keys": ["application"]}
        config["stores"]["old"]["api_key"] = KEY

    migration = migrations(source=guarded_source, change=change)
    name = backfilled(migration, migration.direct(api_key=KEY))
    assert migration.client(api_key="application").count(name).count == POINTS
    migration.config["auth"] = {"mode": "ask-primary"}
    migration.save()
    migration.control.reload()
    assert _error(lambda: migration.client(api_key="application").count(name))[0] == "401"
    assert migration.client(api_key=KEY).count(name).count == POINTS


def test_without_keys_it_does_not_listen_beyond_loopback(migrations: Migrations) -> None:
    def change(config: dict[str, Any]) -> None:
        config["listeners"][0]["address"] = config["listeners"][0]["address"].replace("127.0.0.1", "0.0.0.0")

    migration = migrations(as_process=True, start=False, change=change)
    with pytest.raises(EngineError, match=r"line \d+: listeners\[0\]\.address"):
        migration.process.start()


# --- finding what differs --------------------------------------------------------------------------


def _row(number: int, **changes: Any) -> dict[str, Any]:
    """A point as it stands in Milvus."""
    [point] = points(number)
    return {"id": number, "vector": point.vector, **(point.payload or {}), "_crossfade_id": f"u64:{number}"} | changes


def _tamper(migration: Migration, name: str) -> None:
    """Behind the proxy's back: 1 is missing, 500 is extra, 2 has another payload, 3 another vector."""
    with milvus_of(migration) as milvus:
        milvus.delete(name, ids=[1])
        milvus.upsert(name, [_row(500), _row(2, n=99), _row(3, vector=vector(5))])


PLANTED = [
    {"id": "1", "differs": "missing"},
    {"id": "2", "differs": "payload"},
    {"id": "3", "differs": "vector"},
    {"id": "500", "differs": "extra"},
]


def test_verify_names_exactly_what_differs_and_repair_mends_it(migrations: Migrations) -> None:
    migration = migrations()
    name = backfilled(migration)
    assert migration.verify()["different"] == 0
    _tamper(migration, name)
    found = migration.verify()
    assert sorted(found["collections"][name]["examples"], key=lambda each: int(each["id"])) == PLANTED
    assert (found["different"], found["equal"], found["unchecked"]) == (4, POINTS - 3, 0)
    repaired = migration.verify(repair=True)
    assert (repaired["repaired"], repaired["different"]) == (4, 0)
    assert_equal(migration, name, POINTS)
    assert migration.verify()["different"] == 0


def test_verify_while_writers_write_reports_no_difference_that_is_none(migrations: Migrations) -> None:
    migration = migrations(backfill={"page_points": 10})
    name = backfilled(migration)
    ended = threading.Event()

    def write(seed: int) -> None:
        client, turn = migration.client(grpc=seed == 1), 0
        while not ended.is_set():
            turn += 1
            client.upsert(name, points(*range(seed, POINTS, 7), turn=turn))
            client.delete(name, [200 + seed])
            client.upsert(name, points(200 + seed))

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, seed) for seed in range(3)]
        try:
            for _ in range(3):
                assert migration.verify()["different"] == 0
        finally:
            ended.set()
        for writer in writers:
            writer.result(PATIENCE_SECONDS)
    assert_equal(migration, name, POINTS + 3)


def test_shadow_reads_find_what_differs(migrations: Migrations) -> None:
    migration = migrations(shadow={"sample_percent": 100})
    name, client = backfilled(migration), migration.client()
    for number in range(5):
        client.query_points(name, query=vector(number), limit=10)
    assert poll(lambda: migration.control.shadow(ROUTE).figures.compared == 5, PATIENCE_SECONDS)
    assert migration.control.shadow(ROUTE).figures.overlap == 1.0
    [best] = client.query_points(name, query=vector(6), limit=1).points
    with milvus_of(migration) as milvus:
        milvus.delete(name, ids=[best.id])
    client.query_points(name, query=vector(6), limit=10)
    assert poll(lambda: migration.control.shadow(ROUTE).figures.compared == 7, PATIENCE_SECONDS)
    worst = migration.control.shadow(ROUTE).worst[0]
    assert (worst.collection, worst.operation, worst.overlap) == (name, "search", 0.9)
    assert worst.missing == (best.id,)
    assert client.query_points(name, query=vector(6), limit=1).points[0].id == best.id  # the client saw the source
