"""REST answers: result -> the JSON that a Qdrant server sends, and back.

The envelope is ApiResponse (lib/api/src/rest/models.rs), the results are those of lib/api/src/rest/schema.rs and
lib/collection/src/operations/types.rs. A part of a point that was not selected is left out, not null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

import numpy as np
import orjson

from proxy.dialects.qdrant.collections import info_of_described
from proxy.dialects.qdrant.ids import id_of_json, json_of_id
from proxy.dialects.qdrant.rest_routes import Form
from proxy.dialects.qdrant.scores import model_score, vendor_scores
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import json_of_vectors, vectors_of_json
from proxy.model import (
    EVERYTHING,
    Aliases,
    Batch,
    CollectionNames,
    Count,
    Counted,
    DataRead,
    Defined,
    Described,
    Existence,
    Fetch,
    Hit,
    Hits,
    HitsBatch,
    Metric,
    Operation,
    Page,
    Point,
    Points,
    Result,
    Scroll,
    Search,
    SearchBatch,
    Selection,
    Written,
)
from proxy.wire import Response

JSON = (("content-type", "application/json"),)


def success(result: Any, seconds: float) -> Response:
    """An answer in the server's envelope."""
    body = {"result": result, "status": "ok", "time": seconds}
    return Response(200, JSON, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


def json_of_result(operation: Operation, form: Form, result: Result) -> Any:
    """What stands under `result`."""
    match result:
        case Hits() | HitsBatch() | Points() | Page() | Counted():
            return _json_of_data(operation, form, result)
        case Written(operations=numbers, acknowledged=acknowledged):
            status = "acknowledged" if acknowledged else "completed"
            updates = [{"operation_id": number, "status": status} for number in numbers]
            return updates if isinstance(operation, Batch) else updates[0]
        case Described():
            return info_of_described(result)
        case Existence(exists=exists):
            return {"exists": exists}
        case CollectionNames(names=names):
            return {"collections": [{"name": name} for name in names]}
        case Aliases(aliases=aliases):
            return {"aliases": [{"alias_name": one.alias, "collection_name": one.collection} for one in aliases]}
        case Defined(changed=changed):
            return {"operation_id": 0, "status": "completed"} if form == "index" else changed
        case _:
            assert_never(result)


def _json_of_data(operation: Operation, form: Form, result: Hits | HitsBatch | Points | Page | Counted) -> Any:
    match result:
        case Hits():
            return _json_of_hits(result, selection_of(operation), form)
        case HitsBatch(batches=batches):
            searches = operation.searches if isinstance(operation, SearchBatch) else ()
            return [_json_of_hits(hits, search.selection, form) for hits, search in zip(batches, searches, strict=True)]
        case Points(points=points):
            records = [_record(point, selection_of(operation)) for point in points]
            return records[0] if form == "point" else records
        case Page(points=points, next=following):
            records = [_record(point, selection_of(operation)) for point in points]
            return {"points": records, "next_page_offset": None if following is None else json_of_id(following)}
        case Counted(count=count):
            return {"count": count}
        case _:
            assert_never(result)


def selection_of(operation: Operation) -> Selection:
    return operation.selection if isinstance(operation, Search | Fetch | Scroll) else EVERYTHING


def _json_of_hits(result: Hits, selection: Selection, form: Form) -> Any:
    scores = vendor_scores(result.metric, [hit.score for hit in result.hits])
    points = [
        {
            "id": json_of_id(hit.point.id),
            "version": 0,
            "score": np.float32(score),
            **_parts(hit.point, selection),
        }
        for hit, score in zip(result.hits, scores, strict=True)
    ]
    return {"points": points} if form == "query" else points


def _record(point: Point, selection: Selection) -> dict[str, Any]:
    return {"id": json_of_id(point.id), **_parts(point, selection)}


def _parts(point: Point, selection: Selection) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if selection.payload:
        parts["payload"] = point.payload
    if selection.vectors:
        parts["vector"] = json_of_vectors(point.vectors)
    return parts


# --- an answer back into the model --------------------------------------------------------


def result_of_json(read: DataRead, form: Form, body: bytes, metric_of: Callable[[str], Metric]) -> Result:
    """What a server answered to `read`; `metric_of` tells the metric of a vector name. Raises Undecodable."""
    try:
        result = orjson.loads(body)["result"]
        match read:
            case Search(using=using):
                return _hits_of_json(result, metric_of(using))
            case SearchBatch(searches=searches):
                batches = zip(result, searches, strict=True)
                return HitsBatch(tuple(_hits_of_json(hits, metric_of(search.using)) for hits, search in batches))
            case Fetch():
                return Points(tuple(map(_point_of_json, [result] if form == "point" else result)))
            case Scroll():
                following = result["next_page_offset"]
                points = tuple(map(_point_of_json, result["points"]))
                return Page(points, None if following is None else id_of_json(following))
            case Count():
                return Counted(int(result["count"]))
            case _:
                assert_never(read)
    except (KeyError, TypeError, ValueError) as problem:
        raise Undecodable(f"malformed answer: {problem}") from None


def _hits_of_json(result: Any, metric: Metric) -> Hits:
    points = result["points"] if isinstance(result, dict) else result
    return Hits(
        metric,
        tuple(Hit(_point_of_json(point), model_score(metric, float(np.float32(point["score"])))) for point in points),
    )


def _point_of_json(record: dict[str, Any]) -> Point:
    vector = record.get("vector")
    vectors = {} if vector is None else vectors_of_json(vector)
    return Point(id_of_json(record["id"]), vectors, record.get("payload") or {})
