"""A primary made of reads and whole points: nothing lost between writers, and truthful about what was applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import (
    AppliedInPart,
    CollectionNotFound,
    CrossfadeError,
    InvalidRequest,
    Throttled,
    Unavailable,
    Unclear,
    Unstorable,
    Untranslatable,
)
from proxy.model import (
    EVERYTHING,
    IDS_ONLY,
    Batch,
    CollectionSpec,
    CreateAlias,
    Delete,
    DropCollection,
    Filter,
    Ids,
    Match,
    MatchText,
    OpaqueWrite,
    OverwritePayload,
    Page,
    Point,
    PointId,
    Selection,
    SetPayload,
    SimpleWrite,
    UpdateAliases,
    Upsert,
    Where,
    Write,
)
from proxy.stores import Capabilities, WriteReport, emulated_primary
from proxy.stores.emulated_primary import EmulatedPrimary
from proxy.stores.memory import CAPABILITIES, MemoryStore
from proxy.telemetry.tasks import spawn
from tests.contract.test_writes import WRITES, C, reference_for, sequences, to
from tests.support.contract_points import floats, point

EVERY = Where(Match("n", 0))


class HookedStore(MemoryStore):
    """The reference store, a few points at a time, that calls `before(step)` before it reads, puts and deletes."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str], Awaitable[None]] = _nothing
        self.unfit_ids: set[PointId] = set()
        self.refused_ids: set[PointId] = set()
        self.fetches = 0

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(vendor="hooked", metrics=CAPABILITIES.metrics, max_batch_points=2)

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        self.fetches += 1
        assert len(ids) <= 2
        found = await super().fetch(collection, ids, selection)
        await self.before("change")
        return found

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        assert len(points) <= 2
        await self.before("upsert")
        taken = [each for each in points if each.id not in self.refused_ids]
        report = await super().upsert(collection, taken, whole=whole)
        refused = {each.id: "too heavy" for each in points if each.id in self.refused_ids}
        return replace(report, refused={**refused, **report.refused})

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        return {each.id: "too long" for each in points if each.id in self.unfit_ids}

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        await self.before("delete")
        await super().delete(collection, ids)


async def _nothing(_: str) -> None: ...


def failing(at: int, step: str, error: CrossfadeError) -> Callable[[str], Awaitable[None]]:
    """Raises `error` at the `at`-th time that `step` comes."""
    seen = 0

    async def before(found: str) -> None:
        nonlocal seen
        seen += found == step
        if seen == at and found == step:
            raise error

    return before


@pytest.fixture
async def store() -> HookedStore:
    made = HookedStore()
    await made.create("docs", CollectionSpec((await described_spec()).vectors))
    for number in range(1, 6):
        await MemoryStore.upsert(made, "docs", [point(number, n=0)])
    return made


async def described_spec() -> CollectionSpec:
    return await (await reference_for("docs")).spec_of("docs")


async def payloads(store: HookedStore, key: str = "by") -> list[object]:
    page = await store.scan("docs", None, 100)
    return [each.payload.get(key) for each in page.points]


# --- the same as the reference -------------------------------------------------------------------


def batches() -> st.SearchStrategy[list[Write]]:
    singles = sequences().map(lambda found: [write for write in found if not isinstance(write, Batch)])
    known = [write for write in WRITES.values() if not isinstance(write, Batch)]
    odd = st.lists(st.sampled_from(known), max_size=3)
    batch = st.builds(lambda some, more: Batch(C, (*some, *more)), singles, odd)
    return st.lists(batch | st.sampled_from(list(WRITES.values())), min_size=1, max_size=4)


async def outcome(store: MemoryStore | EmulatedPrimary, write: Write) -> object:
    try:
        written = await store.apply(write)
    except CrossfadeError as error:
        return type(error), str(error)
    return written


@given(writes=batches() | sequences())
@settings(max_examples=150, derandomize=True, deadline=None)
async def test_it_does_what_the_reference_does(writes: Sequence[Write]) -> None:
    reference, underneath = await reference_for("docs"), await reference_for("docs")
    primary = EmulatedPrimary(underneath)
    for write in writes:
        there = to(write, "docs")
        assert await outcome(primary, there) == await outcome(reference, there)
        assert await underneath.scan("docs", None, 1000) == await reference.scan("docs", None, 1000)


# --- writers that race ---------------------------------------------------------------------------


