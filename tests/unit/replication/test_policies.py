"""What the client is told, for every outcome on either side and every policy, before and after cutover: the table of
docs/write.md, row by row. Afterwards both stores hold the same, whatever the client was told."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxy.dialects import Judgement, Outcome
from proxy.dialects.qdrant.refusals import refusal_of
from proxy.errors import AppliedOnPrimaryOnly, CrossfadeError, Unavailable, Unclear
from proxy.model import CollectionSpec, Metric, OpaqueWrite, Point, PointId, Side, Upsert, VectorSpec
from proxy.replication import records as r
from proxy.replication.book import Flip
from proxy.replication.journal import Journal
from proxy.replication.ledger import Effects
from proxy.replication.membership import Membership
from proxy.replication.replicator import Replicator
from proxy.replication.site import Settings, Site, StorePair
from proxy.replication.writer import Primary
from proxy.stores import WriteReport
from proxy.stores.memory import MemoryStore
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from proxy.wire import Response
from tests.support.clock import ManualClock, turns_until

DOCS = "docs"
SPEC = CollectionSpec({"": VectorSpec(size=1, metric=Metric.DOT)})
POINT = Point(1, {"": b"\0\0\x80\x3f"}, {"n": 1})
PAGE = Path(__file__).parents[3] / "docs" / "write.md"
POLICIES = ("primary", "both", "both-required")
LATE_SECONDS, LONG_SECONDS = 0.1, 60.0  # how long a write waits where that is the point, and where it must not


def _rows() -> Iterator[tuple[str, str, str, str]]:
    """(the primary, the secondary, policy, what the client is told), from the page."""
    lines = iter(PAGE.read_text().splitlines())
    header = next(line for line in lines if line.startswith("| the primary |"))
    assert tuple(re.findall("`([^`]+)`", header)) == POLICIES
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        primary, secondary, *told = (cell.strip() for cell in line.strip("|").split("|"))
        yield from ((primary, secondary, policy, each) for policy, each in zip(POLICIES, told, strict=True))


class Follower(MemoryStore):
    """A store that can be late, down, or unable to hold a point."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refuses: set[PointId] = set()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def probe(self) -> str:
        self._look()
        return await super().probe()

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        self._look()
        await self.may_answer.wait()
        return await super().upsert(collection, points, whole=whole)

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        self._look()
        await super().delete(collection, ids)

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        return {point.id: "it is too long" for point in points if point.id in self.refuses}

    def _look(self) -> None:
        if self.down:
            raise Unavailable("connection refused")


@dataclass(slots=True)
class World:
    """A route that mirrors, in step. `primary` and `secondary`: as they are now."""

    primary: Follower
    secondary: Follower
    journal: Journal
    replicator: Replicator
    clock: ManualClock

    @property
    def site(self) -> Site:
        return self.replicator.workshop(DOCS).site

    async def write(self, judgement: Judgement, failure: Exception | None) -> Response:
        async def send() -> Response:
            if failure is not None:
                raise failure
            if judgement.outcome is Outcome.ACCEPTED:
                await self.primary.upsert(DOCS, [POINT])
            return Response(200 if judgement.outcome is Outcome.ACCEPTED else 400)

        return await self.replicator.write(
            DOCS, Upsert(DOCS, (POINT,)), lambda side: Primary(side, send, lambda _: judgement)
        )

    async def at_rest(self) -> None:
        """Everything is well again, and what was held back follows."""
        self.secondary.down = False
        self.secondary.may_answer.set()
        while True:
            await self.clock.advance(5.0)
            await self.journal.append(r.Mark(route="route", collection=DOCS, ids=()))  # after all that was kept back
            ledger = self.replicator.ledger(DOCS)
            if not (ledger.marks or ledger.holds or ledger.intervals):
                return


