"""What the body of a REST read asks: JSON -> operation. Paths are matched in `rest_routes`.

Shapes and defaults are those of lib/api/src/rest/schema.rs and lib/shard/src/ in the server. A key that is not known
here may change what the request means, so it makes the request undecodable. Every function raises Undecodable for what
the model cannot say exactly, and InvalidRequest for NaN and infinity in a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.dialects.qdrant.filters_json import optional_filter
from proxy.dialects.qdrant.ids import id_of_json, ids_of_json
from proxy.dialects.qdrant.selections import selection_of_json
from proxy.dialects.qdrant.undecodable import Undecodable, only
from proxy.dialects.qdrant.vectors import dense_of_json
from proxy.model import Count, Fetch, Scroll, Search, SearchBatch, Selection

DEFAULT_LIMIT = 10
ScoreOf = Callable[[str, float], float]  # (vector name, a score as the vendor says it) -> the model's score

_SELECTORS = {"with_payload", "with_vector", "with_vectors"}
_QUERY = frozenset(
    {"prefetch", "query", "using", "filter", "params", "score_threshold", "limit", "offset", "lookup_from", "shard_key"}
    | _SELECTORS
)
_SEARCH = frozenset(
    {"vector", "filter", "params", "limit", "top", "offset", "score_threshold", "shard_key"} | _SELECTORS
)
_PARAMS = frozenset({"hnsw_ef", "exact", "quantization", "indexed_only", "acorn", "idf"})
_SCROLL = frozenset({"offset", "limit", "filter", "order_by", "shard_key"} | _SELECTORS)


def fetch(collection: str, body: object) -> Fetch:
    asked = _read(body, frozenset({"ids", "shard_key"} | _SELECTORS))
    return Fetch(collection, ids_of_json(asked.get("ids")), _selection(asked, payload_by_default=True))


def scroll(collection: str, body: object) -> Scroll:
    asked = _read(body, _SCROLL)
    if asked.get("order_by") is not None:
        raise Undecodable("order_by")
    start = asked.get("offset")
    return Scroll(
        collection,
        _natural(asked.get("limit"), DEFAULT_LIMIT, at_least=1),
        None if start is None else id_of_json(start),
        optional_filter(asked.get("filter")),
        _selection(asked, payload_by_default=True),
    )


def count(collection: str, body: object) -> Count:
    asked = _read(body, frozenset({"filter", "exact", "shard_key"}))
    exact = asked.get("exact", True)
    if not isinstance(exact, bool):
        raise Undecodable
    return Count(collection, optional_filter(asked.get("filter")), exact)


def query(collection: str, body: object, score_of: ScoreOf) -> Search:
    """A search by one dense vector; everything else that this endpoint can do is Undecodable, by name."""
    asked = _read(body, _QUERY)
    for clause in ("prefetch", "lookup_from"):
        if asked.get(clause):
            raise Undecodable(clause)
    using = asked.get("using")
    return _search(collection, asked, _query_vector(asked.get("query")), "" if using is None else using, score_of)


def _query_vector(value: object) -> bytes:
    match value:
        case {"nearest": nearest, **rest} if rest.keys() <= {"mmr"}:
            if rest.get("mmr") is not None:
                raise Undecodable("mmr")
            return _query_vector(nearest) if not isinstance(nearest, dict) else _no_dense(nearest)
        case [list(), *_]:
            raise Undecodable("multi-vector query")
        case list():
            return dense_of_json(value)
        case None:
            raise Undecodable("query without a vector")
        case int() | str():
            raise Undecodable("query by id")
        case dict():
            return _no_dense(value)
        case _:
            raise Undecodable


def _no_dense(value: dict[str, Any]) -> bytes:
    """Raises Undecodable with the kind of query that an object is."""
    if "indices" in value:
        raise Undecodable("sparse query")
    if "model" in value:
        raise Undecodable("inference object")
    kinds = ("recommend", "discover", "context", "order_by", "fusion", "rrf", "formula", "sample", "relevance_feedback")
    raise Undecodable(next((kind for kind in kinds if kind in value), "undecodable"))


def search(collection: str, body: object, score_of: ScoreOf) -> Search:
    """The endpoint of older clients: the vector alone, or with its name."""
    asked = _read(body, _SEARCH)
    limit = asked.get("limit", asked.get("top"))
    if limit is None:
        raise Undecodable
    match asked.get("vector"):
        case {"name": str(using), "vector": list(vector), **rest} if not rest:
            pass
        case {"vector": dict()}:
            raise Undecodable("sparse query")
        case vector:
            using = ""
    return _search(collection, {**asked, "limit": limit}, dense_of_json(vector), using, score_of)


def query_batch(collection: str, body: object, score_of: ScoreOf) -> SearchBatch:
    return SearchBatch(collection, tuple(query(collection, one, score_of) for one in _searches(body)))


def search_batch(collection: str, body: object, score_of: ScoreOf) -> SearchBatch:
    return SearchBatch(collection, tuple(search(collection, one, score_of) for one in _searches(body)))


def _searches(body: object) -> list[Any]:
    searches = only(body, frozenset({"searches"})).get("searches")
    if not isinstance(searches, list):
        raise Undecodable
    return searches


def _search(collection: str, asked: dict[str, Any], vector: bytes, using: object, score_of: ScoreOf) -> Search:
    if not isinstance(using, str):
        raise Undecodable
    exact, params = _search_params(asked.get("params"))
    threshold = asked.get("score_threshold")
    if threshold is not None and type(threshold) not in (int, float):
        raise Undecodable
    return Search(
        collection,
        vector,
        _natural(asked.get("limit"), DEFAULT_LIMIT, at_least=1),
        using,
        _natural(asked.get("offset"), 0),
        optional_filter(asked.get("filter")),
        None if threshold is None else score_of(using, float(threshold)),
        _selection(asked, payload_by_default=False),
        exact,
        params,
    )


def _search_params(value: object) -> tuple[bool, dict[str, Any]]:
    """Whether to search exactly, and the hints that do not change what is asked."""
    params = {key: hint for key, hint in only(value or {}, _PARAMS).items() if hint is not None}
    if params.get("indexed_only"):
        raise Undecodable("indexed_only")
    params.pop("indexed_only", None)
    return bool(params.pop("exact", False)), params


def _read(body: object, allowed: frozenset[str]) -> dict[str, Any]:
    asked = only(body, allowed)
    if asked.get("shard_key") is not None:
        raise Undecodable("shard_key")
    return asked


def _selection(asked: dict[str, Any], *, payload_by_default: bool) -> Selection:
    vectors = asked.get("with_vector", asked.get("with_vectors"))
    return selection_of_json(asked.get("with_payload"), vectors, payload_by_default=payload_by_default)


def _natural(value: object, default: int, at_least: int = 0) -> int:
    if value is None:
        return default
    if type(value) is not int or value < at_least:
        raise Undecodable
    return value
