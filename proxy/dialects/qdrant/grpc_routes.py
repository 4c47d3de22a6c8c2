"""gRPC methods -> what is asked, with which message.

Methods are those of the services in lib/api/src/grpc/proto (collections_service, points_service, snapshots_service,
qdrant). Tables hold the ones that are decoded, the reads that only the primary can answer, and those that touch neither
points nor definitions. Any other method is a write whose effect nobody here knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from google.protobuf.message import DecodeError

from proxy.dialects import Glance
from proxy.dialects.qdrant import grpc_requests as ask
from proxy.dialects.qdrant import grpc_searches as searches
from proxy.dialects.qdrant.collections import index_of_proto, spec_of_proto
from proxy.dialects.qdrant.grpc_upserts import unread_upsert
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest_reads import ScoreOf
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.model import (
    Administration,
    CreateCollection,
    Describe,
    DropCollection,
    DropPayloadIndex,
    Exists,
    ListAliases,
    ListCollections,
    OpaqueWrite,
    Operation,
    PrimaryOnlyRead,
)

Reader = Callable[[Any, ScoreOf], Operation]


@dataclass(frozen=True, slots=True)
class Method:
    """How a method's request is read, and the message of its answer. `unread`: what it asks, where that can be told
    without parsing all of it; None where it cannot."""

    request: str
    reply: str
    read: Reader
    is_read: bool
    unread: Callable[[bytes], Operation | None] | None = None


def _asks(request: str, reply: str, read: Callable[[Any], Operation]) -> Method:
    return Method(request, reply, lambda message, _: read(message), is_read=True)


def _searches(request: str, reply: str, read: Reader) -> Method:
    return Method(request, reply, read, is_read=True)


def _writes(request: str, read: Callable[[str, Any], Operation], reply: str = "PointsOperationResponse") -> Method:
    return Method(request, reply, lambda message, _: read(message.collection_name, message), is_read=False)


def _defines(request: str, read: Callable[[Any], Operation], reply: str = "CollectionOperationResponse") -> Method:
    return Method(request, reply, lambda message, _: read(message), is_read=False)


METHODS: dict[str, Method] = {
    "/qdrant.Points/Get": _asks("GetPoints", "GetResponse", ask.fetch),
    "/qdrant.Points/Scroll": _asks("ScrollPoints", "ScrollResponse", ask.scroll),
    "/qdrant.Points/Count": _asks("CountPoints", "CountResponse", ask.count),
    "/qdrant.Points/Query": _searches("QueryPoints", "QueryResponse", ask.query),
    "/qdrant.Points/QueryBatch": _searches("QueryBatchPoints", "QueryBatchResponse", ask.query_batch),
    "/qdrant.Points/Search": _searches("SearchPoints", "SearchResponse", ask.search),
    "/qdrant.Points/SearchBatch": _searches("SearchBatchPoints", "SearchBatchResponse", ask.search_batch),
    "/qdrant.Points/Upsert": replace(_writes("UpsertPoints", ask.upsert), unread=unread_upsert),
    "/qdrant.Points/Delete": _writes("DeletePoints", ask.delete),
    "/qdrant.Points/UpdateVectors": _writes("UpdatePointVectors", ask.update_vectors),
    "/qdrant.Points/DeleteVectors": _writes("DeletePointVectors", ask.delete_vectors),
    "/qdrant.Points/SetPayload": _writes("SetPayloadPoints", ask.set_payload),
    "/qdrant.Points/OverwritePayload": _writes("SetPayloadPoints", ask.overwrite_payload),
    "/qdrant.Points/DeletePayload": _writes("DeletePayloadPoints", ask.delete_payload),
    "/qdrant.Points/ClearPayload": _writes("ClearPayloadPoints", ask.clear_payload),
    "/qdrant.Points/UpdateBatch": _writes("UpdateBatchPoints", ask.batch, "UpdateBatchResponse"),
    "/qdrant.Points/CreateFieldIndex": _defines(
        "CreateFieldIndexCollection", index_of_proto, "PointsOperationResponse"
    ),
    "/qdrant.Points/DeleteFieldIndex": _defines(
        "DeleteFieldIndexCollection",
        lambda message: DropPayloadIndex(message.collection_name, message.field_name),
        "PointsOperationResponse",
    ),
    "/qdrant.Collections/Get": _asks(
        "GetCollectionInfoRequest", "GetCollectionInfoResponse", lambda message: Describe(message.collection_name)
    ),
    "/qdrant.Collections/List": _asks(
        "ListCollectionsRequest", "ListCollectionsResponse", lambda message: ListCollections()
    ),
    "/qdrant.Collections/CollectionExists": _asks(
        "CollectionExistsRequest", "CollectionExistsResponse", lambda message: Exists(message.collection_name)
    ),
    "/qdrant.Collections/ListAliases": _asks(
        "ListAliasesRequest", "ListAliasesResponse", lambda message: ListAliases()
    ),
    "/qdrant.Collections/ListCollectionAliases": _asks(
        "ListCollectionAliasesRequest",
        "ListAliasesResponse",
        lambda message: ListAliases(message.collection_name),
    ),
    "/qdrant.Collections/Create": _defines(
        "CreateCollection", lambda message: CreateCollection(message.collection_name, spec_of_proto(message))
    ),
    "/qdrant.Collections/Update": _defines("UpdateCollection", ask.update_collection),
    "/qdrant.Collections/Delete": _defines("DeleteCollection", lambda message: DropCollection(message.collection_name)),
    "/qdrant.Collections/UpdateAliases": _defines("ChangeAliases", ask.update_aliases),
}

_GLANCES: dict[str, tuple[Any, Literal["search", "fetch", "scroll", "count"], str]] = {
    "/qdrant.Points/Get": (proto.GetPoints, "fetch", "fetch"),
    "/qdrant.Points/Scroll": (proto.ScrollPoints, "scroll", "scroll"),
    "/qdrant.Points/Count": (proto.CountPoints, "count", "count"),
    "/qdrant.Points/Query": (proto.QueryPoints, "search", "search"),
    "/qdrant.Points/QueryBatch": (proto.QueryBatchPoints, "search", "searchbatch"),
    "/qdrant.Points/Search": (proto.SearchPoints, "search", "search"),
    "/qdrant.Points/SearchBatch": (proto.SearchBatchPoints, "search", "searchbatch"),
}
_PRIMARY_ONLY = {
    "/qdrant.Points/QueryGroups": "query groups",
    "/qdrant.Points/SearchGroups": "search groups",
    "/qdrant.Points/Recommend": "recommend",
    "/qdrant.Points/RecommendBatch": "recommend",
    "/qdrant.Points/RecommendGroups": "recommend",
    "/qdrant.Points/Discover": "discover",
    "/qdrant.Points/DiscoverBatch": "discover",
    "/qdrant.Points/Facet": "facet",
    "/qdrant.Points/SearchMatrixPairs": "search matrix",
    "/qdrant.Points/SearchMatrixOffsets": "search matrix",
}
_WATCH = "/grpc.health.v1.Health/Watch"
_HARMLESS = {
    "/qdrant.Qdrant/HealthCheck": "version",
    "/grpc.health.v1.Health/Check": "healthz",
    _WATCH: "healthz",
    "/qdrant.Collections/CollectionClusterInfo": "cluster",
    "/qdrant.Collections/ListShardKeys": "cluster",
    "/qdrant.Collections/CreateShardKey": "shard key",
    "/qdrant.Snapshots/Create": "snapshot",
    "/qdrant.Snapshots/List": "snapshot",
    "/qdrant.Snapshots/Delete": "snapshot",
    "/qdrant.Snapshots/CreateFull": "snapshot",
    "/qdrant.Snapshots/ListFull": "snapshot",
    "/qdrant.Snapshots/DeleteFull": "snapshot",
}
_REFLECTION = "/grpc.reflection."


def is_harmless(path: str) -> bool:
    """Whether the method touches no points and no definitions; its body is of no interest."""
    return path in _HARMLESS or path.startswith(_REFLECTION)


def is_stream(path: str) -> bool:
    """Whether the method may have several messages, and none that anybody here looks into."""
    return path == _WATCH or path.startswith(_REFLECTION)


def glance_of(path: str, body: bytes) -> Glance | None:
    """What a call asks that is a read of data; None for any other, and for what cannot be told."""
    plain = searches.cut(path, body)
    if plain is None or len(plain[0]) > searches.SHORT_BYTES:
        return glance_of_whole(path, body)
    return _glance_beside(path, plain[0])


def glance_of_whole(path: str, body: bytes) -> Glance | None:
    found = _GLANCES.get(path)
    if found is None:
        return None
    try:
        message = found[0].FromString(body)
    except DecodeError:
        return None
    if message.HasField("read_consistency") or not message.collection_name:
        return None
    return Glance(message.collection_name, found[1], found[2])


_glance_beside = lru_cache(256)(glance_of_whole)  # a vector changes nothing of what is looked at


def operation_of(path: str, body: bytes, score_of_collection: Callable[[str], ScoreOf]) -> Operation:
    """What a call asks. `score_of_collection` gives, for a collection, how its score thresholds are read.

    Raises InvalidRequest for NaN and infinity in a vector.
    """
    method = METHODS.get(path)
    if method is None:
        if is_harmless(path):
            return Administration(_HARMLESS.get(path, "reflection"))
        if path in _PRIMARY_ONLY:
            return PrimaryOnlyRead(ask.named_collection(body), _PRIMARY_ONLY[path])
        return OpaqueWrite(ask.named_collection(body), None, "unknown endpoint", guessed=True)
    collection: str | None = None
    try:
        if method.unread is not None and (unread := method.unread(body)) is not None:
            return unread
        if (plain := searches.asked(path, body, score_of_collection)) is not None:
            return plain
        message = getattr(proto, method.request).FromString(body)
        collection = getattr(message, "collection_name", None) or None
        return method.read(message, score_of_collection(collection or ""))
    except Undecodable as problem:
        reason = problem.reason
    except DecodeError:
        reason = "undecodable"
    return PrimaryOnlyRead(collection, reason) if method.is_read else OpaqueWrite(collection, None, reason)
