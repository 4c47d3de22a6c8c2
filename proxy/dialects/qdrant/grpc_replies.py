"""gRPC answers: result -> the message that a Qdrant server sends, and back.

As on the server, a payload or vectors that were not selected are absent, which in proto a payload cannot be told from
an empty one; vectors travel in the current form (the oneof, since 1.16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from google.protobuf.message import DecodeError

from proxy.dialects.qdrant.collections import proto_of_described
from proxy.dialects.qdrant.grpc_hits import answer_bytes, batch_bytes, hits_bytes
from proxy.dialects.qdrant.ids import fill_id, id_of_proto, proto_of_id
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.payloads import fill_payload, payload_of_proto
from proxy.dialects.qdrant.rest_replies import selection_of
from proxy.dialects.qdrant.scores import model_score
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.dialects.qdrant.vectors import fill_vectors, vectors_of_proto
from proxy.model import (
    Aliases,
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


def result_bytes(reply: str, operation: Operation, result: Result, seconds: float) -> bytes:
    """The answer, a message whose name is `reply`."""
    match result:
        case Hits():
            return answer_bytes([hits_bytes(result, selection_of(operation))], seconds)
        case HitsBatch(batches=batches):
            searches = operation.searches if isinstance(operation, SearchBatch) else ()
            each = zip(batches, searches, strict=True)
            return answer_bytes((batch_bytes(hits_bytes(hits, search.selection)) for hits, search in each), seconds)
        case _:
            message = getattr(proto, reply)(time=seconds)
            _fill(message, operation, result)
            return bytes(message.SerializeToString())


_Filled = Written | Described | Existence | CollectionNames | Aliases | Defined | Points | Page | Counted


def _fill(message: Any, operation: Operation, result: _Filled) -> None:
    match result:
        case Points(points=points):
            _fill_records(message.result, points, selection_of(operation))
        case Page(points=points, next=following):
            _fill_records(message.result, points, selection_of(operation))
            if following is not None:
                message.next_page_offset.CopyFrom(proto_of_id(following))
        case Counted(count=count):
            message.result.count = count
        case Written():
            _fill_written(message, result)
        case Described():
            message.result.CopyFrom(proto_of_described(result))
        case Existence(exists=exists):
            message.result.exists = exists
        case CollectionNames(names=names):
            message.collections.extend(proto.CollectionDescription(name=name) for name in names)
        case Aliases(aliases=aliases):
            for one in aliases:
                message.aliases.add(alias_name=one.alias, collection_name=one.collection)
        case Defined(changed=changed):
            _fill_defined(message, changed)
        case _:
            assert_never(result)


def _fill_records(target: Any, points: tuple[Point, ...], selection: Selection) -> None:
    for point in points:
        _fill_point(target.add(), point, selection)


def _fill_point(message: Any, point: Point, selection: Selection) -> None:
    fill_id(message.id, point.id)
    if selection.payload:
        fill_payload(message.payload, point.payload)
    if selection.vectors:
        fill_vectors(message.vectors, point.vectors)


def _fill_written(message: Any, result: Written) -> None:
    """One update result, or one for each part of a batch."""
    status = proto.UpdateStatus.Value("Acknowledged" if result.acknowledged else "Completed")
    updates = [proto.UpdateResult(operation_id=number, status=status) for number in result.operations]
    if message.DESCRIPTOR.name == "UpdateBatchResponse":
        message.result.extend(updates)
    else:
        message.result.CopyFrom(updates[0])


def _fill_defined(message: Any, changed: bool) -> None:
    """True or false; a payload index answers like a write of points."""
    if message.DESCRIPTOR.name == "PointsOperationResponse":
        _fill_written(message, Written())
    else:
        message.result = changed


# --- an answer back into the model --------------------------------------------------------


def result_of_proto(reply: str, read: DataRead, body: bytes, metric_of: Callable[[str], Metric]) -> Result:
    """What a server answered to `read`; `metric_of` tells the metric of a vector name. Raises Undecodable."""
    try:
        message = getattr(proto, reply).FromString(body)
        match read:
            case Search(using=using):
                return hits_of_proto(message.result, metric_of(using))
            case SearchBatch(searches=searches):
                batches = zip(message.result, searches, strict=True)
                return HitsBatch(tuple(hits_of_proto(one.result, metric_of(search.using)) for one, search in batches))
            case Fetch():
                return Points(tuple(map(point_of_proto, message.result)))
            case Scroll():
                following = id_of_proto(message.next_page_offset) if message.HasField("next_page_offset") else None
                return Page(tuple(map(point_of_proto, message.result)), following)
            case Count():
                return Counted(message.result.count)
            case _:
                assert_never(read)
    except (DecodeError, ValueError) as problem:
        raise Undecodable(f"malformed answer: {problem}") from None


def hits_of_proto(messages: Any, metric: Metric) -> Hits:
    """From ScoredPoints."""
    return Hits(metric, tuple(Hit(point_of_proto(one), model_score(metric, one.score)) for one in messages))


def point_of_proto(message: Any) -> Point:
    """From a ScoredPoint or RetrievedPoint."""
    vectors = vectors_of_proto(message.vectors) if message.HasField("vectors") else {}
    return Point(id_of_proto(message.id), vectors, payload_of_proto(message.payload))
