"""Qdrant's engine, embedded: a set of collections, each a shard of the engine in a directory of its own.

Everything here is synchronous and made for one thread: the engine keeps Python's lock while it works
(qdrant_edge.py gives it a thread). A write is in the shard's write-ahead log when it returns, so a killed
process loses none; `close` also syncs it to the disk. Exceptions of the engine are turned into this
program's own here, by their text, since the binding has one type for all of them
(Qdrant 1.19, lib/segment/src/common/operation_error.rs).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import qdrant_edge as edge

from proxy.errors import (
    CollectionExists,
    CollectionNotFound,
    CrossfadeError,
    InvalidRequest,
    PointNotFound,
    Refused,
    Unavailable,
    Unclear,
)
from proxy.model import (
    CollectionSpec,
    CreateAlias,
    Described,
    DropAlias,
    Filter,
    Hit,
    Hits,
    Metric,
    Page,
    Point,
    PointId,
    RenameAlias,
    Search,
    Selection,
    SimpleWrite,
)
from proxy.stores import WriteReport
from proxy.stores.alias_changes import changed_aliases, without_collection
from proxy.stores.point_shape import misfit
from proxy.stores.qdrant_edge_files import EdgeFiles
from proxy.stores.qdrant_edge_filters import engine_condition, engine_ids
from proxy.stores.qdrant_edge_indexes import index_kind, index_parameters
from proxy.stores.qdrant_edge_values import (
    engine_config,
    engine_id,
    engine_point,
    engine_vector,
    model_point,
    payload_selector,
    spec_from_json,
    spec_to_json,
    updated_native,
    vector_selector,
)
from proxy.stores.qdrant_edge_writes import engine_operation

_CLIENTS_FAULT = (
    "Vector dimension error",
    "Not existing vector name error",
    "Payload type does not match",
    "Unable to infer type",
    "Validation failed",
    "Wrong usage of",
)


@dataclass(slots=True)
class OpenCollection:
    """`shard` is the engine's; `operations` numbers the writes since the store was opened."""

    spec: CollectionSpec
    shard: edge.EdgeShard
    operations: int = 0


