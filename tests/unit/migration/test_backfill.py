"""Pages of a backfill, over two stores in memory and a real journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import Judgement, Outcome
from proxy.errors import Refused, Unclear
from proxy.migration.backfill import BackfillSettings, Patience, Sweep
from proxy.migration.jobs import JobState, Progress
from proxy.model import (
    CollectionSpec,
    CreateCollection,
    Definition,
    Described,
    DropCollection,
    Metric,
    Page,
    Point,
    VectorSpec,
)
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.membership import Membership
from proxy.replication.replicator import Replicator
from proxy.replication.site import Settings, StorePair
from proxy.replication.writer import Primary
from proxy.stores.memory import MemoryStore
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Response
from tests.support.clock import ManualClock, turns_until

SPEC = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT)})
JOB = "backfill-1"


class Source(MemoryStore):
    """Refuses the `failing`-th page; a page takes `page_seconds` of the clock. Describes nothing while it is silent."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.page_seconds = 0.0
        self.is_silent = False
        self.failing = 0
        self.pages = 0

    async def describe(self, collection: str) -> Described | None:
        if self.is_silent:
            raise Unclear("no answer")
        return await super().describe(collection)

    async def scan(self, *args: Any, **kwargs: Any) -> Page:
        self.pages += 1
        if self.pages == self.failing:
            raise Refused("no more")
        await self.clock.advance(self.page_seconds)
        return await super().scan(*args, **kwargs)


class Target(MemoryStore):
    """Writes nothing unless it is `open`, drops nothing unless `droppable`."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()
        self.droppable = asyncio.Event()
        self.droppable.set()
        self.drops = 0

    async def drop(self, collection: str) -> None:
        self.drops += 1
        await self.droppable.wait()
        await super().drop(collection)

    async def upsert(self, *args: Any, **kwargs: Any) -> Any:
        await self.open.wait()
        return await super().upsert(*args, **kwargs)


class Unhurried(ManualClock):
    """Nobody sleeps; how long they wanted to is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


@dataclass
class World:
    source: Source
    target: Target
    replicator: Replicator
    clock: Unhurried

    def sweep(self, **settings: Any) -> Sweep:
        async def save(_: JobState) -> None:
            pass

        state = JobState(id=JOB, kind="backfill", route="route", checkpoint={"copied": {}})
        progress = Progress(state, self.clock, save)
        patience, asked = Patience(self.replicator, progress), BackfillSettings(page_points=2, **settings)
        return Sweep(self.replicator.workshop("docs"), progress, patience, asked)

    async def define(self, definition: Definition, carry_out: Coroutine[Any, Any, object]) -> None:
        """As a client has it, and until the target has followed or given up."""

        async def send() -> Response:
            await carry_out
            return Response(200)

        done = Judgement(Outcome.ACCEPTED)
        await self.replicator.define("docs", definition, lambda side: Primary(side, send, lambda _: done))
        await turns_until(lambda: not self.replicator.defining)

    async def release(self) -> None:
        """The hold is over."""
        for hold in list(self.replicator.ledger("docs").holds):
            await self.replicator.journal.append(r.Release(route="route", collection="docs", hold=hold))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    clock = Unhurried()
    source, target = Source(clock), Target()
    journal = Journal.open(tmp_path / "journal.db")
    pair = StorePair(source, target, source_hold_seconds=1, target_hold_seconds=1)
    membership = Membership(journal, lambda route, side: 1.0, clock)
    membership.look()
    replicator = Replicator("route", journal, pair, Settings(policy="primary"), clock, Metrics(), membership)
    await journal.append(r.SetPhase(route="route", phase="dual-write"))
    await source.create("docs", SPEC)
    await source.upsert("docs", [Point(n, {"": b"\0\0\x80\x3f"}) for n in range(6)])
    yield World(source, target, replicator, clock)
    await replicator.close()
    await journal.close()


async def test_a_page_that_never_ended_is_read_again_although_the_next_one_was_given_up(world: World) -> None:
    world.source.failing = 2
    world.target.open.clear()
    sweeping = spawn(world.sweep().run(), name="sweep")
    await turns_until(lambda: world.source.pages == 2)
    journal = world.replicator.journal
    await journal.append(r.Mark(route="route", collection="docs", ids=()))  # the page ahead was given up by now
    assert world.replicator.ledger("docs").cursors.get(JOB) is None
    world.target.open.set()
    with pytest.raises(Refused):
        await sweeping
    assert world.replicator.ledger("docs").cursors == {JOB: 2}


@pytest.mark.parametrize(("page_seconds", "waits"), [(0.001, False), (0.5, True)])
async def test_it_steps_back_while_the_primary_is_slow(world: World, page_seconds: float, waits: bool) -> None:
    world.source.page_seconds = page_seconds
    await world.sweep(target_page_seconds=0.1).run()
    assert (max(world.clock.slept, default=0.0) > 0) is waits


async def test_a_collection_whose_drop_the_target_could_not_follow_is_dropped_by_the_sweep(world: World) -> None:
    """The source stops answering between the drop and the look that is taken after it."""
    await world.sweep().run()
    assert len(await world.target.collections()) == 1
    world.source.is_silent = True
    await world.define(DropCollection("docs"), world.source.drop("docs"))
    world.source.is_silent = False
    ledger = world.replicator.ledger("docs")
    assert (bool(ledger.unswept), await world.target.collections()) == (True, ("docs",))
    await world.release()
    await world.sweep().run()
    assert (ledger.at_rest, ledger.claimed, await world.target.collections()) == (True, False, ())


async def test_a_collection_made_anew_while_the_sweep_drops_the_old_one_is_on_both_sides(world: World) -> None:
    """They wait for each other, so the sweep does not take the new one."""
    await world.sweep().run()
    world.source.is_silent = True
    await world.define(DropCollection("docs"), world.source.drop("docs"))
    world.source.is_silent = False
    await world.release()
    world.target.droppable.clear()
    sweeping = spawn(world.sweep().run(), name="sweep")
    await turns_until(lambda: world.target.drops == 1)
    making = spawn(world.define(CreateCollection("docs", SPEC), world.source.create("docs", SPEC)), name="create")
    await turns_until(lambda: True)
    assert await world.source.collections() == ()
    world.target.droppable.set()
    await asyncio.gather(sweeping, making)
    ledger = world.replicator.ledger("docs")
    assert (ledger.at_rest, ledger.claimed, await world.target.collections()) == (True, True, ("docs",))


async def test_a_sweep_leaves_alone_what_is_not_the_routes_own(world: World) -> None:
    await world.source.drop("docs")
    await world.target.create("docs", SPEC)
    await world.sweep().run()
    assert await world.target.collections() == ("docs",)
