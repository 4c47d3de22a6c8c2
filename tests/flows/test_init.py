"""`crossfade init` against a source that answers, one that has no integers for ids, and one that is not there."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from qdrant_client import QdrantClient, models

from examples.engines import free_ports
from proxy.config import Config, parse
from tests.support.qdrant_engines import QdrantEmulator

EXECUTABLE = str(Path(sys.executable).with_name("crossfade"))


def init(source_port: int, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The real command, asking a Qdrant on this machine."""
    source, target = f"qdrant://127.0.0.1:{source_port}", "milvus://127.0.0.1:19530"
    arguments = [EXECUTABLE, "init", "--from", source, "--to", target, "-o", str(output), *more]
    return subprocess.run(arguments, capture_output=True, text=True, check=False)


def read(path: Path) -> Config:
    return parse(path.read_text(), {}, lambda name: Path(name).read_text())


def fill(emulator: QdrantEmulator, collection: str, ids: list[int | str]) -> None:
    """A collection with one small point for each id."""
    client = QdrantClient(url=emulator.url)
    client.create_collection(collection, models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert(collection, [models.PointStruct(id=one, vector=[1.0, 0.0]) for one in ids])
    client.close()


class OnNeighbouringPorts(QdrantEmulator):
    """REST and gRPC on ports next to each other, as of a server with its defaults and as `init` expects."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        while not self._next_is_free():
            self.rest_port = free_ports(1)[0]
        self.grpc_port = self.rest_port + 1

    def _next_is_free(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.rest_port + 1)) != 0


@pytest.fixture
def source(tmp_path: Path) -> Iterator[QdrantEmulator]:
    with OnNeighbouringPorts(tmp_path / "source") as emulator:
        yield emulator


def test_each_collection_of_the_source_gets_a_route(source: QdrantEmulator, tmp_path: Path) -> None:
    fill(source, "docs", [1, 2, 3])
    fill(source, "pictures", [7])
    output = tmp_path / "crossfade.yaml"
    ran = init(source.rest_port, output)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "collections of the source: docs, pictures; ids: integer" in ran.stdout
    assert f"next: crossfade serve -c {output}" in ran.stdout
    config = read(output)
    assert [(route.name, route.collections) for route in config.routes] == [
        ("docs", ("docs",)),
        ("pictures", ("pictures",)),
    ]
    assert config.stores["milvus"].ids == "integer"  # type: ignore[union-attr]


def test_one_uuid_behind_many_integers_makes_the_ids_text(source: QdrantEmulator, tmp_path: Path) -> None:
    fill(source, "docs", [*range(500), str(uuid.uuid4())])
    output = tmp_path / "crossfade.yaml"
    assert "ids: text" in init(source.rest_port, output).stdout
    assert read(output).stores["milvus"].ids == "text"  # type: ignore[union-attr]


def test_a_source_that_is_not_there_is_said_and_does_not_matter(tmp_path: Path) -> None:
    output = tmp_path / "crossfade.yaml"
    ran = init(free_ports(1)[0], output)
    assert ran.returncode == 0
    assert "the source could not be asked" in ran.stderr
    assert [route.collections for route in read(output).routes] == [("*",)]


def test_a_file_that_is_there_is_not_replaced_unless_told(tmp_path: Path) -> None:
    output = tmp_path / "crossfade.yaml"
    output.write_text("mine\n")
    ran = init(free_ports(1)[0], output)
    assert (ran.returncode, output.read_text()) == (1, "mine\n")
    assert "--force" in ran.stderr
    assert init(free_ports(1)[0], output, "--force").returncode == 0
    assert read(output).routes
