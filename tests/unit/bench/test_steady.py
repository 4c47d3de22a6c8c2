"""bench/load/steady.py: when requests are meant to be sent, and that one which waits counts with its waiting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from bench.load import Answer, Steady, steady
from bench.load.steady import moments

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class TestMoments:
    def test_come_at_the_rate_on_average(self) -> None:
        assert len(moments(1000, 20.0)) == pytest.approx(20_000, rel=0.03)

    def test_are_in_order_and_within_the_time(self) -> None:
        found = moments(500, 2.0)
        assert found == sorted(found)
        assert 0 < found[0] < found[-1] < 2.0

    def test_are_the_same_for_every_arm(self) -> None:
        assert moments(500, 2.0) == moments(500, 2.0)

    def test_are_not_evenly_spaced(self) -> None:
        found = moments(1000, 5.0)
        gaps = [after - before for before, after in pairwise(found)]
        assert min(gaps) < 0.0001
        assert max(gaps) > 0.005


@contextmanager
def server(answer: bytes) -> Iterator[str]:
    """Sends `answer` after every request that ends in "}", to as many connections as come; its address."""

    def serve(connection: socket.socket) -> None:
        received = b""
        with connection:
            while data := connection.recv(1 << 16):
                received += data
                if received.endswith(b"}"):
                    received = b""
                    connection.sendall(answer)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def run(answer: bytes, connections: int = 2) -> Answer:
    with server(answer) as address:
        return steady.run(
            Steady(
                address=address,
                work="search",
                collection="docs",
                rate=100,
                connections=connections,
                warm_seconds=0.1,
                seconds=0.2,
            )
        )


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take its time: what is answered at all counts as answered."""
    monkeypatch.setattr(steady, "_GRACE_SECONDS", 60.0)


MEANT = sum(at >= 0.1 for at in moments(100, 0.1 + 0.2))


@pytest.mark.parametrize("answer", [ANSWER, CHUNKED])
def test_every_request_that_was_not_meant_for_the_warm_up_counts_once(answer: bytes) -> None:
    found = run(answer)
    assert (found.requests, found.unanswered, found.failure) == (MEANT, 0, "")
    assert len(found.latencies_seconds) == MEANT


def test_what_has_no_answer_counts_with_its_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "_GRACE_SECONDS", 0.0)
    found = run(b"", connections=1)
    assert (found.requests, found.unanswered) == (0, MEANT)
    # The first of them has waited for all the time that was left, though the one connection never took it.
    first = next(at for at in moments(100, 0.3) if at >= 0.1)
    assert max(found.latencies_seconds) >= 0.3 - first


def test_an_error_ends_it_and_is_told() -> None:
    assert run(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").failure.startswith("HTTP/1.1 503 Busy")
