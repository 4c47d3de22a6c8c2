"""Vectors: float32 buffers in the model, lists of numbers in JSON, repeated floats in proto.

Numbers never become Python floats on the way to or from proto: the wire form of a repeated float is the buffer itself
after a tag and a length, so a DenseVector is serialized or parsed instead of copied number by number.

JSON numbers are read as float64 and rounded to float32, as the server does. What a client sends must be finite (an
engine would take NaN and never find the point again): `finite...` raise InvalidRequest. What a store holds is read as
it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from proxy.dialects.proto_bytes import varint_at, varint_of
from proxy.dialects.qdrant.messages import known, proto
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.errors import InvalidRequest
from proxy.model import MultiVector, Point, SparseVector, Vector

FLOAT32: Final = np.dtype("<f4")
_NUMBERS: Final = frozenset({int, float})
_PACKED_FIELD_1: Final = b"\x0a"


def check_finite(points: Iterable[Point]) -> None:
    """Raises InvalidRequest if a number in their vectors is not finite. One look at all: each has a price."""
    buffers: list[bytes] = []
    for point in points:
        for vector in point.vectors.values():
            match vector:
                case bytes():
                    buffers.append(vector)
                case SparseVector(values=values):
                    buffers.append(values)
                case MultiVector(rows=rows):
                    buffers += rows
    finite(b"".join(buffers))


def finite(buffer: bytes) -> bytes:
    """The buffer itself. Raises InvalidRequest if it holds NaN or an infinity."""
    if b"\0" in np.isfinite(np.frombuffer(buffer, FLOAT32)).tobytes():  # a third of what all() takes
        raise InvalidRequest(
            "Wrong input: vector holds NaN or an infinite number, only finite 32-bit floats are accepted"
        )
    return buffer


# --- JSON --------------------------------------------------------------------------------


def dense_of_json(numbers: object) -> bytes:
    """A list of numbers as a float32 buffer. Raises Undecodable for anything else, InvalidRequest if not finite."""
    if not isinstance(numbers, list) or not set(map(type, numbers)) <= _NUMBERS:
        raise Undecodable("malformed vector")
    with np.errstate(over="ignore"):
        return finite(np.array(numbers, dtype=np.float64).astype(FLOAT32).tobytes())


def vector_of_json(value: object) -> Vector:
    """One vector: dense (numbers), sparse (indices and values) or multi (lists of numbers). Raises Undecodable."""
    match value:
        case [list(), *_]:
            return MultiVector(tuple(map(dense_of_json, value)))
        case list():
            return dense_of_json(value)
        case {"indices": list(indices), "values": list(values), **rest} if not rest:
            return _sparse(indices, dense_of_json(values))
        case {"model": _}:
            raise Undecodable("inference object")
        case _:
            raise Undecodable("malformed vector")


def vectors_of_json(value: object) -> dict[str, Vector]:
    """The vectors of a point: one unnamed vector, or an object of named ones (maybe none)."""
    if isinstance(value, dict):
        if isinstance(value.get("model"), str):
            raise Undecodable("inference object")
        return {name: vector_of_json(vector) for name, vector in value.items()}
    return {"": vector_of_json(value)}


def json_of_vectors(vectors: Mapping[str, Vector]) -> Any:
    """As the server shows them: the unnamed vector alone, anything else as an object."""
    if vectors.keys() == {""}:
        return json_of_vector(vectors[""])
    return {name: json_of_vector(vector) for name, vector in vectors.items()}


def json_of_vector(vector: Vector) -> Any:
    """For orjson with OPT_SERIALIZE_NUMPY, which writes the shortest number that reads back as the same float32."""
    match vector:
        case SparseVector(indices=indices, values=values):
            return {"indices": list(indices), "values": floats(values)}
        case MultiVector(rows=rows):
            return [floats(row) for row in rows]
        case _:
            return floats(vector)


def floats(buffer: bytes) -> NDArray[np.float32]:
    return np.frombuffer(buffer, FLOAT32)


def _sparse(indices: list[Any], values: bytes) -> SparseVector:
    if not set(map(type, indices)) <= {int} or len(indices) * FLOAT32.itemsize != len(values):
        raise Undecodable("malformed vector")
    return SparseVector(tuple(indices), values)


# --- proto -------------------------------------------------------------------------------


def vectors_of_proto(message: Any) -> dict[str, Vector]:
    """From Vectors or VectorsOutput; one with neither alternative set holds no vector."""
    match known(message).WhichOneof("vectors_options"):
        case "vector":
            return {"": vector_of_proto(message.vector)}
        case "vectors":
            return {name: vector_of_proto(vector) for name, vector in message.vectors.vectors.items()}
        case _:
            return {}


def vector_of_proto(message: Any) -> Vector:
    """From Vector or VectorOutput, in the current form or the deprecated flat one. Raises Undecodable."""
    match known(message).WhichOneof("vector"):
        case "dense":
            return dense_of_proto(message.dense)
        case "sparse":
            return _sparse(list(message.sparse.indices), np.array(message.sparse.values, FLOAT32).tobytes())
        case "multi_dense":
            return MultiVector(tuple(map(dense_of_proto, message.multi_dense.vectors)))
        case None:
            return _flat(message)
        case _:
            raise Undecodable("inference object")


def _flat(message: Any) -> Vector:
    """The form before Qdrant 1.16: one list of numbers, with indices (sparse) or a number of rows (multi) beside it."""
    buffer = np.array(message.data, FLOAT32).tobytes()
    if message.HasField("indices"):
        return _sparse(list(message.indices.data), buffer)
    if message.HasField("vectors_count"):
        rows = message.vectors_count
        if rows == 0 or len(message.data) % rows:
            raise Undecodable("malformed vector")
        size = len(buffer) // rows
        return MultiVector(tuple(buffer[start : start + size] for start in range(0, len(buffer), size)))
    return buffer


def dense_of_proto(message: Any) -> bytes:
    """A DenseVector's numbers as a buffer."""
    wire: bytes = message.SerializeToString()
    if not wire:
        return b""
    if wire[:1] != _PACKED_FIELD_1:
        return np.array(message.data, FLOAT32).tobytes()
    size_bytes, start = varint_at(wire, 1)
    return wire[start : start + size_bytes]