class EdgeEngine:
    """The collections below one directory. `open` first."""

    def __init__(self, files: EdgeFiles) -> None:
        self._files = files
        self._open: dict[str, OpenCollection] = {}
        self._aliases: dict[str, str] = {}

    def open(self) -> None:
        """Load every collection. Raises Unavailable while another process has them open."""
        self._files.prepare()
        for described in self._files.described():
            name = described["name"]
            try:
                shard = edge.EdgeShard.load(self._files.shard(name))
            except Exception as error:  # the binding raises bare Exceptions; whatever it is, nothing was served yet
                raise Unavailable(f"collection {name!r} cannot be opened: {error}") from error
            self._open[name] = OpenCollection(spec_from_json(described), shard)
        self._aliases = self._files.aliases()

    def close(self) -> None:
        """Sync and release every collection; the engine flushes when a shard is closed."""
        for collection in self._open.values():
            collection.shard.close()
        self._open.clear()

    # --- collections and aliases ---------------------------------------------------------

    def collections(self) -> tuple[str, ...]:
        return tuple(sorted(self._open))

    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    def describe(self, collection: str) -> Described | None:
        name = self._aliases.get(collection, collection)
        found = self._open.get(name)
        if found is None:
            return None
        with _mapped():
            info = found.shard.info()
            indexes = {field: index_kind(known.data_type) for field, known in info.payload_schema.items()}
            return Described(name, replace(found.spec, payload_indexes=indexes), info.points_count)

    def metric_of(self, collection: str, using: str) -> Metric | None:
        """The one method that may be called from any thread: it looks into dictionaries only."""
        found = self._open.get(self._aliases.get(collection, collection))
        vector = None if found is None else found.spec.vectors.get(using)
        return None if vector is None else vector.metric

    def create(self, collection: str, spec: CollectionSpec) -> None:
        if collection in self._open:
            raise CollectionExists(collection)
        if collection in self._aliases:
            raise InvalidRequest(
                f"Can't create collection with name {collection}. Alias with the same name already exists"
            )
        with _mapped():
            config = engine_config(spec)
            shard = edge.EdgeShard.create(self._files.shard(collection), config)
            schemas = spec.native.get("payload_indexes") or {}
            for field, kind in spec.payload_indexes.items():
                parameters = index_parameters(kind, schemas.get(field))
                shard.update(edge.UpdateOperation.create_field_index(field, parameters))
        self._files.describe(collection, spec_to_json(collection, spec))
        self._open[collection] = OpenCollection(spec, shard)

    def drop(self, collection: str) -> bool:
        if (found := self._open.pop(collection, None)) is None:
            return False
        if (left := without_collection(self._aliases, collection)) != self._aliases:
            self._keep_aliases(left)
        found.shard.close()
        self._files.remove(collection)
        return True

    def change_aliases(self, actions: Sequence[CreateAlias | DropAlias | RenameAlias]) -> None:
        self._keep_aliases(changed_aliases(self._aliases, self._open, actions))

    def update_native(self, collection: str, changes: Mapping[str, Any]) -> None:
        """Keep changed parameters in the description; the engine searches without an index and needs none."""
        native = updated_native(self._collection(collection).spec.native, changes)
        self._keep_native(collection, native)

    def create_index(self, collection: str, field: str, kind: str | None, schema: object) -> None:
        found = self._collection(collection)
        if kind is None:
            raise InvalidRequest(f"Unable to infer type for the field '{field}'. Please specify `field_type`")
        with _mapped():
            found.shard.update(edge.UpdateOperation.create_field_index(field, index_parameters(kind, schema)))
        schemas = dict(found.spec.native.get("payload_indexes") or {})
        schemas[field] = schema if isinstance(schema, Mapping) else {"type": kind}
        self._keep_native(collection, {**found.spec.native, "payload_indexes": schemas})

    def drop_index(self, collection: str, field: str) -> None:
        found = self._collection(collection)
        with _mapped():
            found.shard.update(edge.UpdateOperation.delete_field_index(field))
        schemas = dict(found.spec.native.get("payload_indexes") or {})
        if schemas.pop(field, None) is not None:
            self._keep_native(collection, {**found.spec.native, "payload_indexes": schemas})

    def _keep_native(self, collection: str, native: Mapping[str, Any]) -> None:
        name = self._aliases.get(collection, collection)
        found = self._open[name]
        found.spec = replace(found.spec, native=native)
        self._files.describe(name, spec_to_json(name, found.spec))

    # --- points --------------------------------------------------------------------------

    def upsert(self, collection: str, points: Sequence[Point]) -> WriteReport:
        found = self._collection(collection)
        refused = {point.id: reason for point in points if (reason := _unfit(found.spec, point))}
        fitting = [engine_point(point) for point in points if point.id not in refused]
        if fitting:
            with _mapped():
                found.shard.update(edge.UpdateOperation.upsert_points(fitting))
        return WriteReport(refused)

    def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        found = self._collection(collection)
        if known := engine_ids(ids):
            with _mapped():
                found.shard.update(edge.UpdateOperation.delete_points(known))

    def write(self, collection: str, writes: Sequence[SimpleWrite]) -> tuple[int, ...]:
        """Carry out writes in order, until one fails; the numbers they got."""
        found = self._collection(collection)
        numbers: list[int] = []
        for write in writes:
            with _mapped():
                found.shard.update(engine_operation(write))
            numbers.append(found.operations)
            found.operations += 1
        return tuple(numbers)

    def fetch(self, collection: str, ids: Sequence[PointId], selection: Selection) -> dict[PointId, Point]:
        found = self._collection(collection)
        with _mapped():
            records = found.shard.retrieve(engine_ids(ids), payload_selector(selection), vector_selector(selection))
            return {record.id: model_point(record) for record in records}

    def scan(
        self, collection: str, start: PointId | None, limit: int, filter: Filter | None, selection: Selection
    ) -> Page:
        found = self._collection(collection)
        with _mapped():
            request = edge.ScrollRequest(
                offset=None if start is None else engine_id(start),
                limit=limit,
                filter=engine_condition(filter),
                with_payload=payload_selector(selection),
                with_vector=vector_selector(selection),
            )
            records, following = found.shard.scroll(request)
            return Page(tuple(model_point(record) for record in records), following)

    def search(self, search: Search) -> Hits:
        found = self._collection(search.collection)
        with _mapped():
            scored = found.shard.query(_query(search, found.spec))
            metric = found.spec.vectors[search.using].metric
            sign = -1.0 if metric in _SMALLER_IS_BETTER else 1.0
            return Hits(metric, tuple(Hit(model_point(point), sign * point.score) for point in scored))

    def count(self, collection: str, filter: Filter | None) -> int:
        found = self._collection(collection)
        with _mapped():
            return int(found.shard.count(edge.CountRequest(exact=True, filter=engine_condition(filter))))

    def _collection(self, name: str) -> OpenCollection:
        found = self._open.get(self._aliases.get(name, name))
        if found is None:
            raise CollectionNotFound(name)
        return found

    def _keep_aliases(self, aliases: dict[str, str]) -> None:
        self._files.keep_aliases(aliases)
        self._aliases = aliases


_SMALLER_IS_BETTER = frozenset({Metric.EUCLID, Metric.MANHATTAN})


def _query(search: Search, spec: CollectionSpec) -> edge.QueryRequest:
    vector = spec.vectors.get(search.using)
    if vector is None:
        raise InvalidRequest(f"Not existing vector name error: {search.using}")
    threshold = search.score_threshold
    if threshold is not None and vector.metric in _SMALLER_IS_BETTER:
        threshold = -threshold
    return edge.QueryRequest(
        limit=search.limit,
        offset=search.offset,
        query=edge.Query.Nearest(engine_vector(search.vector), search.using or None),
        filter=engine_condition(search.filter),
        score_threshold=threshold,
        with_payload=payload_selector(search.selection),
        with_vector=vector_selector(search.selection),
        params=edge.SearchParams(exact=search.exact),
    )


def _unfit(spec: CollectionSpec, point: Point) -> str | None:
    try:
        engine_id(point.id)
    except InvalidRequest as error:
        return str(error)
    return misfit(spec, point)


@contextmanager
def _mapped() -> Iterator[None]:
    """Turn the binding's exceptions into this program's."""
    try:
        yield
    except CrossfadeError:
        raise
    except (ValueError, TypeError, OverflowError) as error:  # a value that the binding could not take in
        raise InvalidRequest(str(error)) from error
    except Exception as error:  # the binding's only other type; the text tells which error it is
        raise _engine_error(str(error)) from error


def _engine_error(text: str) -> CrossfadeError:
    if text.startswith("No point with id"):
        return PointNotFound(f"{text} found")
    if text.startswith(_CLIENTS_FAULT):
        return InvalidRequest(text)
    if "dimension cannot be 0" in text:
        return Refused(text)
    return Unclear(f"the embedded engine failed: {text}")
