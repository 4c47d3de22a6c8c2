"""REST paths -> what is asked of which collection.

The paths are those of src/actix/api/ in the server; as there, slashes are trimmed and merged first. Three tables hold
the endpoints that are decoded, those that only the primary can answer, and those that touch neither points nor
definitions. Whatever is in none of them is a read if its verb is GET or HEAD, and else a write whose effect nobody here
knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import unquote

from proxy.dialects import Glance
from proxy.dialects.qdrant import rest_reads as ask
from proxy.dialects.qdrant import rest_writes as tell
from proxy.dialects.qdrant.collections import index_of_json, spec_of_body
from proxy.dialects.qdrant.ids import id_of_path
from proxy.dialects.qdrant.rest_reads import ScoreOf
from proxy.dialects.qdrant.rest_upserts import unread_upsert
from proxy.dialects.qdrant.undecodable import Undecodable
from proxy.model import (
    EVERYTHING,
    Administration,
    CreateCollection,
    Describe,
    DropCollection,
    DropPayloadIndex,
    Exists,
    Fetch,
    ListAliases,
    ListCollections,
    OpaqueWrite,
    Operation,
    PrimaryOnlyRead,
    UpdateCollection,
)

Form = Literal["", "query", "search", "point", "index"]  # how the answer looks where the operation does not say it
Reader = Callable[[str, Any, ScoreOf], Operation]
_MEMO_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class FromBody:
    """`read` makes the operation of the parsed body; `otherwise`, from a reason, that of a body that says too much.
    `unread` makes it of the body's bytes, where that is possible without parsing all of it; None where it is not."""

    read: Reader
    otherwise: Callable[[str], Operation]
    unread: Callable[[str, bytes], Operation | None] = lambda _, __: None


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: `asks` is the operation if the head says all."""

    collection: str | None
    asks: Operation | FromBody
    form: Form = ""
    is_read: bool = False


# --- endpoints below a collection that carry a body ---------------------------------------

_READS: dict[str, tuple[Reader, Form]] = {
    "POST points": (lambda collection, body, _: ask.fetch(collection, body), ""),
    "POST points/scroll": (lambda collection, body, _: ask.scroll(collection, body), ""),
    "POST points/count": (lambda collection, body, _: ask.count(collection, body), ""),
    "POST points/query": (ask.query, "query"),
    "POST points/query/batch": (ask.query_batch, "query"),
    "POST points/search": (ask.search, "search"),
    "POST points/search/batch": (ask.search_batch, "search"),
}
_GLANCES: dict[str, tuple[Literal["search", "fetch", "scroll", "count"], str]] = {
    "POST points": ("fetch", "fetch"),
    "POST points/scroll": ("scroll", "scroll"),
    "POST points/count": ("count", "count"),
    "POST points/query": ("search", "search"),
    "POST points/query/batch": ("search", "searchbatch"),
    "POST points/search": ("search", "search"),
    "POST points/search/batch": ("search", "searchbatch"),
}
_WRITES: dict[str, tuple[Reader, Form]] = {
    "POST points/delete": (lambda collection, body, _: tell.delete(collection, body), ""),
    "POST points/payload": (lambda collection, body, _: tell.set_payload(collection, body), ""),
    "PUT points/payload": (lambda collection, body, _: tell.overwrite_payload(collection, body), ""),
    "POST points/payload/delete": (lambda collection, body, _: tell.delete_payload(collection, body), ""),
    "POST points/payload/clear": (lambda collection, body, _: tell.clear_payload(collection, body), ""),
    "PUT points/vectors": (lambda collection, body, _: tell.update_vectors(collection, body), ""),
    "POST points/vectors/delete": (lambda collection, body, _: tell.delete_vectors(collection, body), ""),
    "POST points/batch": (lambda collection, body, _: tell.batch(collection, body), ""),
    "PUT": (lambda collection, body, _: CreateCollection(collection, spec_of_body(body)), ""),
    "PATCH": (lambda collection, body, _: UpdateCollection(collection, _object(body)), ""),
    "PUT index": (lambda collection, body, _: index_of_json(collection, body), "index"),
    "POST cluster": (lambda collection, body, _: _cluster_change(collection, body), ""),
}

# --- endpoints whose head says all --------------------------------------------------------

_PRIMARY_ONLY = {
    "POST points/query/groups": "query groups",
    "POST points/search/groups": "search groups",
    "POST points/recommend": "recommend",
    "POST points/recommend/batch": "recommend",
    "POST points/recommend/groups": "recommend",
    "POST points/discover": "discover",
    "POST points/discover/batch": "discover",
    "POST points/search/matrix/pairs": "search matrix",
    "POST points/search/matrix/offsets": "search matrix",
    "POST facet": "facet",
}
_HARMLESS_BELOW_COLLECTION = {
    "POST snapshots": "snapshot",
    "DELETE snapshots/*": "snapshot",
    "POST shards/*/snapshots": "snapshot",
    "DELETE shards/*/snapshots/*": "snapshot",
    "POST shards/*/snapshot/partial/create": "snapshot",
    "PUT shards": "shard key",
    "GET cluster": "cluster",
    "GET shards": "cluster",
    "GET snapshots": "snapshot",
    "GET snapshots/*": "snapshot",
    "GET shards/*/snapshot": "snapshot",
    "GET shards/*/snapshots": "snapshot",
    "GET shards/*/snapshots/*": "snapshot",
    "GET optimizations": "optimizations",
    "GET memory": "memory",
}
_HARMLESS_AREAS = frozenset({
    "audit", "cluster", "debugger", "healthz", "issues", "livez", "locks", "logger", "metrics", "profiler", "quotas",
    "readyz", "snapshots", "stacktrace", "telemetry",
})  # fmt: skip
_HARMLESS_CLUSTER_CHANGES = frozenset({
    "abort_resharding", "abort_transfer", "create_sharding_key", "drop_replica", "move_shard", "replicate_shard",
    "restart_transfer", "start_resharding",
})  # fmt: skip


def route_of(method: str, path: str) -> Route:
    """The route of a request's verb and path. `path` is as sent, percent-encoding included."""
    return (_known_route if len(path) <= _MEMO_CHARACTERS else _known_route.__wrapped__)(method, path)


