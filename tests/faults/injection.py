"""The faults: each strikes under load, lasts until it has been felt, and heals.

`arm` comes before the load, with the route in its phase. How long a fault lasts is part of the fault: a stopped program
is stopped for longer than a request may take; others last until so many requests were hit, or so many more writes were
attempted. `patient`: clients are served before it strikes (a proxy that dies at a hook dies when it gets there).
`served_after`: clients are served for a while after it has healed (what lands late must not be written over at once).
`filters`: clients also write by filter. Such a write that a crash cuts off has the whole collection swept, which would
hide whatever else was forgotten; so most cells in which the proxy dies do without.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from examples.engines import EngineError, poll
from tests.faults.scene import LONGEST_REQUEST_SECONDS, TIMEOUT_SECONDS, Scene
from tests.support.failing_disk import Disk, compiler
from tests.support.fault_relay import Mode
from tests.support.owners import another
from tests.support.stand_ins import grpc_stand_in, http_stand_in, milvus_stand_in

_FELT_ATTEMPTS = 60
_FELT_RESETS = 12
_LASTS_SECONDS = 1.0
_STOPPED_SECONDS = LONGEST_REQUEST_SECONDS + 1.0
_GIVE_UP_SECONDS = 5.0
_KEPT_SECONDS = 0.3  # what arrives within them
_TIMED_OUT_SECONDS = {"source": LONGEST_REQUEST_SECONDS, "target": TIMEOUT_SECONDS}  # how long the proxy waits for them
# After that, and well within the hold: the source is waited for TIMEOUT_SECONDS where it is the secondary, so nothing
# may land there later than TIMEOUT_SECONDS + LONGEST_REQUEST_SECONDS after it was sent.
_OVERTAKEN_SECONDS = 0.4


class Fault:
    """Named "<area> <what>"; see the file's head."""

    area: str
    what: str
    patient = True
    served_after = True
    filters = True
    disk_fails = False  # needs the preloaded library

    @property
    def name(self) -> str:
        return f"{self.area} {self.what}"

    def arm(self, scene: Scene) -> None:
        pass

    def strike(self, scene: Scene) -> None:
        raise NotImplementedError

    def last(self, scene: Scene) -> None:
        """Return when it has been felt."""
        _attempted(scene, _FELT_ATTEMPTS, _LASTS_SECONDS)

    def heal(self, scene: Scene) -> None:
        raise NotImplementedError

    def finish(self, scene: Scene) -> None:
        """What an operator does once it is quiet."""


def _attempted(scene: Scene, writes: int, seconds: float) -> None:
    """So many more writes were attempted and so much time has passed; or clients hang for longer than they may."""
    began, goal = time.monotonic(), scene.attempts + writes
    poll(lambda: scene.attempts >= goal and time.monotonic() - began >= seconds, _GIVE_UP_SECONDS)


def _passed(seconds: float) -> None:
    deadline = time.monotonic() + seconds
    poll(lambda: time.monotonic() >= deadline, 2 * seconds)


# --- of a store ---------------------------------------------------------------------------------------


@dataclass
class EngineKilled(Fault):
    """SIGKILL, and later a new start on its data and port. Meanwhile nobody listens there."""

    area: str
    what: str = "kill -9"

    def strike(self, scene: Scene) -> None:
        scene.engine(self.area).kill()
        for relay in scene.relays(self.area):
            relay.strike(Mode.REFUSED)

    def heal(self, scene: Scene) -> None:
        scene.engine(self.area).start()
        for relay in scene.relays(self.area):
            relay.heal()


@dataclass
class EngineStopped(Fault):
    """SIGSTOP for longer than a request may take, then SIGCONT: it does then what it had received."""

    area: str
    what: str = "stopped"

    def strike(self, scene: Scene) -> None:
        scene.engine(self.area).pause()

    def last(self, scene: Scene) -> None:
        _passed(_STOPPED_SECONDS)

    def heal(self, scene: Scene) -> None:
        scene.engine(self.area).resume()


@dataclass
class OnTheWay(Fault):
    """What a relay in front of the store does."""

    area: str
    what: str
    mode: Mode

    @property
    def served_after(self) -> bool:  # type: ignore[override]
        return self.mode is not Mode.HELD

    def strike(self, scene: Scene) -> None:
        self._struck = self._resets(scene)
        for relay in scene.relays(self.area):
            relay.strike(self.mode)

    def last(self, scene: Scene) -> None:
        if self.mode in (Mode.SENT, Mode.APPLIED):
            poll(lambda: self._resets(scene) - self._struck >= _FELT_RESETS, _GIVE_UP_SECONDS)
        elif self.mode is Mode.HELD:  # until it has timed out, and newer requests have overtaken it
            _passed(_KEPT_SECONDS)
            for relay in scene.relays(self.area):
                relay.pass_others()
            _passed(_TIMED_OUT_SECONDS[self.area] + _OVERTAKEN_SECONDS - _KEPT_SECONDS)
        else:
            super().last(scene)

    def heal(self, scene: Scene) -> None:
        for relay in scene.relays(self.area):
            relay.heal()

        if self.mode is Mode.HELD:
            poll(lambda: self._resets(scene) > self._struck, _LASTS_SECONDS)
            scene.notes.append(f"{self._resets(scene) - self._struck} requests landed late")

    def _resets(self, scene: Scene) -> int:
        return sum(relay.struck for relay in scene.relays(self.area))


