"""A hold's time runs only while its store answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.errors import Unavailable
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.holds import HoldClock
from proxy.replication.journal import Journal
from proxy.replication.ledger import Hold
from proxy.replication.site import StorePair
from proxy.stores.memory import MemoryStore
from tests.support.clock import ManualClock


class Reachable(MemoryStore):
    """A store that can be cut off."""

    up = True

    async def probe(self) -> str:
        if not self.up:
            raise Unavailable("cut off")
        return await super().probe()


class Setting:
    def __init__(self, journal: Journal) -> None:
        self.clock = ManualClock()
        self.journal = journal
        self.source, self.target = Reachable(), Reachable()
        self.holds = HoldClock("docs", journal, StorePair(self.source, self.target, 5.0, 5.0), self.clock)
        self.released: list[int] = []
        journal.subscribe(self._applied)

    def _applied(self, _position: int, record: r.AnyRecord, _effects: object) -> None:
        if isinstance(record, r.Release):
            self.released.append(record.hold)

    async def pass_time(self, seconds: float) -> None:
        """In steps, with the journal up to date after each."""
        for _ in range(int(seconds / 0.25)):
            await self.clock.advance(0.25)
        await self.journal.append(r.Mark(route="docs", collection="c", ids=()))


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    journal = Journal.open(tmp_path / "journal.db")
    setting = Setting(journal)
    yield setting
    await setting.holds.close()
    await journal.close()


async def test_a_hold_is_released_when_its_time_has_passed(setting: Setting) -> None:
    setting.holds.add("c", 1, Hold(Side.TARGET, 5.0, (7,)))
    await setting.pass_time(4.5)
    assert setting.released == []
    await setting.pass_time(1.5)
    assert setting.released == [1]


async def test_time_stands_still_while_the_store_does_not_answer(setting: Setting) -> None:
    setting.holds.add("c", 1, Hold(Side.TARGET, 5.0, (7,)))
    await setting.pass_time(2)
    setting.target.up = False
    await setting.pass_time(60)
    assert setting.released == []
    setting.target.up = True
    await setting.pass_time(2)
    assert setting.released == []
    await setting.pass_time(3)
    assert setting.released == [1]


async def test_holds_of_one_store_do_not_wait_for_the_other(setting: Setting) -> None:
    setting.source.up = False
    setting.holds.add("c", 1, Hold(Side.SOURCE, 2.0, (7,)))
    setting.holds.add("c", 2, Hold(Side.TARGET, 2.0, (8,)))
    await setting.pass_time(4)
    assert setting.released == [2]


async def test_a_hold_does_not_inherit_time_that_passed_before_it_began(setting: Setting) -> None:
    setting.holds.add("c", 1, Hold(Side.TARGET, 60.0, (7,)))
    await setting.pass_time(10)
    setting.holds.add("c", 2, Hold(Side.TARGET, 5.0, (8,)))
    await setting.pass_time(4.5)
    assert setting.released == []
    await setting.pass_time(1.5)
    assert setting.released == [2]


async def test_the_first_hold_of_a_mirror_waits_for_every_process_and_begins_again_with_each(setting: Setting) -> None:
    """A process that was stopped may send a write which it journals nowhere."""
    own, journal = setting.journal.owner, setting.journal
    for owner in ("stopped", "killed"):
        await journal.append(r.Join(route="", owner=owner))
    applied = await journal.append(r.SetPhase(route="docs", phase="dual-write", hold_seconds=1.0))
    assert applied.held is not None
    setting.holds.add("", applied.position, applied.held)
    setting.holds.look_at_starts()
    for record in (
        r.Ready(route="docs", epoch=applied.position, owner=own),
        r.Leave(route="", owner="killed"),
        r.Ready(route="docs", epoch=applied.position, owner="stopped"),
    ):
        await setting.pass_time(3)
        assert setting.released == []
        await journal.append(record)
        setting.holds.look_at_starts()
    await setting.pass_time(0.75)
    assert setting.released == []
    await setting.pass_time(0.75)
    assert setting.released == [applied.position]


async def test_so_it_does_where_this_process_began_after_the_mirror(setting: Setting) -> None:
    journal = setting.journal
    await journal.append(r.Join(route="", owner="stopped"))
    start = await journal.append(r.SetPhase(route="docs", phase="dual-write", hold_seconds=1.0))
    await journal.append(r.Ready(route="docs", epoch=start.position, owner=journal.owner))
    await setting.holds.close()
    setting.holds = HoldClock("docs", journal, StorePair(setting.source, setting.target, 5.0, 5.0), setting.clock)
    setting.holds.add("", start.position, journal.book.route("docs").starts[start.position].hold)
    await setting.pass_time(3)
    await journal.append(r.Ready(route="docs", epoch=start.position, owner="stopped"))
    setting.holds.look_at_starts()
    await setting.pass_time(0.75)
    assert setting.released == []
    await setting.pass_time(0.75)
    assert setting.released == [start.position]


async def test_time_that_passes_while_the_process_itself_stands_still_does_not_count(setting: Setting) -> None:
    """The store may have stood still with it: two answers say nothing of what lies between them."""
    setting.holds.add("c", 1, Hold(Side.TARGET, 60.0, (7,)))
    await setting.pass_time(10)
    setting.clock.freeze(100)
    await setting.pass_time(40)
    assert setting.released == []
    await setting.pass_time(11)
    assert setting.released == [1]
