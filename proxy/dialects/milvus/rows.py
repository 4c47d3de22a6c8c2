"""Rows: points <-> the columns of Milvus messages.

Vectors travel as one flat column of float32 in row order. A buffer is put behind the rest of its message, and taken out
again, as the packed field's own bytes, so that no float becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from proxy.dialects.milvus.ids import IdMapping, PrimaryKey, point_id_of, primary_key
from proxy.dialects.milvus.limits import UnrepresentableError
from proxy.dialects.milvus.messages import milvus, schema
from proxy.dialects.milvus.names import DYNAMIC_FIELD
from proxy.dialects.milvus.payloads import decode_payload, encode_payload
from proxy.dialects.milvus.schema import Layout, VectorField
from proxy.dialects.proto_bytes import Field
from proxy.model import Json, Metric, Point, PointId

_TYPES = schema.DataType
_INT64, _VARCHAR, _JSON, _FLOAT_VECTOR = (_TYPES.Value(name) for name in ("Int64", "VarChar", "JSON", "FloatVector"))
_FLOAT32_BYTES = 4
_COLUMN = Field(milvus.UpsertRequest, "fields_data")  # and of InsertRequest
_VECTORS = Field(schema.FieldData, "vectors")
_FLOATS = Field(schema.VectorField, "float_vector")
_DATA = Field(schema.FloatArray, "data")


class Row(msgspec.Struct, frozen=True):
    """A point as Milvus will hold it. `vectors` in the order of the layout; `size_bytes` on the wire, about."""

    point_id: PointId
    key: PrimaryKey
    vectors: tuple[bytes, ...]
    dynamic: bytes
    marks: frozenset[str]

    @property
    def size_bytes(self) -> int:
        return len(self.dynamic) + sum(map(len, self.vectors)) + 64


@dataclass(frozen=True, slots=True)
class Rows:
    """What became of points: `refused` maps the ids of those that Milvus cannot hold to the reason."""

    rows: list[Row] = field(default_factory=list)
    refused: dict[PointId, str] = field(default_factory=dict)


def encode_points(points: Iterable[Point], layout: Layout) -> Rows:
    result, fields = Rows(), layout.fields
    for point in points:
        try:
            key = primary_key(point.id, layout.ids, layout.max_id_bytes)
            vectors = _vectors(point, layout)
            dynamic, marks = encode_payload(point.payload, point.id, fields)
        except UnrepresentableError as error:
            result.refused[point.id] = str(error)
        else:
            result.rows.append(Row(point.id, key, vectors, dynamic, marks))
    for position, vector in enumerate(layout.vectors.values()):
        _refuse_unsearchable(result, position, vector)
    return result


def _vectors(point: Point, layout: Layout) -> tuple[bytes, ...]:
    """In the order of the layout. Raises UnrepresentableError unless they are just those that it has."""
    if unknown := [name for name in point.vectors if name not in layout.vectors]:
        raise UnrepresentableError(f"the collection has no vector {unknown[0]!r}")
    found: list[bytes] = []
    for name, expected in layout.vectors.items():
        vector = point.vectors.get(name)
        if vector is None:
            raise UnrepresentableError(f"the point has no vector {name!r}, and every row needs one")
        if not isinstance(vector, bytes):
            raise UnrepresentableError(f"the vector {name!r} is not a dense one")
        if len(vector) != expected.size * _FLOAT32_BYTES:
            size = len(vector) // _FLOAT32_BYTES
            raise UnrepresentableError(f"the vector {name!r} has {size} dimensions instead of {expected.size}")
        found.append(vector)
    return tuple(found)


def _refuse_unsearchable(rows: Rows, position: int, vector: VectorField) -> None:
    """Refuse vectors that are stored or searched wrongly: not finite, or without direction where cosine needs one
    (the full server leaves rows out of searches whose cosine is not a number)."""
    if not rows.rows:
        return
    matrix = np.frombuffer(b"".join(row.vectors[position] for row in rows.rows), dtype="<f4")
    matrix = matrix.reshape(len(rows.rows), vector.size)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    directed = (squares >= np.finfo(np.float32).tiny) & np.isfinite(squares)
    if directed.all():
        return
    finite = np.isfinite(matrix).all(axis=1)
    good = finite & directed if vector.metric is Metric.COSINE else finite
    if good.all():
        return
    for row, is_good, is_finite in zip(rows.rows, good, finite, strict=True):
        if not is_good:
            reason = "is too short or too long for a cosine" if is_finite else "has a component that is not finite"
            rows.refused[row.point_id] = f"the vector {reason}"
    rows.rows[:] = [row for row, is_good in zip(rows.rows, good, strict=True) if is_good]


# --- columns -----------------------------------------------------------------------------


def written(request: Any, rows: Sequence[Row], layout: Layout) -> bytes:
    """`request` (an InsertRequest or UpsertRequest) with the rows, one column a field, those of vectors last."""
    _fill_columns(request.fields_data, rows, layout)
    return b"".join((request.SerializeToString(), *_vector_columns(rows, layout)))


def _fill_columns(columns: Any, rows: Sequence[Row], layout: Layout) -> None:
    """What is no vector as FieldData, put into a message's own list of them: a message that is made apart is copied
    where it goes."""
    _fill_keys(columns.add(field_name=layout.primary_field), [row.key for row in rows], layout)
    dynamic = columns.add(type=_JSON, field_name=DYNAMIC_FIELD, is_dynamic=True)
    dynamic.scalars.json_data.data.extend([row.dynamic for row in rows])


def _fill_keys(column: Any, keys: list[PrimaryKey], layout: Layout) -> None:
    if layout.ids is IdMapping.INTEGER:
        column.type = _INT64
        column.scalars.long_data.data.extend(keys)
    else:
        column.type = _VARCHAR
        column.scalars.string_data.data.extend(keys)


def _vector_columns(rows: Sequence[Row], layout: Layout) -> Iterator[bytes]:
    """The columns of vectors as they stand in a request, in parts: the vectors themselves are copied once, where they
    go."""
    for position, vector in enumerate(layout.vectors.values()):
        size = len(rows) * vector.size * _FLOAT32_BYTES
        data = _DATA[size]
        vectors = schema.VectorField(dim=vector.size).SerializeToString() + _FLOATS[len(data) + size] + data
        column = schema.FieldData(type=_FLOAT_VECTOR, field_name=vector.field).SerializeToString()
        column += _VECTORS[len(vectors) + size] + vectors
        yield _COLUMN[len(column) + size] + column
        yield from (row.vectors[position] for row in rows)


def float_bytes(array: Any) -> bytes:
    """The float32 buffer of a FloatArray."""
    size_bytes = len(array.data) * _FLOAT32_BYTES
    return bytes(array.SerializeToString()[-size_bytes:]) if size_bytes else b""


# --- and back ----------------------------------------------------------------------------


def decode_points(
    fields: Iterable[Any], keys: Sequence[PrimaryKey], layout: Layout, *, vectors: bool = True
) -> list[Point]:
    """The points of a reply: whatever of payload and (unless it is not asked for) vectors its columns hold, in the
    order of `keys`."""
    by_name = {column.field_name: column for column in fields}
    ids: list[PointId] = list(keys) if layout.ids is IdMapping.INTEGER else list(map(point_id_of, keys))
    payloads: list[dict[str, Json]] = [{} for _ in keys]
    if (dynamic := by_name.get(DYNAMIC_FIELD)) is not None:
        for position, text in enumerate(dynamic.scalars.json_data.data):
            ids[position], payloads[position] = decode_payload(text, ids[position])
    found: list[dict[str, bytes]] = [{} for _ in keys]
    for name, vector in layout.vectors.items() if vectors else ():
        if (column := by_name.get(vector.field)) is not None:
            _spread(float_bytes(column.vectors.float_vector), name, vector.size * _FLOAT32_BYTES, found)
    return list(map(Point, ids, found, payloads))


def _spread(floats: bytes, name: str, size_bytes: int, vectors: list[dict[str, bytes]]) -> None:
    for position, own in enumerate(vectors):
        own[name] = floats[position * size_bytes : (position + 1) * size_bytes]


def keys_of(fields: Iterable[Any], layout: Layout) -> list[PrimaryKey]:
    """The primary keys of a query's reply."""
    for column in fields:
        if column.field_name == layout.primary_field:
            return _keys(column.scalars.long_data, column.scalars.string_data, layout)
    return []


