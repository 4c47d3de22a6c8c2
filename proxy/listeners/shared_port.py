"""Leaving a port that another process has begun to share (SO_REUSEPORT), so that no client notices. For gRPC's library,
which opens its sockets itself and gives nobody a hand in them. On Linux; elsewhere nothing is waited for.

The kernel deals new connections to all who listen there, and closing a socket resets those that wait in it. So first a
filter has the kernel deal to the next process alone; then, empty, the socket is closed. The library is left with one to
which nobody connects, under the same number.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# linux/asm-generic/socket.h; struct sock_filter and sock_fprog of linux/filter.h
_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_RETURN_CONSTANT = 0x06
_NEXT = 1  # the kernel counts in the order of their listening, from 0; one that leaves is taken out
_SHAKING_HANDS_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 0.2
_DESCRIPTORS = Path("/proc/self/fd")


async def leave(port: int, within_seconds: float) -> None:
    """Take no new connection on `port`, and wait until those there are have ended, for at most `within_seconds`."""
    deadline = time.monotonic() + within_seconds
    for number in _listening(port):
        with _socket(number) as listening:
            _deal_to_the_next(listening)
    await asyncio.sleep(_SHAKING_HANDS_SECONDS)
    for number in _listening(port):
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind("")  # a name that the kernel makes up
            nobody.listen()
            os.dup2(nobody.fileno(), number, inheritable=False)
    while time.monotonic() < deadline:
        if not _connections(port):
            return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


def _deal_to_the_next(listening: socket.socket) -> None:
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN_CONSTANT, 0, 0, _NEXT))
    pointer = struct.pack("@HP", 1, ctypes.addressof(program))
    with contextlib.suppress(OSError):  # an old kernel: a connection that comes just now is reset
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, pointer)


def _listening(port: int) -> list[int]:
    return [number for number, listens in _sockets(port) if listens]


def _connections(port: int) -> list[int]:
    return [number for number, listens in _sockets(port) if not listens]


def _sockets(port: int) -> Iterator[tuple[int, bool]]:
    """The descriptors of this process's TCP sockets on `port`, and whether each listens."""
    for entry in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        with contextlib.suppress(OSError):  # it has been closed meanwhile
            if not os.readlink(entry).startswith("socket:"):
                continue
            with _socket(int(entry.name)) as found:
                if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                    yield int(entry.name), bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


@contextmanager
def _socket(number: int) -> Iterator[socket.socket]:
    """Somebody else's socket, which stays open."""
    with socket.socket(fileno=os.dup(number)) as found:
        yield found
