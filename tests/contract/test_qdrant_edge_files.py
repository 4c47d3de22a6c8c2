"""The embedded Qdrant engine's directory: what is there after closing, after a crash, and for a second opener."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.errors import Unavailable
from proxy.model import (
    CollectionSpec,
    CreateAlias,
    CreatePayloadIndex,
    Metric,
    MultiVector,
    Point,
    SparseVector,
    UpdateAliases,
    UpdateCollection,
    VectorSpec,
)
from proxy.stores.qdrant_edge import QdrantEdgeStore
from proxy.stores.qdrant_edge_files import directory_name
from tests.support.contract_points import floats, point
from tests.support.contract_stores import PLAIN

SPEC = CollectionSpec(
    {
        "": VectorSpec(2, Metric.EUCLID),
        "half": VectorSpec(2, Metric.DOT, datatype="float16"),
        "rows": VectorSpec(2, Metric.DOT, "multi"),
        "words": VectorSpec(0, Metric.DOT, "sparse"),
    },
    native={"hnsw_config": {"m": 8}},
)
WHOLE = Point(
    1,
    {
        "": floats(1, 2),
        "half": floats(0.5, 0.25),
        "rows": MultiVector((floats(1, 2), floats(3, 4))),
        "words": SparseVector((3, 7), floats(0.5, 1.5)),
    },
    {"k": "a"},
)

WRITER = """
import asyncio, contextlib, sys
from proxy.errors import InvalidRequest
from proxy.model import Delete, Ids, Point, Upsert
from proxy.stores.qdrant_edge import QdrantEdgeStore
from tests.support.contract_points import point
from tests.support.contract_stores import PLAIN

async def write():
    store = QdrantEdgeStore(sys.argv[1])
    await store.create("docs", PLAIN)
    for number in range(100_000):
        await store.upsert("docs", [point(number)])
        if number % 10 == 9:
            await store.apply(Delete("docs", Ids((number,))))
            with contextlib.suppress(InvalidRequest):  # a refused write is in the engine's log too
                await store.apply(Upsert("docs", (Point(number, {"": b"1234"}),)))
        print(number, flush=True)

asyncio.run(write())
"""


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path)
    await store.create("a/b c", SPEC)
    await store.create("plain", PLAIN)
    await store.upsert("a/b c", [WHOLE])
    await store.define(
        CreatePayloadIndex("a/b c", "k", "keyword", {"field_schema": {"type": "keyword", "is_tenant": True}})
    )
    await store.define(UpdateAliases((CreateAlias("alias", "a/b c"),)))
    await store.define(UpdateCollection("alias", {"hnsw_config": {"ef_construct": 50}}))
    await store.close()

    again = QdrantEdgeStore(tmp_path)
    assert await again.collections() == ("a/b c", "plain")
    assert await again.aliases() == {"alias": "a/b c"}
    described = await again.describe("alias")
    assert described is not None
    assert described.points == 1
    assert described.spec.vectors == SPEC.vectors
    assert described.spec.native == {
        "hnsw_config": {"m": 8, "ef_construct": 50},
        "payload_indexes": {"k": {"type": "keyword", "is_tenant": True}},
    }
    assert described.spec.payload_indexes == {"k": "keyword"}
    assert await again.fetch("alias", [1]) == {1: WHOLE}
    await again.close()


def acknowledged_before_a_kill(path: Path) -> list[int]:
    """The writes that a process said it had done, killed in the middle of more."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(500)]
        child.kill()
        return acknowledged + [int(line) for line in child.stdout]


async def test_a_killed_process_loses_no_acknowledged_write(tmp_path: Path) -> None:
    acknowledged = await asyncio.to_thread(acknowledged_before_a_kill, tmp_path)
    expected = {number for number in acknowledged if number % 10 != 9}

    store = QdrantEdgeStore(tmp_path)
    found = await store.fetch("docs", range(len(acknowledged)))
    assert set(found) >= expected
    assert not [number for number in found if isinstance(number, int) and number % 10 == 9]
    await store.close()


async def test_a_second_opener_is_told_that_the_directory_is_taken(tmp_path: Path) -> None:
    first = QdrantEdgeStore(tmp_path)
    await first.create("docs", PLAIN)
    second = QdrantEdgeStore(tmp_path)
    with pytest.raises(Unavailable, match="docs"):
        await second.probe()
    await first.upsert("docs", [point(1)])
    await first.close()
    assert await second.count("docs") == 1
    await second.close()


async def test_a_half_made_collection_is_cleared_away(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path)
    await store.create("docs", PLAIN)
    await store.close()
    (tmp_path / "collections" / directory_name("docs") / "collection.json").unlink()

    again = QdrantEdgeStore(tmp_path)
    assert await again.collections() == ()
    await again.create("docs", PLAIN)
    assert await again.count("docs") == 0
    await again.close()


def test_directory_names_differ_as_names_do() -> None:
    names = ["a", "A", ".", "..", "...", "a/b", "a%2Fb", "a b", "ä", "x" * 199, "x" * 201, "x" * 202, "ä" * 100, "%%"]
    encoded = [directory_name(name) for name in names]
    assert len(set(encoded)) == len(names)
    assert all("/" not in name and 0 < len(name) <= 255 and name.strip(".") for name in encoded)
