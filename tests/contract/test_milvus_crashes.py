"""Milvus that is down, silent, killed: what a caller is told, and that nothing acknowledged is lost.

On engines of its own, since it ends them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from examples.engines import ChildProcess, MilvusLite, MilvusServer
from proxy.dialects.milvus.schema import VectorIndex
from proxy.errors import AppliedInPart, CollectionExists, Refused, Unavailable, Unclear, Unfinished
from proxy.model import (
    CollectionSpec,
    CreateAlias,
    CreateCollection,
    Match,
    Metric,
    PointId,
    Search,
    SetPayload,
    UpdateAliases,
    VectorSpec,
    Where,
)
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.milvus import MilvusStore
from proxy.stores.milvus_connection import MilvusConnection
from tests.support.contract_points import floats, point

pytestmark = pytest.mark.asyncio(loop_scope="module")

SPEC = CollectionSpec({"": VectorSpec(4, Metric.COSINE)})


@pytest.fixture(scope="module", params=[MilvusLite, MilvusServer])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildProcess]:
    with request.param(tmp_path_factory.mktemp("milvus")) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def store(engine: ChildProcess) -> AsyncIterator[MilvusStore]:
    opened = MilvusStore(engine.address, timeout_seconds=10)
    yield opened
    await opened.close()


async def answering(store: MilvusStore, collection: str) -> int:
    """The count, as soon as the restarted server gives it: its address is known to be refused for a moment more."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await store.count(collection)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_a_killed_server_loses_nothing_that_was_acknowledged(engine: ChildProcess, store: MilvusStore) -> None:
    """Eight writers, of which Milvus Lite by itself would lose some (one in twenty, once there are enough)."""
    await store.create("crash", SPEC)
    acknowledged: dict[PointId, int] = {}
    deleted: set[PointId] = set()
    enough, target = asyncio.Event(), 2000 if isinstance(engine, MilvusLite) else 300

    async def writer(first: int) -> None:
        for number in range(first, first + 1000):
            try:
                await store.upsert("crash", [point(number, n=number)])
                acknowledged[number] = number
                if number % 5 == 0:
                    del acknowledged[number]
                    await store.delete("crash", [number])
                    deleted.add(number)
            except (Unclear, Unavailable):
                return
            if len(acknowledged) > target:
                enough.set()

    async with asyncio.TaskGroup() as group:
        for first in range(0, 8000, 1000):
            group.create_task(writer(first))
        await enough.wait()
        engine.kill()
    with pytest.raises(Unavailable):
        await store.count("crash")
    with pytest.raises(Unavailable):
        await store.upsert("crash", [point(1)])

    await asyncio.to_thread(engine.start)
    assert await answering(store, "crash") >= len(acknowledged)
    found = await store.fetch("crash", list(acknowledged))
    assert {each.id: each.payload["n"] for each in found.values()} == acknowledged
    assert await store.fetch("crash", list(deleted)) == {}
    near = Search("crash", found[next(iter(found))].vectors[""], limit=1)  # type: ignore[arg-type]
    assert len((await store.search(near)).hits) == 1
    await store.drop("crash")


async def test_a_silent_server_leaves_it_open_whether_a_write_was_done(
    engine: ChildProcess, store: MilvusStore
) -> None:
    hasty = MilvusStore(engine.address, timeout_seconds=0.5)  # together under 2 s: a server stopped for longer breaks
    await store.create("silent", SPEC)
    async with asyncio.timeout(60):
        while True:  # a loaded machine may be too slow for it at first
            try:
                await hasty.fetch("silent", [1])
                break
            except (Unclear, Unavailable):
                continue
    engine.pause()
    try:
        with pytest.raises(Unclear):
            await hasty.upsert("silent", [point(1)])
        with pytest.raises((Unclear, Unavailable)):  # on a new connection, which nobody takes
            await hasty.fetch("silent", [1])
    finally:
        engine.resume()
    await store.upsert("silent", [point(2, floats(1, 0, 0, 0))])
    assert 2 in await store.fetch("silent", [1, 2])
    await store.drop("silent")
    await hasty.close()


@pytest.fixture
def short_lived(tmp_path: Path) -> Iterator[MilvusLite]:
    with MilvusLite(tmp_path) as started:
        yield started


def dying(engine: MilvusLite, monkeypatch: pytest.MonkeyPatch, *methods: str) -> MilvusStore:
    """A store whose engine is killed right before it sends its second request of `methods`, else of rows."""
    counted = list(methods or ("Insert", "Upsert", "Delete"))
    written = 0

    class Connection(MilvusConnection):
        async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
            nonlocal written
            written += method in counted
            if written == 2:
                counted.clear()
                written = 0
                engine.kill()
                with pytest.raises(Unavailable):
                    while True:  # the connection may be slow to notice
                        with contextlib.suppress(Unclear):
                            await self.version()
            return await super().call(method, *args, **kwargs)

    monkeypatch.setattr("proxy.stores.milvus.MilvusConnection", Connection)
    return MilvusStore(engine.address, index=VectorIndex("FLAT"))