def keys_of_hits(ids: Any, layout: Layout) -> list[PrimaryKey]:
    """The primary keys of a search's reply."""
    return _keys(ids.int_id, ids.str_id, layout)


def _keys(numbers: Any, texts: Any, layout: Layout) -> list[PrimaryKey]:
    return list(numbers.data if layout.ids is IdMapping.INTEGER else texts.data)


def chunks(rows: Sequence[Row], max_rows: int, max_bytes: int) -> Iterable[Sequence[Row]]:
    """The rows in order, in pieces within both bounds; a row that is larger alone is a piece of its own."""
    sizes = [row.size_bytes for row in rows]
    if 0 < len(rows) <= max_rows and sum(sizes) <= max_bytes:
        yield rows
        return
    start, size_bytes = 0, 0
    for position, row_bytes in enumerate(sizes):
        full = position - start >= max_rows or size_bytes + row_bytes > max_bytes
        if full and position > start:
            yield rows[start:position]
            start, size_bytes = position, 0
        size_bytes += row_bytes
    if start < len(rows):
        yield rows[start:]


def marks_in(rows: Sequence[Row]) -> frozenset[str]:
    return frozenset().union(*(row.marks for row in rows))


def scores_of(distances: Iterable[float], metric: Metric) -> Iterable[float]:
    """The model's scores (higher is better) for what the server calls so: only L2 differs, it is the square."""
    if metric is Metric.EUCLID:
        return [-(max(distance, 0.0) ** 0.5) for distance in distances]
    return distances
