"""Work in the process beside: a real one, over its pipes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import pytest
import pytest_asyncio

from examples.engines import poll
from proxy import offload
from proxy.errors import InvalidRequest
from proxy.offload import Offload
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn
from tests.support.event_loops import on_each_loop

event_loop_policy = on_each_loop()
PATIENCE_SECONDS = 20.0


def where(_: Sequence[bytes]) -> int:
    return os.getpid()


def doubled(data: Sequence[bytes], times: int = 2) -> bytes:
    return b"".join(data) * times


def lengths(data: Sequence[bytes]) -> list[int]:
    return [len(each) for each in data]


def refuses(_: Sequence[bytes], text: str) -> None:
    raise InvalidRequest(text)


DEPTH = 600


def nested(_: Sequence[bytes]) -> object:
    """Deeper than pickle goes, and not as deep as JSON may be."""
    found: object = 1
    for _level in range(DEPTH):
        found = [found]
    return found


def depth(found: object) -> int:
    levels = 0
    while isinstance(found, list):
        [found] = found
        levels += 1
    return levels


class Picky(Exception):
    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def raises_what_cannot_be_made_again(_: Sequence[bytes]) -> None:
    raise Picky("a", "b")


def beside(made: Offload) -> float:
    """How much work was done there."""
    return made._metrics.offloaded.value("beside")


def dies_elsewhere(_: Sequence[bytes], here: int) -> str:
    if os.getpid() != here:
        os._exit(3)
    return "done here"


def stops_elsewhere(_: Sequence[bytes], here: int) -> str:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGSTOP)
    return "done here"


@pytest_asyncio.fixture
async def ready() -> AsyncIterator[Offload]:
    made = Offload(Metrics())
    await until_elsewhere(made)
    yield made
    await made.close()


async def until_elsewhere(made: Offload) -> int:
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        if (pid := await made.run(where, ())) != os.getpid():
            return pid
        await asyncio.sleep(0.05)
    raise AssertionError("the process is not ready")


async def test_work_is_done_here_until_the_process_is_ready() -> None:
    made = Offload(Metrics())
    assert await made.run(where, ()) == os.getpid()
    assert await until_elsewhere(made) != os.getpid()
    await made.close()
    assert await made.run(where, ()) == os.getpid()


async def test_megabytes_go_over_and_come_back_in_order(ready: Offload) -> None:
    given, before = [bytes([number]) * (1_000_000 + number) for number in range(8)], beside(ready)
    assert await asyncio.gather(*(ready.run(doubled, [each]) for each in given)) == [each + each for each in given]
    assert beside(ready) == before + len(given)


async def test_many_parts_go_over_each_by_itself(ready: Offload) -> None:
    given = [bytes([number % 251]) * (number % 7) for number in range(2500)]
    before = beside(ready)
    assert await ready.run(lengths, given) == [len(each) for each in given]
    assert await ready.run(doubled, given, 1) == b"".join(given)
    assert beside(ready) == before + 2


async def test_much_memory_is_given_back(ready: Offload) -> None:
    await ready.run(doubled, [bytes(40_000_000)], 0)
    await ready.run(doubled, [b"a"])
    assert ready._process is not None
    assert os.fstat(ready._process._memory).st_size < 1_000_000


async def test_what_the_work_raises_is_raised_here(ready: Offload) -> None:
    with pytest.raises(InvalidRequest, match="no number"):
        await ready.run(refuses, (), "no number")
    assert await ready.run(where, ()) != os.getpid()


@pytest.mark.parametrize("work", [nested, raises_what_cannot_be_made_again])
async def test_what_cannot_be_sent_back_is_worked_out_here_and_the_process_stays(
    ready: Offload, work: Callable[[Sequence[bytes]], object]
) -> None:
    before, told = await ready.run(where, ()), beside(ready)
    with suppress(Picky):
        assert depth(await ready.run(work, ())) == DEPTH
    assert beside(ready) == told
    assert await ready.run(where, ()) == before


async def test_a_process_of_other_code_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(offload, "_CODE", "of before")
    made = Offload(Metrics())
    with caplog.at_level(logging.WARNING):
        await made.ready(where)
        assert await made.run(where, ()) == os.getpid()
    assert "cannot be done" in caplog.text
    assert "another version" in str(caplog.records[0].__dict__["error"])
    await made.close()


async def test_signals_to_those_who_serve_do_not_end_it(ready: Offload) -> None:
    pid = await ready.run(where, ())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    assert await ready.run(where, ()) == pid
    assert os.getsid(pid) == pid


async def test_work_that_kills_the_process_is_done_here_and_another_one_begins(
    ready: Offload, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(offload, "_AGAIN_SECONDS", 0.0)
    ready._not_before = 0.0
    before = await ready.run(where, ())
    with caplog.at_level(logging.WARNING):
        assert await ready.run(dies_elsewhere, (), os.getpid()) == "done here"
    assert "is lost" in caplog.text
    assert await until_elsewhere(ready) not in (before, os.getpid())


async def test_work_that_says_nothing_in_time_is_done_here(ready: Offload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offload, "_LONGEST_SECONDS", 0.2)
    stopped = await ready.run(where, ())
    assert await ready.run(stops_elsewhere, (), os.getpid()) == "done here"
    assert await asyncio.to_thread(poll, lambda: not is_alive(stopped), PATIENCE_SECONDS)


async def test_work_that_is_given_up_leaves_no_answer_for_the_next(ready: Offload) -> None:
    slow = spawn(ready.run(doubled, [bytes(30_000_000)]), name="work")
    await asyncio.sleep(0.001)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert await ready.run(doubled, [b"a"]) == b"aa"


def test_the_process_ends_with_the_one_that_started_it_even_if_that_is_killed() -> None:
    program = (
        "import asyncio, os\n"
        "from proxy.offload import Offload\nfrom proxy.telemetry.metrics import Metrics\n"
        "from tests.unit.test_offload import until_elsewhere\n"
        "async def main():\n"
        "    print(await until_elsewhere(Offload(Metrics())), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert poll(lambda: not is_alive(int(ran.stdout)), PATIENCE_SECONDS)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
