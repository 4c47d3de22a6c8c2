"""A store that is asked as many requests at once as it may be: what becomes of one more."""

from __future__ import annotations

import re

import httpx
import pytest
from grpc import RpcError
from qdrant_client import models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from tests.support.both_stores import assert_equal
from tests.support.migration import ROUTE, Migration, Migrations, ProxyThread


def allow(migration: Migration, store: str, limit: float) -> None:
    """Ask that store so many requests at once."""
    assert isinstance(migration.proxy, ProxyThread)
    migration.proxy.run(lambda app: setattr(app.limits[store], "limit", limit))


def in_shift(migration: Migration) -> str:
    """A collection of one point, of which all reads are the target's."""
    name, client = migration.name("c"), migration.client()
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert(name, [models.PointStruct(id=1, vector=[1.0, 2.0])])
    migration.backfill()
    migration.verify()
    migration.weight(100)
    return name


@pytest.mark.parametrize("grpc", [False, True])
def test_what_is_too_much_for_the_secondary_the_primary_is_asked(migrations: Migrations, grpc: bool) -> None:
    migration = migrations()
    name, client = in_shift(migration), migration.client(grpc=grpc)
    allow(migration, "new", 0)
    with migration.reads() as reads:
        assert [client.count(name).count for _ in range(5)] == [1] * 5
    assert reads == {("source: secondary overloaded", "primary"): 5}
    assert migration.counts("read_fallbacks") == {("overloaded",): 5}
    told = migration.control.metrics()
    assert re.findall(r'^crossfade_store_limit\{store="new".*\} (.*)$', told, re.MULTILINE) == ["0.0"]
    assert re.findall(r'^crossfade_store_in_flight\{store="old".*\} (.*)$', told, re.MULTILINE) == ["0.0"]
    assert re.findall(r'^crossfade_store_limit\{store="old".*\} (.*)$', told, re.MULTILINE) == ["1024.0"]
    allow(migration, "new", 1)
    with migration.reads() as reads:  # at once: it was not taken for one that fails
        assert client.count(name).count == 1
    assert reads == {("weight 100 (operator)", "secondary"): 1}


@pytest.mark.parametrize("primary", ["old", "new"])
def test_what_is_too_much_for_the_primary_is_refused_and_changes_nothing(migrations: Migrations, primary: str) -> None:
    migration = migrations(cutover={"min_shadow_reads": 0})
    name = in_shift(migration)
    if primary == "new":
        migration.control.cutover(ROUTE)
    migration.weight(0 if primary == "old" else 100)
    points = f"{migration.url}/collections/{name}/points"
    body = {"points": [{"id": 2, "vector": [3.0, 4.0]}]}
    before = migration.counts("writes")
    allow(migration, primary, 0)
    for told in (httpx.post(f"{points}/count", json={}), httpx.put(f"{points}?wait=true", json=body)):
        assert (told.status_code, told.headers["retry-after"]) == (429, "1")
        assert f"the store {primary} is asked 0 requests at once" in told.json()["status"]["error"]
    by_grpc = migration.client(grpc=True)
    for ask in (lambda: by_grpc.count(name), lambda: by_grpc.delete(name, [1])):
        with pytest.raises((RpcError, ResourceExhaustedResponse)) as refused:
            ask()
        assert "RESOURCE_EXHAUSTED" in str(refused.value) or isinstance(refused.value, ResourceExhaustedResponse)
    allow(migration, primary, 1)
    told_by_the_proxy = [labels for labels in migration.counts("requests") if "Overloaded" in labels]
    assert sorted(labels[1:] for labels in told_by_the_proxy) == [
        ("grpc", "count", "Overloaded", "refused"),
        ("grpc", "delete", "Overloaded", "refused"),
        ("rest", "count", "Overloaded", "refused"),
        ("rest", "upsert", "Overloaded", "refused"),
    ]
    assert migration.counts("writes") - before == {("upsert", "untouched"): 1, ("delete", "untouched"): 1}
    assert by_grpc.count(name).count == 1
    assert httpx.put(f"{points}?wait=true", json=body).status_code == 200
    assert_equal(migration, name)
