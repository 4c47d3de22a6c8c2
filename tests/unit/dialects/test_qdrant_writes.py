"""What a store sends to a Qdrant server says what the model says, in the vendor's own messages."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pytest
from qdrant_client import grpc

from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.grpc_routes import METHODS
from proxy.dialects.qdrant.grpc_upserts import waits
from proxy.dialects.qdrant.grpc_writes import barrier_call, definition_call, delete_call, exact_point, write_call
from proxy.dialects.qdrant.messages import proto
from proxy.errors import Untranslatable
from proxy.model import (
    Batch,
    ClearPayload,
    CollectionSpec,
    CreateAlias,
    CreateCollection,
    CreatePayloadIndex,
    Definition,
    Delete,
    DeletePayload,
    DeleteVectors,
    DropAlias,
    DropCollection,
    DropPayloadIndex,
    HasId,
    Ids,
    Match,
    Metric,
    MultiVector,
    OpaqueWrite,
    OverwritePayload,
    Point,
    PointId,
    RenameAlias,
    SetPayload,
    SimpleWrite,
    SparseVector,
    UpdateAliases,
    UpdateCollection,
    UpdateVectors,
    Upsert,
    VectorSpec,
    Where,
    Write,
)
from proxy.wire import Request

VECTOR = np.array([1, 2], "<f4").tobytes()
IDS = Ids((1, UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")))
WHERE = Where(Match("a", 1))
POINTS = (
    Point(1, {"": VECTOR}, {"a": 1, "b": 1.0, "c": None, "d": [{"e": "f"}, True]}),
    Point(2**64 - 1, {"a": VECTOR, "s": SparseVector((1,), VECTOR[:4]), "m": MultiVector((VECTOR, VECTOR))}),
    Point(3),
)
WRITES: list[SimpleWrite] = [
    Upsert("docs", POINTS),
    Upsert("docs", POINTS[:1], Match("a", 1), "update_only"),
    Delete("docs", IDS),
    Delete("docs", WHERE),
    SetPayload("docs", {"a": 1}, IDS, "nest"),
    SetPayload("docs", {"a": [1.5]}, WHERE),
    OverwritePayload("docs", {"a": {}}, IDS),
    DeletePayload("docs", ("a", "b.c"), WHERE),
    ClearPayload("docs", IDS),
    UpdateVectors("docs", (Point(1, {"a": VECTOR}),), Match("a", 1)),
    DeleteVectors("docs", ("a",), IDS),
]


def decoded(call: tuple[str, Any]) -> Any:
    """What the operation is on the other side, through the vendor's own message."""
    path, message = call
    theirs = getattr(grpc, METHODS[path].request).FromString(message.SerializeToString())
    return QdrantGrpc().decode(Request("grpc", "", path, (), theirs.SerializeToString())).operation


@pytest.mark.parametrize("write", WRITES, ids=lambda write: type(write).__name__)
def test_a_write_sent_is_the_write_read(write: SimpleWrite) -> None:
    assert decoded(write_call(write)) == write


def test_a_batch_of_all_writes() -> None:
    batch = Batch("docs", tuple(WRITES))
    assert decoded(write_call(batch)) == batch


def test_writes_wait_and_are_strongly_ordered() -> None:
    writes: list[Write] = [*WRITES, Batch("docs", tuple(WRITES))]
    for _, message in (*map(write_call, writes), delete_call("docs", [1]), barrier_call("docs")):
        assert message.wait
        assert message.ordering.type == grpc.WriteOrderingType.Strong
        assert message.collection_name == "docs"


@pytest.mark.parametrize("path", [path for path, method in METHODS.items() if not method.is_read])
def test_whether_an_answer_is_waited_for(path: str) -> None:
    request = getattr(proto, METHODS[path].request)
    if "wait" not in request.DESCRIPTOR.fields_by_name:
        pytest.skip("nothing to wait for")
    for said in ({}, {"wait": False}, {"wait": True}):
        message = request(collection_name="docs", **said)
        assert waits(message.SerializeToString()) == message.wait == said.get("wait", False)


def test_the_barrier_changes_nothing() -> None:
    barrier = decoded(barrier_call("docs"))
    assert isinstance(barrier, DeletePayload)
    assert barrier.target == Where(HasId(()))


@pytest.mark.parametrize(
    "definition",
    [
        CreateCollection(
            "docs",
            CollectionSpec(
                {"": VectorSpec(4, Metric.EUCLID)},
                native={"vectors": {"size": 4, "distance": "Euclid"}, "shard_number": 2},
            ),
        ),
        UpdateCollection("docs", {"hnsw_config": {"m": 8}}),
        DropCollection("docs"),
        UpdateAliases((CreateAlias("a", "docs"), DropAlias("b"), RenameAlias("c", "d"))),
        CreatePayloadIndex("docs", "tag", "keyword", {"field_schema": {"type": "keyword", "is_tenant": True}}),
        DropPayloadIndex("docs", "tag"),
    ],
)
def test_a_definition_sent_is_the_definition_read(definition: Definition) -> None:
    assert decoded(definition_call(definition)) == definition


@pytest.mark.parametrize("point_id", ["seven", "", -1, 2**64])
def test_ids_that_the_vendor_has_not(point_id: PointId) -> None:
    with pytest.raises(Untranslatable, match="id is neither"):
        exact_point(Point(point_id))
    with pytest.raises(Untranslatable):
        write_call(Delete("docs", Ids((point_id,))))


def test_what_cannot_be_sent() -> None:
    with pytest.raises(Untranslatable, match="opaque write: inference object"):
        write_call(OpaqueWrite("docs", None, "inference object"))
    with pytest.raises(Untranslatable):
        write_call(Batch("docs", (OpaqueWrite("docs", (1,), "x"),)))
    with pytest.raises(Untranslatable, match="int64"):
        write_call(SetPayload("docs", {"a": 2**63}, IDS))
