"""Collections that come, go and change while they are mirrored; aliases; and what the target cannot hold."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pymilvus import DataType
from qdrant_client import QdrantClient, models

from examples.engines import poll
from tests.faults.scene import FaultyProxy
from tests.support.both_stores import assert_equal, differences, milvus_of
from tests.support.failing_disk import Disk, FailingDisk, compiler
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations, ProxyThread

DIM = 4
UUIDS = ["550e8400-e29b-41d4-a716-446655440000", "00000000-0000-0000-0000-000000000001"]


def vector(seed: int, size: int = DIM) -> list[float]:
    return [1.0 + (seed + i * i) % 7 for i in range(size)]


def points(*ids: Any, size: int = DIM, **payload: Any) -> list[models.PointStruct]:
    return [models.PointStruct(id=i, vector=vector(n, size), payload={"n": n} | payload) for n, i in enumerate(ids)]


def make(client: QdrantClient, name: str, size: int = DIM, distance: models.Distance = models.Distance.DOT) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=size, distance=distance))


@pytest.fixture(scope="module")
def migration(shared_migrations: Migrations) -> Migration:
    migration = shared_migrations()
    migration.mirror()
    migration.control.set_weight(ROUTE, 100)
    return migration


@pytest.fixture(params=["rest", "grpc"])
def client(request: pytest.FixtureRequest, migration: Migration) -> QdrantClient:
    return migration.client(grpc=request.param == "grpc")


@pytest.fixture
def name(migration: Migration, request: pytest.FixtureRequest) -> str:
    """A collection that no other test has."""
    return migration.name("".join(c if c.isalnum() else "_" for c in request.node.name))


def _on_target(migration: Migration, name: str) -> bool:
    with milvus_of(migration) as milvus:
        return bool(milvus.has_collection(name))


def _aliases_on_target(migration: Migration, name: str) -> list[str]:
    with milvus_of(migration) as milvus:
        return list(milvus.list_aliases(name)["aliases"])


# --- create, drop, recreate ------------------------------------------------------------------------


def test_a_new_collection_is_on_the_target_and_readable_there(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    make(client, name)
    client.upsert(name, points(*range(10)))
    assert_equal(migration, name, 10)
    with migration.reads() as reads:
        assert client.count(name).count == 10
    assert reads == {("weight 100 (operator)", "secondary"): 1}


def test_a_dropped_collection_leaves_the_target(migration: Migration, client: QdrantClient, name: str) -> None:
    make(client, name)
    client.upsert(name, points(*range(10)))
    client.delete_collection(name)
    migration.rest()
    assert not _on_target(migration, name)
    assert not client.collection_exists(name)
    with pytest.raises(Exception, match="exist!"):
        client.count(name)


def test_a_collection_made_anew_in_another_shape_has_only_its_new_points(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    make(client, name)
    client.upsert(name, points(*range(20)))
    client.delete_collection(name)
    make(client, name, 6, models.Distance.COSINE)
    client.upsert(name, points(*range(5, 9), size=6))
    assert_equal(migration, name, 4)
    hits = client.query_points(name, query=vector(1, 6), limit=50).points
    assert {hit.id for hit in hits} == {5, 6, 7, 8}


def test_recreated_again_and_again_while_others_write(migration: Migration, client: QdrantClient, name: str) -> None:
    make(client, name)

    def write(first: int) -> None:
        for turn in range(40):
            try:
                client.upsert(name, points(*range(first, first + 5), turn=turn))
            except Exception as error:  # noqa: BLE001  of either transport
                assert "exist!" in str(error)  # noqa: PT017

    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, first) for first in (0, 3, 100)]
        for _ in range(4):
            client.delete_collection(name)
            make(client, name)
        for writer in writers:
            writer.result()
    assert_equal(migration, name)


def test_a_collection_whose_making_broke_off_on_the_target_is_finished(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    with milvus_of(migration) as milvus:  # its index was still to come
        schema = milvus.create_schema(enable_dynamic_field=True)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        milvus.create_collection(name, schema=schema)
    make(client, name)
    client.upsert(name, points(*range(10)))
    assert_equal(migration, name, 10)
    with migration.reads() as reads:
        assert client.count(name).count == 10
    assert reads == {("weight 100 (operator)", "secondary"): 1}


def test_refused_definitions_are_refused_as_by_the_source(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    make(client, name)
    client.upsert(name, points(1, 2))
    with pytest.raises(Exception, match="already exists"):
        make(client, name)
    assert client.delete_collection(name + "_never_was") is False
    assert_equal(migration, name, 2)


@pytest.mark.parametrize("point", ["page read", "page written"])
def test_recreated_during_its_backfill(migrations: Migrations, point: str) -> None:
    migration = migrations(backfill={"page_points": 10})
    name, direct, client = migration.name("old"), migration.direct(), migration.client()
    make(direct, name)
    direct.upsert(name, points(*range(50)))
    with migration.hooks.stop_at(point, lets_pass=1) as stop:
        job = migration.control.start_job("backfill", ROUTE)
        stop.reached()
        client.delete_collection(name)
        make(client, name)
        client.upsert(name, points(*range(40, 60), new=True))
    assert poll(lambda: migration.control.job(job.id).status != "running", PATIENCE_SECONDS)
    assert_equal(migration, name, 20)


def test_dropped_during_its_backfill(migrations: Migrations) -> None:
    migration = migrations(backfill={"page_points": 10})
    names, direct = [migration.name("one"), migration.name("two")], migration.direct()
    for name in names:
        make(direct, name)
        direct.upsert(name, points(*range(50)))
    with migration.hooks.stop_at("page read", lets_pass=1) as stop:
        job = migration.control.start_job("backfill", ROUTE)
        stop.reached()
        migration.client().delete_collection(names[0])
    migration.finished(job)
    migration.rest()
    assert not _on_target(migration, names[0])
    assert_equal(migration, names[1], 50)


def test_payload_indexes_and_parameters_go_to_the_source_and_disturb_nothing(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    make(client, name)
    client.upsert(name, points(*range(10)))
    client.create_payload_index(name, "n", models.PayloadSchemaType.INTEGER)
    client.update_collection(name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=5000))
    assert "n" in migration.direct().get_collection(name).payload_schema
    assert_equal(migration, name, 10)
    chosen = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=5))])
    assert client.count(name, count_filter=chosen).count == 5
    client.delete_payload_index(name, "n")
    assert migration.direct().get_collection(name).payload_schema == {}
    assert_equal(migration, name, 10)


# --- aliases ---------------------------------------------------------------------------------------


def _alias(alias: str, collection: str) -> models.CreateAliasOperation:
    return models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias))


def test_writes_and_reads_through_an_alias_are_those_of_its_collection(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    alias = name + "_alias"
    make(client, name)
    client.update_collection_aliases([_alias(alias, name)])
    client.upsert(alias, points(*range(5)))
    client.upsert(name, points(*range(5, 10)))
    client.delete(alias, [0, 9])
    assert_equal(migration, name, 8)
    with migration.reads() as reads:
        assert client.count(alias).count == 8
        assert len(client.query_points(alias, query=vector(1), limit=20).points) == 8
        assert [record.id for record in client.retrieve(alias, [3])] == [3]
    assert reads == {("weight 100 (operator)", "secondary"): 3}
    assert poll(lambda: _aliases_on_target(migration, name) == [alias], PATIENCE_SECONDS)
    client.update_collection_aliases(
        [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))],
    )
    assert poll(lambda: _aliases_on_target(migration, name) == [], PATIENCE_SECONDS)


def test_an_alias_that_is_switched_leads_to_its_new_collection_at_once(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    blue, green, alias = name + "_blue", name + "_green", name + "_live"
    for each in (blue, green):
        make(client, each)
    client.update_collection_aliases([_alias(alias, blue)])
    client.upsert(alias, points(*range(5)))
    drop = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    client.update_collection_aliases([drop, _alias(alias, green)])
    client.upsert(alias, points(*range(100, 103)))
    assert_equal(migration, blue, 5)
    assert_equal(migration, green, 3)
    assert {record.id for record in client.scroll(alias)[0]} == {100, 101, 102}


def test_an_alias_is_switched_while_others_write_through_it(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    blue, green, alias = name + "_blue", name + "_green", name + "_live"
    for each in (blue, green):
        make(client, each)
    client.update_collection_aliases([_alias(alias, blue)])
    drop = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(client.upsert, alias, points(turn, turn % 7, turn=turn)) for turn in range(100)]
        for to in (green, blue, green, blue):
            client.update_collection_aliases([drop, _alias(alias, to)])
        for writer in writers:
            writer.result()
    assert_equal(migration, blue)
    assert_equal(migration, green)


def test_an_alias_that_was_switched_past_the_proxy_is_noticed(migration: Migration, name: str) -> None:
    blue, green, alias = name + "_blue", name + "_green", name + "_live"
    client = migration.client()
    for each in (blue, green):
        make(client, each)
    client.upsert(green, points(1, 2, 3))
    client.update_collection_aliases([_alias(alias, blue)])
    migration.rest()
    assert client.count(alias).count == 0
    drop = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    migration.direct().update_collection_aliases([drop, _alias(alias, green)])
    assert poll(lambda: client.count(alias).count == 3, PATIENCE_SECONDS)
    client.upsert(alias, points(4))
    assert_equal(migration, green, 4)


# --- what the target cannot hold -------------------------------------------------------------------


def _parked(migration: Migration) -> str:
    """What `crossfade parked docs` prints."""
    program = [sys.executable, "-c", "from proxy.cli import main; main()", "parked", ROUTE]
    ended = subprocess.run(
        [*program, "-c", str(migration.config_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"COLUMNS": "300", "PATH": "/usr/bin:/bin"},
    )
    return ended.stdout


def test_ids_that_the_target_cannot_hold_are_parked_and_read_from_the_source(migrations: Migrations) -> None:
    """Its keys are INT64 unless the configuration says `ids: text`."""
    migration = migrations()
    name, direct, client = migration.name("old"), migration.direct(), migration.client()
    make(direct, name)
    odd: list[Any] = [UUIDS[0], 2**63]
    direct.upsert(name, points(1, 2, *odd))
    migration.backfill()
    client.upsert(name, points(3, UUIDS[1]))
    assert migration.rest().keys.parked == 3
    assert sorted(differences(migration, name)) == sorted(
        f"{point_id} is missing on the target" for point_id in [*odd, UUIDS[1]]
    )
    migration.weight(100)
    with migration.reads() as reads:
        for point_id in [*odd, UUIDS[1]]:
            assert [record.id for record in client.retrieve(name, [1, point_id])] == [1, point_id]
        assert [record.id for record in client.retrieve(name, [1, 2, 3])] == [1, 2, 3]
    assert reads == {("source: key not clean", "primary"): 3, ("weight 100 (operator)", "secondary"): 1}
    shown = _parked(migration)
    assert all(str(point_id) in shown for point_id in [*odd, UUIDS[1]])
    verified = migration.verify()
    assert (verified["different"], verified["parked"]) == (0, 3)
    client.delete(name, [UUIDS[0]])
    assert migration.rest().keys.parked == 2


@pytest.mark.parametrize("leave_out", [False, True])
def test_what_could_lack_a_parked_point_is_answered_by_the_source_unless_it_may_be_left_out(
    migrations: Migrations, leave_out: bool
) -> None:
    migration = migrations(reads={"parked_points": "leave-out"} if leave_out else {})
    name, direct, client = migration.name("old"), migration.direct(), migration.client()
    make(direct, name)
    direct.upsert(name, points(1, 2, UUIDS[0]))
    migration.backfill()
    migration.weight(100)

    def found() -> tuple[set[Any], set[Any], int]:
        hits = client.query_points(name, query=vector(2), limit=5).points
        return {hit.id for hit in hits}, {record.id for record in client.scroll(name)[0]}, client.count(name).count

    with migration.reads() as reads:
        ids: set[Any] = {1, 2} if leave_out else {1, 2, UUIDS[0]}
        assert found() == (ids, ids, len(ids))
        assert [record.id for record in client.retrieve(name, [UUIDS[0]])] == [UUIDS[0]]
    answered = ("weight 100 (operator)", "secondary") if leave_out else ("source: parked points", "primary")
    assert reads == {answered: 3, ("source: key not clean", "primary"): 1}
    client.delete(name, [UUIDS[0]])
    migration.rest()
    with migration.reads() as reads:
        assert found() == ({1, 2}, {1, 2}, 2)
    assert reads == {("weight 100 (operator)", "secondary"): 3}


# --- what is on the target already -----------------------------------------------------------------


def _make_foreign(migration: Migration, name: str, ids: list[int]) -> None:
    with milvus_of(migration) as milvus:
        milvus.create_collection(name, dimension=DIM)
        milvus.insert(name, [{"id": i, "vector": vector(i)} for i in ids])


def _foreign(migration: Migration, name: str) -> set[int]:
    with milvus_of(migration) as milvus:
        return {row["id"] for row in milvus.query(name, "id > -1", limit=100, consistency_level="Strong")}


def test_points_of_somebody_else_on_the_target_are_left_alone_until_they_are_adopted(migrations: Migrations) -> None:
    """The collection comes into being on both sides, each without the other, while the route is at work."""
    migration = migrations()
    migration.mirror()
    client, name = migration.client(), migration.name("new")
    _make_foreign(migration, name, [7, 900])
    make(client, name)
    client.upsert(name, points(1, 7))
    migration.until(lambda route: len(route.parked_collections) == 1, "the collection parked")
    client.delete(name, [1])
    status = migration.rest()
    assert "already holds 2 points" in status.parked_collections[0].reason
    assert _foreign(migration, name) == {7, 900}
    job = migration.finished(migration.control.start_job("backfill", ROUTE), "failed")
    assert "--adopt" in job.error
    client.delete_collection(name)
    migration.rest()
    assert _foreign(migration, name) == {7, 900}  # a drop does not reach what is not ours
    make(client, name)
    client.upsert(name, points(3))
    migration.until(lambda route: len(route.parked_collections) == 1, "the collection parked")
    migration.backfill(adopt=True)
    migration.rest()
    assert _foreign(migration, name) == {3}


def test_a_collection_dropped_and_made_anew_finds_one_of_somebody_else(migrations: Migrations) -> None:
    migration = migrations()
    migration.mirror()
    client, name = migration.client(), migration.name("new")
    make(client, name)
    client.upsert(name, points(1))
    client.delete_collection(name)
    migration.rest()
    _make_foreign(migration, name, [900])
    make(client, name)
    client.upsert(name, points(2))
    migration.until(lambda route: len(route.parked_collections) == 1, "the collection parked")
    assert _foreign(migration, name) == {900}


def test_another_target_than_before_is_filled_anew(migrations: Migrations) -> None:
    migration = migrations(target=migrations.own_target())
    name, direct = migration.name("old"), migration.direct()
    make(direct, name)
    direct.upsert(name, points(*range(10)))
    migration.backfill()
    assert_equal(migration, name, 10)
    migration.proxy.stop()
    migration.target = migrations.own_target()
    migration.config["stores"]["new"]["address"] = migration.target.address
    migration.save()
    assert isinstance(migration.proxy, ProxyThread)
    migration.proxy.start()
    assert_equal(migration, name, 10)


@pytest.mark.skipif(compiler() is None, reason="no C compiler")
def test_another_target_is_known_to_be_one_before_anybody_is_answered(migrations: Migrations) -> None:
    """However slow the disk of the journal is."""
    migration = migrations(as_process=True, target=migrations.own_target())
    name, direct = migration.name("old"), migration.direct()
    make(direct, name)
    direct.upsert(name, points(*range(10)))
    migration.backfill()
    migration.weight(100)
    migration.proxy.stop()
    migration.config["stores"]["new"]["address"] = migrations.own_target().address
    migration.save()
    disk = FailingDisk(migration.directory / "data", migration.directory / "disk")
    migration.proxy = FaultyProxy(migration.directory, migration.config_path, migration.rest_port, disk)
    disk.become(Disk.SYNC_SLOW)
    with migration.proxy:
        assert not migration.status().readable
        assert migration.client().count(name).count == 10


def test_uuids_and_large_numbers_are_moved_where_ids_are_text(migrations: Migrations) -> None:
    def change(config: dict[str, Any]) -> None:
        config["stores"]["new"]["ids"] = "text"

    migration = migrations(change=change)
    name, direct, client = migration.name("old"), migration.direct(), migration.client()
    make(direct, name)
    ids: list[Any] = [1, 2, 10, 2**63, *UUIDS]
    direct.upsert(name, points(*ids))
    migration.backfill()
    client.set_payload(name, {"set": 1}, [UUIDS[0], 2**63])
    client.delete(name, [10])
    assert_equal(migration, name, 5)
    migration.weight(100)
    with migration.reads() as reads:
        assert [record.id for record in client.retrieve(name, [UUIDS[0], 2**63])] == [UUIDS[0], 2**63]
        found = client.query_points(name, query=vector(1), limit=10).points
    assert {UUID(hit.id) if isinstance(hit.id, str) else hit.id for hit in found} == {1, 2, 2**63, *map(UUID, UUIDS)}
    assert reads == {("weight 100 (operator)", "secondary"): 2}
    with migration.reads() as reads:
        assert [record.id for record in client.scroll(name)[0]] == [1, 2, 2**63, UUIDS[1], UUIDS[0]]
    assert reads == {("source: scroll order", "primary"): 1}


def test_payload_integers_that_grpc_rounds_are_not_rounded_on_their_way(migrations: Migrations) -> None:
    """They travel as doubles there. Milvus holds no integer beyond int64, and a double is another number."""
    migration = migrations()
    name, direct, client = migration.name("old"), migration.direct(), migration.client()
    make(direct, name)
    numbers = [2**63 - 1, -(2**63), 2**63, 2**64 - 1]
    direct.upsert(name, [models.PointStruct(id=i, vector=vector(i), payload={"n": n}) for i, n in enumerate(numbers)])
    direct.upsert(name, [models.PointStruct(id=9, vector=vector(9), payload={"of": [{"n": 1e19}]})])
    migration.backfill()
    client.set_payload(name, {"m": 2**64 - 1}, [0])
    assert migration.rest().keys.parked == 3
    assert "payload" in _parked(migration)
    assert sorted(differences(migration, name)) == [f"{i} is missing on the target" for i in (0, 2, 3)]
    client.set_payload(name, {"m": 1}, [0])
    assert migration.rest().keys.parked == 2


def test_a_payload_that_is_too_large_for_the_target_is_parked_until_it_is_smaller(
    migration: Migration, client: QdrantClient, name: str
) -> None:
    make(client, name)
    client.upsert(name, points(1, 2))
    client.upsert(name, points(2, text="x" * 70_000))
    assert migration.rest().keys.parked == 1
    assert differences(migration, name) == ["2 is missing on the target"]  # its older version has left it
    assert "70" in _parked(migration)
    client.overwrite_payload(name, {"text": "short"}, [2])
    assert migration.rest().keys.parked == 0
    assert_equal(migration, name, 2)


def test_a_metric_that_the_target_lacks_keeps_one_collection_where_it_is_and_no_other(
    migrations: Migrations,
) -> None:
    migration = migrations()
    direct, client = migration.direct(), migration.client()
    first, lacking, last = (migration.name(each) for each in ("a", "b", "c"))
    for name in (first, lacking, last):
        make(direct, name, distance=models.Distance.MANHATTAN if name == lacking else models.Distance.COSINE)
        direct.upsert(name, points(*range(10)))
    job = migration.finished(migration.control.start_job("backfill", ROUTE), "failed")
    assert f"cannot have {lacking} (metric manhattan)" in job.error
    client.upsert(lacking, points(11))
    client.upsert(last, points(11))
    migration.control.set_weight(ROUTE, 100)
    assert poll(lambda: differences(migration, last) == [], PATIENCE_SECONDS)
    assert differences(migration, first) == []
    with migration.reads() as reads:
        assert client.count(last).count == 11
        assert client.count(lacking).count == 11
    assert reads == {("weight 100 (operator)", "secondary"): 1, ("source: collection parked", "primary"): 1}
    assert not _on_target(migration, lacking)
    status = migration.rest()  # it is no lag, and needs no sweep
    assert status.readable
    assert [(one.collection, one.reason) for one in status.parked_collections] == [(lacking, "metric manhattan")]
    verified = migration.verify()
    assert (verified["different"], verified["unchecked"], verified["parked"]) == (0, 0, 11)
    client.delete_collection(lacking)
    make(client, lacking)
    client.upsert(lacking, points(*range(5)))
    assert_equal(migration, lacking, 5)
    assert migration.status().parked_collections == ()


def test_a_backfill_that_failed_begins_anew_after_the_route_went_back(migrations: Migrations) -> None:
    migration = migrations()
    direct = migration.direct()
    first, lacking, later = (migration.name(each) for each in ("a", "b", "c"))
    make(direct, first)
    make(direct, lacking, distance=models.Distance.MANHATTAN)
    direct.upsert(first, points(*range(10)))
    migration.finished(migration.control.start_job("backfill", ROUTE), "failed")
    migration.control.rollback(ROUTE, force="test")
    assert migration.status().phase == "direct"
    migration.client().upsert(first, points(*range(5), again=True))  # nobody journals that
    make(direct, later)
    direct.upsert(later, points(1, 2))
    job = migration.finished(migration.control.start_job("backfill", ROUTE), "failed")
    assert f"cannot have {lacking}" in job.error
    assert migration.rest().needs_sweep == ()
    assert differences(migration, first) == differences(migration, later) == []


def test_a_new_collection_with_a_metric_that_the_target_lacks_is_read_from_the_source(
    migrations: Migrations,
) -> None:
    migration = migrations()
    migration.mirror()
    client, name = migration.client(), migration.name("m")
    make(client, name, distance=models.Distance.MANHATTAN)
    client.upsert(name, points(*range(10)))
    migration.control.set_weight(ROUTE, 100)
    expected = migration.direct().query_points(name, query=vector(2), limit=3)
    assert client.query_points(name, query=vector(2), limit=3) == expected
    assert [one.collection for one in migration.status().parked_collections] == [name]


def test_a_drop_of_unknown_outcome_of_a_collection_that_never_was_is_settled_by_a_backfill(
    migrations: Migrations,
) -> None:
    """Nobody lists the collection, but something is known of it: that it is not known whether both sides lack it."""
    source = migrations.own_source()
    migration = migrations(source=source)
    migration.mirror()
    source.pause()
    with pytest.raises(Exception, match="504"):
        migration.client(timeout=20).delete_collection(migration.name("never"))
    source.resume()
    migration.until(lambda route: route.keys.held == 0, "the hold to end")
    assert migration.status().needs_sweep == ("not backfilled yet",)
    migration.backfill()
    migration.rest()
