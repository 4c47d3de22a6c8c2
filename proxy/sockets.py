"""Handing the listening sockets to the next process, so that a restart or an upgrade drops no request.

The process that serves listens on a Unix socket in `data_dir`. The next one connects there, is given the sockets
themselves (not the addresses: a connection that waits to be accepted stays in the same queue), starts, and says that it
is ready. From then on the old one accepts nothing more, answers what it has, and ends. If the new one fails before,
nothing has changed. It takes those sockets that are where its own configuration says, and closes the others: as long as
anybody has one open, the system lets clients in whom nobody serves.

Of several that come at once each takes from the one before: it opens its own door before it says that it is ready, and
whoever waits at the old one is sent there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from proxy.telemetry.tasks import spawn

_READY = b"ready"
_SIZE = Struct(">I")
_LIMIT = 253  # sockets: SCM_MAX_FD of Linux
_PATIENCE_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_log = logging.getLogger("crossfade.handover")


def listening(host: str, port: int, backlog: int = 4096, *, shared: bool = False, apart: bool = False) -> socket.socket:
    """A new listening socket. Raises OSError if the address cannot be bound.

    shared: behind a port at which others listen too (SO_REUSEPORT): the system gives each connection to one of them.
    apart: the first of those; nobody else listens there.
    """
    if apart:
        alone = listening(host, port, backlog)
        port, shared = alone.getsockname()[1], True
        alone.close()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setblocking(False)
        made.bind((host, port))
        made.listen(backlog)
    except OSError as error:
        made.close()
        raise OSError(f"cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}") from error
    return made


def send_sockets(channel: socket.socket, sockets: Mapping[str, socket.socket]) -> None:
    """Over a stream, for `receive_sockets`. Raises OSError."""
    names = json.dumps(list(sockets)).encode()
    socket.send_fds(channel, [_SIZE.pack(len(names))], [each.fileno() for each in sockets.values()])
    channel.sendall(names)


def receive_sockets(channel: socket.socket) -> dict[str, socket.socket]:
    """What `send_sockets` has sent, by name; none if nobody is there any more."""
    size, descriptors, _, _ = socket.recv_fds(channel, _SIZE.size, _LIMIT)
    if len(size) < _SIZE.size:
        return {}
    names = b""
    while len(names) < _SIZE.unpack(size)[0]:
        if not (more := channel.recv(_SIZE.unpack(size)[0] - len(names))):
            return {}
        names += more
    return _named(json.loads(names), descriptors)


class Handover:
    """Offers `sockets`, by name, to whoever connects to `path`; calls `taken` once that process is ready."""

    def __init__(self, path: Path, sockets: Mapping[str, socket.socket], taken: Callable[[], None]) -> None:
        self._path = path
        self._sockets = sockets
        self._taken = taken
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._task: asyncio.Task[None] | None = None
        self.is_taken = False

    def start(self) -> None:
        """Raises OSError. The newest process has the door. (There is one at every moment: who comes meanwhile would
        take it that nobody serves.)"""
        made = self._path.with_name(f"{self._path.name[:-1]}~")  # no longer: 107 bytes are all that a socket may have
        made.unlink(missing_ok=True)
        self._door.setblocking(False)
        self._door.bind(str(made))
        os.chmod(made, 0o600)
        self._door.listen(16)
        made.replace(self._path)
        self._task = spawn(self._serve(), name="handover")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._door.close()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            next_process, _ = await loop.sock_accept(self._door)
            with next_process:
                next_process.setblocking(False)
                try:
                    names = json.dumps(list(self._sockets)).encode()
                    socket.send_fds(next_process, [names], [each.fileno() for each in self._sockets.values()])
                    said = await loop.sock_recv(next_process, len(_READY))
                except OSError as error:
                    _log.warning("the sockets were not taken over", extra={"error": error})
                    continue
                if said == _READY:
                    self._door.close()  # who waits there is hung up on, and goes to the new one
                    self.is_taken = True
                    self._taken()
                    return
                _log.warning("the process that took the sockets has ended; this one goes on")


class Inherited:
    """Listening sockets of the process before, by the names that they had there."""

    def __init__(self, sockets: Mapping[str, socket.socket] | None = None) -> None:
        self._sockets = dict(sockets or {})

    def take(self, name: str, host: str, port: int) -> socket.socket | None:
        """The one that listens there, if there is one; any port of the same name, if `port` is 0."""
        for each in sorted(self._sockets, key=lambda each: each != name):
            if (port or each == name) and _listens_at(self._sockets[each], host, port):
                return self._sockets.pop(each)
        return None

    def close(self) -> None:
        """Those that nobody has taken."""
        for name, each in self._sockets.items():
            _log.info("a socket of the process before is not used any more", extra={"listener": name})
            each.close()
        self._sockets.clear()


def _listens_at(sock: socket.socket, host: str, port: int) -> bool:
    bound = sock.getsockname()
    if port not in (0, bound[1]):
        return False
    try:
        meant = socket.getaddrinfo(host, port, sock.family, socket.SOCK_STREAM)
    except OSError:  # an address of the other family, or a name that is not known
        return False
    return any(address[0] == bound[0] for *_, address in meant)


@dataclass(frozen=True, slots=True)
class Taken:
    """Sockets of the process before, by name. `ready` tells it to end."""

    sockets: Mapping[str, socket.socket]
    _door: socket.socket

    def ready(self) -> None:
        with contextlib.suppress(OSError):  # it has ended by itself
            self._door.send(_READY)
        self._door.close()


def take(path: Path) -> Taken | None:
    """The sockets of the process that serves now; None if there is none, or if it ends."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (left_seconds := deadline - time.monotonic()) > 0:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        door.settimeout(left_seconds)
        try:
            door.connect(str(path))
        except OSError:
            door.close()
            return None
        try:
            names, descriptors, _, _ = socket.recv_fds(door, 65_536, _LIMIT)
        except OSError:
            names = b""
        if names:
            return Taken(_named(json.loads(names), descriptors), door)
        door.close()  # it is ending, or another process was faster, and has the door by now
        time.sleep(_RETRY_SECONDS)
    return None


def _named(names: Sequence[str], descriptors: Sequence[int]) -> dict[str, socket.socket]:
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    for each in sockets:
        each.setblocking(False)
        each.set_inheritable(False)  # recvmsg(2) gives them away otherwise to every child
    return dict(zip(names, sockets, strict=True))
