"""Points, selections and collection descriptions between the model and the embedded Qdrant engine. Pure.

The engine is given float32 buffers as `array('f')`, which the binding reads faster than lists, and gives lists
back. A collection's description is kept as JSON beside the engine's files (`spec_to_json`).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any, assert_never, cast
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from proxy.errors import InvalidRequest, Untranslatable
from proxy.model import (
    CollectionSpec,
    Metric,
    MultiVector,
    Point,
    PointId,
    Selection,
    SparseVector,
    Vector,
    VectorSpec,
)

_DISTANCES = {
    Metric.COSINE: edge.Distance.Cosine,
    Metric.DOT: edge.Distance.Dot,
    Metric.EUCLID: edge.Distance.Euclid,
    Metric.MANHATTAN: edge.Distance.Manhattan,
}
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}

# --- points ------------------------------------------------------------------------------


def engine_point(point: Point) -> edge.Point:
    return edge.Point(engine_id(point.id), engine_vectors(point.vectors), dict(point.payload))


def engine_vectors(vectors: Mapping[str, Vector]) -> edge.Vector:
    return {name: engine_vector(vector) for name, vector in vectors.items()}


def engine_vector(vector: Vector) -> edge.NamedVector:
    match vector:
        case bytes():
            floats: Any = array("f", vector)  # the stubs ask for a list
            return cast(list[float], floats)
        case SparseVector(indices, values):
            return edge.SparseVector(list(indices), array("f", values).tolist())
        case MultiVector(rows):
            return [array("f", row).tolist() for row in rows]
        case _:
            assert_never(vector)


def engine_id(point_id: PointId) -> PointId:
    """Raises InvalidRequest for an id that the engine has no place for."""
    if isinstance(point_id, UUID) or (isinstance(point_id, int) and 0 <= point_id < 2**64):
        return point_id
    raise InvalidRequest(f"{point_id!r} is not a valid point ID, valid values are either an unsigned integer or a UUID")


def model_point(record: edge.Record | edge.ScoredPoint) -> Point:
    """A Record or ScoredPoint of the engine."""
    vectors = record.vector
    if vectors is None:
        vectors = {}
    named = vectors if isinstance(vectors, dict) else {"": vectors}
    return Point(record.id, {name: model_vector(vector) for name, vector in named.items()}, record.payload or {})


def model_vector(vector: Any) -> Vector:
    if isinstance(vector, edge.SparseVector):
        return SparseVector(tuple(vector.indices), _floats(vector.values))
    if vector and isinstance(vector[0], list):
        return MultiVector(tuple(_floats(row) for row in vector))
    return _floats(vector)


def _floats(values: list[float]) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def payload_selector(selection: Selection) -> edge.WithPayloadType:
    if not selection.payload:
        return False
    if selection.payload_include is not None:
        return edge.PayloadSelector.Include(list(selection.payload_include))
    if selection.payload_exclude is not None:
        return edge.PayloadSelector.Exclude(list(selection.payload_exclude))
    return True


def vector_selector(selection: Selection) -> bool | list[str]:
    if not selection.vectors or selection.vector_names is None:
        return selection.vectors
    return list(selection.vector_names)


# --- collections -------------------------------------------------------------------------


def engine_config(spec: CollectionSpec) -> edge.EdgeConfig:
    """The engine's configuration. Raises Untranslatable, or InvalidRequest for a vector without size."""
    dense: dict[str, edge.EdgeVectorParams] = {}
    sparse: dict[str, edge.EdgeSparseVectorParams] = {}
    for name, vector in spec.vectors.items():
        datatype = _DATATYPES.get(vector.datatype)
        if datatype is None:
            raise Untranslatable(f"datatype {vector.datatype}")
        if vector.kind == "sparse":
            sparse[name] = edge.EdgeSparseVectorParams(modifier=_modifier(spec, name), datatype=datatype)
        else:
            dense[name] = _dense_params(name, vector, datatype)
    if not dense and not sparse:
        raise Untranslatable("collection without vectors")
    return edge.EdgeConfig(vectors=dense or None, sparse_vectors=sparse or None)


def _dense_params(name: str, vector: VectorSpec, datatype: edge.VectorStorageDatatype) -> edge.EdgeVectorParams:
    if vector.size < 1:
        raise InvalidRequest(f"vector {name!r} has size {vector.size}; expected 1 or larger")
    if vector.kind not in {"dense", "multi"}:
        raise Untranslatable(f"{vector.kind} vectors")
    rows = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if vector.kind == "multi" else None
    return edge.EdgeVectorParams(vector.size, _DISTANCES[vector.metric], multivector_config=rows, datatype=datatype)


def _modifier(spec: CollectionSpec, name: str) -> edge.Modifier | None:
    """The one native setting of a sparse vector that changes scores."""
    native = (spec.native.get("sparse_vectors") or {}).get(name) or {}
    return edge.Modifier.Idf if native.get("modifier") == "idf" else None


def spec_to_json(name: str, spec: CollectionSpec) -> dict[str, Any]:
    vectors = {
        vector_name: {
            "size": vector.size,
            "metric": vector.metric.value,
            "kind": vector.kind,
            "datatype": vector.datatype,
        }
        for vector_name, vector in spec.vectors.items()
    }
    return {"name": name, "vectors": vectors, "native": dict(spec.native)}


def spec_from_json(described: Mapping[str, Any]) -> CollectionSpec:
    """What `spec_to_json` wrote; the payload indexes are the engine's to tell."""
    vectors = {
        name: VectorSpec(vector["size"], Metric(vector["metric"]), vector["kind"], vector["datatype"])
        for name, vector in described["vectors"].items()
    }
    return CollectionSpec(vectors, native=described["native"])


def updated_native(native: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The create body `native` as it would have to be for the collection after an update with `changes`.

    Both are the vendor's REST bodies. In an update the unnamed vector is called "", collection parameters stand
    under `params`, and quantization can be "Disabled".
    """
    top = {key: value for key, value in changes.items() if key not in {"params", "vectors"}}
    updated = _overlaid(_overlaid(native, top), changes.get("params") or {})
    for name, change in (changes.get("vectors") or {}).items():
        vectors = updated.get("vectors") or {}
        updated["vectors"] = _overlaid(vectors, change if name == "" and "size" in vectors else {name: change})
    return updated


def _overlaid(native: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`native` with the values of `changes` put over it: objects merged, null says nothing."""
    merged = dict(native)
    for key, value in changes.items():
        known = merged.get(key)
        if value == "Disabled":
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            merged[key] = _overlaid(known if isinstance(known, Mapping) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged
