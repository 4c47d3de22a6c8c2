"""Where a cell is played: two engines, a relay in front of each of their ports, and the proxy as a process.

`Grounds` lives for many cells, each of which gets a `Scene`: a route, a collection and a data directory of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from examples.engines import ChildProcess
from tests.faults.load import Load, fill
from tests.support.failing_disk import FailingDisk
from tests.support.fault_relay import FaultRelay
from tests.support.migration import Migration, Migrations, ProxyProcess, Target
from tests.support.owners import Another
from tests.support.qdrant_engines import QdrantEmulator

_numbers = itertools.count(1)
TIMEOUT_SECONDS = 1
LONGEST_REQUEST_SECONDS = 2


class FaultyProxy(ProxyProcess):
    """`crossfade serve` on a disk that may fail."""

    def __init__(self, directory: Path, config: Path, port: int, disk: FailingDisk | None) -> None:
        super().__init__(directory, config, port)
        self._disk = disk

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **(self._disk.environment() if self._disk is not None else {})}


@dataclass
class Scene:
    """One cell being played. `load` and `job` are there once they have begun."""

    migration: Migration
    collection: str
    grounds: Grounds
    disk: FailingDisk | None
    running: ExitStack  # ends with the cell
    mirrored: bool = False
    load: Load | None = None
    job: str = ""
    others: list[Another] = field(default_factory=list)  # proxies on the same journal
    moving: Any = None  # what moves the primary, in the phase that does
    notes: list[str] = field(default_factory=list)
    is_kept: bool = False  # there is something to be found out: both stores stay as they are

    @property
    def proxy(self) -> ProxyProcess:
        return self.migration.process

    @property
    def attempts(self) -> int:
        return self.load.attempts if self.load is not None else 0

    def engine(self, side: str) -> ChildProcess:
        return self.grounds.source if side == "source" else self.grounds.target

    def relays(self, side: str) -> tuple[FaultRelay, ...]:
        """In front of each of its ports."""
        return self.grounds.to_source if side == "source" else self.grounds.to_target


class Grounds:
    """The engines of many cells. `target` is made, not yet started."""

    def __init__(self, directory: Path, target: Target) -> None:
        self._directory = directory
        self._running = ExitStack()
        self.source = QdrantEmulator(directory / "source")
        self.target = target

    def __enter__(self) -> Self:
        self._running.enter_context(self.source)
        self._running.enter_context(self.target)
        self.to_source = self._relays(self.source)
        self.to_target = self._relays(self.target)
        return self

    def _relays(self, engine: Target) -> tuple[FaultRelay, ...]:
        """REST and gRPC of a Qdrant, the one port of a Milvus."""
        ports: tuple[int, ...]
        if isinstance(engine, QdrantEmulator):
            ports = (engine.rest_port, engine.grpc_port)
        else:
            ports = (int(engine.address.rpartition(":")[2]),)
        return tuple(self._running.enter_context(FaultRelay(port)) for port in ports)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @contextmanager
    def scene(self, route: Mapping[str, Any], disk_fails: bool) -> Iterator[Scene]:
        """A filled source and a configured proxy that does not run yet. Whatever the cell left behind is healed."""
        self.heal()
        directory = self._directory / f"cell_{next(_numbers)}"
        directory.mkdir(parents=True)
        with ExitStack() as running:
            migrations = Migrations(None, directory, running)
            engines: dict[str, Any] = {"source": self.source, "target": self.target}
            migration = migrations(**engines, as_process=True, start=False, change=self._through_relays, **route)
            data = migration.directory / "data"
            data.mkdir()
            disk = FailingDisk(data, migration.directory / "disk") if disk_fails else None
            migration.proxy = FaultyProxy(migration.directory, migration.config_path, migration.rest_port, disk)
            running.callback(migration.proxy.kill)
            collection = migration.name("points")
            fill(migration.direct(), collection)
            scene = Scene(migration, collection, self, disk, running)
            yield scene
            self.heal()
            if not scene.is_kept:
                migration.direct().delete_collection(collection)

    def heal(self) -> None:
        for relay in (*self.to_source, *self.to_target):
            relay.heal()
        for engine in (self.source, self.target):
            engine.resume()
            engine.start()

    def _through_relays(self, config: dict[str, Any]) -> None:
        stores = config["stores"]
        for store, relays in ((stores["old"], self.to_source), (stores["new"], self.to_target)):
            if store["kind"] == "qdrant":
                store |= zip(("url", "grpc_url"), (f"http://127.0.0.1:{relay.port}" for relay in relays), strict=True)
            else:
                store["address"] = f"127.0.0.1:{relays[0].port}"
        for store in stores.values():
            store |= {"timeout_seconds": TIMEOUT_SECONDS, "longest_request_seconds": LONGEST_REQUEST_SECONDS}
