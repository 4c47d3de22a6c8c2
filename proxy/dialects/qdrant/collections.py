"""Collections: definitions and descriptions, JSON and proto, and the model's neutral part of them.

`CollectionSpec.native` is always the body of a REST "create collection" request, whatever the definition came as: a
description is turned into the body that would make the same collection. So one form is kept, shown and compared. One
key is ours: "payload_indexes", field -> the object that would make the index.

What a server adds to what the client said (the defaults below) is taken from lib/segment/src/types.rs,
lib/collection/src/config.rs and lib/collection/src/optimizers_builder.rs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.dialects.qdrant.configs import enum_word, fill_config, json_of_config
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import Untranslatable
from proxy.model import CollectionSpec, CreatePayloadIndex, Described, Metric, VectorSpec

METRICS = {
    "Cosine": Metric.COSINE,
    "Dot": Metric.DOT,
    "Euclid": Metric.EUCLID,
    "Manhattan": Metric.MANHATTAN,
}
DISTANCES = {metric: name for name, metric in METRICS.items()}
_ALIASES = {"optimizer_config": "optimizers_config", "quantization": "quantization_config"}
_INDEX_KINDS = frozenset({"keyword", "integer", "float", "geo", "text", "bool", "datetime", "uuid"})

_DEFAULT_HNSW = {
    "m": 16,
    "ef_construct": 100,
    "full_scan_threshold": 10000,
    "max_indexing_threads": 0,
    "on_disk": False,
}
_DEFAULT_OPTIMIZER = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "max_segment_size": None,
    "memmap_threshold": None,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
    "max_optimization_threads": None,
}
_DEFAULT_WAL = {"wal_capacity_mb": 32, "wal_segments_ahead": 0, "wal_retain_closed": 1}
_DEFAULT_PARAMS = {
    "shard_number": 1,
    "replication_factor": 1,
    "write_consistency_factor": 1,
    "on_disk_payload": True,
}


# --- definitions -------------------------------------------------------------------------


def spec_of_body(body: object) -> CollectionSpec:
    """From the body of a REST "create collection". Raises Undecodable."""
    if not isinstance(body, dict):
        raise Undecodable
    native = _canonical(body)
    if "init_from" in native:
        raise Undecodable("collection made from another")
    return CollectionSpec(vectors=_vector_specs(native), native=native)


def _canonical(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the current names of its keys, and without nulls."""
    return {_ALIASES.get(key, key): value for key, value in body.items() if value is not None}


def _vector_specs(native: Mapping[str, Any]) -> dict[str, VectorSpec]:
    vectors = native.get("vectors", {})
    sparse = native.get("sparse_vectors", {})
    if not isinstance(vectors, dict) or not isinstance(sparse, dict):
        raise Undecodable
    named = {"": vectors} if isinstance(vectors.get("size"), int) else vectors
    specs = {name: _vector_spec(params) for name, params in named.items()}
    return specs | {name: VectorSpec(0, Metric.DOT, "sparse") for name in sparse}


def _vector_spec(params: object) -> VectorSpec:
    match params:
        case {"size": int(size), "distance": str(distance), **rest} if distance in METRICS:
            kind = "multi" if rest.get("multivector_config") else "dense"
            return VectorSpec(size, METRICS[distance], kind, str(rest.get("datatype") or "float32"))
        case _:
            raise Undecodable


def spec_of_proto(message: Any) -> CollectionSpec:
    """From a CreateCollection. Raises Undecodable."""
    body = json_of_config(message)
    body.pop("collection_name", None)
    body.pop("timeout", None)
    return spec_of_body(body)


def body_of_spec(spec: CollectionSpec) -> dict[str, Any]:
    """The REST body that makes such a collection: the native one, or for a spec of another vendor a minimal one.

    Raises Untranslatable for a vector kind that has no counterpart.
    """
    if "vectors" in spec.native:
        return {key: value for key, value in spec.native.items() if key != "payload_indexes"}
    dense: dict[str, Any] = {}
    sparse: dict[str, Any] = {}
    for name, vector in spec.vectors.items():
        match vector.kind:
            case "dense" | "multi":
                dense[name] = _params_of_spec(vector)
            case "sparse":
                sparse[name] = {}
            case kind:
                raise Untranslatable(f"vector kind {kind}")
    body: dict[str, Any] = {"vectors": dense[""] if dense.keys() == {""} else dense}
    return body | {"sparse_vectors": sparse} if sparse else body


