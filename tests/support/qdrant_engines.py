"""Fixtures: the Qdrant emulator in a process of its own, and the Qdrant that the conformance tests run against.

`qdrant_emulator` is shared by the session (take a collection name that nobody else has); `start_qdrant_emulator`
starts one for the test alone. With QDRANT_URL and QDRANT_GRPC set (and QDRANT_API_KEY where one is asked for),
`qdrant` is that server instead of the emulator: the same tests, on the real thing.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.engines import ChildProcess, accepts, free_ports

LABEL = "emulator: Qdrant's engine (qdrant-edge) behind Crossfade's front"


class QdrantEmulator(ChildProcess):
    """`crossfade emulate qdrant`. `api_key`: what clients must show."""

    def __init__(self, directory: Path, *, api_key: str | None = None) -> None:
        self.rest_port, self.grpc_port = free_ports(2)
        super().__init__(directory, self.rest_port)
        self._api_key = api_key

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-c", "from proxy.cli import main; main()"),
            *("emulate", "qdrant", "--path", str(self.directory / "data")),
            *("--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port)),
            *(() if self._api_key is None else ("--api-key", self._api_key)),
        ]

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=1) as reply:
                return reply.status == 200 and accepts(self.grpc_address)
        except (OSError, urllib.error.URLError):
            return False


@dataclass(frozen=True, slots=True)
class QdrantAddress:
    """Where a Qdrant answers. `real`: it is a server, not one of ours; `engine`, `label`: which, and what it says
    of itself."""

    url: str
    grpc_address: str
    real: bool = False
    api_key: str | None = None
    engine: str = "emulator"
    label: str = LABEL

    @property
    def grpc_port(self) -> int:
        return int(self.grpc_address.rpartition(":")[2])


@pytest.fixture(scope="session")
def qdrant_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantEmulator]:
    """One running emulator for all tests of the session."""
    with QdrantEmulator(tmp_path_factory.mktemp("qdrant")) as emulator:
        yield emulator


@pytest.fixture
def start_qdrant_emulator(tmp_path: Path) -> Iterator[Callable[..., QdrantEmulator]]:
    """Starts emulators for one test: `start_qdrant_emulator(api_key=...)`; they end with it."""
    with ExitStack() as running:
        count = 0

        def start(*, api_key: str | None = None) -> QdrantEmulator:
            nonlocal count
            count += 1
            return running.enter_context(QdrantEmulator(tmp_path / f"qdrant_{count}", api_key=api_key))

        yield start


def real_qdrant() -> QdrantAddress | None:
    """The server that QDRANT_URL and QDRANT_GRPC name, if they do."""
    url, grpc_address = os.environ.get("QDRANT_URL"), os.environ.get("QDRANT_GRPC")
    if not url or not grpc_address:
        return None
    return QdrantAddress(url.rstrip("/"), grpc_address, True, os.environ.get("QDRANT_API_KEY"))


@pytest.fixture(scope="session")
def qdrant(request: pytest.FixtureRequest) -> QdrantAddress:
    """The real server where there is one, else the emulator."""
    if (server := real_qdrant()) is not None:
        return server
    emulator: QdrantEmulator = request.getfixturevalue("qdrant_emulator")
    return QdrantAddress(emulator.url, emulator.grpc_address)
