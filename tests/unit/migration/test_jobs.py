"""The life of a job: it runs, pauses, is cancelled, fails, and goes on after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import GateClosed, Refused
from proxy.migration.jobs import CANCELLED, DONE, FAILED, PAUSED, RUNNING, Jobs, Progress, Work
from proxy.replication.journal import Journal
from proxy.replication.membership import Membership
from proxy.telemetry.metrics import Metrics
from tests.support.clock import ManualClock, turns_until


class Pages:
    """A job of ten pages, each let through by the test."""

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.at_page = asyncio.Event()
        self.failure: Exception | None = None

    def maker(self, route: str, options: Mapping[str, Any]) -> Work:
        return self._work

    async def _work(self, progress: Progress) -> Mapping[str, Any]:
        checkpoint = progress.state.checkpoint
        progress.step("copying", total=10, done=checkpoint.get("page", 0))
        while checkpoint.get("page", 0) < 10:
            self.at_page.set()
            await self.gate.acquire()
            if self.failure is not None:
                raise self.failure
            checkpoint["page"] = checkpoint.get("page", 0) + 1
            progress.advance(1)
            await progress.breathe()
        return {"copied": 10}

    def let(self, pages: int) -> None:
        for _ in range(pages):
            self.gate.release()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(tmp_path / "journal.db")
    yield journal
    await journal.close()


def make(journal: Journal, pages: Pages) -> Jobs:
    clock = ManualClock()
    membership = Membership(journal, lambda route, side: 1.0, clock)
    jobs = Jobs(journal, membership, clock, Metrics(), {"backfill": pages.maker})
    membership.look()
    return jobs


async def test_a_job_runs_to_its_end(journal: Journal) -> None:
    pages = Pages()
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    assert state.status == RUNNING
    pages.let(10)
    ended = await jobs.wait(state.id)
    assert (ended.status, ended.result, ended.done) == (DONE, {"copied": 10}, 10)
    assert journal.book.route("docs").jobs[state.id]["status"] == DONE


async def test_a_second_job_of_the_kind_is_refused_while_one_runs(journal: Journal) -> None:
    pages = Pages()
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    with pytest.raises(GateClosed, match=state.id):
        await jobs.start("backfill", "docs")
    other = await jobs.start("backfill", "other")
    pages.let(20)
    await asyncio.gather(jobs.wait(state.id), jobs.wait(other.id))


async def test_a_paused_job_stands_still_until_it_is_resumed(journal: Journal) -> None:
    pages = Pages()
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    await pages.at_page.wait()
    jobs.pause(state.id)
    pages.let(10)
    await turns_until(lambda: state.status == PAUSED)
    assert state.done == 1
    jobs.resume(state.id)
    assert (await jobs.wait(state.id)).status == DONE


async def test_a_cancelled_job_is_gone_on_with_by_the_next_start(journal: Journal) -> None:
    pages = Pages()
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    await pages.at_page.wait()
    jobs.cancel(state.id)
    pages.let(1)
    assert (await jobs.wait(state.id)).status == CANCELLED
    pages.let(9)
    again = await jobs.start("backfill", "docs")
    assert again.id == state.id
    assert (await jobs.wait(again.id)).status == DONE


async def test_restart_begins_anew(journal: Journal) -> None:
    pages = Pages()
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    await pages.at_page.wait()
    jobs.cancel(state.id)
    pages.let(1)
    await jobs.wait(state.id)
    anew = await jobs.start("backfill", "docs", {"restart": True})
    assert anew.id != state.id
    assert anew.checkpoint.get("page", 0) == 0
    pages.let(10)
    await jobs.wait(anew.id)


async def test_a_failure_is_told_and_can_be_gone_on_from(journal: Journal) -> None:
    pages = Pages()
    pages.failure = Refused("the collection has no such vector")
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    pages.let(1)
    ended = await jobs.wait(state.id)
    assert (ended.status, ended.error) == (FAILED, "the collection has no such vector")


async def test_a_job_that_ran_goes_on_after_a_restart(journal: Journal, tmp_path: Path) -> None:
    pages = Pages()
    jobs = make(journal, pages)
    state = await jobs.start("backfill", "docs")
    pages.let(4)
    await turns_until(lambda: state.done == 4)
    closing = asyncio.ensure_future(jobs.close())  # noqa: TID251  the test is its only owner
    pages.let(1)
    await closing
    await journal.close()

    again = Journal.open(journal.path)
    pages = Pages()
    jobs = make(again, pages)
    pages.let(10)
    ended = await jobs.wait(state.id)
    assert (ended.status, ended.checkpoint["page"]) == (DONE, 10)
    assert pages.gate._value == 5
    await again.close()


async def test_an_unknown_job_is_told_with_the_known_ones(journal: Journal) -> None:
    jobs = make(journal, Pages())
    with pytest.raises(KeyError, match="known: none"):
        jobs.get("nope")
    with pytest.raises(GateClosed, match="kinds: backfill"):
        await jobs.start("teleport", "docs")
