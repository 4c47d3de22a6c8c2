"""Copying to a store: requests as they came where it takes them, points where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.errors import Unavailable
from proxy.model import CollectionSpec, Metric, Point, Upsert, VectorSpec
from proxy.replication.copying import copy_states
from proxy.stores import Capabilities, Store, WriteReport
from proxy.stores.memory import MemoryStore

VECTOR = bytes(8)
SENT = Upsert("theirs", (Point(1, {"": VECTOR}), Point(2, {"": VECTOR})), native=b"request")
OTHER = Point(3, {"": VECTOR})


class Native(MemoryStore):
    """Takes requests, unless it is told to refuse them."""

    def __init__(self, *, refuses: bool = False, **limits: int) -> None:
        super().__init__()
        self.refuses = refuses
        self.requests: list[bytes] = []
        self.put: list[object] = []
        self._limits = limits

    @property
    def capabilities(self) -> Capabilities:
        known = super().capabilities
        return Capabilities(known.vendor, known.metrics, **self._limits)  # type: ignore[arg-type]

    async def upsert_native(self, collection: str, upsert: Upsert) -> bool:
        self.requests.append(upsert.native)
        if not self.refuses:
            await MemoryStore.upsert(self, collection, upsert.points)
        return not self.refuses

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        self.put += [point.id for point in points]
        return await super().upsert(collection, points, whole=whole)


async def made(store: MemoryStore) -> MemoryStore:
    await store.create("docs", CollectionSpec({"": VectorSpec(2, Metric.DOT)}))
    return store


async def ids(store: Store) -> list[object]:
    return [point.id for point in (await store.scan("docs", None, 10)).points]


@pytest.mark.parametrize(
    ("store", "requests", "put"),
    [
        (Native(), [b"request"], [3]),
        (Native(refuses=True), [b"request"], [1, 2, 3]),
        (Native(max_batch_points=1), [], [3, 1, 2]),
        (Native(max_batch_bytes=6), [], [3, 1, 2]),
        (Native(max_batch_bytes=7), [b"request"], [3]),
    ],
    ids=["taken", "refused", "too many points", "too many bytes", "just small enough"],
)
async def test_a_request_is_sent_as_it_came_if_it_may_be(store: Native, requests: list[bytes], put: list[int]) -> None:
    await made(store)
    report = await copy_states(store, "docs", {3: OTHER, 4: None}, [SENT])
    assert (store.requests, store.put) == (requests, put)
    assert await ids(store) == [1, 2, 3]
    assert (report.dirty, report.unclear, report.parked, report.error) == (set(), set(), {}, None)


async def test_a_store_that_takes_no_requests_gets_points() -> None:
    store = await made(MemoryStore())
    await copy_states(store, "docs", {}, [SENT])
    assert await ids(store) == [1, 2]


async def test_what_fails_is_told_of_every_point() -> None:
    class Away(Native):
        async def upsert_native(self, collection: str, upsert: Upsert) -> bool:
            raise Unavailable("connection refused")

    report = await copy_states(await made(Away()), "docs", {}, [SENT])
    assert report.dirty == {1, 2}
    assert isinstance(report.error, Unavailable)
