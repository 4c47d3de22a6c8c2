"""Rows: points <-> the columns of Milvus messages.

Vectors travel as one flat column of float32 in row order. A buffer is put behind the rest of its message, and taken out
again, as the packed field's own bytes, so that no float becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Final, NoReturn

import numpy as np

from proxy.dialects.milvus.ids import IdMapping, PrimaryKey, point_id_of, primary_keys
from proxy.dialects.milvus.limits import UnrepresentableError
from proxy.dialects.milvus.messages import milvus, schema
from proxy.dialects.milvus.names import DYNAMIC_FIELD
from proxy.dialects.milvus.payloads import decode_payload, encode_payloads
from proxy.dialects.milvus.schema import Layout, VectorField
from proxy.dialects.proto_bytes import Field
from proxy.model import Json, Metric, Point, PointId, Vector

_TYPES: Final = schema.DataType
_INT64: Final = _TYPES.Value("Int64")
_VARCHAR: Final = _TYPES.Value("VarChar")
_JSON: Final = _TYPES.Value("JSON")
_FLOAT_VECTOR: Final = _TYPES.Value("FloatVector")
_FLOAT32_BYTES: Final = 4
_ROW_BYTES: Final = 64  # of a row on the wire beside its vectors and its dynamic field, about
_COLUMN: Final = Field(milvus.UpsertRequest, "fields_data")  # and of InsertRequest
_VECTORS: Final = Field(schema.FieldData, "vectors")
_FLOATS: Final = Field(schema.VectorField, "float_vector")
_DATA: Final = Field(schema.FloatArray, "data")


@dataclass(frozen=True, slots=True)
class Rows:
    """Points as Milvus will hold them, by column: what stands at one place of all lists is one row. `vectors` has a
    list for each vector of the layout, in its order."""

    ids: list[PointId]
    keys: list[PrimaryKey]
    vectors: tuple[list[bytes], ...]
    dynamic: list[bytes]
    marks: list[frozenset[str]]

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, more: Rows) -> None:
        """Behind these."""
        for column, others in zip(self._columns(), more._columns(), strict=True):
            column.extend(others)

    def part(self, start: int, end: int) -> Rows:
        return self._made([column[start:end] for column in self._columns()])

    def only(self, wanted: Sequence[bool]) -> Rows:
        return self._made([list(compress(column, wanted)) for column in self._columns()])

    def _columns(self) -> tuple[list[Any], ...]:
        return (self.ids, self.keys, self.dynamic, self.marks, *self.vectors)

    def _made(self, columns: Sequence[list[Any]]) -> Rows:
        ids, keys, dynamic, marks, *vectors = columns
        return Rows(ids, keys, tuple(vectors), dynamic, marks)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What became of points: `refused` maps the ids of those that Milvus cannot hold to the reason."""

    rows: Rows
    refused: dict[PointId, str]


def encode_points(points: Sequence[Point], layout: Layout) -> Encoded:
    refused: dict[PointId, str] = {}
    try:
        rows = _rows(points, layout)
    except UnrepresentableError as error:
        if len(points) == 1:
            return Encoded(_rows([], layout), {points[0].id: str(error)})
        middle = len(points) // 2  # which of them?
        first, second = encode_points(points[:middle], layout), encode_points(points[middle:], layout)
        first.rows.add(second.rows)
        return Encoded(first.rows, first.refused | second.refused)
    for column, vector in enumerate(layout.vectors.values()):
        rows = _searchable(rows, column, vector, refused)
    return Encoded(rows, refused)


def _rows(points: Sequence[Point], layout: Layout) -> Rows:
    """Raises UnrepresentableError if there is none for one of the points."""
    ids = [point.id for point in points]
    keys = primary_keys(ids, layout.ids, layout.max_id_bytes)
    vectors = _vectors([point.vectors for point in points], layout)
    return Rows(ids, keys, vectors, *encode_payloads([point.payload for point in points], ids, layout.fields))


def _vectors(points: Sequence[Mapping[str, Vector]], layout: Layout) -> tuple[list[bytes], ...]:
    """A list for each vector of the layout. Raises UnrepresentableError unless each point has just those."""
    for names in set(map(tuple, points)):
        if set(names) != layout.vectors.keys():
            _tell_names(names, layout)
    return tuple([_dense([named[name] for named in points], name, vector) for name, vector in layout.vectors.items()])


def _tell_names(names: Sequence[str], layout: Layout) -> NoReturn:
    for name in names:
        if name not in layout.vectors:
            raise UnrepresentableError(f"the collection has no vector {name!r}")
    missing = next(name for name in layout.vectors if name not in names)
    raise UnrepresentableError(f"the point has no vector {missing!r}, and every row needs one")


def _dense(vectors: list[Any], name: str, expected: VectorField) -> list[bytes]:
    """The same. Raises UnrepresentableError unless all are dense ones of the expected size."""
    if not set(map(type, vectors)) <= {bytes}:
        raise UnrepresentableError(f"the vector {name!r} is not a dense one")
    for size_bytes in set(map(len, vectors)):
        if size_bytes != expected.size * _FLOAT32_BYTES:
            size = size_bytes // _FLOAT32_BYTES
            raise UnrepresentableError(f"the vector {name!r} has {size} dimensions instead of {expected.size}")
    return vectors


def _searchable(rows: Rows, column: int, vector: VectorField, refused: dict[PointId, str]) -> Rows:
    """The rows less those whose vector in that column is stored or searched wrongly: not finite, or without direction
    where cosine needs one (the full server leaves rows out of searches whose cosine is not a number)."""
    if not len(rows):
        return rows
    matrix = np.frombuffer(b"".join(rows.vectors[column]), dtype="<f4").reshape(len(rows), vector.size)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    directed = (squares >= np.finfo(np.float32).tiny) & np.isfinite(squares)
    if directed.all():
        return rows
    finite = np.isfinite(matrix).all(axis=1)
    good = finite & directed if vector.metric is Metric.COSINE else finite
    for point_id, is_good, is_finite in zip(rows.ids, good, finite, strict=True):
        if not is_good:
            reason = "is too short or too long for a cosine" if is_finite else "has a component that is not finite"
            refused[point_id] = f"the vector {reason}"
    return rows.only(good)


# --- columns -----------------------------------------------------------------------------


def written(request: Any, rows: Rows, layout: Layout) -> bytes:
    """`request` (an InsertRequest or UpsertRequest) with the rows, one column a field, those of vectors last."""
    _fill_columns(request.fields_data, rows, layout)
    return b"".join((request.SerializeToString(), *_vector_columns(rows, layout)))


def _fill_columns(columns: Any, rows: Rows, layout: Layout) -> None:
    """What is no vector as FieldData, put into a message's own list of them: a message that is made apart is copied
    where it goes."""
    _fill_keys(columns.add(field_name=layout.primary_field), rows.keys, layout)
    dynamic = columns.add(type=_JSON, field_name=DYNAMIC_FIELD, is_dynamic=True)
    dynamic.scalars.json_data.data.extend(rows.dynamic)


def _fill_keys(column: Any, keys: list[PrimaryKey], layout: Layout) -> None:
    if layout.ids is IdMapping.INTEGER:
        column.type = _INT64
        column.scalars.long_data.data.extend(keys)
    else:
        column.type = _VARCHAR
        column.scalars.string_data.data.extend(keys)


def _vector_columns(rows: Rows, layout: Layout) -> Iterator[bytes]:
    """The columns of vectors as they stand in a request, in parts: the vectors themselves are copied once, where they
    go."""
    for floats, vector in zip(rows.vectors, layout.vectors.values(), strict=True):
        size = len(rows) * vector.size * _FLOAT32_BYTES
        data = _DATA[size]
        vectors = schema.VectorField(dim=vector.size).SerializeToString() + _FLOATS[len(data) + size] + data
        column = schema.FieldData(type=_FLOAT_VECTOR, field_name=vector.field).SerializeToString()
        column += _VECTORS[len(vectors) + size] + vectors
        yield _COLUMN[len(column) + size] + column
        yield from floats


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
        for position, text in enumerate(dynamic.scalars.json_data.data[:]):
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
    found: list[PrimaryKey] = (numbers if layout.ids is IdMapping.INTEGER else texts).data[:]  # a third of list()
    return found


def chunks(rows: Rows, max_rows: int, max_bytes: int) -> Iterator[Rows]:
    """The rows in order, in pieces within both bounds; a row that is larger alone is a piece of its own."""
    vectors = sum(len(column[0]) for column in rows.vectors if column)  # the same for each
    beside = vectors + _ROW_BYTES
    if 0 < len(rows) <= max_rows and sum(map(len, rows.dynamic)) + beside * len(rows) <= max_bytes:
        yield rows
        return
    sizes = [len(dynamic) + beside for dynamic in rows.dynamic]
    start, size_bytes = 0, 0
    for position, row_bytes in enumerate(sizes):
        full = position - start >= max_rows or size_bytes + row_bytes > max_bytes
        if full and position > start:
            yield rows.part(start, position)
            start, size_bytes = position, 0
        size_bytes += row_bytes
    if start < len(rows):
        yield rows.part(start, len(rows))


def marks_in(rows: Rows) -> frozenset[str]:
    return frozenset().union(*rows.marks)


def scores_of(distances: Iterable[float], metric: Metric) -> Iterable[float]:
    """The model's scores (higher is better) for what the server calls so: only L2 differs, it is the square."""
    if metric is Metric.EUCLID:
        return [-(max(distance, 0.0) ** 0.5) for distance in distances]
    return distances
