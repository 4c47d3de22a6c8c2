"""One route's replication over two stores in memory and a real journal."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import Judgement, Outcome
from proxy.errors import GateClosed, TryAgain, Unavailable, Unclear
from proxy.migration.backfill import start_mirroring
from proxy.model import (
    CollectionSpec,
    CreateCollection,
    DropCollection,
    Ids,
    Metric,
    Point,
    SetPayload,
    Side,
    Upsert,
    VectorSpec,
)
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.membership import Membership
from proxy.replication.replicator import Primaries, Replicator
from proxy.replication.site import Settings, StorePair
from proxy.replication.writer import Outdated, Primary
from proxy.stores.memory import MemoryStore
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Response
from tests.support.clock import ManualClock, turns_until

DOCS = "docs"
OTHER = "other"
SPEC = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT)})
DONE = Judgement(Outcome.ACCEPTED)
REFUSED = Judgement(Outcome.UNTOUCHED)


def point(number: int) -> Point:
    return Point(number, {"": b"\0\0\x80\x3f"}, {"n": number})


def by(send: Callable[[], Awaitable[Response]], judgement: Judgement = DONE) -> Primaries:
    return lambda side: Primary(side, send, lambda _: judgement)


@dataclass(slots=True)
class World:
    """A route that mirrors; both collections are made and in step."""

    source: MemoryStore
    target: MemoryStore
    journal: Journal
    replicator: Replicator

    def primaries(self, judgement: Judgement = DONE, change: Callable[[], object] = lambda: None) -> Primaries:
        async def send() -> Response:
            change()
            return Response(200)

        return by(send, judgement)

    async def swept(self, collection: str) -> None:
        await self.replicator.workshop(collection).site.claim()
        position = self.journal.position
        await self.journal.append(r.Swept(route="route", collection=collection, began=position))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    source, target = MemoryStore(), MemoryStore()
    journal = Journal.open(tmp_path / "journal.db")
    pair = StorePair(source, target, source_hold_seconds=1, target_hold_seconds=1)
    clock = ManualClock()
    membership = Membership(journal, lambda route, side: 1.0, clock)
    membership.look()
    replicator = Replicator("route", journal, pair, Settings(policy="both"), clock, Metrics(), membership)
    made = World(source, target, journal, replicator)
    await journal.append(r.SetPhase(route="route", phase="dual-write"))
    for collection in (DOCS, OTHER):
        await source.create(collection, SPEC)
        await made.swept(collection)
    yield made
    await replicator.close()
    await journal.close()


async def test_a_request_that_may_have_changed_anything_is_journalled_before_it_is_sent_and_has_all_swept(
    world: World,
) -> None:
    ledgers = [world.replicator.ledger(collection) for collection in (DOCS, OTHER)]
    open_when_sent: list[list[str]] = []

    def look() -> None:
        open_when_sent.append([type(i.record).__name__ for ledger in ledgers for i in ledger.intervals.values()])

    await world.replicator.write_anywhere("unknown endpoint", world.primaries(change=look))
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    assert open_when_sent == [["BeginScope", "BeginScope"]]
    assert [ledger.unswept for ledger in ledgers] == ["unknown endpoint", "unknown endpoint"]


async def test_of_a_write_that_leaves_no_hint_nothing_is_kept(world: World) -> None:
    """Else memory grows by every write that is only acknowledged, or that comes beside a write by filter."""
    world.replicator.apply_settings(replace(world.replicator.settings, policy="primary"))
    acknowledged = Judgement(Outcome.ACCEPTED, acknowledged=True)
    await world.replicator.write(DOCS, Upsert(DOCS, (point(1),)), world.primaries(acknowledged))
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    workshop = world.replicator.workshop(DOCS)
    assert (workshop.site.hints.size_bytes, workshop.writer._accepted) == (0, {})


async def test_after_a_request_of_unknown_reach_the_collection_is_looked_at_again(world: World) -> None:
    """It may have had another vector name by then."""
    site = world.replicator.workshop(DOCS).site
    assert await site.known_spec() == SPEC
    other = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT), "b": VectorSpec(size=2, metric=Metric.DOT)})
    await world.source.drop(DOCS)
    await world.source.create(DOCS, other)
    await world.replicator.write_anywhere("unknown endpoint", world.primaries())
    assert await site.known_spec() == other


@pytest.mark.parametrize("definition", [False, True])
async def test_what_another_process_made_of_a_collection_is_looked_at_when_it_has_ended(
    world: World, definition: bool
) -> None:
    """An unknown endpoint, or a definition."""
    site = world.replicator.workshop(DOCS).site
    assert await site.known_spec() == SPEC
    here: Any = {"route": "route", "collection": DOCS}
    begin = r.BeginScope(**here, owner="another", primary=Side.SOURCE, definition=definition)
    position = (await world.journal.append(begin)).position
    other = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT), "b": VectorSpec(size=2, metric=Metric.DOT)})
    await world.source.drop(DOCS)
    await world.source.create(DOCS, other)
    sweep = "" if definition else "unknown endpoint"
    await world.journal.append(r.EndScope(**here, begin=position, outcome=Outcome.ACCEPTED, sweep=sweep))
    assert await site.known_spec() == other


async def test_a_process_says_that_it_journals_once_what_it_sent_before_has_ended(world: World) -> None:
    """Else the hold may end before a slow upload has arrived, which no journal has."""
    await world.journal.append(r.SetPhase(route="route", phase="direct"))
    sending, proceed = asyncio.Event(), asyncio.Event()

    async def send() -> Response:
        sending.set()
        await proceed.wait()
        return Response(200)

    writing = spawn(world.replicator.write(DOCS, Upsert(DOCS, (point(7),)), by(send)), name="slow upload")
    await sending.wait()
    await world.replicator.start_mirroring()
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    [start] = world.replicator.book.starts.values()
    assert start.unaware == {world.journal.owner}
    proceed.set()
    await writing
    await turns_until(lambda: not start.unaware)


async def test_a_collection_that_was_made_anew_while_nothing_was_mirrored_is_looked_at(world: World) -> None:
    site = world.replicator.workshop(DOCS).site
    assert await site.known_spec() == SPEC
    await world.journal.append(r.SetPhase(route="route", phase="direct"))
    assert await site.known_spec() == SPEC  # somebody asks
    other = CollectionSpec({"": VectorSpec(size=3, metric=Metric.DOT)})
    await world.source.drop(DOCS)
    await world.source.create(DOCS, other)
    await start_mirroring(world.replicator, [DOCS], adopt=False)
    assert await site.known_spec() == other
    described = await world.target.describe(DOCS)
    assert described is not None
    assert described.spec == other


async def test_what_landed_late_is_looked_at_when_it_can_land_no_more(world: World) -> None:
    site = world.replicator.workshop(DOCS).site
    here: Any = {"route": "route", "collection": DOCS}
    hold = r.HoldSide(**here, side=Side.SOURCE, hold_seconds=1.0, copy=False)
    position = (await world.journal.append(hold)).position
    assert await site.known_spec() == SPEC
    other = CollectionSpec({"": VectorSpec(size=3, metric=Metric.DOT)})
    await world.source.drop(DOCS)
    await world.source.create(DOCS, other)
    await world.journal.append(r.Release(**here, hold=position))
    assert await site.known_spec() == other


async def test_one_that_was_certainly_refused_leaves_nothing(world: World) -> None:
    await world.replicator.write_anywhere("unknown endpoint", world.primaries(REFUSED))
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    assert world.replicator.ledger(DOCS).at_rest


@pytest.mark.parametrize(
    ("failure", "held"),
    [(Unclear("lost"), True), (Unavailable("refused"), False), (TryAgain("another route"), False), (Outdated(), False)],
)
async def test_one_without_an_answer_holds_all_if_it_may_still_land(
    world: World, failure: Exception, held: bool
) -> None:
    async def send() -> Response:
        raise failure

    with pytest.raises(type(failure)):
        await world.replicator.write_anywhere("unknown endpoint", by(send))
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    assert [world.replicator.ledger(each).range_held for each in (DOCS, OTHER)] == [held, held]


@pytest.mark.parametrize(("side", "sent"), [(Side.SOURCE, False), (Side.TARGET, True)])
async def test_no_collection_is_dropped_where_an_older_copy_may_still_land(
    world: World, side: Side, sent: bool
) -> None:
    """It would land in the one that is made next."""
    hold = r.HoldSide(route="route", collection=DOCS, side=side, hold_seconds=1.0, copy=True)
    await world.journal.append(hold)
    asked: list[str] = []
    drop = world.replicator.define(DOCS, DropCollection(DOCS), world.primaries(change=lambda: asked.append("drop")))
    with nullcontext() if sent else pytest.raises(TryAgain, match="older copy"):
        await drop
    assert asked == ["drop"] * sent
    await turns_until(lambda: not world.replicator.defining)


async def test_a_create_that_failed_does_not_make_both_sides_equal(world: World) -> None:
    """It failed where the primary had the collection, while the secondary's was made anew."""
    await world.source.upsert(DOCS, [point(1)])
    await world.target.drop(DOCS)
    failed = world.primaries(Judgement(Outcome.FAILED))
    await world.replicator.define(DOCS, CreateCollection(DOCS, SPEC), failed)
    await turns_until(lambda: not world.replicator.defining)
    assert await world.target.describe(DOCS) is not None
    assert "did not carry out" in world.replicator.ledger(DOCS).unswept


