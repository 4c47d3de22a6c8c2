"""Real vector databases as child processes, for tests, the demo and the benchmark.

The contract of every engine here: it listens on 127.0.0.1 at ports that were free, `start` returns when it
answers, `kill` is a crash (SIGKILL) after which `start` finds the same data at the same address, `stop` leaves
nothing running, whatever state it is in. A child dies with the process that started it.

Engines: `MilvusLite` (pure Python, ready in under a second) and `MilvusServer` (the full Milvus 2.3.5, all roles in
one process, about 4 s; its 246 MB of binaries are unpacked once into a cache). Nothing in `proxy/` imports this.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

_PR_SET_PDEATHSIG = 1
_PORTS, _PART = range(20_000, 32_000), 1000


class EngineError(Exception):
    """An engine did not start, or died; the message ends with the tail of its log."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, below the range that outgoing connections take theirs from. One after
    the other, from a part that is this process's: not those that others were given just now and do not listen on yet.
    """
    found: dict[int, socket.socket] = {}
    ports = _own_ports()
    while len(found) < count:
        port = next(ports)
        listener = socket.socket()
        try:
            listener.bind(("0.0.0.0", port))
        except OSError:
            listener.close()
        else:
            found[port] = listener
    for listener in found.values():
        listener.close()
    return list(found)


@functools.cache
def _own_ports() -> Iterator[int]:
    """A part of the range, for as long as this process runs; all of it if every part is somebody's."""
    chance = random.SystemRandom()  # not the generator that a test may have seeded, alike in all of them
    parts = [_PORTS[start : start + _PART] for start in range(0, len(_PORTS), _PART)]
    for part in chance.sample(parts, len(parts)):
        if _take(Path(tempfile.gettempdir()) / f"crossfade-ports-{part.start}"):
            break
    else:
        part = _PORTS
    return itertools.islice(itertools.cycle(part), chance.randrange(len(part)), None)


def _take(path: Path) -> bool:
    """Lock the file for as long as this process runs, in which it stays open; False if another process has."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:  # another user's
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    return True


def _dying_with_parent(command: Sequence[str]) -> list[str]:
    """`command`, killed when the parent is gone (Linux; elsewhere a crash of the parent leaks). It is a program between
    the two, since a function between fork and exec can hang in a parent that has threads."""
    if sys.platform != "linux":
        return list(command)
    code = f"import ctypes, os, sys; ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {signal.SIGKILL:d}); "
    return [sys.executable, "-I", "-S", "-c", code + "os.execvp(sys.argv[1], sys.argv[1:])", *command]


def accepts(address: str) -> bool:
    """Whether a TCP connection to "host:port" is taken."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def poll(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Whether `condition` came true in time. Only for other programs, which cannot signal us."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class ChildProcess:
    """One program with its data directory. A subclass says how to start it and when it answers."""

    start_timeout_seconds = 60.0
    stop_grace_seconds = 3.0

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.address = f"127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return {}

    def answers(self) -> bool:
        return accepts(self.address)

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is not running."""
        return self._process.pid if self._process is not None and self.is_running() else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it answers. Raises EngineError."""
        if self.is_running():
            return self
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                _dying_with_parent(self.command()),
                cwd=self.directory,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        poll(lambda: not self.is_running() or self.answers(), self.start_timeout_seconds)
        if not self.is_running() or not self.answers():
            self.kill()
            raise EngineError(f"{type(self).__name__} at {self.address} did not start:\n{self.log_tail()}")
        return self

    def stop(self) -> None:
        """SIGTERM, then SIGKILL for what is left after a grace period."""
        if self._process is not None and self.is_running():
            self.resume()
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_grace_seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole process group, as a crash would end it; returns when it is gone."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """A crash and a new start, on the same data and address."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop it from answering without closing its connections (SIGSTOP). It has stopped when this returns."""
        self._signal(signal.SIGSTOP)
        if self._process is not None:
            with contextlib.suppress(ChildProcessError):  # it has ended
                os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def log_tail(self, size_bytes: int = 4000) -> str:
        with contextlib.suppress(OSError):
            return (self.directory / "engine.log").read_bytes()[-size_bytes:].decode(errors="replace")
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class MilvusLite(ChildProcess):
    """`milvus-lite server`. One process a directory. Writes to a collection must come one at a time: with one of its
    `workers` it carries out one request at a time, and loses nothing that it acknowledged, whatever is sent at once.

    `start` removes what a crash in the middle of making or dropping a collection leaves, as its operator would have
    to: a directory without a schema, which Lite neither lists nor drops, and over which it makes no collection.
    """

    def __init__(self, directory: Path, port: int | None = None, *, workers: int = 10) -> None:
        self._port = port or free_ports(1)[0]
        self._workers = workers
        super().__init__(directory, self._port)

    def command(self) -> list[str]:
        program = Path(sys.executable).with_name("milvus-lite")
        return [
            *([str(program)] if program.exists() else [sys.executable, "-m", "milvus_lite"]),
            *("server", "--data-dir", str(self.directory / "data"), "--host", "127.0.0.1", "--port", str(self._port)),
            *("--max-workers", str(self._workers)),
        ]

    def start(self) -> Self:
        if not self.is_running():
            for collection in (self.directory / "data/collections").glob("*/"):
                if not (collection / "schema.json").exists():
                    shutil.rmtree(collection)
        return super().start()