def _params_of_spec(vector: VectorSpec) -> dict[str, Any]:
    params: dict[str, Any] = {"size": vector.size, "distance": DISTANCES[vector.metric]}
    if vector.kind == "multi":
        params["multivector_config"] = {"comparator": "max_sim"}
    if vector.datatype != "float32":
        params["datatype"] = vector.datatype
    return params


def proto_of_create(collection: str, spec: CollectionSpec) -> Any:
    """A CreateCollection. Raises Untranslatable if the native part says something that proto cannot."""
    message = proto.CreateCollection()
    body = body_of_spec(spec)
    body.pop("uuid", None)
    try:
        fill_config(message, body)
    except Undecodable as problem:
        raise Untranslatable(f"collection definition: {problem.reason}") from None
    message.collection_name = collection
    return message


def proto_of_update(collection: str, native: Mapping[str, Any]) -> Any:
    """An UpdateCollection from the body of a PATCH. Raises Untranslatable."""
    message = proto.UpdateCollection()
    try:
        fill_config(message, _canonical(native))
    except Undecodable as problem:
        raise Untranslatable(f"collection update: {problem.reason}") from None
    message.collection_name = collection
    return message


# --- descriptions ------------------------------------------------------------------------


def config_of_spec(spec: CollectionSpec) -> dict[str, Any]:
    """`config` as a server describes it: what was asked for over the server's defaults."""
    native = body_of_spec(spec)
    params = {"vectors": native.get("vectors", {})} | _DEFAULT_PARAMS
    for key in ("sparse_vectors", "sharding_method", "payload", *_DEFAULT_PARAMS):
        if key in native:
            params[key] = native[key]
    config: dict[str, Any] = {
        "params": params,
        "hnsw_config": _over(_DEFAULT_HNSW, native.get("hnsw_config")),
        "optimizer_config": _over(_DEFAULT_OPTIMIZER, native.get("optimizers_config")),
        "wal_config": _over(_DEFAULT_WAL, native.get("wal_config")),
        "quantization_config": native.get("quantization_config"),
    }
    return config | {key: native[key] for key in ("strict_mode_config", "metadata") if key in native}


def _over(defaults: dict[str, Any], asked: Mapping[str, Any] | None) -> dict[str, Any]:
    return defaults | {key: value for key, value in (asked or {}).items() if value is not None}


def body_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The create body that makes a collection with this described `config`."""
    params = config.get("params") or {}
    body = {key: params[key] for key in ("vectors", "sparse_vectors", "sharding_method", "payload") if params.get(key)}
    body |= {key: params[key] for key in _DEFAULT_PARAMS if params.get(key) is not None}
    for source, target in (("optimizer_config", "optimizers_config"), ("hnsw_config", "hnsw_config")):
        body[target] = {key: value for key, value in (config.get(source) or {}).items() if value is not None}
    for key in ("wal_config", "quantization_config", "strict_mode_config", "metadata"):
        if config.get(key):
            body[key] = config[key]
    return {"vectors": {}} | body


def info_of_described(described: Described) -> dict[str, Any]:
    """A collection's info as REST shows it (CollectionInfo)."""
    indexes: dict[str, Any] = {}
    for field, kind in described.spec.payload_indexes.items():
        params = _index_params(described.spec, field)
        indexes[field] = {"data_type": kind, **({"params": params} if params else {}), "points": described.points}
    return {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": 0,
        "points_count": described.points,
        "segments_count": 1,
        "config": config_of_spec(described.spec),
        "payload_schema": indexes,
        "update_queue": {"length": 0},
    }


