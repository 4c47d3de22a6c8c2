"""The classes of messages, which protobuf makes."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from proxy.dialects.milvus.messages import schema
from proxy.dialects.qdrant import grpc_upserts
from proxy.dialects.qdrant.messages import proto


@pytest.mark.parametrize(
    "found",
    [
        lambda: type(proto.QueryPoints().query),
        lambda: type(proto.RetrievedPoint(payload={"a": {"integer_value": 1}}).payload["a"]),
        lambda: type(schema.FieldData().scalars),
        lambda: type(grpc_upserts._Heads().points.add().id),
    ],
)
def test_classes_of_messages_within_others_outlive_the_garbage_collector(found: Any) -> None:
    kept = weakref.ref(found())
    gc.collect()
    assert kept() is not None
