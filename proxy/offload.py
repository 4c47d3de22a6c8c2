"""Work that would keep the event loop for more than a millisecond, done in a process beside it.

Rules of the file:

- Work is a function at the top level of a module. It is given buffers as they are, and the rest, like what it gives,
  as a pickle. So it pays where few objects go over for the time that it takes: numbers in text, not a million small
  points.
- All of it lies in memory that both have; a socket only tells how much. (1.6 MB through a pipe took the loop half as
  long as the work.)
- **It gets done.** While the process is not ready, and if it dies, says nothing in time or cannot be had, work is done
  here, at the expense of others' time.
- One piece of work at a time: who has more waits, and the loop serves others meanwhile.
- The process begins with the first work there is for it, and ends with this one: the socket tells it, even if this one
  is killed.

A process, since a thread would compete with the loop for the interpreter: searches beside it waited longer than if the
work had been done in turns of a millisecond on the loop (docs/performance.md has the figures).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import pickle
import signal
import socket
import struct
import sys
from asyncio import subprocess
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import blake2b
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Self, TypeVar

from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn

T = TypeVar("T")
_LONGEST_SECONDS = 10.0  # for one piece of work
_START_SECONDS = 30.0
_AGAIN_SECONDS = 10.0  # from one that has failed to the next
_END_SECONDS = 1.0
_PARTS = 1000  # written at once (IOV_MAX is 1024)
_KEPT_BYTES = 16 * 1024 * 1024  # more is given back once it is not needed
_SIZES = struct.Struct("<QQ")  # of the pickle, and of all
_log = logging.getLogger("crossfade.offload")


class _Outcome(Enum):
    GIVEN = 0
    RAISED = 1
    UNSAID = 2  # it was done, but what it gave cannot be sent


class Offload:
    """The process beside this one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._process: _Process | None = None  # once it is ready
        self._starting: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._not_before = 0.0
        self._closed = False

    async def run(self, work: Callable[..., T], data: Sequence[bytes], *given: object) -> T:
        """What `work(data, *given)` gives. Raises what it raises."""
        if self._process is None:
            self._start(work)
            return self._here(work, data, given)
        async with self._turn:
            try:
                async with asyncio.timeout(_LONGEST_SECONDS):
                    if self._process is None:  # meanwhile
                        raise EOFError("it is gone")
                    outcome, found = await self._process.ask(work, data, given)
            except Exception as error:  # noqa: BLE001  whatever it was, it can be done here
                self._lose(f"{type(error).__name__}: {error}")
                return self._here(work, data, given)
            except BaseException:  # nobody waits any more: what it says next answers nothing
                self._lose("its work was given up", logging.INFO)
                raise
        if outcome is _Outcome.UNSAID:
            return self._here(work, data, given)
        self._metrics.offloaded.add("beside")
        if outcome is _Outcome.GIVEN:
            return found  # type: ignore[return-value]  # as `work` gave it
        assert isinstance(found, Exception)
        raise found

    def _here(self, work: Callable[..., T], data: Sequence[bytes], given: tuple[object, ...]) -> T:
        self._metrics.offloaded.add("here")
        return work(data, *given)

    async def ready(self, work: Callable[..., object]) -> None:
        """Wait until such work is done in the process, or the process cannot be had."""
        self._start(work)
        if self._starting is not None:
            await asyncio.wait({self._starting})

    async def close(self) -> None:
        """Work is done here from now on."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if (process := self._process) is not None:
            self._process = None
            await process.end()
        await asyncio.gather(*self._ending)

    def _start(self, work: Callable[..., object]) -> None:
        now = asyncio.get_running_loop().time()
        if self._closed or self._process or self._starting is not None or now < self._not_before:
            return
        self._not_before = now + _AGAIN_SECONDS
        self._starting = spawn(self._make(work.__module__), name="start of the process beside")

    async def _make(self, module: str) -> None:
        made: _Process | None = None
        try:
            async with asyncio.timeout(_START_SECONDS):
                made = await _Process.begin()
                _, problem = await made.ask(_prepare, (), (_CODE, module))
                if problem is not None:
                    raise problem if isinstance(problem, Exception) else TypeError(f"it says {problem!r}")
        except Exception as error:  # noqa: BLE001  it is a help, not a need
            _log.warning("work cannot be done in a process beside this one", extra={"error": error})
            if made is not None:
                self._end(made)
        except BaseException:
            if made is not None:
                self._end(made)
            raise
        else:
            self._process = made
        finally:
            self._starting = None

    def _lose(self, why: str, level: int = logging.WARNING) -> None:
        if (lost := self._process) is not None:
            _log.log(level, "the process beside this one is lost; its work is done here", extra={"reason": why})
            self._process = None
            self._end(lost)

    def _end(self, process: _Process) -> None:
        process.kill()
        ending = spawn(process.end(), name="end of the process beside")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class _Process:
    """`memory`: a file that is nowhere but there."""

    def __init__(
        self, process: subprocess.Process, memory: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._memory = memory
        self._reader, self._writer = reader, writer

    @classmethod
    async def begin(cls) -> Self:
        """Raises OSError."""
        memory = os.memfd_create("crossfade offload")
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                inherited = (memory, theirs.fileno())
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-c", "from proxy.offload import main; main()", *map(str, inherited)),
                    pass_fds=inherited,
                    start_new_session=True,  # signals to a group are for those who serve
                )
            return cls(process, memory, *await asyncio.open_connection(sock=ours))
        except BaseException:
            ours.close()  # and the process, if there is one, ends
            os.close(memory)
            raise

    async def ask(
        self, work: Callable[..., object], data: Sequence[bytes], given: tuple[object, ...]
    ) -> tuple[_Outcome, object]:
        """What came of the work. Raises what says that the process is of no use."""
        asked = pickle.dumps((work, given, [len(each) for each in data]), pickle.HIGHEST_PROTOCOL)
        self._writer.write(_SIZES.pack(len(asked), _put(self._memory, (asked, *data))))
        number, size = _SIZES.unpack(await self._reader.readexactly(_SIZES.size))
        outcome = _Outcome(number)
        return outcome, None if outcome is _Outcome.UNSAID else pickle.loads(_got(self._memory, size))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Let it end, and see to it that it does."""
        self._writer.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        os.close(self._memory)


