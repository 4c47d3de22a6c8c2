"""Collections: what the model says of one <-> a Milvus schema and its vector indexes.

A collection has a primary key `id`, one FLOAT_VECTOR field a vector, and the dynamic field for everything else. One
that somebody else made is taken if it has that shape under any names, with an index on each vector; `layout_of` says
what is missing otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from proxy.dialects.milvus.ids import IdMapping
from proxy.dialects.milvus.limits import MAX_DIMENSION, TEXT_ID_BYTES
from proxy.dialects.milvus.messages import common, schema
from proxy.dialects.milvus.names import PRIMARY_FIELD, vector_field, vector_of_field
from proxy.errors import Refused, Unfinished, Untranslatable
from proxy.model import CollectionSpec, Metric, VectorSpec

METRICS: dict[Metric, str] = {Metric.COSINE: "COSINE", Metric.DOT: "IP", Metric.EUCLID: "L2"}
_METRIC_OF = {name: metric for metric, name in METRICS.items()}

_TYPES = schema.DataType
_INT64, _VARCHAR, _FLOAT_VECTOR = (_TYPES.Value(name) for name in ("Int64", "VarChar", "FloatVector"))

# What Milvus 2.3 accepts for an HNSW index; later versions take more.
_M_BOUNDS = (4, 64)
_EF_CONSTRUCTION_BOUNDS = (8, 512)
_MAX_EF_SEARCH = 32_768


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """The index to make on each vector. None: from the source collection's own HNSW parameters, else a default."""

    type: Literal["HNSW", "FLAT", "AUTOINDEX"] = "HNSW"
    m: int | None = None
    ef_construction: int | None = None
    ef_search: int = 128


@dataclass(frozen=True, slots=True)
class VectorField:
    """A vector of an existing collection: its field, dimension, metric, and the type of its index."""

    field: str
    size: int
    metric: Metric
    index_type: str


@dataclass(frozen=True, slots=True)
class Layout:
    """An existing collection: which field is what. `vectors` is by the model's names."""

    primary_field: str
    ids: IdMapping
    max_id_bytes: int
    vectors: Mapping[str, VectorField]

    @property
    def fields(self) -> frozenset[str]:
        """Every field but the dynamic one: keys of payloads cannot have these names."""
        return frozenset({self.primary_field, *(vector.field for vector in self.vectors.values())})

    def spec(self) -> CollectionSpec:
        vectors = {name: VectorSpec(vector.size, vector.metric) for name, vector in self.vectors.items()}
        native = {vector.field: {"index_type": vector.index_type} for vector in self.vectors.values()}
        return CollectionSpec(vectors, native={"indexes": native})


# --- from the model ----------------------------------------------------------------------


def check_spec(spec: CollectionSpec, *, several_vectors: bool) -> None:
    """Raises Untranslatable for what Milvus has no equivalent for; `several_vectors`: whether this server can."""
    if not spec.vectors:
        raise Untranslatable("collection without vectors")
    if len(spec.vectors) > 1 and not several_vectors:
        raise Untranslatable("several vectors in a collection need Milvus 2.4")
    for vector in spec.vectors.values():
        if vector.kind != "dense":
            raise Untranslatable(f"{vector.kind} vectors")
        if vector.metric not in METRICS:
            raise Untranslatable(f"metric {vector.metric.value}")
        if not 2 <= vector.size <= MAX_DIMENSION:
            raise Untranslatable(f"vectors of {vector.size} dimensions (2 to {MAX_DIMENSION})")


def collection_schema(milvus_name: str, spec: CollectionSpec, ids: IdMapping) -> bytes:
    """The serialized CollectionSchema of a new collection."""
    if ids is IdMapping.INTEGER:
        key = schema.FieldSchema(name=PRIMARY_FIELD, is_primary_key=True, data_type=_INT64)
    else:
        key = schema.FieldSchema(name=PRIMARY_FIELD, is_primary_key=True, data_type=_VARCHAR)
        key.type_params.append(_pair("max_length", TEXT_ID_BYTES))
    fields = [key]
    for name, vector in spec.vectors.items():
        field = schema.FieldSchema(name=vector_field(name), data_type=_FLOAT_VECTOR)
        field.type_params.append(_pair("dim", vector.size))
        fields.append(field)
    described = schema.CollectionSchema(name=milvus_name, fields=fields, enable_dynamic_field=True)
    return bytes(described.SerializeToString())