@lru_cache(1024)
def _known_route(method: str, path: str) -> Route:
    if method in ("OPTIONS", "TRACE"):
        return Route(None, Administration("preflight"))
    verb = "GET" if method == "HEAD" else method
    segments = [unquote(segment) for segment in path.split("/") if segment]
    match segments:
        case []:
            return Route(None, Administration("version"))
        case ["collections"] if verb == "GET":
            return Route(None, ListCollections())
        case ["aliases"] if verb == "GET":
            return Route(None, ListAliases())
        case ["collections", "aliases"] if verb == "POST":
            return _write(None, lambda _, body, __: tell.update_aliases(body), "")
        case ["collections", collection, *rest]:
            return _below_collection(verb, collection, rest)
        case [area, *_] if area in _HARMLESS_AREAS:
            return Route(None, Administration(area))
        case _ if verb == "GET":
            return Route(None, PrimaryOnlyRead(None, "unknown endpoint"), is_read=True)
        case _:
            return Route(None, OpaqueWrite(None, None, "unknown endpoint"))


def glance_of(method: str, path: str) -> Glance | None:
    """What a path asks that is one of a read of data with a body; None for any other."""
    return (_known_glance if len(path) <= _MEMO_CHARACTERS else _known_glance.__wrapped__)(method, path)


@lru_cache(1024)
def _known_glance(method: str, path: str) -> Glance | None:
    match [unquote(segment) for segment in path.split("/") if segment]:
        case ["collections", collection, *rest]:
            found = _GLANCES.get(" ".join([method, "/".join(rest)]))
            return Glance(collection, *found) if found is not None else None
    return None


def _below_collection(verb: str, collection: str, rest: list[str]) -> Route:
    endpoint = " ".join([verb, "/".join(rest)]).strip()
    if endpoint in _READS:
        reader, form = _READS[endpoint]
        return _read(collection, reader, form)
    if endpoint == "PUT points":
        return Route(collection, FromBody(_upsert, _opaque(collection), unread_upsert))
    if endpoint in _WRITES:
        reader, form = _WRITES[endpoint]
        return _write(collection, reader, form)
    if endpoint in _PRIMARY_ONLY:
        return Route(collection, PrimaryOnlyRead(collection, _PRIMARY_ONLY[endpoint]), is_read=True)
    return _said_by_head(verb, collection, rest)


def _said_by_head(verb: str, collection: str, rest: list[str]) -> Route:
    match verb, rest:
        case "GET", []:
            return Route(collection, Describe(collection))
        case "GET", ["exists"]:
            return Route(collection, Exists(collection))
        case "GET", ["aliases"]:
            return Route(collection, ListAliases(collection))
        case "GET", ["points", point_id]:
            return _one_point(collection, point_id)
        case "DELETE", []:
            return Route(collection, DropCollection(collection))
        case "DELETE", ["index", field]:
            return Route(collection, DropPayloadIndex(collection, field), form="index")
    reason = _HARMLESS_BELOW_COLLECTION.get(f"{verb} {_generic(rest)}")
    if reason is not None:
        return Route(collection, Administration(reason))
    if verb == "GET":
        return Route(collection, PrimaryOnlyRead(collection, "unknown endpoint"), is_read=True)
    return Route(collection, OpaqueWrite(collection, None, "unknown endpoint"))


def _generic(rest: list[str]) -> str:
    """The path with `*` for names: of a shard, and of a snapshot."""
    after = {"shards", "snapshots"}
    previous = ["", *rest[:-1]]
    names = {"snapshots", "snapshot", "upload", "recover"}
    return "/".join(
        "*" if before in after and part not in names else part for before, part in zip(previous, rest, strict=True)
    )


def _one_point(collection: str, text: str) -> Route:
    try:
        return Route(collection, Fetch(collection, (id_of_path(text),), EVERYTHING), form="point", is_read=True)
    except Undecodable as problem:
        return Route(collection, PrimaryOnlyRead(collection, problem.reason), is_read=True)


def _read(collection: str, reader: Reader, form: Form) -> Route:
    asks = FromBody(reader, lambda reason: PrimaryOnlyRead(collection, reason))
    return Route(collection, asks, form, is_read=True)


def _write(collection: str | None, reader: Reader, form: Form) -> Route:
    return Route(collection, FromBody(reader, _opaque(collection)), form)


def _opaque(collection: str | None) -> Callable[[str], Operation]:
    return lambda reason: OpaqueWrite(collection, None, reason)


def _upsert(collection: str, body: object, _: ScoreOf) -> Operation:
    return tell.upsert(collection, body)


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Undecodable
    return body


def _cluster_change(collection: str, body: object) -> Operation:
    """Moving shards changes no points; dropping a shard key, or replicating points by filter, does."""
    kinds = _object(body).keys()
    if not kinds <= _HARMLESS_CLUSTER_CHANGES:
        raise Undecodable("cluster change")
    return Administration("cluster")
