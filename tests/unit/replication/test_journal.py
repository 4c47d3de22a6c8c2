"""The journal on a real file: order, durability, failure, recovery, compaction."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import Outcome
from proxy.errors import JournalError
from proxy.model import Side
from proxy.replication import records as r
from proxy.replication.journal import Journal

HERE: Any = {"route": "docs", "collection": "c"}


def begin(*ids: int) -> r.BeginWrite:
    return r.BeginWrite(**HERE, owner="A", ids=ids, primary=Side.SOURCE)


def end(position: int) -> r.EndWrite:
    return r.EndWrite(**HERE, begin=position, outcome=Outcome.ACCEPTED)


async def test_records_are_applied_in_the_order_in_which_they_were_appended(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    seen: list[int] = []
    journal.subscribe(lambda position, _record, _effects: seen.append(position))
    effects = await asyncio.gather(*(journal.append(begin(number)) for number in range(200)))
    assert [effect.position for effect in effects] == seen == list(range(1, 201))
    await journal.close()


async def test_a_new_process_reads_what_was_durable(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    first = (await journal.append(begin(1, 2))).position
    second = (await journal.append(begin(3))).position
    await journal.append(end(first))
    await journal.close()
    again = Journal.open(tmp_path / "journal.db")
    ledger = again.book.route("docs").ledger("c")
    assert ledger.marks == {1: 3, 2: 3}
    assert list(ledger.intervals) == [second]
    assert again.position == 3
    await again.close()


async def test_two_processes_cannot_own_it(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal.db")
    with pytest.raises(JournalError, match="in use by another process"):
        Journal.open(tmp_path / "journal.db")
    await journal.close()
    await Journal.open(tmp_path / "journal.db").close()


async def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    await journal.append(begin(1))
    await journal.close()
    damaged = path.read_bytes()[:5000]
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match="move it away"):
        Journal.open(path)
    assert path.read_bytes() == damaged


async def test_the_snapshot_replaces_closed_rows_and_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    for _ in range(30):
        positions = [
            effect.position for effect in await asyncio.gather(*(journal.append(begin(i)) for i in range(100)))
        ]
        await asyncio.gather(*(journal.append(end(position)) for position in positions))
        opening = r.BeginReconcile(**HERE, owner="A", ids=tuple(range(100)), secondary=Side.TARGET)
        reconciled = (await journal.append(opening)).position
        await journal.append(r.EndReconcile(**HERE, begin=reconciled))
        for _ in range(100):
            await journal.append(r.Mark(**HERE, ids=(7,)))
    left_open = (await journal.append(begin(5))).position
    marks = dict(journal.book.route("docs").ledger("c").marks)
    await journal.close()
    rows = sqlite3.connect(path).execute("SELECT count(*) FROM intervals").fetchone()[0]
    assert rows < 5_500
    again = Journal.open(path)
    ledger = again.book.route("docs").ledger("c")
    assert ledger.marks == marks
    assert list(ledger.intervals) == [left_open]
    await again.append(end(left_open))
    assert 5 in ledger.marks
    await again.close()


async def test_what_comes_before_sending_is_refused_if_it_cannot_be_durable_and_an_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    position = (await journal.append(begin(1))).position
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("PRAGMA busy_timeout = 0")
    journal._connection.execute("PRAGMA busy_timeout = 0")
    blocker.execute("BEGIN IMMEDIATE")  # somebody else writes: every commit of ours fails
    kept = journal.append(end(position))
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append(begin(2))
    with pytest.raises(JournalError, match="cannot be written"):
        await journal.append(r.NameKeys(route="docs", collection="c", begin=position, ids=(3,)))
    assert journal.error
    assert not kept.done()
    blocker.execute("ROLLBACK")
    await kept
    assert not journal.error
    assert journal.book.route("docs").ledger("c").marks.keys() == {1}
    blocker.close()
    await journal.close()