@asynccontextmanager
async def world(path: Path, policy: str, primary: Side, wait_seconds: float) -> AsyncIterator[World]:
    source, target, clock = Follower(), Follower(), ManualClock()
    journal = Journal.open(path)
    pair = StorePair(source, target, source_hold_seconds=1, target_hold_seconds=1)
    after = primary is Side.TARGET
    settings = Settings(
        policy="primary" if after else policy,
        policy_after_cutover=policy if after else "primary",
        secondary_wait_seconds=wait_seconds,
        continue_without_journal=True,
    )
    membership = Membership(journal, lambda route, side: 1.0, clock)
    membership.look()
    replicator = Replicator("route", journal, pair, settings, clock, Metrics(), membership)
    made = World(source, target, journal, replicator, clock)
    await journal.append(r.SetPhase(route="route", phase="shift"))
    await source.create(DOCS, SPEC)
    await made.site.claim()
    await journal.append(r.Swept(route="route", collection=DOCS, began=journal.position))
    if after:
        await replicator.flips.move(Side.TARGET, r.CUTOVER)
        made.primary, made.secondary = target, source
    yield made
    await made.at_rest()
    await replicator.close()
    await journal.close()


@contextmanager
def failing(journal: Journal) -> Iterator[None]:
    """No commit of the journal works."""
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    for connection in (blocker, journal._connection):
        connection.execute("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()


PRIMARY: dict[str, tuple[Judgement, Exception | None]] = {
    "accepts": (Judgement(Outcome.ACCEPTED), None),
    "accepts, and the journal fails": (Judgement(Outcome.ACCEPTED), None),
    "acknowledges (`wait=false`)": (Judgement(Outcome.ACCEPTED, acknowledged=True), None),
    "refuses": (Judgement(Outcome.UNTOUCHED), None),
    "refuses, part may be applied": (Judgement(Outcome.FAILED), None),
    "gives no answer": (Judgement(Outcome.UNKNOWN), Unclear("timed out")),
    "cannot be reached": (Judgement(Outcome.UNTOUCHED), Unavailable("connection refused")),
}
SECONDARY: dict[str, Callable[[World], object]] = {
    "has it in time": lambda world: None,
    "follows by a sweep": lambda world: None,
    "is late": lambda world: world.secondary.may_answer.clear(),
    "is down": lambda world: setattr(world.secondary, "down", True),
    "any": lambda world: setattr(world.secondary, "down", True),
    "parks the point": lambda world: world.secondary.refuses.add(POINT.id),
}


async def _told(world: World, primary: str) -> str:
    """What the client is told, in the table's words."""
    judgement, failure = PRIMARY[primary]
    waits = world.replicator.metrics.secondary_waits
    try:
        response = await world.write(judgement, failure)
    except AppliedOnPrimaryOnly as error:
        return {500: "applied on the primary"}[refusal_of(error).http_status]
    except CrossfadeError as error:
        return str(refusal_of(error).http_status)
    assert response.status == (200 if judgement.outcome is Outcome.ACCEPTED else 400)
    waited = (("route", "late"), 1.0) in waits.read() and not world.replicator.ledger(DOCS).parked_whole
    return "its answer, after the wait" if waited else "its answer"


@pytest.mark.parametrize("side", list(Side), ids=["before cutover", "after cutover"])
@pytest.mark.parametrize(("primary", "secondary", "policy", "told"), list(_rows()))
async def test_the_client_is_told_what_the_page_says(
    tmp_path: Path, side: Side, primary: str, secondary: str, policy: str, told: str
) -> None:
    wait_seconds = LATE_SECONDS if secondary in ("is late", "is down") else LONG_SECONDS
    async with world(tmp_path / "journal.db", policy, side, wait_seconds) as made, asyncio.timeout(LONG_SECONDS / 4):
        if secondary == "cannot have the collection":
            await made.site.park("no such metric")
        else:
            SECONDARY[secondary](made)
        if "journal fails" in primary:
            with failing(made.journal):
                assert await _told(made, primary) == told
        else:
            assert await _told(made, primary) == told
        if secondary == "cannot have the collection":
            await made.site.claim()
        await made.at_rest()
        ledger = made.replicator.ledger(DOCS)
        assert bool(ledger.unswept) == (secondary in ("cannot have the collection", "follows by a sweep"))
        if not ledger.unswept:
            here, there = [await store.fetch(DOCS, [1]) for store in (made.primary, made.secondary)]
            assert there == ({} if ledger.parked else here)
            assert bool(here) == primary.startswith("ac")


def test_every_row_is_known_to_this_test_and_every_outcome_to_the_page() -> None:
    rows = list(_rows())
    assert {primary for primary, *_ in rows} == PRIMARY.keys()
    assert {secondary for _, secondary, *_ in rows} == {*SECONDARY, "cannot have the collection"}


@pytest.mark.parametrize("side", list(Side), ids=["before cutover", "after cutover"])
@pytest.mark.parametrize("policy", POLICIES)
async def test_only_what_nobody_waits_for_is_journalled_at_leisure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, side: Side
) -> None:
    async with world(tmp_path / "journal.db", policy, side, LONG_SECONDS) as made:
        appended: list[tuple[str, bool]] = []
        append = made.journal.append

        def told(record: r.AnyRecord, *, at_leisure: bool = False) -> asyncio.Future[Effects]:
            appended.append((type(record).__name__, at_leisure))
            return append(record, at_leisure=at_leisure)

        async def copied(under_way: Awaitable[object]) -> list[tuple[str, bool]]:
            appended.clear()
            await under_way
            await turns_until(lambda: made.replicator.ledger(DOCS).at_rest)
            return [entry for entry in appended if "Reconcile" in entry[0]]

        def copy(at_leisure: bool) -> list[tuple[str, bool]]:
            return [("BeginReconcile", at_leisure), ("EndReconcile", at_leisure)]

        monkeypatch.setattr(made.journal, "append", told)
        writing = made.write(Judgement(Outcome.ACCEPTED), None)
        assert await copied(writing) == copy(policy == "primary")
        assert ("EndWrite", policy == "primary") in appended
        reconciler = made.replicator.workshop(DOCS).reconciler
        assert await copied(reconciler._with_lanes((1,))) == copy(False)
        made.site.book.flip = Flip(epoch=0, owner=made.journal.owner, to=side.other)
        assert await copied(reconciler._reconcile((1,))) == copy(False)
        made.site.book.flip = None
        monkeypatch.setattr(reconciler, "_pick", lambda: ((), False))
        reconciler._ready.update(dict.fromkeys(range(1000, 1000 + made.site.settings.batch_points)))
        assert await copied(reconciler._reconcile((1,))) == copy(False)  # others could be begun
        reconciler._ready.popitem()
        assert await copied(reconciler._reconcile((1,))) == copy(policy == "primary")