def fill_dense(message: Any, buffer: bytes) -> None:
    """Put a buffer into a DenseVector."""
    message.MergeFromString(_PACKED_FIELD_1 + varint_of(len(buffer)) + buffer)


def fill_vector(message: Any, vector: Vector) -> None:
    """Put a vector into a Vector or VectorOutput, in the current form."""
    match vector:
        case SparseVector(indices=indices, values=values):
            message.sparse.values.extend(floats(values).tolist())
            message.sparse.indices.extend(indices)
        case MultiVector(rows=rows):
            message.multi_dense.SetInParent()
            for row in rows:
                fill_dense(message.multi_dense.vectors.add(), row)
        case _:
            message.dense.SetInParent()
            fill_dense(message.dense, vector)


def fill_vectors(message: Any, vectors: Mapping[str, Vector]) -> None:
    """Put vectors into a Vectors or VectorsOutput: the unnamed one alone, anything else by name."""
    if vectors.keys() == {""}:
        fill_vector(message.vector, vectors[""])
        return
    message.vectors.SetInParent()
    for name, vector in vectors.items():
        fill_vector(message.vectors.vectors[name], vector)


def dense_query(message: Any) -> bytes:
    """The vector of a VectorInput. Raises Undecodable for every other kind of input, named, and InvalidRequest."""
    match known(message).WhichOneof("variant"):
        case "dense":
            return finite(dense_of_proto(message.dense))
        case "id":
            raise Undecodable("query by id")
        case "sparse":
            raise Undecodable("sparse query")
        case "multi_dense":
            raise Undecodable("multi-vector query")
        case "document" | "image" | "object":
            raise Undecodable("inference object")
        case _:
            raise Undecodable


def proto_of_dense(buffer: bytes) -> Any:
    message = proto.DenseVector()
    fill_dense(message, buffer)
    return message