@pytest.mark.parametrize(("judgement", "held"), [(DONE, True), (REFUSED, False)])
async def test_a_sweep_after_an_alias_change_waits_for_processes_that_do_not_know_of_it(
    world: World, judgement: Judgement, held: bool
) -> None:
    await world.journal.append(r.Join(route="", owner="another"))
    await world.replicator.change_aliases([DOCS], world.primaries(judgement), stale_seconds=10.0)
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    ledger = world.replicator.ledger(DOCS)
    assert (bool(ledger.unswept), ledger.range_held) == (held, held)


async def test_after_complete_writes_of_one_point_wait_for_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target puts whole points together from what it has read."""
    monkeypatch.setattr(MemoryStore, "capabilities", replace(world.source.capabilities, partial_updates=False))
    await world.journal.append(r.SetPhase(route="route", phase="complete"))
    under_way: list[int] = []
    most = 0

    async def send() -> Response:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        await asyncio.sleep(0)
        under_way.pop()
        return Response(200)

    part = SetPayload(DOCS, {"n": 2}, Ids((1,)))
    await asyncio.gather(*(world.replicator.write(DOCS, part, by(send)) for _ in range(3)))
    assert most == 1


async def test_a_name_that_is_no_collection_is_forgotten_but_not_under_the_hands_of_a_writer(world: World) -> None:
    """The first write finds no such collection; the second waits behind it, and is the one that matters."""
    name, replicator = "new", world.replicator
    at_the_primary, proceed = asyncio.Event(), asyncio.Event()

    async def send() -> Response:
        at_the_primary.set()
        await proceed.wait()
        return Response(404)

    first = asyncio.create_task(replicator.write(name, Upsert(name, (point(1),)), by(send, REFUSED)))  # noqa: TID251
    await at_the_primary.wait()
    await world.source.create(name, SPEC)

    async def send_second() -> Response:
        await world.source.upsert(name, [point(1)])
        return Response(200)

    second = asyncio.create_task(  # noqa: TID251
        replicator.write(name, Upsert(name, (point(1),)), by(send_second))
    )
    workshop = replicator.workshop(name)
    proceed.set()
    await asyncio.gather(first, second)
    assert replicator.metrics.secondary_waits.read() == [(("route", "confirmed"), 1.0)]
    assert replicator.workshop(name) is workshop
    await replicator.write("never", Upsert("never", (point(1),)), world.primaries(REFUSED))
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    assert not replicator.knows("never")


async def test_nothing_is_written_to_a_collection_that_holds_points_of_somebody_else(world: World) -> None:
    for store in (world.source, world.target):
        await store.create("theirs", SPEC)
    await world.target.upsert("theirs", [point(900)])
    site = world.replicator.workshop("theirs").site
    with pytest.raises(GateClosed, match="already holds 1 points"):
        await site.claim()
    claimed = [site.ledger.claimed, await site.claim(adopt=True), site.ledger.claimed]
    assert claimed == [False, False, True]


async def test_a_key_whose_copy_could_not_be_journalled_is_copied_when_the_journal_is_back(world: World) -> None:
    journal, clock = world.journal, world.replicator.clock
    assert isinstance(clock, ManualClock)
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    journal._connection.execute("PRAGMA busy_timeout = 0")

    def block(_: int, record: r.AnyRecord, __: object) -> None:
        if isinstance(record, r.Mark):
            blocker.execute("BEGIN IMMEDIATE")  # somebody else writes: every commit of ours fails

    await world.source.upsert(DOCS, [point(1)])
    journal.subscribe(block)
    await journal.append(r.Mark(route="route", collection=DOCS, ids=(1,)))
    await turns_until(lambda: bool(journal.error))
    blocker.execute("ROLLBACK")
    blocker.close()
    async with asyncio.timeout(10):
        while not world.replicator.ledger(DOCS).at_rest:
            await clock.advance(1.0)
    assert await world.target.fetch(DOCS, [1])


async def test_what_a_killed_process_may_have_sent_without_the_journal_is_waited_for_before_it_is_swept(
    world: World,
) -> None:
    replicator = world.replicator
    replicator.apply_settings(replace(replicator.settings, continue_without_journal=True))
    await world.journal.append(r.Join(route="", owner="gone"))
    replicator.membership.look()
    await world.journal.append(r.Mark(route="route", collection=DOCS, ids=()))
    ledger = replicator.ledger(DOCS)
    assert ledger.range_held
    assert ledger.unswept
