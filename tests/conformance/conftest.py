"""The conformance tests run against each Qdrant that this program can be: the emulator, and fronts over other stores.

What Milvus cannot answer stands in tests/support/inexpressible.py; the other engines have no such table.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest

from examples.engines import ChildProcess
from tests.support.inexpressible import as_listed
from tests.support.qdrant_engines import QdrantAddress, QdrantEmulator, real_qdrant
from tests.support.qdrant_fronts import QdrantFrontProcess

FRONT = " behind Crossfade's front"
ENGINES = ["emulator", "memory", "milvus_lite"] if real_qdrant() is None else ["server"]


@pytest.fixture(scope="session", params=ENGINES)
def qdrant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantAddress]:
    """The real server where there is one, else each of ours in turn."""
    engine = str(request.param)
    with ExitStack() as running:
        if (server := real_qdrant()) is not None:
            yield server
        elif engine == "emulator":
            emulator: QdrantEmulator = request.getfixturevalue("qdrant_emulator")
            yield QdrantAddress(emulator.url, emulator.grpc_address)
        else:
            milvus: ChildProcess | None = request.getfixturevalue(engine) if engine == "milvus_lite" else None
            address = milvus.address if milvus is not None else None
            front = running.enter_context(QdrantFrontProcess(tmp_path_factory.mktemp(f"front_{engine}"), address))
            label = ("memory" if milvus is None else "milvus") + FRONT
            yield QdrantAddress(front.url, front.grpc_address, engine=engine, label=label)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A test that is listed as inexpressible has to turn out so; what comes out of the table is as good as passed."""
    callspec = getattr(pyfuncitem, "callspec", None)
    params = {} if callspec is None else callspec.params
    parts = [str(getattr(value, "value", value)) for value in params.values()]
    with as_listed(
        str(params.get("qdrant")), *(f"{pyfuncitem.originalname}: {part}" for part in parts), pyfuncitem.originalname
    ):
        yield
    return True
