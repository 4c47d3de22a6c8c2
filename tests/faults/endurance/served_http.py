"""An upstream's HTTP/1.1: one request at a time on a connection, with bodies of stated length."""

from __future__ import annotations

import asyncio
from typing import cast

from tests.faults.endurance.messages import HEADER, Kind, http_body, number_in_json
from tests.faults.endurance.resets import Answered, Resets

_OTHER = b'{"result":true,"status":"ok","time":0.0}'
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_ID_LINE = f"\r\n{HEADER}: ".encode()


class HttpServed(asyncio.Protocol):
    """A connection."""

    way = "http"

    def __init__(self, resets: Resets) -> None:
        self._resets = resets
        self.answered = Answered()
        self.transport: asyncio.Transport
        self._head = b""  # part of one
        self._start = b""  # of a body that may hold the number
        self._missing_bytes = 0
        self._kind: Kind | None = None
        self._number = 0
        self._answering = False
        self._plan = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # of uvloop, which derives from nothing
        self._resets.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._resets.connections.discard(self)

    def under_way(self) -> list[int]:
        return [self._number] if self._number else []

    def is_idle(self) -> bool:
        return not (self._answering or self._missing_bytes or self._head)

    def data_received(self, data: bytes) -> None:
        self.take(data)
        self.heed()

    def heed(self) -> None:
        if self._plan == "request":
            self._resets.strike(self, "body" if self._missing_bytes else "request")
        elif self._answering and self._plan == "":
            if seconds := self._resets.late_seconds():
                asyncio.get_running_loop().call_later(seconds, self._answer)
            else:
                self._answer()
        elif self._answering:
            whole = self._answer_bytes()
            self.transport.write(whole[: self._resets.chance.randrange(1, len(whole))])
            self._resets.soon(lambda: self._resets.strike(self, "answer"))

    def take(self, data: bytes) -> None:
        while data:
            if not self._missing_bytes:
                head, end, data = (self._head + data).partition(b"\r\n\r\n")
                self._head = b"" if end else head
                if not end:
                    return
                self._begin(head)
            taken = data[: self._missing_bytes]
            if not self._number and self._kind == "search":
                self._start += taken[:64]
                self._know(number_in_json(self._start))
            self._missing_bytes -= len(taken)
            data = data[len(taken) :]
            self._answering = not self._missing_bytes

    def _begin(self, head: bytes) -> None:
        self._start, self._plan, self._number = b"", "", 0
        line, _, fields = head.partition(b"\r\n")
        self._kind = _http_kind(line)
        lower = (b"\r\n" + fields).lower()
        _, named, length = lower.partition(b"\r\ncontent-length:")
        self._missing_bytes = int(length.partition(b"\r\n")[0]) if named else 0
        _, named, number = lower.partition(_ID_LINE)
        if named:
            self._know(int(number.partition(b"\r\n")[0]))
        self._answering = not self._missing_bytes

    def _know(self, number: int) -> None:
        if number:
            self._number = number
            self._plan = self._resets.drawn(number, self.way, self._missing_bytes)

    def _answer_bytes(self) -> bytes:
        body = http_body(self._kind, self._number) if self._kind else _OTHER
        return _HEAD % len(body) + body

    def _answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._answer_bytes())
        self.answered.add(self._number)
        self._answering, self._number = False, 0


def _http_kind(line: bytes) -> Kind | None:
    if b"/points/query " in line:
        return "search"
    if b"/points/scroll " in line:
        return "large"
    if b"/points?" in line:
        return "write"
    return "fetch" if line.startswith(b"GET") and b"/points/" in line else None
