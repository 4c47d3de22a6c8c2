"""More proxy processes on the journal of a migration, and a client that goes to all of them in turn."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from qdrant_client import QdrantClient

from examples.engines import free_ports
from proxy.control.client import ControlClient
from proxy.control.commands.connection import find
from tests.support.migration import Migration, ProxyProcess


@dataclass(frozen=True)
class Another:
    """One more proxy, at ports of its own."""

    migration: Migration
    process: ProxyProcess
    config: Path
    rest_port: int
    grpc_port: int

    @property
    def control(self) -> ControlClient:
        return find(self.config, None, None)

    def client(self, *, grpc: bool = False, **options: Any) -> QdrantClient:
        return self.migration.client_at(self.rest_port, self.grpc_port, grpc=grpc, **options)


def another(migration: Migration, running: ExitStack, **route: Any) -> Another:
    """Started, with `route` in its route's section. `running` stops it, after the migration's clients: an idle one of
    gRPC keeps it for 5 s."""
    rest, grpc, control = free_ports(3)
    config = copy.deepcopy(migration.config)
    for listener, port in zip(config["listeners"], (rest, grpc), strict=True):
        listener["address"] = f"127.0.0.1:{port}"
    config["control"] = {"address": f"127.0.0.1:{control}"}
    config["routes"][0] |= route
    path = migration.directory / f"crossfade-{rest}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    process = ProxyProcess(migration.directory / f"proxy-{rest}", path, rest)
    running.callback(process.stop)
    running.callback(migration.clients.close)
    process.start()
    return Another(migration, process, path, rest, grpc)


class _InTurn:
    def __init__(self, clients: Sequence[QdrantClient]) -> None:
        self._clients = itertools.cycle(clients)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._clients), name)


def in_turn(clients: Sequence[QdrantClient]) -> QdrantClient:
    """Each call goes through the next of them: two writes of one key take different ways."""
    return clients[0] if len(clients) == 1 else cast(QdrantClient, _InTurn(clients))