def proto_of_described(described: Described) -> Any:
    """A CollectionInfo message."""
    info = proto.CollectionInfo(status=1, segments_count=1, points_count=described.points, indexed_vectors_count=0)
    info.optimizer_status.ok = True
    info.update_queue.length = 0
    fill_config(info.config, config_of_spec(described.spec))
    for field, kind in described.spec.payload_indexes.items():
        schema = info.payload_schema[field]
        schema.data_type = proto.PayloadSchemaType.Value(kind.capitalize())
        schema.points = described.points
        params = _index_params(described.spec, field)
        if params:
            fill_config(getattr(schema.params, f"{kind}_index_params"), _without_type(params))
    return info


def _index_params(spec: CollectionSpec, field: str) -> dict[str, Any]:
    """The object that made a payload index, if it says more than the kind."""
    schema = (spec.native.get("payload_indexes") or {}).get(field)
    return schema if isinstance(schema, dict) and len(schema) > 1 else {}


def _without_type(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "type"}


def spec_of_info(info: Any) -> CollectionSpec:
    """From a CollectionInfo message. Raises Undecodable.

    What a newer server says besides is left out: a client that asks for something new means it, a server that describes
    itself says all it has.
    """
    plain = proto.CollectionInfo()
    plain.CopyFrom(info)
    plain.DiscardUnknownFields()
    spec = spec_of_body(body_of_config(json_of_config(plain.config)))
    schemas = {field: _schema_of_proto(schema) for field, schema in plain.payload_schema.items()}
    kinds = {field: str(schema["type"]) for field, schema in schemas.items()}
    return CollectionSpec(spec.vectors, kinds, {**spec.native, "payload_indexes": schemas})


def _schema_of_proto(schema: Any) -> dict[str, Any]:
    """A payload index as the object that would make it."""
    kind = enum_word(proto.PayloadSchemaType.Name(schema.data_type) or "")
    chosen = schema.params.WhichOneof("index_params")
    return {"type": kind} | ({} if chosen is None else json_of_config(getattr(schema.params, chosen)))


def indexes_of_spec(collection: str, spec: CollectionSpec) -> tuple[CreatePayloadIndex, ...]:
    """What makes the payload indexes of a spec, with their parameters where the spec is of this vendor."""
    schemas = spec.native.get("payload_indexes") or {}
    return tuple(
        CreatePayloadIndex(collection, field, kind, {"field_schema": schemas.get(field, kind)})
        for field, kind in spec.payload_indexes.items()
    )


# --- payload indexes ---------------------------------------------------------------------


def index_of_json(collection: str, body: object) -> CreatePayloadIndex:
    """From the body of "create payload index". Raises Undecodable."""
    if not isinstance(body, dict) or not isinstance(body.get("field_name"), str):
        raise Undecodable
    schema = body.get("field_schema") or body.get("field_type")
    kind = schema.get("type") if isinstance(schema, dict) else schema
    if kind is not None and not (isinstance(kind, str) and kind in _INDEX_KINDS):
        raise Undecodable
    return CreatePayloadIndex(collection, body["field_name"], kind, {} if schema is None else {"field_schema": schema})


def index_of_proto(message: Any) -> CreatePayloadIndex:
    """From a CreateFieldIndexCollection. Raises Undecodable."""
    schema: Any = None
    if message.HasField("field_type"):
        name = proto.FieldType.Name(message.field_type)
        schema = None if name is None else name.removeprefix("FieldType").lower()
    if message.HasField("field_index_params"):
        chosen = message.field_index_params.WhichOneof("index_params")
        if chosen is not None:
            kind = chosen.removesuffix("_index_params")
            schema = {"type": kind} | json_of_config(getattr(message.field_index_params, chosen))
    return index_of_json(message.collection_name, {"field_name": message.field_name, "field_schema": schema})


def proto_of_index(index: CreatePayloadIndex) -> Any:
    """A CreateFieldIndexCollection that waits. Raises Untranslatable."""
    message = proto.CreateFieldIndexCollection(collection_name=index.collection, wait=True, field_name=index.field_name)
    if index.kind is not None:
        message.field_type = proto.FieldType.Value("FieldType" + index.kind.capitalize())
    schema = index.native.get("field_schema")
    if isinstance(schema, dict):
        try:
            fill_config(getattr(message.field_index_params, f"{index.kind}_index_params"), _without_type(schema))
        except Undecodable as problem:
            raise Untranslatable(f"payload index: {problem.reason}") from None
    return message