@pytest.mark.parametrize(("policy", "required"), [("both", False), ("both-required", True)])
async def test_a_write_of_unknown_reach_is_on_the_primary_alone_until_a_sweep(
    tmp_path: Path, policy: str, required: bool
) -> None:
    async with world(tmp_path / "journal.db", policy, Side.SOURCE, 0.05) as made:

        async def send() -> Response:
            return Response(200)

        primaries = lambda side: Primary(side, send, lambda _: Judgement(Outcome.ACCEPTED))  # noqa: E731
        write = OpaqueWrite(DOCS, None, "undecodable")
        with pytest.raises(AppliedOnPrimaryOnly, match="by a sweep") if required else nullcontext():
            assert (await made.replicator.write(DOCS, write, primaries)).status == 200
        await made.journal.append(r.Swept(route="route", collection=DOCS, began=made.journal.position))


async def test_what_only_the_old_primary_has_after_an_emergency_is_not_told_as_done(tmp_path: Path) -> None:
    """Although the policy on the other side asks for less."""
    async with world(tmp_path / "journal.db", "both-required", Side.TARGET, 5.0) as made:
        made.secondary.may_answer.clear()
        writing = spawn(made.write(Judgement(Outcome.ACCEPTED), None), name="write")
        await turns_until(lambda: bool(made.replicator.ledger(DOCS).intervals))
        emergency = r.Commit(route="route", epoch=0, to=Side.SOURCE, phase="shift", emergency=True)
        await made.journal.append(emergency)
        made.secondary.may_answer.set()
        with pytest.raises(AppliedOnPrimaryOnly, match="left in an emergency"):
            await writing
        await made.journal.append(r.Recover(route="route", collection=DOCS, ids=()))
