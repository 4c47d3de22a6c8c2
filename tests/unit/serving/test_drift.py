"""What is taken for a writer past the proxy, and what is not: over two stores in memory and a real journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import Judgement, Outcome
from proxy.errors import Unclear
from proxy.model import CollectionSpec, Metric, Point, Side, Upsert, VectorSpec
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.membership import Membership
from proxy.replication.replicator import Replicator
from proxy.replication.site import Settings, StorePair
from proxy.replication.writer import Primary
from proxy.serving.drift import Drift
from proxy.stores.memory import MemoryStore
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Response
from tests.support.clock import ManualClock, turns_until

DOCS, OTHER = "docs", "other"
SPEC = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT)})
HOLD_SECONDS = 1.0


def point(number: int) -> Point:
    return Point(number, {"": b"\0\0\x80\x3f"}, {"n": number})


class Settling(MemoryStore):
    """A store that carries out what it has acknowledged when it is asked to settle."""

    acknowledged: tuple[Point, ...] = ()

    async def settle(self, collection: str) -> None:
        done, self.acknowledged = self.acknowledged, ()
        await self.upsert(collection, done)


@dataclass(slots=True)
class World:
    source: Settling
    target: MemoryStore
    journal: Journal
    replicator: Replicator
    drift: Drift
    clock: ManualClock

    async def append(self, kind: Any, collection: str = DOCS, **fields: Any) -> int:
        return (await self.journal.append(kind(route="route", collection=collection, **fields))).position

    async def mirror(self) -> None:
        """Both collections are made, and known to be in step."""
        await self.append(r.SetPhase, "", phase=r.DUAL_WRITE)
        for collection in (DOCS, OTHER):
            await self.replicator.workshop(collection).site.claim()
            await self.append(r.Swept, collection, began=self.journal.position)

    async def begin(self) -> int:
        return await self.append(r.BeginWrite, owner=self.journal.owner, ids=(1,), primary=Side.SOURCE)

    async def copied(self) -> None:
        await turns_until(lambda: not self.replicator.ledger(DOCS).marks and not self.replicator.ledger(DOCS).intervals)

    async def look(self) -> str:
        """What is thought of it after a look."""
        await self.drift.look(DOCS)
        return self.drift.bypassed


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    source, target = Settling(), MemoryStore()
    journal, clock = Journal.open(tmp_path / "journal.db"), ManualClock()
    pair = StorePair(source, target, HOLD_SECONDS, HOLD_SECONDS)
    membership = Membership(journal, lambda route, side: HOLD_SECONDS, clock)
    membership.look()
    replicator = Replicator("route", journal, pair, Settings(), clock, Metrics(), membership)
    for collection in (DOCS, OTHER):
        await source.create(collection, SPEC)
    yield World(source, target, journal, replicator, Drift(replicator, clock, source.collections), clock)
    await replicator.close()
    await journal.close()


async def test_who_writes_past_the_proxy_is_seen(world: World) -> None:
    await world.mirror()
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(1)])
    assert await world.look() == "docs had 0 points on the source and has 1, without a write through the proxy"


async def test_a_write_that_is_under_way_when_points_are_counted_is_nobody_past_the_proxy(world: World) -> None:
    await world.mirror()
    begin = await world.begin()
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(1)])
    assert await world.look() == ""
    await world.append(r.EndWrite, begin=begin, outcome=Outcome.ACCEPTED)
    await world.copied()
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(2)])
    assert await world.look() != ""


async def test_nor_is_one_that_lands_late(world: World) -> None:
    await world.mirror()
    begin = await world.begin()
    held = await world.append(r.EndWrite, begin=begin, outcome=Outcome.UNKNOWN, hold_seconds=HOLD_SECONDS)
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(1)])
    assert await world.look() == ""
    await world.append(r.Release, hold=held)
    await world.copied()
    assert await world.look() == ""


async def test_nor_one_that_was_only_acknowledged(world: World) -> None:
    await world.mirror()
    begin = await world.begin()
    await world.append(r.EndWrite, begin=begin, outcome=Outcome.ACCEPTED, acknowledged=True)
    world.replicator.ledger(DOCS).marks.clear()  # else reconciliation has it settle too
    world.source.acknowledged = (point(1),)
    assert await world.look() == ""
    await world.source.settle(DOCS)
    assert await world.look() == ""


async def test_nor_is_recovery(world: World) -> None:
    await world.mirror()
    assert await world.look() == ""
    owner = world.journal.owner
    begin = await world.append(r.BeginReconcile, owner=owner, ids=(1,), secondary=Side.SOURCE, recovery=True)
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(1)])
    await world.append(r.EndReconcile, begin=begin)
    await world.copied()
    assert await world.look() == ""


async def test_before_anything_is_mirrored_what_is_under_way_or_may_land_late_is_not_judged_either(
    world: World,
) -> None:
    at_the_primary, proceed = asyncio.Event(), asyncio.Event()

    async def send() -> Response:
        at_the_primary.set()
        await proceed.wait()
        await world.source.upsert(DOCS, [point(1)])
        raise Unclear("lost")

    primary = Primary(Side.SOURCE, send, lambda _: Judgement(Outcome.ACCEPTED))
    writing = spawn(world.replicator.write(DOCS, Upsert(DOCS, (point(1),)), lambda _: primary), name="write")
    await at_the_primary.wait()
    assert await world.look() == ""
    proceed.set()
    with pytest.raises(Unclear):
        await writing
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(2)])  # a second part of it, say
    assert await world.look() == ""
    await world.clock.advance(HOLD_SECONDS)
    assert await world.look() == ""
    await world.source.upsert(DOCS, [point(3)])
    assert await world.look() != ""


async def test_a_collection_that_somebody_dropped_on_the_secondary_is_told_and_swept_and_the_others_are_looked_at(
    world: World,
) -> None:
    await world.mirror()
    await world.target.drop(DOCS)
    await world.drift.look_at_all()
    assert world.drift.found == "docs: somebody has dropped the collection on the target"
    assert world.replicator.ledger(DOCS).unswept == "somebody has dropped the collection on the target"
    await world.source.upsert(OTHER, [point(1)])
    await world.drift.look_at_all()
    assert world.drift.bypassed.startswith("other had 0 points")


async def test_one_that_cannot_be_looked_at_does_not_keep_the_others_from_it(world: World) -> None:
    await world.mirror()

    async def describe(collection: str) -> None:
        raise Unclear(collection)

    world.target.describe = describe  # type: ignore[method-assign]
    await world.drift.look_at_all()
    await world.source.upsert(OTHER, [point(1)])
    await world.drift.look_at_all()
    assert world.drift.bypassed.startswith("other had 0 points")


async def test_what_was_found_of_one_collection_stands_while_another_is_verified(world: World) -> None:
    await world.mirror()
    for collection in (DOCS, OTHER):
        await world.drift.look(collection)
        await world.source.upsert(collection, [point(7)])
        await world.drift.look(collection)
    assert "docs had" in world.drift.bypassed
    assert "other had" in world.drift.bypassed
    await world.append(r.Verified, OTHER, began=world.journal.position)
    assert world.drift.bypassed.startswith("docs had")
    assert "other" not in world.drift.bypassed
    await world.append(r.Verified, DOCS, began=world.journal.position)
    assert world.drift.bypassed == ""


async def test_a_collection_that_somebody_dropped_on_the_primary_is_told_but_nothing_is_removed(world: World) -> None:
    await world.mirror()
    await world.look()
    await world.source.drop(DOCS)
    assert (
        await world.look() == "docs had 0 points on the source and is gone from it, without a write through the proxy"
    )
    assert world.replicator.ledger(DOCS).at_rest
    assert await world.target.describe(DOCS) is not None
