"""Who gets which socket of the process before; and processes that meet at the door at the wrong moment."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from proxy.sockets import Handover, Inherited, listening, take
from tests.support.sockets import is_refused


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def inherited(opened: ExitStack) -> tuple[Inherited, socket.socket, socket.socket]:
    first, second = (opened.enter_context(listening("127.0.0.1", 0)) for _ in range(2))
    return Inherited({"first": first, "second": second}), first, second


def test_a_socket_is_taken_by_its_address(opened: ExitStack) -> None:
    sockets, first, second = inherited(opened)
    assert sockets.take("second", "127.0.0.1", port_of(first)) is first
    assert sockets.take("another", "localhost", port_of(second)) is second


def test_a_socket_is_taken_by_its_name_where_any_port_will_do(opened: ExitStack) -> None:
    sockets, _, second = inherited(opened)
    assert sockets.take("another", "127.0.0.1", 0) is None
    assert sockets.take("second", "127.0.0.1", 0) is second
    assert sockets.take("second", "127.0.0.1", 0) is None


@pytest.mark.parametrize("host", ["127.0.0.2", "0.0.0.0", "::1"])
def test_a_socket_at_another_address_is_not_taken(opened: ExitStack, host: str) -> None:
    sockets, first, _ = inherited(opened)
    assert sockets.take("first", host, port_of(first)) is None
    assert sockets.take("first", host, 0) is None


def test_what_nobody_takes_is_closed(opened: ExitStack) -> None:
    sockets, first, second = inherited(opened)
    ports = port_of(first), port_of(second)
    assert sockets.take("first", "127.0.0.1", ports[0]) is first
    sockets.close()
    assert [is_refused(port) for port in ports] == [False, True]


def test_from_a_process_that_is_ending_nothing_is_taken(tmp_path: Path, opened: ExitStack) -> None:
    path = tmp_path / "door"
    assert take(path) is None
    door = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    door.bind(str(path))
    door.listen(1)
    pool = opened.enter_context(ThreadPoolExecutor(1))
    ending = pool.submit(lambda: door.accept()[0].close())
    assert take(path) is None
    ending.result()


async def test_of_two_that_come_at_once_the_second_takes_from_the_first(tmp_path: Path, opened: ExitStack) -> None:
    path, sock = tmp_path / "door", opened.enter_context(listening("127.0.0.1", 0))
    ended = [asyncio.Event(), asyncio.Event()]
    old = Handover(path, {"first": sock}, ended[0].set)
    old.start()
    takers = [asyncio.ensure_future(asyncio.to_thread(take, path)) for _ in range(2)]  # noqa: TID251
    (done,), (waits,) = await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    taken = done.result()
    assert taken is not None
    new = Handover(path, taken.sockets, ended[1].set)
    new.start()
    taken.ready()
    await asyncio.wait_for(ended[0].wait(), 10)
    assert old.is_taken
    last = await waits
    assert last is not None
    assert not new.is_taken
    last.ready()
    await asyncio.wait_for(ended[1].wait(), 10)
    assert last.sockets["first"].getsockname() == sock.getsockname()
    for each in (taken.sockets["first"], last.sockets["first"]):
        each.close()
    await old.close()
    await new.close()


async def test_there_is_a_door_at_every_moment(tmp_path: Path, opened: ExitStack) -> None:
    path, sock = tmp_path / "door", opened.enter_context(listening("127.0.0.1", 0))
    doors = [Handover(path, {"first": sock}, lambda: None) for _ in range(200)]
    doors[0].start()
    ends = asyncio.Event()

    def knock() -> int:
        refused = 0
        while not ends.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as knocking:
                refused += knocking.connect_ex(str(path)) != 0
        return refused

    knocking = asyncio.ensure_future(asyncio.to_thread(knock))  # noqa: TID251
    for door in doors[1:]:
        door.start()
        await asyncio.sleep(0.001)
    ends.set()
    assert await knocking == 0
    for door in doors:
        await door.close()


async def test_a_door_may_be_as_deep_as_a_socket_may_be(opened: ExitStack) -> None:
    deep = Path(opened.enter_context(TemporaryDirectory(dir="/tmp")))
    path = deep / ("d" * (107 - len(str(deep)) - 1))
    sock = opened.enter_context(listening("127.0.0.1", 0))
    door = Handover(path, {"first": sock}, lambda: None)
    door.start()
    taken = await asyncio.to_thread(take, path)
    assert taken is not None
    assert os.listdir(deep) == [path.name]
    await door.close()
    taken.sockets["first"].close()
    taken.ready()


async def test_a_process_that_takes_and_dies_changes_nothing(tmp_path: Path, opened: ExitStack) -> None:
    path, sock = tmp_path / "door", opened.enter_context(listening("127.0.0.1", 0))
    ended = asyncio.Event()
    old = Handover(path, {"first": sock}, ended.set)
    old.start()
    for ends_well in (False, True):
        taken = await asyncio.to_thread(take, path)
        assert taken is not None
        taken.sockets["first"].close()
        if ends_well:
            taken.ready()
        else:
            taken._door.close()
    await asyncio.wait_for(ended.wait(), 10)
    await old.close()
