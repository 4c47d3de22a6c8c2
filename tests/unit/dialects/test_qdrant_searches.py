"""Searches over gRPC that are cut in two: they ask what the whole decoder says, and those of real clients are cut."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from qdrant_client import grpc
from qdrant_client.conversions.conversion import RestToGrpc
from qdrant_client.http import models

from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.grpc_routes import glance_of, operation_of
from proxy.dialects.qdrant.grpc_searches import QUERY, SEARCH, SHORT_BYTES, asked, cut
from proxy.errors import InvalidRequest
from proxy.model import PrimaryOnlyRead, Search
from proxy.wire import Request
from tests.unit.dialects.search_oracle import UNSCALED, score_of, search_disagreement

FILTER = RestToGrpc.convert_filter(
    models.Filter(must=[models.FieldCondition(key="kind", match=models.MatchValue(value="a"))])
)
BESIDE: list[dict[str, Any]] = [
    {},
    {"limit": 3, "offset": 2},
    {"limit": 3, "filter": FILTER, "with_payload": grpc.WithPayloadSelector(enable=True)},
    {"params": grpc.SearchParams(exact=True), "with_vectors": grpc.WithVectorsSelector(enable=True)},
    {"score_threshold": 0.25},
    {"score_threshold": float("nan")},
    {"timeout": 4},
]
NOT_SAYABLE: list[dict[str, Any]] = [
    {"read_consistency": grpc.ReadConsistency(factor=2)},
    {"shard_key_selector": grpc.ShardKeySelector()},
]


def nearest(numbers: list[float]) -> Any:
    return grpc.Query(nearest=grpc.VectorInput(dense=grpc.DenseVector(data=numbers)))


def query(numbers: list[float], name: str = "c", using: str = "", **beside: Any) -> bytes:
    made = grpc.QueryPoints(collection_name=name, query=nearest(numbers), **beside)
    if using:
        made.using = using
    return bytes(made.SerializeToString())


def search(numbers: list[float], name: str = "c", using: str = "", limit: int = 10, **beside: Any) -> bytes:
    made = grpc.SearchPoints(collection_name=name, vector=numbers, limit=limit, **beside)
    if using:
        made.vector_name = using
    return bytes(made.SerializeToString())


METHODS = [pytest.param(QUERY, query, id="query"), pytest.param(SEARCH, search, id="search")]
each_method = pytest.mark.parametrize(("path", "made"), METHODS)


def read(path: str, body: bytes) -> Search | None:
    return asked(path, body, lambda collection: score_of)


@each_method
@pytest.mark.parametrize("beside", BESIDE, ids=range(len(BESIDE)))
def test_it_asks_the_same_and_is_not_parsed(path: str, made: Any, beside: dict[str, Any]) -> None:
    for numbers in ([1.0], [0.5, -2.0, 3.25], [0.125] * 768, [7.0] * 768):
        for name, using in (("c", ""), ("d", ""), ("c", "v"), ("n" * 127, "")):
            body = made(numbers, name, using, **beside)
            assert read(path, body) is not None
            assert not search_disagreement(path, body)


@each_method
def test_each_has_its_own_vector(path: str, made: Any) -> None:
    found = [read(path, made([number, 1.0])) for number in (1.0, 2.0)]
    assert [one and one.vector for one in found] == [b"\0\0\x80?\0\0\x80?", b"\0\0\0@\0\0\x80?"]


@each_method
@pytest.mark.parametrize("beside", NOT_SAYABLE, ids=range(len(NOT_SAYABLE)))
def test_what_the_model_cannot_say_is_parsed_to_say_why(path: str, made: Any, beside: dict[str, Any]) -> None:
    body = made([1.0], **beside)
    assert read(path, body) is None
    assert not search_disagreement(path, body)
    assert isinstance(operation_of(path, body, lambda collection: score_of), PrimaryOnlyRead)


@each_method
def test_a_threshold_that_cannot_be_read_names_its_collection(path: str, made: Any) -> None:
    body = made([1.0], "c", UNSCALED, score_threshold=0.5)
    assert read(path, body) is None
    operation = operation_of(path, body, lambda collection: score_of)
    assert operation == PrimaryOnlyRead("c", "score_threshold")


@each_method
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused(path: str, made: Any, number: float) -> None:
    body = made([1.0, number])
    with pytest.raises(InvalidRequest):
        read(path, body)
    assert not search_disagreement(path, body)


def odd_messages() -> Iterator[tuple[str, bytes]]:
    """What is no plain form, or only begins as one."""
    for path, made in ((QUERY, query), (SEARCH, search)):
        plain = made([1.0, 2.0], limit=3)
        yield path, plain + made([3.0], "")  # a second vector, behind the first
        yield path, plain + made([3.0, 4.0], "")
        yield path, made([], limit=3)
        yield path, made([1.0], "n" * 128)
        yield path, made([1.0], "")
        yield path, b"\x0a\x02c\xff" + plain[3:]  # a name that is no text
        yield path, plain + b"\xf2\x7f\x01x"  # a field that nobody knows
        yield path, plain + b"\x0a\x01d"  # another name
        yield path, b"\x40\x05" + plain
        for end in range(len(plain)):
            yield path, plain[:end]
    yield SEARCH, b"\x0a\x80\x01" + b"n" * 127 + b"\x12\x20\x03\x12\x20" + bytes(29) + b"x\x20\x03"  # a long name
    within = b"\x1a\x0e\x0a\x0c\x12\x0a\x0a\x08" + bytes(8)  # a query, as a part of a name behind a limit
    yield QUERY, b"\x40\x04\x0a\x12ab" + within + query([2.0], "") + b"\x22\x02xy"
    yield QUERY, grpc.QueryPoints(collection_name="c", limit=3).SerializeToString()
    for variant in (
        grpc.VectorInput(id=grpc.PointId(num=5)),
        grpc.VectorInput(sparse=grpc.SparseVector(indices=[1], values=[1.0])),
        grpc.VectorInput(multi_dense=grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=[1.0])])),
    ):
        other = grpc.QueryPoints(query=grpc.Query(nearest=variant)).SerializeToString()
        yield QUERY, query([1.0]) + other
        yield QUERY, b"\x0a\x01c" + other
    yield QUERY, query([1.0], prefetch=[grpc.PrefetchQuery()])
    yield QUERY, query([1.0], lookup_from=grpc.LookupLocation(collection_name="other"))
    yield SEARCH, search([1.0], sparse_indices=grpc.SparseIndices(data=[1]))


@pytest.mark.parametrize(("path", "body"), list(odd_messages()))
def test_odd_messages_ask_what_they_ask_as_a_whole(path: str, body: bytes) -> None:
    assert not search_disagreement(path, body)


@each_method
def test_bytes_that_were_changed(path: str, made: Any) -> None:
    chance = random.Random(7)
    whole = [made([1.0, 2.0], **beside) for beside in BESIDE]
    for number in range(20_000):
        changed = bytearray(whole[number % len(whole)])
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(changed))
            match chance.randrange(4):
                case 0:
                    changed[at] = chance.randrange(256)
                case 1:
                    changed.insert(at, chance.randrange(0x30))
                case 2 if len(changed) > 1:
                    del changed[at]
                case _:
                    changed[at:at] = changed[at : at + chance.randrange(40)]
        why = search_disagreement(path, bytes(changed))
        assert not why, (bytes(changed), why)


@each_method
def test_an_outline_is_no_message_and_says_all_but_the_vector(path: str, made: Any) -> None:
    """Whoever is told that two have one outline takes them for the same question."""
    dialect, request = QdrantGrpc(), Request("grpc", "", path)
    outlines = {dialect.outline(request, made([1.0, 2.0], **beside)) for beside in BESIDE}
    assert len(outlines) == len(BESIDE)
    assert outlines == {dialect.outline(request, made([3.0], **beside)) for beside in BESIDE}
    assert all(outline is not None and outline.startswith(b"\0") for outline in outlines)
    without = made([])
    assert dialect.outline(request, without) == without


@each_method
def test_what_is_long_is_read_each_time(path: str, made: Any) -> None:
    words = "w" * SHORT_BYTES
    where = RestToGrpc.convert_filter(
        models.Filter(must=[models.FieldCondition(key=words, match=models.MatchValue(value="a"))])
    )
    body = made([1.0], filter=where)
    assert cut(path, body) is not None
    assert read(path, body) is None
    assert not search_disagreement(path, body)


def test_names_come_and_go() -> None:
    for number in range(1000):
        body = query([1.0, 2.0], f"collection {number}")
        found = glance_of(QUERY, body)
        assert found is not None
        assert found.collection == f"collection {number}"
