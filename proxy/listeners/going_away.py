"""How a gRPC server of grpc's is left by its clients without losing a call.

`grpc.aio.Server.stop` answers CANCELLED to a call that crosses its GOAWAY. What HTTP/2 has for this (RFC 9113, 6.8) is
a GOAWAY with the highest stream id there can be: the client opens no further call on that connection, and closes it
after the last; whatever it had sent is answered. grpc sends it for a connection's age only, not when asked. So it is
written into grpc's own connections here, between two of its writes: where nothing is left unsent, so that no frame is
cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
from collections.abc import Iterator

# length 8, type GOAWAY, no flags, stream 0; last stream: the highest there can be; NO_ERROR
_GOAWAY = bytes((0, 0, 8, 7, 0, 0, 0, 0, 0)) + struct.pack(">II", 2**31 - 1, 0)
_LOOK_SECONDS = 0.05


async def send_away(port: int, seconds: float) -> None:
    """Take no new connection at the local `port` of this process, and have the clients of the others leave. Returns
    when all have, or after so many seconds."""
    for found in _sockets_at(port):
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.shutdown(socket.SHUT_RDWR)
    told: set[str] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while _tell(port, told):  # noqa: ASYNC110  nobody says when a client has gone
                await asyncio.sleep(_LOOK_SECONDS)


def _tell(port: int, told: set[str]) -> bool:
    """Whether there are connections. The peers of those that have the GOAWAY are in `told`."""
    connected = False
    for found in _sockets_at(port):
        with contextlib.suppress(OSError):
            peer = str(found.getpeername())
            connected = True
            if peer not in told and not _unsent_bytes(found):
                found.send(_GOAWAY, socket.MSG_DONTWAIT)
                told.add(peer)
    return connected


def _unsent_bytes(found: socket.socket) -> int:
    """In the kernel, not acknowledged yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(found, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def _sockets_at(port: int) -> Iterator[socket.socket]:
    """This process's sockets of that local port, listening or connected: grpc does not hand them out."""
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.socket(fileno=os.dup(int(name))) as found:
                    if found.family in (socket.AF_INET, socket.AF_INET6) and found.getsockname()[1] == port:
                        yield found
