"""Several processes behind the same ports (`workers: N`), so that clients have as many cores.

    the first process       listeners, and alone: control API, probes, handover, the configuration file
      ├─► worker 1          listeners; a listening socket of its own behind each port (SO_REUSEPORT)
      └─► worker 2          ...

Each is a whole owner of the journal (replication/owners.py). Why so: that several processes on one machine write the
same keys through one journal is what the protocol allows anyway, what its model checks, and what the fault matrix
plays. Nothing of the order of writes is new here. The first has joined first, so it leads: jobs and sweeps are its.

Rules of the file:

- The first process has every socket. A worker that ends is started again with those that it had: who connects meanwhile
  waits in the queue.
- Workers never look at the configuration's file. They are given the text that is in force, at their start and whenever
  it is replaced, so that all of them serve by the same one.
- A worker ends when it is told to, or when the first process is gone, however that came.
- A worker that hangs holds up its share of the clients: the first process asks each whether it is there, tells who does
  not answer, and kills it in the end, which loses nothing. It counts its own turns, not seconds: whoever froze both of
  them (a container, a machine that swaps) has not made one late for the other.

What they say to each other is a line of JSON at a time, over a socket that the worker inherits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.sockets import receive_sockets, send_sockets
from proxy.telemetry.tasks import spawn

_READY_SECONDS = 30.0
_AGAIN_SECONDS = 1.0  # before one that has ended is started again
_PAGE_SECONDS = 5.0
_TURN_SECONDS = 1.0  # between two questions whether it is there
_TOLD_TURNS, _KILLED_TURNS = 3, 15  # without an answer
_LINE_BYTES = 64 * 1024 * 1024
_log = logging.getLogger("crossfade.workers")


class Workers:
    """The workers of this process. `sockets`: the listening sockets of each, by the names of listeners. `text` gives
    the configuration in force."""

    def __init__(
        self, config_path: Path, text: Callable[[], str], sockets: Sequence[Mapping[str, socket.socket]]
    ) -> None:
        self._workers = [_Worker(number, config_path, text, own) for number, own in enumerate(sockets, start=1)]

    async def start(self) -> None:
        """Returns once all of them serve; or without those that do not come to it, which are tried again."""
        for worker in self._workers:
            worker.start()
        for worker in self._workers:
            try:
                async with asyncio.timeout(_READY_SECONDS):
                    await worker.serves.wait()
            except TimeoutError:
                _log.error("a worker does not come to serve; it is tried again", extra={"worker": worker.number})

    @property
    def missing(self) -> str | None:
        """Which do not serve now, and why; None if all do."""
        problems = [f"worker {worker.number} {problem}" for worker in self._workers if (problem := worker.problem)]
        return ", ".join(problems) or None

    def configure(self, text: str) -> None:
        """Have all of them take this configuration."""
        for worker in self._workers:
            worker.tell({"do": "configure", "text": text})

    async def pages(self) -> dict[str, str]:
        """What the metrics of each that answers say, by its number."""
        answers = await asyncio.gather(*(worker.page() for worker in self._workers))
        return {
            str(worker.number): page for worker, page in zip(self._workers, answers, strict=True) if page is not None
        }

    async def stop(self, at_most_seconds: float, linger_seconds: float) -> None:
        """Let them answer what they have."""
        await asyncio.gather(*(worker.stop(at_most_seconds, linger_seconds) for worker in self._workers))


class _Worker:
    """One, also while it is started again."""

    def __init__(
        self, number: int, config_path: Path, text: Callable[[], str], sockets: Mapping[str, socket.socket]
    ) -> None:
        self.number = number
        self.serves = asyncio.Event()
        self._config_path = config_path
        self._text = text
        self._sockets = sockets
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._page: asyncio.Future[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._unanswered = 0  # turns in a row

    @property
    def problem(self) -> str | None:
        """Why it does not serve now; None if it does."""
        if not self.serves.is_set():
            return "is not serving"
        return f"has not answered for {self._unanswered} s" if self._unanswered >= _TOLD_TURNS else None

    def start(self) -> None:
        self._task = spawn(self._keep(), name=f"worker {self.number}")

    def tell(self, message: Mapping[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def page(self) -> str | None:
        if not self.serves.is_set():
            return None
        if self._page is None or self._page.done():
            self._page = asyncio.get_running_loop().create_future()
            self.tell({"do": "page"})
        try:
            async with asyncio.timeout(_PAGE_SECONDS):
                return await asyncio.shield(self._page)
        except (TimeoutError, asyncio.CancelledError):  # cancelled: it has ended
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return None

    async def stop(self, at_most_seconds: float, linger_seconds: float) -> None:
        self._stopping = True
        self.tell({"do": "stop", "linger_seconds": linger_seconds})
        if self._task is None:
            return
        _, late = await asyncio.wait({self._task}, timeout=at_most_seconds)
        if late:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._stopping:
            try:
                await self._run()
            except Exception as error:  # noqa: BLE001  whatever it was, there has to be a worker
                _log.error("a worker cannot be kept", extra={"worker": self.number, "error": error})
            if not self._stopping:
                _log.error("a worker has ended, and is started again", extra={"worker": self.number})
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _run(self) -> None:
        """From its start to its end. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            channel = str(theirs.fileno())
            program = ("-P", "-c", "from proxy.cli import main; main()", "serve", "--config", str(self._config_path))
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *program,
                "--worker",
                str(self.number),
                "--channel",
                channel,
                pass_fds=(theirs.fileno(),),
            )
        send_sockets(ours, self._sockets)
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
        watch = spawn(self._watch(self._process), name=f"watch of worker {self.number}")
        try:
            self.tell({"do": "configure", "text": self._text()})
            if self._stopping:  # meanwhile
                self.tell({"do": "stop", "linger_seconds": 0.0})
            while line := await reader.readline():
                self._heed(json.loads(line))
        except ConnectionError:
            pass  # it has ended
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            raise
        finally:
            watch.cancel()
            self.serves.clear()
            self._writer.close()
            if self._page is not None:
                self._page.cancel()
            await self._process.wait()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """While it serves: kill it if it does not answer."""
        self._unanswered = 0
        while True:
            await asyncio.sleep(_TURN_SECONDS)
            if not self.serves.is_set() or self._stopping:
                continue
            if self._unanswered == _TOLD_TURNS:
                _log.error("a worker does not answer", extra={"worker": self.number})
            if self._unanswered >= _KILLED_TURNS:
                _log.error("a worker does not answer, and is killed", extra={"worker": self.number})
                with contextlib.suppress(ProcessLookupError):  # it has ended just now
                    process.kill()
                return
            self._unanswered += 1
            self.tell({"do": "answer"})

    def _heed(self, message: Mapping[str, Any]) -> None:
        self._unanswered = 0
        if message.get("serves"):
            self.serves.set()
        page = message.get("page")
        if page is not None and self._page is not None and not self._page.done():
            self._page.set_result(page)


class Channel:
    """A worker's end. `descriptor`: of the socket that it has inherited."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)  # whoever holds it, holds up the news of this one's end
        self.sockets = receive_sockets(self._socket)
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None

    async def first(self) -> str:
        """The configuration to start with. Raises ConnectionError if the first process is gone."""
        self._socket.setblocking(False)
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=_LINE_BYTES)
        message = await self._next()
        if message is None:
            raise ConnectionResetError("the process that started this worker is gone")
        return str(message["text"])

    def serves(self) -> None:
        self._tell({"serves": True})

    async def heed(self, configure: Callable[[str], None], page: Callable[[], bytes]) -> float:
        """Do as told, until it is to stop: for how long idle connections are to stay."""
        while (message := await self._next()) is not None:
            match message["do"]:
                case "configure":
                    configure(message["text"])
                case "page":
                    self._tell({"page": page().decode()})
                case "answer":
                    self._tell({"answers": True})
                case "stop":
                    return float(message["linger_seconds"])
        return 0.0

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _next(self) -> Mapping[str, Any] | None:
        assert self._reader is not None
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return dict(json.loads(line)) if line else None