@dataclass
class Overloaded(Fault):
    """A stand-in answers in the store's place: 429 and RESOURCE_EXHAUSTED (Milvus: its rate limit, in band), or 503 and
    UNAVAILABLE."""

    area: str
    what: str
    _standing_in: ExitStack = field(default_factory=ExitStack)

    def strike(self, scene: Scene) -> None:
        throttles = self.what == "429"
        code = grpc.StatusCode.RESOURCE_EXHAUSTED if throttles else grpc.StatusCode.UNAVAILABLE
        relays = scene.relays(self.area)
        if len(relays) > 1:  # a Qdrant's
            rest, by_grpc = relays
            rest.divert(self._standing_in.enter_context(http_stand_in(int(self.what))))
            by_grpc.divert(self._standing_in.enter_context(grpc_stand_in(code)))
        else:
            stand_in = milvus_stand_in() if throttles else grpc_stand_in(code)
            relays[0].divert(self._standing_in.enter_context(stand_in))

    def heal(self, scene: Scene) -> None:
        for relay in scene.relays(self.area):
            relay.heal()
        self._standing_in.close()


# --- of the journal -----------------------------------------------------------------------------------


@dataclass
class JournalDisk(Fault):
    """The disk below the data directory."""

    what: str
    state: Disk
    area: str = "journal"
    disk_fails = True

    def strike(self, scene: Scene) -> None:
        assert scene.disk is not None
        scene.disk.become(self.state)

    def heal(self, scene: Scene) -> None:
        assert scene.disk is not None
        scene.disk.become(Disk.WORKS)


class JournalCut(Fault):
    """The proxy goes, and a file of its journal is shorter than it was when it comes back. A proxy that then refuses to
    start is treated as its message says: the journal is moved away, and everything is backfilled again."""

    area = "journal"
    _anew = False

    def last(self, scene: Scene) -> None:
        _attempted(scene, 6, 0.0)

    def heal(self, scene: Scene) -> None:
        try:
            scene.proxy.start()
            return
        except EngineError as error:
            if not says_what_to_do(str(error)):
                raise
        scene.notes.append("the proxy refused to start; its journal was moved away")
        data = scene.migration.directory / "data"
        for file in list(data.glob("journal.*")):
            file.rename(file.with_name("damaged " + file.name))
        scene.proxy.start()
        self._anew = True

    def finish(self, scene: Scene) -> None:
        if self._anew and scene.mirrored:
            scene.migration.job("backfill", restart=True, adopt=True)
        self._anew = False


class LogTruncated(JournalCut):
    """Killed while the target hangs, so that keys are known to be behind; the end of the write-ahead log is lost, with
    what was written to it since the target hung."""

    what = "log truncated"
    filters = False

    def strike(self, scene: Scene) -> None:
        log = scene.migration.directory / "data/journal.db-wal"
        for relay in scene.relays("target"):
            relay.strike(Mode.HELD)
        before = log.stat().st_size
        _attempted(scene, 2 * _FELT_ATTEMPTS, 0.0)
        scene.proxy.kill()
        _cut(log, before, scene)
        for relay in scene.relays("target"):
            relay.heal()


class DatabaseTruncated(JournalCut):
    """Stopped in order, so that all is in the database itself, which then loses its end."""

    what = "database truncated"

    def strike(self, scene: Scene) -> None:
        scene.proxy.stop()
        _cut(scene.migration.directory / "data/journal.db", 0, scene)


def says_what_to_do(text: str) -> bool:
    """Whether a proxy that does not start says that its journal is damaged, and what to move."""
    return "the journal" in text and "cannot be read" in text and "move journal.* away" in text


def _cut(file: Path, first: int, scene: Scene) -> None:
    """At a chance place not before `first`."""
    size = file.stat().st_size
    keep = random.Random(scene.migration.prefix).randrange(min(first, size - 1), size)
    scene.notes.append(f"{file.name} was cut from {size} to {keep} bytes")
    with file.open("r+b") as opened:
        opened.truncate(keep)


# --- of the proxy -------------------------------------------------------------------------------------


@dataclass
class ProxyKilled(Fault):
    """At any time."""

    what: str
    filters: bool
    area: str = "proxy"

    def strike(self, scene: Scene) -> None:
        scene.proxy.kill()

    def last(self, scene: Scene) -> None:
        _attempted(scene, 6, 0.0)

    def heal(self, scene: Scene) -> None:
        scene.proxy.start()


