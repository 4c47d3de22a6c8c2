"""Between selections and Milvus: which fields a read asks for, and what of its reply was asked for."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import numpy as np

from proxy.dialects.milvus.filters import key_condition
from proxy.dialects.milvus.ids import IdMapping, PrimaryKey
from proxy.dialects.milvus.names import DYNAMIC_FIELD
from proxy.dialects.milvus.rows import decode_points, keys_of, keys_of_hits, scores_of
from proxy.dialects.milvus.schema import Layout, VectorField
from proxy.errors import InvalidRequest
from proxy.model import Hit, Point, Search, Selection
from proxy.stores.payload_paths import select_payload

_SCORE: Final = attrgetter("score")


def searched_vector(layout: Layout, search: Search) -> VectorField:
    """The vector that a search looks at. Raises InvalidRequest for a query that does not fit it."""
    vector = layout.vectors.get(search.using)
    if vector is None:
        raise InvalidRequest(f"Not existing vector name error: {search.using}")
    query = np.frombuffer(search.vector, dtype="<f4")
    if len(query) != vector.size:
        raise InvalidRequest(f"Vector dimension error: expected dim: {vector.size}, got {len(query)}")
    if b"\0" in np.isfinite(query).tobytes():
        raise InvalidRequest("the query vector has a component that is not finite")
    return vector


def every_key(layout: Layout) -> str:
    """A condition that all rows fulfil: a query with a limit needs one."""
    smallest: PrimaryKey = -(2**63) + 1 if layout.ids is IdMapping.INTEGER else ""
    return key_condition(layout, ">=", smallest)


def output_fields(layout: Layout, selection: Selection) -> list[str]:
    """The fields that a selection needs."""
    fields = [layout.primary_field]
    if selection.payload:
        fields.append(DYNAMIC_FIELD)
    if selection.vectors:
        names = selection.vector_names
        fields += [vector.field for name, vector in layout.vectors.items() if names is None or name in names]
    return fields


def points_of(reply: Any, layout: Layout, selection: Selection) -> list[Point]:
    """The points of a query's reply, in its order."""
    points = decode_points(reply.fields_data, keys_of(reply.fields_data, layout), layout, vectors=selection.vectors)
    return _selected(points, selection)


def hits_of(results: Any, layout: Layout, vector: VectorField, selection: Selection) -> list[Hit]:
    """Best first; Milvus sorts by its own number, and equal ones stay in its order."""
    keys = keys_of_hits(results.ids, layout)
    points = decode_points(results.fields_data, keys, layout, vectors=selection.vectors)
    scores = scores_of(results.scores, vector.metric)
    hits = [Hit(point, score) for point, score in zip(_selected(points, selection), scores, strict=True)]
    hits.sort(key=_SCORE, reverse=True)
    return hits


def _selected(points: list[Point], selection: Selection) -> list[Point]:
    """The points without what of their payloads was not asked for."""
    if selection.payload and selection.payload_include is None and selection.payload_exclude is None:
        return points
    return [Point(point.id, point.vectors, select_payload(point.payload, selection)) for point in points]