def _put(memory: int, parts: Sequence[bytes]) -> int:
    """From the start, one behind the other. Returns how many bytes they are."""
    at = 0
    for start in range(0, len(parts), _PARTS):
        some = parts[start : start + _PARTS]
        end = at + sum(map(len, some))
        while at < end:  # at once, but for gigabytes
            written = os.pwritev(memory, some, at)
            at += written
            if at < end:
                some = [b"".join(some)[written:]]
    if os.fstat(memory).st_size > max(at, _KEPT_BYTES):
        os.ftruncate(memory, at)
    return at


def _got(memory: int, size: int) -> bytes:
    """Raises EOFError if it is not there."""
    found = os.pread(memory, size, 0)
    if len(found) != size:
        raise EOFError(f"{len(found)} of {size} bytes were there")
    return found


# --- in the process ------------------------------------------------------------------------------------------


def main() -> None:
    """Work until there is no more input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the one that serves needs it until its own end
        signal.signal(number, signal.SIG_IGN)
    os.nice(10)  # who serves comes first
    memory, end = map(int, sys.argv[1:])
    with (
        contextlib.suppress(ConnectionError),
        socket.socket(fileno=end) as other,
        other.makefile("rb") as asked,
    ):
        while len(sizes := asked.read(_SIZES.size)) == _SIZES.size:
            outcome, size = _answer(memory, *_SIZES.unpack(sizes))
            other.sendall(_SIZES.pack(outcome.value, size))


def _answer(memory: int, head: int, size: int) -> tuple[_Outcome, int]:
    """What came of it, and how long what is there then is."""
    asked = _got(memory, size)
    work, given, lengths = pickle.loads(asked[:head])
    ends = list(accumulate(lengths, initial=head))
    data = [asked[start:end] for start, end in pairwise(ends)]
    found: object
    try:
        outcome, found = _Outcome.GIVEN, work(data, *given)
    except Exception as error:  # noqa: BLE001  it is raised there
        outcome, found = _Outcome.RAISED, error
    try:
        pickled = pickle.dumps(found, pickle.HIGHEST_PROTOCOL)
        if outcome is _Outcome.RAISED:
            pickle.loads(pickled)
    except Exception:  # noqa: BLE001  nested too deeply, for instance
        return _Outcome.UNSAID, 0
    return outcome, _put(memory, (pickled,))


def _prepare(_: Sequence[bytes], code: str, module: str) -> None:
    """So that the first work need not wait for what it imports. Raises RuntimeError if this is other code than that."""
    if code != _CODE:
        raise RuntimeError("another version has been installed meanwhile: restart with --take-over")
    importlib.import_module(module)


def _code() -> str:
    """Which code this is: pickles say what they hold by its place."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    told = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return blake2b(repr(told).encode(), digest_size=16).hexdigest()


_CODE = _code()  # when it was imported
