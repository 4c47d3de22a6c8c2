"""Requests of the RPCs that a store makes.

A read says which writes it must see by `Guarantee`: Milvus waits until its time has passed the given timestamp (its
consistency guide; internal/proxy/util.go, parseGuaranteeTsFromConsistency). Milvus Lite sees every write at once and
ignores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from proxy.dialects.milvus.limits import MAX_WINDOW
from proxy.dialects.milvus.messages import common, milvus
from proxy.dialects.milvus.rows import Rows, written
from proxy.dialects.milvus.schema import METRICS, Layout, VectorField
from proxy.dialects.proto_bytes import Field

_SHORT_CONDITION: Final = 2048  # characters; a longer one is not kept
_VALUES: Final = Field(common.PlaceholderValue, "values")
_PLACEHOLDERS: Final = Field(common.PlaceholderGroup, "placeholders")
_GROUP: Final = Field(milvus.SearchRequest, "placeholder_group")
_LEVELS: Final = common.ConsistencyLevel
_FLOAT_VECTOR: Final = common.PlaceholderType.Value("FloatVector")


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A consistency level (its number in common.ConsistencyLevel) and the timestamp that goes with it."""

    level: int
    timestamp: int


STRONG: Final = Guarantee(_LEVELS.Value("Strong"), 0)
BOUNDED: Final = Guarantee(_LEVELS.Value("Bounded"), 2)
EVENTUALLY: Final = Guarantee(_LEVELS.Value("Eventually"), 1)


def after(timestamp: int) -> Guarantee:
    """Everything up to a write that happened at `timestamp`."""
    return Guarantee(_LEVELS.Value("Session"), timestamp)


class Place(NamedTuple):
    """A collection by its Milvus name, in its database ("" is the default one)."""

    database: str
    collection: str

    def fields(self) -> dict[str, str]:
        return {"db_name": self.database, "collection_name": self.collection}


def connect() -> Any:
    return milvus.ConnectRequest(client_info=common.ClientInfo(sdk_type="Crossfade"))


def create_collection(place: Place, serialized_schema: bytes) -> Any:
    return milvus.CreateCollectionRequest(
        schema=serialized_schema, shards_num=1, consistency_level=_LEVELS.Value("Bounded"), **place.fields()
    )


def create_index(place: Place, field: str, parameters: Sequence[Any]) -> Any:
    return milvus.CreateIndexRequest(field_name=field, extra_params=parameters, **place.fields())


def load_collection(place: Place) -> Any:
    return milvus.LoadCollectionRequest(replica_number=1, **place.fields())


def put(place: Place, rows: Rows, layout: Layout, *, lite: bool) -> tuple[str, bytes]:
    """The RPC, and its request as bytes, that makes each row exactly what is given.

    On Milvus that is Upsert: its Insert leaves an older row of the same key beside the new one. On Milvus Lite it is
    Insert, which replaces: its Upsert keeps those keys of the dynamic field that the new row lacks.
    """
    message = milvus.InsertRequest if lite else milvus.UpsertRequest
    request = message(num_rows=len(rows), **place.fields())
    return "Insert" if lite else "Upsert", written(request, rows, layout)


def delete(place: Place, condition: str) -> Any:
    return milvus.DeleteRequest(expr=condition, **place.fields())


def query(place: Place, condition: str, output: Sequence[str], guarantee: Guarantee, limit: int | None = None) -> Any:
    """A query; with a limit, its rows come in the order of their keys, and fewer of them do not mean the end."""
    request = milvus.QueryRequest(
        expr=condition,
        output_fields=output,
        guarantee_timestamp=guarantee.timestamp,
        consistency_level=guarantee.level,
        **place.fields(),
    )
    if limit is not None:
        # `iterator` makes Milvus Lite sort; `reduce_stop_for_best` makes the full server stop where the first of its
        # segments has no more rows to give, instead of going on with the others and leaving rows out.
        asked = {"limit": str(min(limit, MAX_WINDOW)), "iterator": "True", "reduce_stop_for_best": "True"}
        request.query_params.extend(_pairs(asked))
    return request


def count(place: Place, condition: str, guarantee: Guarantee) -> Any:
    return query(place, condition, ["count(*)"], guarantee)


def search(
    place: Place,
    query_vector: bytes,
    vector: VectorField,
    window: int,
    condition: str,
    output: Sequence[str],
    guarantee: Guarantee,
    parameters: Mapping[str, int],
) -> bytes:
    """The `window` nearest rows, as bytes; `parameters` are those of the index. An application asks for much the same
    again and again: what is the same is put together once."""
    put_together = _searching if len(condition) <= _SHORT_CONDITION else _searching.__wrapped__
    index = orjson.dumps(parameters)
    searching = put_together(*(place, vector.field, METRICS[vector.metric], window, condition, tuple(output), index))
    seen = _seeing(guarantee.level, guarantee.timestamp)
    return b"".join((searching, seen, _before_vector(len(query_vector)), query_vector))


@lru_cache(256)
def _searching(
    place: Place, field: str, metric: str, window: int, condition: str, output: tuple[str, ...], index: bytes
) -> bytes:
    """All of a search but the vector and what it must see."""
    asked = {
        "anns_field": field,
        "topk": str(window),
        "metric_type": metric,
        "params": index.decode(),
        "round_decimal": "-1",
    }
    request = milvus.SearchRequest(
        dsl=condition,
        dsl_type=common.DslType.Value("BoolExprV1"),
        nq=1,
        output_fields=output,
        search_params=_pairs(asked),
        **place.fields(),
    )
    return bytes(request.SerializeToString())


@lru_cache(256)
def _seeing(level: int, timestamp: int) -> bytes:
    return bytes(milvus.SearchRequest(guarantee_timestamp=timestamp, consistency_level=level).SerializeToString())


@lru_cache(256)
def _before_vector(size: int) -> bytes:
    """What stands before a vector of so many bytes, at the end of a search."""
    value = common.PlaceholderValue(tag="$0", type=_FLOAT_VECTOR).SerializeToString() + _VALUES[size]
    group = _PLACEHOLDERS[len(value) + size] + value
    return bytes(_GROUP[len(group) + size] + group)


def _pairs(values: Mapping[str, str]) -> list[Any]:
    return [common.KeyValuePair(key=key, value=value) for key, value in values.items()]
