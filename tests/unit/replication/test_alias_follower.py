"""What gives the secondary the primary's aliases: as often as it takes, and never beside a definition."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from proxy.errors import Unavailable
from proxy.replication.alias_follower import AliasFollower
from tests.support.clock import ManualClock, turns_until


@dataclass
class Secondary:
    down: bool = False
    defining: bool = False
    given: int = 0
    asked: int = 0
    during: list[AliasFollower] = field(default_factory=list)  # told of one more change while it is given

    async def give(self) -> None:
        assert not self.defining
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("the store is down")
        self.given += 1
        while self.during:
            self.during.pop().changed()


async def test_one_change_is_given_once() -> None:
    secondary, clock = Secondary(), ManualClock()
    aliases = AliasFollower("route", secondary.give, lambda: secondary.defining, clock)
    aliases.changed()
    aliases.changed()
    await turns_until(lambda: secondary.given == 1)
    await clock.advance(3600)
    assert secondary.asked == 1
    await aliases.close()


async def test_a_change_while_another_is_given_is_given_too() -> None:
    secondary, clock = Secondary(), ManualClock()
    aliases = AliasFollower("route", secondary.give, lambda: secondary.defining, clock)
    secondary.during = [aliases]
    aliases.changed()
    await turns_until(lambda: secondary.given == 2)
    await aliases.close()


async def test_it_waits_for_a_collection_that_is_on_its_way_there() -> None:
    secondary, clock = Secondary(defining=True), ManualClock()
    aliases = AliasFollower("route", secondary.give, lambda: secondary.defining, clock)
    aliases.changed()
    for _ in range(8):
        await clock.advance(0.25)
    assert secondary.asked == 0
    secondary.defining = False
    await clock.advance(0.25)
    await turns_until(lambda: secondary.given == 1)
    await aliases.close()


async def test_a_store_that_is_down_is_asked_again_less_and_less_often() -> None:
    secondary, clock = Secondary(down=True), ManualClock()
    aliases = AliasFollower("route", secondary.give, lambda: secondary.defining, clock)
    aliases.changed()
    for _ in range(600):
        await clock.advance(1.0)
    assert 15 <= secondary.asked <= 35  # every half minute in the end
    secondary.down = False
    await clock.advance(31)
    await turns_until(lambda: secondary.given == 1)
    await aliases.close()


async def test_nothing_is_given_once_the_stores_are_being_closed() -> None:
    secondary, clock = Secondary(), ManualClock()
    aliases = AliasFollower("route", secondary.give, lambda: secondary.defining, clock)
    await aliases.close()
    aliases.changed()  # by a batch that is let end
    await clock.advance(3600)
    assert secondary.asked == 0
    assert not aliases.settled
