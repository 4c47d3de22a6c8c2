"""A relay in front of a store's port that can fail as a network, a load balancer or an overloaded server does.

It stands at `port` and passes bytes on to the store's own port. What it can do to the requests of a while:

- `REFUSED`   its listener is closed and its connections are reset: nobody can send anything;
- `HELD`      what arrives is kept (a call of a few bytes passes: it writes no point), and lands with `heal`, even if
              its sender is gone by then. After `pass_others` new connections are served again meanwhile: what was kept
              then lands behind newer requests. What its sender sent after it (that it has given up) does not;
- `SENT`      a whole request was received, then its connection is reset. It reaches the store or not;
- `APPLIED`   the store's answer has come back, is thrown away, and the connection is reset;
              (both by chance: every other request passes, so that the sender goes on sending)
- `SLOW`      every piece waits `SLOW_SECONDS`, in both directions;
- `divert`    another server answers in the store's place (stand_ins.py).

Requests are told apart in HTTP/1.1 by their stated length and in HTTP/2 by frames (RFC 9113, section 4.1), so that a
connection that only shakes hands is not reset: to gRPC that would be a server that takes no connections.
"""

from __future__ import annotations

import contextlib
import enum
import random
import re
import socket
import struct
import threading
from types import TracebackType
from typing import Protocol, Self

SLOW_SECONDS = 0.05
_BIG_BYTES = 256
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _END_STREAM = 0, 1, 1
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Mode(enum.Enum):
    PASS = enum.auto()
    REFUSED = enum.auto()
    HELD = enum.auto()
    SENT = enum.auto()
    APPLIED = enum.auto()
    SLOW = enum.auto()


class Reading(Protocol):
    """Reads one direction of a connection; `take` says whether a message was completed by these bytes."""

    def take(self, received: bytes) -> bool: ...


class HttpRequests:
    """HTTP/1.1 requests, one at a time: head, then a body of stated length or in chunks."""

    def __init__(self) -> None:
        self._request = b""

    def take(self, received: bytes) -> bool:
        self._request += received
        head, found, body = self._request.partition(b"\r\n\r\n")
        if not found:
            return False
        length = _LENGTH.search(head)
        if length is None and b"\r\ntransfer-encoding:" in head.lower():
            complete = body.endswith(b"0\r\n\r\n")
        else:
            complete = len(body) >= (int(length[1]) if length else 0)
        if complete:
            self._request = b""
        return complete


class Frames:
    """HTTP/2: a request is complete with the frame that ends its stream; an answer shows with its first headers."""

    def __init__(self, preface: bool) -> None:
        self._requests = preface
        self._skip = len(_PREFACE) if preface else 0
        self._left = b""

    def take(self, received: bytes) -> bool:
        skipped = min(self._skip, len(received))
        self._skip -= skipped
        self._left += received[skipped:]
        complete = False
        while len(self._left) >= 9:
            length = int.from_bytes(self._left[:3], "big")
            if len(self._left) < 9 + length:
                break
            kind, flags = self._left[3], self._left[4]
            complete |= kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM) if self._requests else kind == _HEADERS
            self._left = self._left[9 + length :]
        return complete


class AnyBytes:
    """HTTP/1.1 answers: the first bytes show one."""

    def take(self, received: bytes) -> bool:
        return bool(received)


def readings(first: bytes) -> tuple[Reading, Reading]:
    """For both directions of a connection that begins with these bytes."""
    if first.startswith(_PREFACE[:3]):
        return Frames(preface=True), Frames(preface=False)
    return HttpRequests(), AnyBytes()


def _reset(connection: socket.socket) -> None:
    """RST instead of FIN; wakes a thread that reads from it."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD)
    connection.close()


class _Line:
    """One connection: the sender's and the store's end."""

    def __init__(self, sender: socket.socket, store: socket.socket) -> None:
        self.sender = sender
        self.store = store
        self.stays = False  # the sender is gone, and the store works on undisturbed until all lines are reset

    def reset(self) -> None:
        _reset(self.sender)
        _reset(self.store)


class FaultRelay:
    """See the file's head. `struck` counts the requests that were reset or landed late."""

    def __init__(self, port: int) -> None:
        self._store_port = port
        self._to = port
        self._mode = Mode.PASS
        self._passing = threading.Event()
        self._passing.set()
        self._ended = threading.Event()
        self._lines: set[_Line] = set()
        self._lock = threading.Lock()
        self._chance = random.Random(port)
        self.struck = 0
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def strike(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.HELD:
            self._passing.clear()
        if mode is Mode.REFUSED:
            self._close_listener()
            self._reset_all()

    def pass_others(self) -> None:
        """What has been kept stays so until `heal`; what comes from now on by other connections passes."""
        self._mode = Mode.PASS

    def divert(self, port: int) -> None:
        """From now on whoever connects gets to the server at `port`; connections there are reset, so they do."""
        self._to = port
        self._reset_all()

    def heal(self) -> None:
        diverted, self._to = self._to != self._store_port, self._store_port
        self._mode = Mode.PASS
        self._passing.set()
        if diverted:
            self._reset_all()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._passing.set()
        self._close_listener()
        self._reset_all()

    # --- connections -----------------------------------------------------------------------------

    def _close_listener(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
            self._listener.close()
            self._listener = None

    def _reset_all(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, set()
        for line in lines:
            line.reset()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sender, _ = listener.accept()
            except OSError:
                return
            try:
                store = socket.create_connection(("127.0.0.1", self._to), timeout=5)
            except OSError:
                _reset(sender)
                continue
            store.settimeout(None)
            for end in (sender, store):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = _Line(sender, store)
            with self._lock:
                self._lines.add(line)
            threading.Thread(target=self._requests, args=(line,), daemon=True).start()

    def _requests(self, line: _Line) -> None:
        """From the sender to the store; starts the other direction with the first bytes."""
        received = _received(line.sender)
        requests, answers = readings(received)
        back = threading.Thread(target=self._answers, args=(line, answers), daemon=True)
        back.start()
        while received:
            complete = requests.take(received)
            if self._mode is Mode.HELD and len(received) >= _BIG_BYTES:
                self._passing.wait()
                with contextlib.suppress(OSError):
                    line.store.sendall(received)
                    self.struck += complete
                _reset(line.sender)
                line.stays = True
                break
            if self._mode is Mode.SLOW:
                self._ended.wait(SLOW_SECONDS)
            if self._mode is Mode.SENT and complete and self._chance.random() < 0.5:
                self.struck += 1
                _reset(line.sender)
                line.stays = True
                if self._chance.random() < 0.5:
                    break
            try:
                line.store.sendall(received)
            except OSError:
                break
            received = _received(line.sender)
        if not line.stays:
            with contextlib.suppress(OSError):
                line.store.shutdown(socket.SHUT_WR)
        back.join()
        with self._lock:
            self._lines.discard(line)
        line.sender.close()
        line.store.close()

    def _answers(self, line: _Line, answers: Reading) -> None:
        while received := _received(line.store):
            if self._mode is Mode.SLOW:
                self._ended.wait(SLOW_SECONDS)
            if self._mode is Mode.APPLIED and answers.take(received) and self._chance.random() < 0.5:
                self.struck += 1
                _reset(line.sender)
                continue
            with contextlib.suppress(OSError):  # who asked is gone; what was asked is carried out all the same
                line.sender.sendall(received)
        with contextlib.suppress(OSError):
            line.sender.shutdown(socket.SHUT_WR)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:
        return b""
