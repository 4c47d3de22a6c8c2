"""The official Qdrant client in its four forms, beside its own local mode: the same call to both, the same answer.

Fixtures: `remote` (each form in turn: REST and gRPC, sync and async) and `pair` (a remote form and a local client).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient, QdrantClient

from tests.support.inexpressible import recognised
from tests.support.qdrant_engines import QdrantAddress

FORMS = ["rest", "grpc", "rest-async", "grpc-async"]
TOLERANCE = 1e-5  # of a score or a component: float32 here, float64 in the local mode

# What differs by nature: numbers of operations, versions, and what a single process does not have.
_INCOMPARABLE = frozenset({"operation_id", "version"})

_RUN = uuid4().hex[:8]  # no name of an earlier run, which a server may still have
_names = itertools.count(1)


def fresh_name(prefix: str = "conformance") -> str:
    """A collection name that no other test has."""
    return f"{prefix}_{_RUN}_{next(_names)}"


@dataclass(frozen=True, slots=True)
class Remote:
    """One client of a Qdrant."""

    client: QdrantClient | AsyncQdrantClient
    form: str
    address: QdrantAddress

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Raises Inexpressible where the Qdrant is one of ours, over a store that cannot."""
        method = getattr(self.client, name)
        with recognised():
            if isinstance(self.client, AsyncQdrantClient):
                return await method(*args, **kwargs)
            return await asyncio.to_thread(method, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same call to a Qdrant and to the client's local mode."""

    remote: Remote
    local: QdrantClient

    async def same(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call both and hold the answers to each other, field by field; the remote's answer."""
        expected = getattr(self.local, name)(*args, **kwargs)
        found = await self.remote.call(name, *args, **kwargs)
        assert_same(found, expected, name, empty_is_none=self.remote.form.startswith("grpc"))
        return found

    async def both(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call both where the answers are not to be compared; the remote's answer."""
        getattr(self.local, name)(*args, **kwargs)
        return await self.remote.call(name, *args, **kwargs)


def assert_same(found: Any, expected: Any, path: str, *, empty_is_none: bool = False) -> None:
    """Equal, but for numbers within TOLERANCE and the fields that cannot be compared.

    `empty_is_none`: over gRPC the client cannot tell an empty payload from none, and shows either as the other.
    """
    if isinstance(expected, BaseModel):
        assert type(found) is type(expected), path
        for field in type(expected).model_fields:
            pair = getattr(found, field), getattr(expected, field)
            if field not in _INCOMPARABLE and not (empty_is_none and field == "payload" and not any(pair)):
                assert_same(*pair, f"{path}.{field}", empty_is_none=empty_is_none)
    elif isinstance(expected, dict):
        assert isinstance(found, dict), path
        assert set(found) == set(expected), path
        for key, value in expected.items():
            assert_same(found[key], value, f"{path}[{key!r}]", empty_is_none=empty_is_none)
    elif isinstance(expected, list | tuple | np.ndarray):
        assert isinstance(found, list | tuple), path
        assert len(found) == len(expected), f"{path}: {found} instead of {expected}"
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{path}[{index}]", empty_is_none=empty_is_none)
    elif isinstance(expected, float | np.floating) and not isinstance(found, bool):
        assert isinstance(found, float | int), f"{path}: {found!r}"
        assert found == pytest.approx(float(expected), rel=TOLERANCE, abs=TOLERANCE), path
    else:
        assert found == expected, path
        assert type(found) is type(expected), path


@pytest_asyncio.fixture(params=FORMS)
async def remote(request: pytest.FixtureRequest, qdrant: QdrantAddress) -> AsyncIterator[Remote]:
    transport, _, kind = str(request.param).partition("-")
    make = AsyncQdrantClient if kind == "async" else QdrantClient
    client = make(
        url=qdrant.url,
        grpc_port=qdrant.grpc_port,
        prefer_grpc=transport == "grpc",
        api_key=qdrant.api_key,
        timeout=20,
        check_compatibility=False,  # asked in a thread of its own, which may outlive the test
    )
    opened = Remote(client, request.param, qdrant)
    yield opened
    for each in (await opened.call("get_collections")).collections:
        if each.name.startswith(f"conformance_{_RUN}"):
            await opened.call("delete_collection", each.name)
    await opened.call("close")


@pytest.fixture
def pair(remote: Remote) -> Pair:
    return Pair(remote, QdrantClient(":memory:"))
