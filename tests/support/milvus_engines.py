"""Fixtures: the two real Milvus engines, one of each for the whole test session, started when first asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from examples.engines import ChildProcess, MilvusLite, MilvusServer


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusLite]:
    """A running Milvus Lite; who kills it starts it again."""
    with MilvusLite(tmp_path_factory.mktemp("milvus_lite")) as engine:
        yield engine


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A running full Milvus 2.3.5; who kills it starts it again."""
    with MilvusServer(tmp_path_factory.mktemp("milvus_server")) as engine:
        yield engine


@pytest.fixture(params=["milvus_lite", "milvus_server"])
def milvus(request: pytest.FixtureRequest) -> ChildProcess:
    """Each Milvus engine in turn."""
    engine: ChildProcess = request.getfixturevalue(request.param)
    return engine