# The sections of its configuration that have a port of their own.
_MILVUS_ROLES = ("proxy", "rootCoord", "dataCoord", "queryCoord", "queryNode", "dataNode", "indexNode")


class MilvusServer(ChildProcess):
    """The full Milvus 2.3.5 from the PyPI package `milvus`, as one standalone process with its own etcd.

    `session_ttl_seconds`: how long a dead server's leases live. 3 makes it usable 4 s after a crash (the vendor's
    30 takes 27 s), but a server that is paused longer than that needs a restart. `time_tick_milliseconds`: how
    often time advances, which a strongly consistent read waits for.
    """

    start_timeout_seconds = 120.0

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        session_ttl_seconds: int = 3,
        time_tick_milliseconds: int = 20,
    ) -> None:
        chosen, *rest = free_ports(4 + len(_MILVUS_ROLES))
        super().__init__(directory, port or chosen)
        self._port = port or chosen
        self._metrics_port, self._etcd_port, self._etcd_peer_port, self._internal_port, *self._role_ports = rest
        self._session_ttl_seconds = session_ttl_seconds
        self._time_tick_milliseconds = time_tick_milliseconds

    def command(self) -> list[str]:
        (self.directory / "configs").mkdir(exist_ok=True)
        (self.directory / "logs").mkdir(exist_ok=True)
        (self.directory / "configs/milvus.yaml").write_text(yaml.safe_dump(self._configuration()))
        (self.directory / "configs/embedEtcd.yaml").write_text(yaml.safe_dump(self._etcd_configuration()))
        (self.directory / "configs/glog.conf").write_text("--logtostdout=true\n--minloglevel=2\n")
        return [str(_milvus_binaries() / "milvus"), "run", "standalone"]

    def environment(self) -> Mapping[str, str]:
        return {
            "LD_LIBRARY_PATH": str(_milvus_binaries()),
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self._metrics_port),
            "MILVUS_RUN_DIR": str(self.directory / "run"),
            "ETCD_CONFIG_PATH": str(self.directory / "configs/embedEtcd.yaml"),
        }

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/healthz", timeout=1) as reply:
                return b"OK" in reply.read() and accepts(self.address)
        except (OSError, urllib.error.URLError):
            return False

    def _configuration(self) -> dict[str, object]:
        """The package's own template, with its own ports, paths under `directory` and faster time."""
        import milvus

        defaults = milvus.MilvusServerConfig()
        text = defaults.template_text
        for placeholder, key in defaults.config_key_maps.items():
            text = text.replace(placeholder, str(defaults.configurable_items[key][1]))
        configuration: dict[str, dict[str, object]] = yaml.safe_load(text)
        data = self.directory / "data"
        for role, port in zip(_MILVUS_ROLES, [self._port, *self._role_ports], strict=True):
            configuration[role]["port"] = port
        configuration["proxy"] |= {
            "internalPort": self._internal_port,
            "timeTickInterval": self._time_tick_milliseconds,
        }
        # Loading a collection takes a few of these rounds, one a second by default.
        configuration["queryCoord"] |= {"checkInterval": 100, "checkChannelInterval": 100, "distPullInterval": 50}
        configuration["etcd"] |= {
            "endpoints": f"127.0.0.1:{self._etcd_port}",
            "data": {"dir": str(data / "etcd")},
            "log": {"level": "error", "path": str(self.directory / "logs/etcd.log")},
        }
        configuration["localStorage"]["path"] = str(data)
        configuration["rocksmq"]["path"] = str(data / "rocksmq")
        configuration["log"] |= {"level": "error", "stdout": True, "file": {"rootPath": ""}}
        configuration["common"]["session"] = {"ttl": self._session_ttl_seconds, "retryTimes": 30}
        return dict(configuration)

    def _etcd_configuration(self) -> dict[str, str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._etcd_peer_port}"
        return {
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }


def _milvus_binaries() -> Path:
    """The unpacked programs of the package `milvus`, shared by all servers of this user."""
    import milvus

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade"
    unpacked = cache / f"milvus-{milvus.__version__}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not unpacked.exists():
            partial = unpacked.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            milvus._initialize_data_files(str(partial))
            partial.rename(unpacked)
    return unpacked / "bin"
