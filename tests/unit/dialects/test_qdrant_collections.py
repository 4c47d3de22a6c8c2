"""Definitions of collections: one form for both transports, nothing of it lost on the way to a server and back."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import grpc, models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from proxy.dialects.qdrant.collections import (
    body_of_spec,
    config_of_spec,
    index_of_json,
    index_of_proto,
    indexes_of_spec,
    proto_of_create,
    proto_of_index,
    proto_of_update,
    spec_of_body,
    spec_of_info,
    spec_of_proto,
)
from proxy.dialects.qdrant.configs import fill_config
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import Untranslatable
from proxy.model import CollectionSpec, CreatePayloadIndex, Metric, VectorSpec

EVERYTHING: dict[str, Any] = {
    "vectors": {
        "a": {
            "size": 4,
            "distance": "Cosine",
            "on_disk": True,
            "datatype": "uint8",
            "hnsw_config": {"m": 0, "payload_m": 16, "on_disk": False},
            "quantization_config": {"product": {"compression": "x4", "always_ram": False}},
        },
        "m": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}, "memory": "cold"},
    },
    "sparse_vectors": {
        "s": {"index": {"full_scan_threshold": 5, "on_disk": True, "datatype": "float16"}, "modifier": "idf"},
        "plain": {},
    },
    "shard_number": 3,
    "sharding_method": "custom",
    "replication_factor": 2,
    "write_consistency_factor": 2,
    "on_disk_payload": False,
    "payload": {"memory": "cached"},
    "hnsw_config": {"m": 24, "ef_construct": 200, "full_scan_threshold": 99, "max_indexing_threads": 3},
    "wal_config": {"wal_capacity_mb": 8, "wal_segments_ahead": 1},
    "optimizers_config": {"deleted_threshold": 0.25, "indexing_threshold": 7, "max_optimization_threads": "auto"},
    "quantization_config": {
        "binary": {"always_ram": True, "encoding": "one_and_half_bits", "query_encoding": "scalar4bits"}
    },
    "strict_mode_config": {
        "enabled": True,
        "max_query_limit": 5,
        "search_max_oversampling": 1.5,
        "multivector_config": {"m": {"max_vectors": 3}},
        "sparse_config": {"s": {"max_length": 9}},
    },
    "metadata": {"a": [1, 2.0, None, {"b": True}]},
}
QUANTIZATIONS: list[dict[str, Any]] = [
    {"scalar": {"type": "int8", "quantile": 0.5, "always_ram": True}},
    {"product": {"compression": "x64"}},
    {"binary": {"encoding": "two_bits"}},
    {"turbo": {"bits": "bits1_5"}},
]


def sent(message: Any, kind: Any) -> Any:
    """Through the vendor's own message."""
    return type(message).FromString(kind.FromString(message.SerializeToString()).SerializeToString())


def test_a_definition_survives_proto() -> None:
    spec = spec_of_body(EVERYTHING)
    assert spec.vectors == {
        "a": VectorSpec(4, Metric.COSINE, "dense", "uint8"),
        "m": VectorSpec(2, Metric.DOT, "multi"),
        "s": VectorSpec(0, Metric.DOT, "sparse"),
        "plain": VectorSpec(0, Metric.DOT, "sparse"),
    }
    message = sent(proto_of_create("docs", spec), grpc.CreateCollection)
    assert message.collection_name == "docs"
    assert spec_of_proto(message) == spec


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_every_quantization(quantization: dict[str, Any]) -> None:
    body = {"vectors": {"size": 4, "distance": "Euclid"}, "quantization": quantization}
    spec = spec_of_body(body)
    assert spec.native["quantization_config"] == quantization
    assert spec_of_proto(sent(proto_of_create("docs", spec), grpc.CreateCollection)) == spec


def test_proto_says_what_the_clients_own_conversion_says() -> None:
    """Our JSON form of a configuration is the one that the client's models have."""
    vectors = models.VectorParams(
        size=4,
        distance=models.Distance.DOT,
        hnsw_config=models.HnswConfigDiff(m=3),
        quantization_config=models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        ),
    )
    ours = proto.VectorParams()
    fill_config(ours, vectors.model_dump(mode="json"))
    theirs = RestToGrpc.convert_vector_params(vectors)
    assert grpc.VectorParams.FromString(ours.SerializeToString()) == theirs


