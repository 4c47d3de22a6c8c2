"""Copying to a store: requests as they came where it takes them, points where it does not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from proxy.errors import StoreError, Unavailable, Unclear
from proxy.model import CollectionSpec, Metric, Point, Upsert, VectorSpec
from proxy.replication.copying import copy_states
from proxy.stores import Capabilities, Store, WriteReport
from proxy.stores.memory import MemoryStore

VECTOR = bytes(8)
SENT = Upsert("theirs", (Point(1, {"": VECTOR}), Point(2, {"": VECTOR})), native=b"request")
OTHER = Point(3, {"": VECTOR})


class Native(MemoryStore):
    """Takes requests."""

    def __init__(self, **limits: int) -> None:
        super().__init__()
        self.requests: list[bytes] = []
        self.put: list[object] = []
        self._limits = limits

    @property
    def capabilities(self) -> Capabilities:
        known = super().capabilities
        return Capabilities(known.vendor, known.metrics, **self._limits)  # type: ignore[arg-type]

    async def upsert_native(self, collection: str, upsert: Upsert) -> WriteReport:
        self.requests.append(upsert.native)
        return await MemoryStore.upsert(self, collection, upsert.points)

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
        (Native(max_batch_points=1), [], [3, 1, 2]),
        (Native(max_batch_bytes=6), [], [3, 1, 2]),
        (Native(max_batch_bytes=7), [b"request"], [3]),
    ],
    ids=["taken", "too many points", "too many bytes", "just small enough"],
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


async def test_points_of_a_request_that_the_store_cannot_hold_are_parked() -> None:
    class Picky(Native):
        async def upsert_native(self, collection: str, upsert: Upsert) -> WriteReport:
            return WriteReport({2: "it is too long"})

    store = await made(Picky())
    await MemoryStore.upsert(store, "docs", [SENT.points[1]])
    report = await copy_states(store, "docs", {}, [SENT])
    assert report.parked.keys() == {2}
    assert await ids(store) == []  # nor an older version


async def test_what_would_be_parked_is_dirty_if_its_older_version_stays() -> None:
    class Leaving(Native):
        async def upsert_native(self, collection: str, upsert: Upsert) -> WriteReport:
            if upsert is SENT:
                return WriteReport({2: "it is too long"})
            raise Unavailable("connection refused")

    store = await made(Leaving())
    await MemoryStore.upsert(store, "docs", [SENT.points[1]])
    other = Upsert("theirs", (Point(5, {"": VECTOR}),), native=b"other")
    report = await copy_states(store, "docs", {}, [SENT, other])
    assert (report.dirty, report.parked) == ({2, 5}, {})
    assert await ids(store) == [2]


@pytest.mark.parametrize(
    ("error", "unclear", "dirty"),
    [(Unavailable("refused"), set(), {1, 2, 3, 4, 5}), (Unclear("silent"), {1, 2}, {3, 4, 5})],
)
async def test_after_a_request_that_fails_nothing_else_is_sent(
    error: StoreError, unclear: set[int], dirty: set[int]
) -> None:
    """Or each would wait for a store that does not answer."""

    class Away(Native):
        async def upsert_native(self, collection: str, upsert: Upsert) -> WriteReport:
            self.requests.append(upsert.native)
            raise error

    store = Away()
    await made(store)
    other = Upsert("theirs", (Point(5, {"": VECTOR}),), native=b"other")
    report = await copy_states(store, "docs", {3: OTHER, 4: None}, [SENT, other])
    assert (report.unclear, report.dirty, report.error) == (unclear, dirty, error)
    assert (store.requests, store.put) == ([b"request"], [])
