"""Sequences of calls that nobody thought of: after each, a Qdrant and the client's local mode hold the same points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from tests.support.inexpressible import Inexpressible, recognised
from tests.support.qdrant_clients import assert_same, fresh_name
from tests.support.qdrant_engines import QdrantAddress

IDS: list[int | str] = [1, 2, 3, str(UUID(int=1)), str(UUID(int=2))]
SIZE = 3


@dataclass(frozen=True, slots=True)
class Step:
    """A call of the client, without the collection."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sides:
    remote: QdrantClient
    local: QdrantClient
    collection: str
    grpc: bool
    engine: str

    def same(self, name: str, **arguments: Any) -> None:
        """The same call to both. One that the remote's store cannot express is not made to the local side either."""
        try:
            found = self.call(name, **arguments)
        except Inexpressible:
            assert self.engine == "milvus_lite"
            return
        expected = getattr(self.local, name)(self.collection, **arguments)
        assert_same(found, expected, name, empty_is_none=self.grpc)

    def call(self, name: str, **arguments: Any) -> Any:
        with recognised():
            return getattr(self.remote, name)(self.collection, **arguments)

    def restart(self) -> None:
        """Every point as at the beginning."""
        for client in (self.remote, self.local):
            client.delete(self.collection, points_selector=models.FilterSelector(filter=models.Filter()))
        points = [
            models.PointStruct(id=point_id, vector=[float(number), 1.0, -1.0], payload={"n": number, "tags": ["a"]})
            for number, point_id in enumerate(IDS)
        ]
        self.same("upsert", points=points)


@pytest.fixture(params=["rest", "grpc"])
def sides(request: pytest.FixtureRequest, qdrant: QdrantAddress) -> Iterator[Sides]:
    grpc = request.param == "grpc"
    remote = QdrantClient(
        url=qdrant.url,
        grpc_port=qdrant.grpc_port,
        prefer_grpc=grpc,
        api_key=qdrant.api_key,
        check_compatibility=False,
    )
    local = QdrantClient(":memory:")
    name = fresh_name("sequence")
    for client in (remote, local):
        client.create_collection(name, vectors_config=models.VectorParams(size=SIZE, distance=models.Distance.EUCLID))
    yield Sides(remote, local, name, grpc, qdrant.engine)
    remote.delete_collection(name)
    remote.close()


def steps() -> st.SearchStrategy[list[Step]]:
    """Calls that both sides answer alike: the points exist, nulls are not merged, paths are single keys."""
    ids = st.sampled_from(IDS)
    some = st.lists(ids, min_size=1, max_size=2, unique=True)
    numbers = st.sampled_from([0.0, 1.0, -2.0, 0.5])
    keys = st.lists(st.sampled_from(["n", "tags"]), min_size=1, max_size=2)
    vectors = st.lists(numbers, min_size=SIZE, max_size=SIZE)
    values = st.sampled_from([1, 2, 2.5, "x", True, [1, "x"], {"k": [1]}, []])
    payloads = st.dictionaries(st.sampled_from(["n", "tags", "new"]), values, max_size=2)
    conditions = st.sampled_from(
        [
            models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=1))]),
            models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=2))]),
            models.Filter(must_not=[models.FieldCondition(key="tags", match=models.MatchValue(value="a"))]),
            models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="tags"))]),
            models.Filter(must=[models.HasIdCondition(has_id=[*IDS[:2]])]),
        ]
    )
    targets: st.SearchStrategy[Any] = some | conditions

    def call(name: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Step]:
        return st.fixed_dictionaries(parts).map(lambda arguments: Step(name, arguments))

    def point(make: Callable[..., Any], **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        one = st.fixed_dictionaries({"id": ids, "vector": vectors, **parts}).map(lambda fields: make(**fields))
        return st.lists(one, min_size=1, max_size=3, unique_by=lambda built: built.id)

    return st.lists(
        st.one_of(
            call("upsert", points=point(models.PointStruct, payload=payloads)),
            call("set_payload", payload=payloads, points=targets),
            call("overwrite_payload", payload=payloads, points=targets),
            call("delete_payload", keys=keys, points=targets),
            call("clear_payload", points_selector=targets),
            call("update_vectors", points=point(models.PointVectors)),
            call("query_points", query=vectors, limit=st.integers(1, 6), query_filter=st.none() | conditions),
            call("count", count_filter=conditions),
            call("retrieve", ids=some, with_payload=st.booleans(), with_vectors=st.booleans()),
        ),
        min_size=1,
        max_size=8,
    )


@given(sequence=steps())
@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sequences(sides: Sides, sequence: list[Step]) -> None:
    sides.restart()
    for step in sequence:
        if step.name == "query_points":
            try:
                found = sides.call("query_points", **step.arguments)
            except Inexpressible:
                assert sides.engine == "milvus_lite"
                continue
            expected = sides.local.query_points(sides.collection, **step.arguments)
            # Points of one score may come in any order, and either side of the limit.
            assert_same([hit.score for hit in found.points], [hit.score for hit in expected.points], "scores")
        else:
            sides.same(step.name, **step.arguments)
        sides.same("scroll", limit=50, with_payload=True, with_vectors=True)