@dataclass
class ProxyKilledAt(Fault):
    """When it comes to a named point of the protocol for the `after`-th time, or by chance up to twice as often: which
    write that is must not be the same in every run."""

    hook: str
    after: int
    area: str = "proxy"
    patient = False
    filters = False

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"kill -9 at {self.hook}"

    def arm(self, scene: Scene) -> None:
        scene.proxy.stop()
        later = random.Random(scene.migration.prefix).randrange(self.after)
        scene.proxy.dies_at, scene.proxy.after = self.hook, self.after + later
        scene.proxy.start()

    def strike(self, scene: Scene) -> None:
        assert scene.proxy.died(), f"it never came to {self.hook!r}"

    def last(self, scene: Scene) -> None:
        _attempted(scene, 6, 0.0)

    def heal(self, scene: Scene) -> None:
        scene.proxy.dies_at = ""
        scene.proxy.start()


class _Stopped:
    """SIGSTOP for longer than a request may take, then SIGCONT."""

    def strike(self, scene: Scene) -> None:
        scene.proxy.pause()

    def last(self, scene: Scene) -> None:
        _passed(_STOPPED_SECONDS)

    def heal(self, scene: Scene) -> None:
        scene.proxy.resume()


@dataclass
class ProxyStopped(_Stopped, Fault):
    area: str = "proxy"
    what: str = "stopped"


@dataclass
class ProxyDiskFull(Fault):
    """The process may write no file any more, its log included (RLIMIT_FSIZE)."""

    area: str = "proxy"
    what: str = "disk full"
    _limits: tuple[int, int] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def strike(self, scene: Scene) -> None:
        self._limits = resource.prlimit(_pid(scene), resource.RLIMIT_FSIZE)
        resource.prlimit(_pid(scene), resource.RLIMIT_FSIZE, (0, self._limits[1]))

    def heal(self, scene: Scene) -> None:
        resource.prlimit(_pid(scene), resource.RLIMIT_FSIZE, self._limits)


# --- of one of several proxies --------------------------------------------------------------------------


@dataclass
class OwnerKilled(Fault):
    """`count` processes on one journal; the one that joined first, and so leads, is killed."""

    count: int
    area: str = "owners"
    filters = False

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"one of {self.count} killed"

    def arm(self, scene: Scene) -> None:
        scene.others = [another(scene.migration, scene.running) for _ in range(self.count - 1)]

    def strike(self, scene: Scene) -> None:
        scene.proxy.kill()

    def heal(self, scene: Scene) -> None:
        scene.proxy.start()


class OwnerStopped(_Stopped, OwnerKilled):
    filters = True

    @property
    def what(self) -> str:  # type: ignore[override]
        return f"one of {self.count} stopped"


def _pid(scene: Scene) -> int:
    pid = scene.proxy.pid
    assert pid is not None
    return pid


# --- all of them --------------------------------------------------------------------------------------

WRITE_HOOKS = {
    "BEGIN durable": 120,
    "primary answered": 120,
    "END durable": 120,
    "reconciliation begun": 10,
    "reconciliation read": 10,
    "reconciliation written": 10,
}
PAGE_HOOKS = {"page read": 5, "page written": 5}
FLIP_HOOKS = {"PREPARE durable": 2, "all acknowledged": 2, "COMMIT durable": 2}


def _of_stores() -> Iterator[Fault]:
    for side in ("source", "target"):
        yield EngineKilled(side)
        yield EngineStopped(side)
        yield OnTheWay(side, "refused", Mode.REFUSED)
        yield OnTheWay(side, "reset after sent", Mode.SENT)
        yield OnTheWay(side, "reset after applied", Mode.APPLIED)
        yield OnTheWay(side, "answers late", Mode.HELD)
        yield OnTheWay(side, "slow", Mode.SLOW)
        yield Overloaded(side, "429")
        yield Overloaded(side, "503")


def _of_the_journal() -> Iterator[Fault]:
    yield JournalDisk("disk full", Disk.FULL)
    yield JournalDisk("fsync fails", Disk.SYNC_FAILS)
    yield JournalDisk("fsync slow", Disk.SYNC_SLOW)
    yield JournalDisk("read-only", Disk.READ_ONLY)
    yield LogTruncated()
    yield DatabaseTruncated()


def _of_the_proxy() -> Iterator[Fault]:
    yield ProxyKilled("kill -9", filters=False)
    yield ProxyKilled("kill -9 at a write by filter", filters=True)
    for hook, after in (WRITE_HOOKS | PAGE_HOOKS | FLIP_HOOKS).items():
        yield ProxyKilledAt(hook, after)
    yield ProxyStopped()
    yield ProxyDiskFull()


def _of_owners() -> Iterator[Fault]:
    for count in (2, 3):
        yield OwnerKilled(count)
        yield OwnerStopped(count)


FAULTS: tuple[Fault, ...] = (*_of_stores(), *_of_the_journal(), *_of_the_proxy(), *_of_owners())


def needs_compiler(fault: Fault) -> bool:
    return fault.disk_fails and compiler() is None
