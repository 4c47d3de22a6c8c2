"""The proto messages of protos/milvus, by package: `common.Status`, `schema.FieldData`, `milvus.QueryRequest`."""

from __future__ import annotations

from proxy.dialects.descriptors import message_set

common = message_set("milvus", "milvus.proto.common")
schema = message_set("milvus", "milvus.proto.schema")
milvus = message_set("milvus", "milvus.proto.milvus")

SERVICE = "/milvus.proto.milvus.MilvusService/"