def index_parameters(name: str, spec: CollectionSpec, index: VectorIndex) -> list[Any]:
    """The parameters of CreateIndex for the vector `name`."""
    pairs = [_pair("index_type", index.type), _pair("metric_type", METRICS[spec.vectors[name].metric])]
    if index.type == "HNSW":
        hnsw = _hnsw_of(spec.native, name)
        m = _within(_M_BOUNDS, index.m or hnsw.get("m") or 16)
        ef = _within(_EF_CONSTRUCTION_BOUNDS, index.ef_construction or hnsw.get("ef_construct") or 200)
        pairs.append(_pair("params", orjson.dumps({"M": m, "efConstruction": ef}).decode()))
    return pairs


def search_parameters(vector: VectorField, window: int, ef_search: int, params: Mapping[str, Any]) -> dict[str, int]:
    """What the index needs to be told with a search for `window` hits; `params` are the client's own."""
    if vector.index_type != "HNSW":
        return {}
    asked = params.get("hnsw_ef")
    ef = max(asked if isinstance(asked, int) else ef_search, 2 * window)
    return {"ef": max(min(ef, _MAX_EF_SEARCH), window)}


def _hnsw_of(native: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The graph's parameters in a description by the source's vendor (Qdrant's `hnsw_config`), a vector's own first."""
    vectors = native.get("vectors")
    own = vectors.get(name) if isinstance(vectors, dict) and name else vectors
    found: dict[str, Any] = {}
    for holder in (native, own):
        config = holder.get("hnsw_config") if isinstance(holder, dict) else None
        if isinstance(config, dict):
            found |= {key: value for key, value in config.items() if isinstance(value, int)}
    return found


def _within(bounds: tuple[int, int], value: int) -> int:
    return max(bounds[0], min(bounds[1], value))


def _pair(key: str, value: object) -> Any:
    return common.KeyValuePair(key=key, value=str(value))


# --- from the server ---------------------------------------------------------------------


def has_fields(described: Any, serialized: bytes) -> bool:
    """Whether an existing collection, by its CollectionSchema, has just the fields of that serialized one."""

    def fields(of: Any) -> set[tuple[Any, ...]]:
        own = (field for field in of.fields if not field.is_dynamic)
        return {(f.name, f.data_type, f.is_primary_key, f.autoID, *sorted(_pairs(f.type_params).items())) for f in own}

    asked = schema.CollectionSchema.FromString(serialized)
    return bool(described.enable_dynamic_field) and fields(described) == fields(asked)


def layout_of(collection: str, described: Any, indexes: Iterable[Any]) -> Layout:
    """The layout of an existing collection, from its CollectionSchema and the IndexDescriptions of its vectors.
    Raises Refused with what it lacks; Unfinished if that is an index."""
    problem = f"collection {collection!r} cannot be used: "
    if not described.enable_dynamic_field:
        raise Refused(problem + "it has no dynamic field; create it with enable_dynamic_field=True")
    index_of = {index.field_name: _pairs(index.params) for index in indexes}
    keys = [field for field in described.fields if field.is_primary_key]
    if len(keys) != 1 or keys[0].data_type not in (_INT64, _VARCHAR) or keys[0].autoID or described.autoID:
        raise Refused(problem + "it needs a primary key of type INT64 or VARCHAR whose values the client chooses")
    vectors: dict[str, VectorField] = {}
    for field in described.fields:
        if field.is_primary_key or field.is_dynamic:
            continue
        if field.data_type != _FLOAT_VECTOR:
            raise Refused(problem + f"payloads stand in the dynamic field, which leaves the field {field.name!r} empty")
        vectors[vector_of_field(field.name)] = _vector_field(problem, field, index_of.get(field.name))
    ids = IdMapping.INTEGER if keys[0].data_type == _INT64 else IdMapping.TEXT
    max_id_bytes = int(_pairs(keys[0].type_params).get("max_length", TEXT_ID_BYTES))
    return Layout(keys[0].name, ids, max_id_bytes, vectors)


def _vector_field(problem: str, field: Any, index: Mapping[str, str] | None) -> VectorField:
    if index is None:
        raise Unfinished(problem + f"its vector {field.name!r} has no index; create one, or drop the collection")
    metric = _METRIC_OF.get(index.get("metric_type", ""))
    if metric is None:
        raise Refused(problem + f"its vector {field.name!r} has the metric {index.get('metric_type')!r}")
    return VectorField(field.name, int(_pairs(field.type_params)["dim"]), metric, index.get("index_type", ""))


def _pairs(pairs: Iterable[Any]) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}