async def test_a_batch_that_breaks_off_after_its_first_rows_is_not_told_as_unsent(
    short_lived: MilvusLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reaches Milvus is cut into pieces; "certainly not sent" would be wrong of the whole."""
    store = dying(short_lived, monkeypatch)
    await store.create("docs", SPEC)
    with pytest.raises(Unclear, match="1000 of 1500 points were put"):
        await store.upsert("docs", [point(number) for number in range(1, 1501)])
    await store.close()


async def test_a_write_by_filter_that_breaks_off_says_how_far_it_came(
    short_lived: MilvusLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = MilvusStore(short_lived.address)
    await plain.create("docs", SPEC)
    for start in (1, 1001):
        await plain.upsert("docs", [point(number, n=1) for number in range(start, start + 1000)])
    store = dying(short_lived, monkeypatch)
    with pytest.raises(AppliedInPart, match="1000 of 2000 points are changed"):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": "filter"}, Where(Match("n", 1))))
    await asyncio.to_thread(short_lived.start)
    assert await answering(plain, "docs") == 2000
    assert await plain.count("docs", Match("by", "filter")) == 1000
    await plain.close()
    await store.close()


async def test_alias_changes_that_break_off_are_unclear(
    short_lived: MilvusLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dying(short_lived, monkeypatch, "CreateAlias")
    await store.create("docs", SPEC)
    with pytest.raises(Unclear):
        await store.define(UpdateAliases((CreateAlias("one", "docs"), CreateAlias("two", "docs"))))
    with pytest.raises(Unavailable):
        await store.define(UpdateAliases((CreateAlias("two", "docs"),)))
    await asyncio.to_thread(short_lived.start)
    assert await answering(store, "docs") == 0
    assert await store.aliases() == {"one": "docs"}
    await store.close()


async def test_a_collection_that_is_left_half_made_is_unclear(
    short_lived: MilvusLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dying(short_lived, monkeypatch, "CreateCollection", "CreateIndex")
    with pytest.raises(Unclear, match="made only in part"):
        await store.define(CreateCollection("docs", SPEC))
    with pytest.raises(Unavailable):
        await store.define(CreateCollection("docs", SPEC))
    await store.close()


async def test_a_collection_that_is_left_half_made_is_finished_by_the_next_who_makes_it(
    short_lived: MilvusLite, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = dying(short_lived, monkeypatch, "CreateCollection", "CreateIndex")
    with pytest.raises(Unclear, match="made only in part"):
        await store.create("docs", SPEC)
    await store.close()
    await asyncio.to_thread(short_lived.start)
    store = MilvusStore(short_lived.address)
    with pytest.raises(Unfinished, match="has no index"):
        await store.describe("docs")
    another = CollectionSpec({"": VectorSpec(9, Metric.DOT)})
    with pytest.raises(CollectionExists):
        await store.create("docs", another)
    with pytest.raises(Unfinished):
        await store.describe("docs")
    with pytest.raises(CollectionExists):
        await store.create("docs", SPEC)
    described = await store.describe("docs")
    assert described is not None
    assert described.points == 0
    await store.upsert("docs", [point(1)])
    assert await store.count("docs") == 1
    await store.close()


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    nobody = MilvusLite(tmp_path)  # has a port, and is not started
    store = MilvusStore(nobody.address)
    for call in (store.probe(), store.collections(), store.create("a", SPEC), store.upsert("a", [point(1)])):
        with pytest.raises(Unavailable):
            await call
    await store.close()


async def test_what_lite_leaves_of_a_collection_it_died_over_is_named(
    short_lived: MilvusLite,
) -> None:
    store = MilvusStore(short_lived.address)
    leftover = short_lived.directory / "data/collections/docs"
    leftover.mkdir(parents=True)
    with pytest.raises(Refused, match=f"File exists: '{leftover}'.*remove that directory"):
        await store.create("docs", SPEC)
    await store.close()
    await asyncio.to_thread(short_lived.restart)
    store = MilvusStore(short_lived.address)
    await store.create("docs", SPEC)
    await store.close()


# --- what only Milvus Lite needs (milvus_connection.py) ------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def lite(tmp_path: Path) -> AsyncIterator[tuple[MilvusLite, MilvusStore]]:
    with MilvusLite(tmp_path) as engine:
        store = MilvusStore(engine.address, timeout_seconds=10)
        await store.create("docs", SPEC)
        yield engine, store
        await store.close()


async def test_a_write_beside_the_first_looks_after_a_restart_stays(lite: tuple[MilvusLite, MilvusStore]) -> None:
    """By itself Lite loses every third."""
    engine, store = lite
    stayed = 0
    for value in range(8):
        await asyncio.to_thread(engine.restart)
        looks = (store.collections(), store.aliases(), *(store.describe("docs") for _ in range(3)))
        *_, written = await asyncio.gather(*looks, store.upsert("docs", [point(1, n=value)]), return_exceptions=True)
        await answering(store, "docs")
        if not isinstance(written, BaseException):
            assert (await store.fetch("docs", [1]))[1].payload == {"n": value}
            stayed += 1
    assert stayed


async def test_collections_are_made_beside_looks_at_all_of_them(lite: tuple[MilvusLite, MilvusStore]) -> None:
    """One that Lite has opened twice has no index."""
    _, store = lite
    made = False

    async def look() -> None:
        while not made:
            await store.collections()

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(look())
        for number in range(100):
            await store.create("beside", SPEC)
            await store.upsert("beside", [point(number)])
            assert list(await store.fetch("beside", [number])) == [number]
            await store.drop("beside")
        made = True