@asynccontextmanager
async def stopped_at(store: HookedStore, step: str, running: Awaitable[object]) -> AsyncIterator[asyncio.Task[object]]:
    """`running` up to the first `step`; it goes on when the block ends."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def before(found: str) -> None:
        if found == step and not reached.is_set():
            reached.set()
            await go_on.wait()

    async def run() -> object:
        return await running

    store.before = before
    task = spawn(run(), name="writer")
    await reached.wait()
    yield task
    go_on.set()


async def settled() -> None:
    """Until whatever can go on has."""
    for _ in range(20):
        await asyncio.sleep(0)


KEYED: dict[str, Write] = {
    "a partial update": SetPayload("docs", {"keyed": 1}, Ids((1,))),
    "a whole point": Upsert("docs", (point(1, n=0, keyed=1),)),
    "a batch": Batch("docs", (SetPayload("docs", {"keyed": 1}, Ids((1,))), SetPayload("docs", {"x": 1}, Ids((2,))))),
}


@pytest.mark.parametrize("name", KEYED)
async def test_a_keyed_write_does_not_fall_between_read_and_put_of_a_write_by_filter(
    store: HookedStore, name: str
) -> None:
    primary = EmulatedPrimary(store)
    async with stopped_at(store, "change", primary.apply(SetPayload("docs", {"by": "filter"}, EVERY))) as by_filter:
        keyed = spawn(primary.apply(KEYED[name]), name="keyed")
        await settled()
        assert not keyed.done()
    await asyncio.gather(by_filter, keyed)
    assert (await payloads(store, "keyed"))[0] == 1
    assert (await payloads(store))[1:] == ["filter"] * 4


async def test_a_write_by_filter_does_not_fall_between_read_and_put_of_a_keyed_one(store: HookedStore) -> None:
    primary = EmulatedPrimary(store)
    async with stopped_at(store, "change", primary.apply(KEYED["a partial update"])) as keyed:
        by_filter = spawn(primary.apply(SetPayload("docs", {"by": "filter"}, EVERY)), name="by filter")
        others = spawn(primary.apply(SetPayload("docs", {"later": 1}, Ids((2,)))), name="keyed")
        await settled()
        assert not by_filter.done()
        assert not others.done()  # the turns are fair: who comes later waits for the one that waits
    await asyncio.gather(by_filter, keyed, others)
    assert (await payloads(store, "keyed"))[0] == 1
    assert (await payloads(store, "later"))[1] == 1
    assert await payloads(store) == ["filter"] * 5


async def test_keyed_writes_go_together(store: HookedStore) -> None:
    primary = EmulatedPrimary(store)
    async with stopped_at(store, "change", primary.apply(KEYED["a partial update"])) as first:
        await primary.apply(SetPayload("docs", {"keyed": 2}, Ids((2,))))
    await first
    assert (await payloads(store, "keyed"))[:2] == [1, 2]


async def test_a_deleted_point_is_not_put_back(store: HookedStore) -> None:
    primary = EmulatedPrimary(store)
    async with stopped_at(store, "change", primary.apply(SetPayload("docs", {"by": "filter"}, EVERY))) as by_filter:
        delete = spawn(primary.apply(Delete("docs", Ids((1,)))), name="delete")
        await settled()
    await asyncio.gather(by_filter, delete)
    assert await payloads(store) == ["filter"] * 4


async def test_an_alias_is_the_same_collection(store: HookedStore) -> None:
    primary = EmulatedPrimary(store)
    await primary.define(UpdateAliases((CreateAlias("other", "docs"),)))
    async with stopped_at(store, "change", primary.apply(SetPayload("docs", {"by": "filter"}, EVERY))) as by_filter:
        keyed = spawn(primary.apply(SetPayload("other", {"keyed": 1}, Ids((1,)))), name="keyed")
        await settled()
        assert not keyed.done()
    await asyncio.gather(by_filter, keyed)
    assert (await payloads(store, "keyed"))[0] == 1


async def test_a_collection_is_not_dropped_below_a_write(store: HookedStore) -> None:
    primary = EmulatedPrimary(store)
    async with stopped_at(store, "change", primary.apply(KEYED["a partial update"])) as keyed:
        drop = spawn(primary.define(DropCollection("docs")), name="drop")
        await settled()
        assert not drop.done()
    await asyncio.gather(keyed, drop)
    with pytest.raises(CollectionNotFound):
        await primary.apply(KEYED["a partial update"])


# --- what was applied ------------------------------------------------------------------------------


async def test_what_determines_the_state_is_not_read(store: HookedStore) -> None:
    primary = EmulatedPrimary(store)
    await primary.apply(Upsert("docs", (point(1), point(9))))
    await primary.apply(Delete("docs", Ids((2,))))
    await primary.apply(Delete("docs", EVERY))
    assert store.fetches == 0
    assert {each.id for each in (await store.scan("docs", None, 9, None, IDS_ONLY)).points} == {1, 9}


@pytest.mark.parametrize(
    "write",
    [
        Batch("docs", (SetPayload("docs", {"by": 1}, Ids((1,))), SetPayload("docs", {"x": 1}, Ids((2,))))),
        SetPayload("docs", {"by": 1}, Ids((1, 2))),
        Upsert("docs", (point(1, by=1), point(2))),
        SetPayload("docs", {"by": 1}, Where(Match("n", 0))),
    ],
)
async def test_what_the_store_says_beforehand_that_it_cannot_hold_changes_nothing(
    store: HookedStore, write: Write
) -> None:
    store.unfit_ids = {2}
    with pytest.raises(Unstorable, match="point 2: too long"):
        await EmulatedPrimary(store).apply(write)
    assert await payloads(store) == [None] * 5


async def test_a_write_by_filter_says_how_far_it_came(store: HookedStore) -> None:
    store.unfit_ids = {4}
    with pytest.raises(AppliedInPart, match=r"2 of 5 points are changed.*point 4: too long"):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": 1}, EVERY))
    assert await payloads(store) == [1, 1, None, None, None]


async def test_a_refusal_by_the_server_names_the_point_and_what_was_applied(store: HookedStore) -> None:
    store.refused_ids = {2}
    with pytest.raises(AppliedInPart, match=r"1 of 3 points are changed.*point 2: too heavy"):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": 1}, Ids((1, 2, 3))))
    assert await payloads(store) == [1, None, None, None, None]
    with pytest.raises(Unstorable, match="point 2: too heavy"):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": 1}, Ids((2,))))


@pytest.mark.parametrize("error", [Unavailable("down"), Throttled("less, please"), Unclear("silent")])
async def test_a_failure_before_anything_was_changed_is_told_as_it_is(
    store: HookedStore, error: CrossfadeError
) -> None:
    store.before = failing(1, "upsert", error)
    with pytest.raises(type(error)):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": 1}, Ids((1, 2, 3))))


@pytest.mark.parametrize(
    ("error", "told"),
    [(Unavailable("down"), AppliedInPart), (Throttled("less"), AppliedInPart), (Unclear("?"), Unclear)],
)
@pytest.mark.parametrize("target", [Ids((1, 2, 3)), EVERY])
async def test_a_failure_in_the_middle_is_not_told_as_untouched(
    store: HookedStore, error: CrossfadeError, told: type[CrossfadeError], target: Ids | Where
) -> None:
    store.before = failing(2, "upsert", error)
    with pytest.raises(told):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": 1}, target))
    assert await payloads(store) == [1, 1, None, None, None]


async def test_so_is_a_failure_to_read_what_comes_next(store: HookedStore) -> None:
    store.before = failing(2, "change", Unavailable("down"))
    with pytest.raises(AppliedInPart, match="2 of 5 points are changed, the others are not: down"):
        await EmulatedPrimary(store).apply(SetPayload("docs", {"by": 1}, EVERY))
    assert await payloads(store) == [1, 1, None, None, None]


@pytest.mark.parametrize("last", [OpaqueWrite("docs", (1,), "inference"), Delete("docs", Where(MatchText("n", "x")))])
async def test_a_batch_that_cannot_be_expressed_changes_nothing(store: HookedStore, last: SimpleWrite) -> None:
    with pytest.raises(Untranslatable):
        await EmulatedPrimary(store).apply(Batch("docs", (OverwritePayload("docs", {"by": 1}, Ids((1,))), last)))
    assert await payloads(store) == [None] * 5


async def test_a_batch_holds_only_so_many_points(store: HookedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulated_primary, "MAX_BATCH_POINTS", 4)
    by_filter = SetPayload("docs", {"by": 1}, EVERY)
    with pytest.raises(InvalidRequest, match="choose 5 points, and a batch can change 4"):
        await EmulatedPrimary(store).apply(Batch("docs", (by_filter,)))
    await EmulatedPrimary(store).apply(by_filter)
    assert await payloads(store) == [1] * 5


async def test_a_point_that_goes_while_a_filter_is_worked_through_is_no_mistake(store: HookedStore) -> None:
    """Another process may delete it."""

    class Racing(HookedStore):
        async def scan(
            self,
            collection: str,
            start: PointId | None,
            limit: int,
            filter: Filter | None = None,
            selection: Selection = EVERYTHING,
        ) -> Page:
            page = await super().scan(collection, start, limit, filter, selection)
            self._collections["docs"].points.pop(2, None)
            return page

    racing = Racing()
    await racing.create("docs", await described_spec())
    for number in (1, 2, 3):
        await MemoryStore.upsert(racing, "docs", [point(number, floats(1, 0, 0, 0), n=0)])
    await EmulatedPrimary(racing).apply(SetPayload("docs", {"by": 1}, EVERY))
    assert await payloads(racing) == [1, 1]