def test_a_description_is_read_by_the_client_and_makes_the_same_collection() -> None:
    spec = spec_of_body(EVERYTHING)
    info = proto.CollectionInfo()
    fill_config(info.config, config_of_spec(spec))
    info.payload_schema["tag"].data_type = proto.PayloadSchemaType.Value("Keyword")
    info.payload_schema["tag"].params.keyword_index_params.is_tenant = True
    shown: Any = GrpcToRest.convert_collection_config(grpc.CollectionInfo.FromString(info.SerializeToString()).config)
    assert shown.params.vectors["a"].hnsw_config.payload_m == 16
    assert shown.optimizer_config.indexing_threshold == 7
    assert shown.wal_config.wal_capacity_mb == 8
    described = spec_of_info(info)
    assert described.vectors == spec.vectors
    assert described.payload_indexes == {"tag": "keyword"}
    for key in ("vectors", "sparse_vectors", "shard_number", "on_disk_payload", "strict_mode_config", "metadata"):
        assert described.native[key] == EVERYTHING[key]
    assert described.native["optimizers_config"]["indexing_threshold"] == 7
    [index] = indexes_of_spec("docs", described)
    assert index == CreatePayloadIndex(
        "docs", "tag", "keyword", {"field_schema": {"type": "keyword", "is_tenant": True}}
    )
    assert "payload_indexes" not in body_of_spec(described)
    proto_of_create("copy", described)


def test_a_spec_of_another_vendor_is_enough() -> None:
    spec = CollectionSpec(
        {
            "a": VectorSpec(4, Metric.MANHATTAN, datatype="float16"),
            "m": VectorSpec(2, Metric.DOT, "multi"),
            "s": VectorSpec(0, Metric.DOT, "sparse"),
        },
        {"tag": "keyword"},
    )
    assert body_of_spec(spec) == {
        "vectors": {
            "a": {"size": 4, "distance": "Manhattan", "datatype": "float16"},
            "m": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
        },
        "sparse_vectors": {"s": {}},
    }
    assert spec_of_body(body_of_spec(spec)).vectors == spec.vectors
    assert body_of_spec(CollectionSpec({"": VectorSpec(3, Metric.COSINE)})) == {
        "vectors": {"size": 3, "distance": "Cosine"}
    }
    with pytest.raises(Untranslatable):
        body_of_spec(CollectionSpec({"b": VectorSpec(8, Metric.DOT, "binary")}))


@pytest.mark.parametrize(
    "native", [{"vectors": {}, "unheard": 1}, {"vectors": {}, "hnsw_config": {"m": "many"}}, {"vectors": {"size": 1}}]
)
def test_what_proto_cannot_say_is_not_left_out(native: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable, match="collection definition"):
        proto_of_create("docs", CollectionSpec({}, native={**native, "quantization_config": {"unheard": {}}}))
    with pytest.raises(Untranslatable, match="collection update"):
        proto_of_update("docs", {"hnsw_config": {"unheard": 1}})


def test_an_update_may_disable_quantization_and_name_the_unnamed_vector() -> None:
    native = {
        "vectors": {"": {"hnsw_config": {"m": 3}}},
        "quantization_config": "Disabled",
        "params": {"read_fan_out_factor": 2},
    }
    message = sent(proto_of_update("docs", native), grpc.UpdateCollection)
    assert message.quantization_config.HasField("disabled")
    assert message.vectors_config.params_map.map[""].hnsw_config.m == 3
    assert message.params.read_fan_out_factor == 2


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"vectors": 3},
        {"vectors": {"size": 4}},
        {"vectors": {"size": 4, "distance": "Hamming"}},
        {"vectors": {"a": {"size": "4", "distance": "Dot"}}},
        {"vectors": {}, "sparse_vectors": []},
    ],
)
def test_definitions_that_are_not_understood(body: object) -> None:
    with pytest.raises(Undecodable):
        spec_of_body(body)


INDEXES: list[Any] = [
    "keyword",
    "uuid",
    {"type": "keyword", "is_tenant": True, "on_disk": False, "prefix": True},
    {"type": "integer", "lookup": False, "range": True, "is_principal": True},
    {"type": "text", "tokenizer": "word", "lowercase": True, "min_token_len": 2, "phrase_matching": True,
     "stopwords": {"languages": ["english"], "custom": ["foo"]}, "stemmer": {"type": "snowball", "language": "german"}},
    {"type": "text", "tokenizer": "prefix", "stemmer": {"type": "none"}},
    {"type": "datetime", "on_disk": True},
    {"type": "geo"},
]  # fmt: skip


@pytest.mark.parametrize("schema", INDEXES)
def test_payload_indexes_survive_proto(schema: Any) -> None:
    index = index_of_json("docs", {"field_name": "f", "field_schema": schema})
    assert index.kind == (schema if isinstance(schema, str) else schema["type"])
    message = sent(proto_of_index(index), grpc.CreateFieldIndexCollection)
    assert (message.wait, message.field_name) == (True, "f")
    assert index_of_proto(message) == index


def test_an_index_whose_kind_the_server_chooses() -> None:
    index = index_of_json("docs", {"field_name": "f"})
    assert index == CreatePayloadIndex("docs", "f", None)
    assert index_of_proto(proto_of_index(index)) == index
