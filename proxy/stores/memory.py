"""The reference store: everything the model can say, kept in a dictionary.

It exists to be obviously right: searches compare with every point, filters are evaluated one point at a time
(memory_filters.py), and nothing outlives the process. The other stores are compared with it by the contract
suite, so where the vendors leave a choice it does what Qdrant does: cosine vectors are kept as unit vectors, a
write names points that must exist, aliases stand for their collection.

All methods run without awaiting, so each call is one step to the event loop. Points are copied on the way in
and on the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import assert_never

from msgspec import structs

from proxy.errors import CollectionExists, CollectionNotFound, InvalidRequest, Untranslatable
from proxy.model import (
    EVERYTHING,
    Batch,
    CollectionSpec,
    CreateCollection,
    CreatePayloadIndex,
    Definition,
    Described,
    DropCollection,
    DropPayloadIndex,
    Filter,
    Hit,
    Hits,
    Metric,
    Page,
    Point,
    PointId,
    Search,
    Selection,
    SimpleWrite,
    UpdateAliases,
    UpdateCollection,
    Write,
    Written,
    id_order,
    points_by_id,
    write_filters,
    written_ids,
)
from proxy.stores import Capabilities, WriteReport
from proxy.stores.alias_changes import changed_aliases, without_collection
from proxy.stores.memory_collection import HeldCollection, scores, selected, stored
from proxy.stores.point_shape import misfit, vector_misfit
from proxy.stores.write_effects import effect_of

CAPABILITIES = Capabilities(vendor="memory", metrics=frozenset(Metric), vectors_optional=True, normalizes_cosine=True)


class MemoryStore:
    """Implements PrimaryStore and WholePointStore. Dense vectors only."""

    def __init__(self) -> None:
        self._collections: dict[str, HeldCollection] = {}
        self._aliases: dict[str, str] = {}
        self._operations = 0

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    async def probe(self) -> str:
        return "memory"

    async def collections(self) -> tuple[str, ...]:
        return tuple(sorted(self._collections))

    async def aliases(self) -> Mapping[str, str]:
        return dict(self._aliases)

    async def describe(self, collection: str) -> Described | None:
        name = self._aliases.get(collection, collection)
        found = self._collections.get(name)
        return None if found is None else Described(name, found.spec, len(found.points))

    async def spec_of(self, collection: str) -> CollectionSpec:
        return self._collection(collection).spec

    def metric_of(self, collection: str, using: str) -> Metric | None:
        found = self._collections.get(self._aliases.get(collection, collection))
        vector = found.spec.vectors.get(using) if found is not None else None
        return vector.metric if vector is not None else None

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        if collection in self._collections or collection in self._aliases:
            raise CollectionExists(collection)
        for name, vector in spec.vectors.items():
            if vector.kind != "dense":
                raise Untranslatable(f"{vector.kind} vectors")
            if vector.size < 1:
                raise InvalidRequest(f"vector {name!r} has size {vector.size}; expected 1 or larger")
        self._collections[collection] = HeldCollection(spec)

    async def drop(self, collection: str) -> None:
        self._collections.pop(collection, None)
        self._aliases = without_collection(self._aliases, collection)

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        into = self._collection(collection)
        refused = await self.unfit(collection, points)
        if whole and refused:
            return WriteReport(refused, put=False)
        into.points |= points_by_id(stored(into.spec, (point for point in points if point.id not in refused)))
        return WriteReport(refused)

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        spec = self._collection(collection).spec
        return {point.id: reason for point in points if (reason := misfit(spec, point)) is not None}

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        points = self._collection(collection).points
        for point_id in ids:
            points.pop(point_id, None)

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        held = self._collection(collection)
        return {i: selected(held.points[i], selection) for i in ids if i in held.points}

    async def scan(
        self,
        collection: str,
        start: PointId | None,
        limit: int,
        filter: Filter | None = None,
        selection: Selection = EVERYTHING,
    ) -> Page:
        held = self._collection(collection)
        matching = sorted(held.matching(filter), key=lambda point: id_order(point.id))
        if start is not None:
            matching = [point for point in matching if id_order(point.id) >= id_order(start)]
        page = tuple(selected(point, selection) for point in matching[:limit])
        return Page(page, matching[limit].id if len(matching) > limit else None)

    async def search(self, search: Search) -> Hits:
        held = self._collection(search.collection)
        spec = held.spec.vectors.get(search.using)
        if spec is None:
            raise InvalidRequest(f"Not existing vector name error: {search.using}")
        if reason := vector_misfit(spec, search.vector):
            raise InvalidRequest(reason)
        scored = sorted(_scored(held, search), key=lambda hit: (-hit.score, id_order(hit.point.id)))
        window = scored[search.offset : search.offset + search.limit]
        return Hits(
            spec.metric, tuple(structs.replace(hit, point=selected(hit.point, search.selection)) for hit in window)
        )

    async def count(self, collection: str, filter: Filter | None = None) -> int:
        return sum(1 for _ in self._collection(collection).matching(filter))

    async def settle(self, collection: str) -> None:
        pass

    async def close(self) -> None:
        pass

    async def apply(self, write: Write) -> Written:
        held = self._collection(write.collection or "")
        parts = write.writes if isinstance(write, Batch) else (write,)
        for part in parts:
            _carry_out(held, part)
        first = self._operations
        self._operations += len(parts)
        return Written(tuple(range(first, self._operations)))

    async def define(self, definition: Definition) -> bool:
        match definition:
            case CreateCollection(collection, spec):
                await self.create(collection, spec)
            case DropCollection(collection):
                known = collection in self._collections
                await self.drop(collection)
                return known
            case UpdateAliases(actions):
                self._aliases = changed_aliases(self._aliases, self._collections, actions)
            case UpdateCollection(collection):
                self._collection(collection)
            case CreatePayloadIndex(collection, field_name, kind):
                self._index(collection, field_name, kind or "keyword")
            case DropPayloadIndex(collection, field_name):
                self._index(collection, field_name, None)
            case _:
                assert_never(definition)
        return True

    def _index(self, collection: str, field_name: str, kind: str | None) -> None:
        held = self._collection(collection)
        others = {name: known for name, known in held.spec.payload_indexes.items() if name != field_name}
        held.spec = replace(held.spec, payload_indexes=others | ({field_name: kind} if kind else {}))

    def _collection(self, name: str) -> HeldCollection:
        found = self._collections.get(self._aliases.get(name, name))
        if found is None:
            raise CollectionNotFound(name)
        return found


def _carry_out(held: HeldCollection, write: SimpleWrite) -> None:
    effect = effect_of(write, held.spec, held.points, _named(held, write))
    for point_id, point in effect.changed.items():
        if point is None:
            held.points.pop(point_id, None)
        else:
            held.points[point_id] = point
    if effect.error is not None:
        raise effect.error


def _named(held: HeldCollection, write: SimpleWrite) -> Sequence[PointId]:
    """The points that a write is about, those that its filter chooses included."""
    named = written_ids(write)
    if named is not None:
        return named
    return [point.id for choice in write_filters(write) or () for point in held.matching(choice)]


def _scored(held: HeldCollection, search: Search) -> list[Hit]:
    """Every point that has the vector, passes the filter and scores enough."""
    points: list[Point] = []
    vectors: list[bytes] = []
    for point in held.matching(search.filter):
        vector = point.vectors.get(search.using)
        if isinstance(vector, bytes):
            points.append(point)
            vectors.append(vector)
    found = scores(held.spec.vectors[search.using].metric, search.vector, vectors)
    return [
        Hit(point, score)
        for point, score in zip(points, found, strict=True)
        if search.score_threshold is None or score >= search.score_threshold
    ]
