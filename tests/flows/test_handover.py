"""A gRPC socket that one process takes over from another: no call fails, whenever it comes and however large it is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from examples.engines import free_ports, poll
from tests.support.grpc_echo import LINGER_SECONDS, METHOD, GrpcEcho, new_channel

LARGE = b"x" * 600_000
SMALL = b"x" * 300


@dataclass
class Callers:
    """Threads that call without a pause. `answered`: how many calls, by process id."""

    address: str
    answered: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def stay(self, message: bytes) -> None:
        with new_channel(self.address) as channel:
            while not self.ended.is_set():
                self._call(channel, message)

    def come_and_go(self) -> None:
        while not self.ended.is_set():
            with new_channel(self.address) as channel:
                self._call(channel, SMALL)

    def _call(self, channel: grpc.Channel, message: bytes) -> None:
        try:
            answer: bytes = channel.unary_unary(METHOD)(message, timeout=20)
        except grpc.RpcError as error:
            self.errors.append(str(error))
        else:
            pid = int(answer.removesuffix(message))
            self.answered[pid] = self.answered.get(pid, 0) + 1


@contextmanager
def calling(address: str) -> Iterator[Callers]:
    callers = Callers(address)
    work: list[Callable[[], None]] = [callers.come_and_go] * 2
    work += [partial(callers.stay, message) for message in [SMALL, LARGE] * 3]
    with ThreadPoolExecutor(len(work)) as pool:
        threads = [pool.submit(each) for each in work]
        try:
            yield callers
        finally:
            callers.ended.set()
        for thread in threads:
            thread.result()


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_who_takes_a_port_over_loses_no_call(tmp_path: Path, running: ExitStack) -> None:
    (port,) = free_ports(1)
    processes = [GrpcEcho(tmp_path / str(number), tmp_path / "handover.sock", port) for number in range(8)]
    first = processes[0]
    running.callback(first.stop)
    pids = [first.start().pid]
    with calling(first.address) as callers:
        for old, new in pairwise(processes):
            running.callback(new.stop)
            pids.append(new.start().pid)
            assert poll(lambda: not old.is_running(), LINGER_SECONDS)  # noqa: B023
            answered = callers.answered.get(pids[-1] or 0, 0)
            assert poll(lambda: callers.answered.get(pids[-1] or 0, 0) > answered + 100, LINGER_SECONDS)  # noqa: B023
    assert callers.errors == []
    assert set(callers.answered) == set(pids)
