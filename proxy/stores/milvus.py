"""A Milvus server, full or Lite, as a store, over gRPC with messages of our own (protos/milvus).

How points stand there is told in docs/milvus.md and done by proxy/dialects/milvus. Rules of this adapter:

- **Every write that returned is seen** by fetch, scan and count (milvus_horizon.py). Searches see at least that, and
  otherwise what `consistency` says.
- **A refused batch is tried point by point** (milvus_writing.py), so that one bad point does not take others with it.
  What Milvus could not hold exactly is refused before anything is sent.
- **Writes to a collection of Milvus Lite go one at a time, and alone** (milvus_collection.py).
- **A filter is exact or Untranslatable.** An answer that came while this process wrote values that the expression had
  ruled out is asked for again.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from proxy.dialects.milvus import requests
from proxy.dialects.milvus.filters import expression, ids_condition, key_condition
from proxy.dialects.milvus.ids import IdMapping, PrimaryKey, primary_key
from proxy.dialects.milvus.limits import MAX_WINDOW, UnrepresentableError
from proxy.dialects.milvus.marks import probe, relevant_marks
from proxy.dialects.milvus.messages import milvus
from proxy.dialects.milvus.requests import BOUNDED, EVENTUALLY, STRONG, Guarantee
from proxy.dialects.milvus.rows import encode_points, keys_of
from proxy.dialects.milvus.schema import METRICS, VectorIndex, search_parameters
from proxy.dialects.milvus.status import ResultTooLargeError
from proxy.errors import CollectionNotFound, Refused, Throttled, Unavailable, Unclear, Untranslatable
from proxy.model import (
    EVERYTHING,
    CollectionSpec,
    Definition,
    Described,
    Filter,
    Hit,
    Hits,
    Metric,
    Page,
    Point,
    PointId,
    Search,
    Selection,
)
from proxy.stores import Capabilities, WriteReport
from proxy.stores.milvus_collection import MilvusCollection, MilvusCollections
from proxy.stores.milvus_connection import MilvusConnection
from proxy.stores.milvus_definitions import MilvusDefinitions
from proxy.stores.milvus_horizon import Horizon
from proxy.stores.milvus_reading import every_key, hits_of, output_fields, points_of, searched_vector
from proxy.stores.milvus_writing import BATCH_BYTES, BATCH_POINTS, MilvusWriter

T = TypeVar("T")
Consistency = Literal["session", "strong", "bounded", "eventually"]

_IDS_IN_A_QUERY = 1000
_SURVEY_WAIT_SECONDS = 1.0
_ANY_CONSISTENCY: dict[Consistency, Guarantee] = {
    "session": STRONG,
    "strong": STRONG,
    "bounded": BOUNDED,
    "eventually": EVENTUALLY,
}


class MilvusStore:
    """A `WholePointStore` over one database of a Milvus server. Make it inside the running event loop.

    token: an API key or "user:password". ids, index: of collections that `create` makes. consistency: of searches,
    beyond this process's own writes. timeout_seconds: for one request; loading a collection may take ten of them.
    """

    def __init__(
        self,
        address: str = "127.0.0.1:19530",
        token: str | None = None,
        database: str = "",
        tls: ssl.SSLContext | None = None,
        ids: Literal["integer", "text"] = "integer",
        index: VectorIndex = VectorIndex(),  # noqa: B008 - frozen
        consistency: Consistency = "session",
        timeout_seconds: float = 30.0,
    ) -> None:
        self._connection = MilvusConnection(address, token, database, tls, timeout_seconds)
        self._horizon = Horizon()
        self._collections = MilvusCollections(self._connection, self._horizon, database, 10 * timeout_seconds)
        self._writer = MilvusWriter(self._connection, self._collections, self._horizon)
        self._ids = IdMapping(ids)
        self._definitions = MilvusDefinitions(self._connection, self._collections, database, self._ids, index)
        self._index = index
        self._consistency = consistency

    @property
    def capabilities(self) -> Capabilities:
        """`named_vectors` (several in a collection) is only declared once the server is known to have them."""
        server = self._connection.known_server
        return Capabilities(
            vendor="milvus",
            partial_updates=False,
            metrics=frozenset(METRICS),
            named_vectors=server is not None and server.several_vectors,
            ordered_by_id=self._ids is IdMapping.INTEGER,
            exact_search=self._index.type == "FLAT",
            payload_indexes=False,
            max_window=MAX_WINDOW,
            max_batch_points=BATCH_POINTS,
            max_batch_bytes=BATCH_BYTES,
        )

    async def probe(self) -> str:
        return await self._connection.version()

    async def close(self) -> None:
        await self._connection.close()

    # --- collections -------------------------------------------------------------------------

    async def collections(self) -> tuple[str, ...]:
        return await self._definitions.collections()

    async def aliases(self) -> Mapping[str, str]:
        return await self._definitions.aliases()

    async def describe(self, collection: str) -> Described | None:
        """Raises Refused for a collection that this adapter cannot use, saying what it lacks."""
        try:
            await self._collections.renewed(collection)
            known = await self._collections.get(collection)
            return Described(known.name, known.layout.spec(), await self.count(known.name))
        except CollectionNotFound:
            return None

    async def spec_of(self, collection: str) -> CollectionSpec:
        return (await self._collections.get(collection)).layout.spec()

    def metric_of(self, collection: str, using: str) -> Metric | None:
        known = self._collections.if_known(collection)
        vector = known.layout.vectors.get(using) if known is not None else None
        return vector.metric if vector is not None else None

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        await self._definitions.create(collection, spec)

    async def drop(self, collection: str) -> None:
        await self._collections.drop(collection)

    async def define(self, definition: Definition) -> bool:
        return await self._definitions.define(definition)

    # --- writes --------------------------------------------------------------------------------

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        known = await self._collections.get(collection)
        try:
            report, refusal = await self._writer.upsert(known, points, whole), None
        except Refused as error:
            report, refusal = WriteReport(), error
        if refusal is None and not report.refused:
            return report
        nothing_put = refusal is not None or not report.put
        # Somebody may have made the collection anew, in another shape.
        try:
            renewed = await self._collections.renewed(collection)
        except (Unavailable, Throttled, Unclear):
            if not report.put:
                return report  # for which nobody has to be asked
            raise
        if renewed is not None:
            return await self._writer.upsert(renewed, points, whole and nothing_put)
        if refusal is not None:
            raise refusal
        return report

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        known = await self._collections.get(collection)
        for start in range(0, len(ids), _IDS_IN_A_QUERY):
            condition = ids_condition(known.layout, ids[start : start + _IDS_IN_A_QUERY])
            if condition:
                await self._writer.mutate(known, "Delete", requests.delete(known.place, condition))

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        """What Milvus could not hold exactly; a server may refuse more."""
        return encode_points(points, (await self._collections.get(collection)).layout).refused

    async def settle(self, collection: str) -> None:
        """The next reads are strong, and so wait for every write that the server has acknowledged by then."""
        self._horizon.read_strongly()

    # --- reads ---------------------------------------------------------------------------------

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        known = await self._collections.get(collection)
        found: dict[PointId, Point] = {}
        waiting = [ids[start : start + _IDS_IN_A_QUERY] for start in range(0, len(ids), _IDS_IN_A_QUERY)]
        while waiting:
            some = waiting.pop()
            try:
                found |= {point.id: point for point in await self._fetch(known, some, selection)}
            except ResultTooLargeError:
                if len(some) == 1:
                    raise
                half = len(some) // 2
                waiting += [some[:half], some[half:]]
        return found

    async def scan(
        self,
        collection: str,
        start: PointId | None,
        limit: int,
        filter: Filter | None = None,
        selection: Selection = EVERYTHING,
    ) -> Page:
        """In the order of primary keys: of ids if they are integers, else of their text."""
        known = await self._collections.get(collection)
        try:
            first = None if start is None else primary_key(start, known.layout.ids, known.layout.max_id_bytes)
        except UnrepresentableError:  # it lies after every id that the collection can hold
            return Page((), None)

        lite = (await self._connection.server()).lite
        if lite:
            self._collections.flush_if_worth_it(known)

        async def read(condition: str) -> list[Point]:
            return await self._rows_from(known, first, limit + 1, condition, selection)

        points = await self._exactly(known, filter, read, lite)
        return Page(tuple(points[:limit]), points[limit].id if len(points) > limit else None)

    async def count(self, collection: str, filter: Filter | None = None) -> int:
        known = await self._collections.get(collection)

        async def read(condition: str) -> int:
            reply = await self._query(known, requests.count(known.place, condition, self._horizon.guarantee))
            return int(reply.fields_data[0].scalars.long_data.data[0])

        return await self._exactly(known, filter, read, (await self._connection.server()).lite)

    async def search(self, search: Search) -> Hits:
        known = await self._collections.get(search.collection)
        vector = searched_vector(known.layout, search)
        window = search.offset + search.limit
        if search.limit == 0:
            return Hits(vector.metric, ())
        if window > MAX_WINDOW:
            raise Untranslatable("search window")
        if search.exact and vector.index_type != "FLAT":
            raise Untranslatable("exact search")

        lite = (await self._connection.server()).lite
        if lite:
            self._collections.flush_if_worth_it(known)
        output = output_fields(known.layout, search.selection)
        parameters = search_parameters(vector, window, self._index.ef_search, search.params)

        async def read(condition: str) -> list[Hit]:
            request = requests.search(
                *(known.place, search.vector, vector, window, condition, output, self._searches_see(), parameters)
            )
            reply = await self._collections.read(known, "Search", request, milvus.SearchResults)
            return hits_of(reply.results, known.layout, vector, search.selection)

        hits = await self._exactly(known, search.filter, read, lite)
        if search.score_threshold is not None:
            hits = [hit for hit in hits if hit.score >= search.score_threshold]
        return Hits(vector.metric, tuple(hits[search.offset : window]))

    # --- how they read -------------------------------------------------------------------------

    async def _exactly(
        self, collection: MilvusCollection, filter: Filter | None, read: Callable[[str], Awaitable[T]], lite: bool
    ) -> T:
        """`read` with the condition that `filter` stands for."""
        if filter is None:
            return await read("")
        marks = relevant_marks(filter, lite=lite)
        while True:
            await collection.survey.ask(marks, lambda mark: self._occurs(collection, mark), _SURVEY_WAIT_SECONDS)
            written = expression(filter, collection.layout, collection.survey.known(marks), lite=lite)
            result = await read(written.text)
            if collection.survey.still_absent(written.assumes):
                return result

    async def _occurs(self, collection: MilvusCollection, mark: str) -> bool:
        layout = collection.layout
        request = requests.query(
            collection.place, probe(mark), [layout.primary_field], self._horizon.guarantee, limit=1
        )
        return bool(keys_of((await self._query(collection, request)).fields_data, layout))

    async def _fetch(self, collection: MilvusCollection, ids: Sequence[PointId], selection: Selection) -> list[Point]:
        layout = collection.layout
        condition = ids_condition(layout, ids)
        if not condition:
            return []
        request = requests.query(collection.place, condition, output_fields(layout, selection), self._horizon.guarantee)
        return points_of(await self._query(collection, request), layout, selection)

    async def _rows_from(
        self,
        collection: MilvusCollection,
        first: PrimaryKey | None,
        limit: int,
        condition: str,
        selection: Selection,
    ) -> list[Point]:
        """Up to `limit` rows in the order of their keys. Only a query without rows says that there are no more."""
        layout, output = collection.layout, output_fields(collection.layout, selection)
        after = "" if first is None else key_condition(layout, ">=", first)
        found: list[Point] = []
        rows_at_once = MAX_WINDOW
        while len(found) < limit:
            asked = min(limit - len(found), rows_at_once)
            both = " and ".join(part for part in (after, condition) if part) or every_key(layout)
            try:
                request = requests.query(collection.place, both, output, self._horizon.guarantee, limit=asked)
                reply = await self._query(collection, request)
            except ResultTooLargeError:
                if asked == 1:
                    raise
                rows_at_once = asked // 2
                continue
            keys = keys_of(reply.fields_data, layout)
            if not keys:
                break
            found += points_of(reply, layout, selection)
            after = key_condition(layout, ">", keys[-1])
        return found

    async def _query(self, collection: MilvusCollection, request: Any) -> Any:
        return await self._collections.read(collection, "Query", request, milvus.QueryResults)

    def _searches_see(self) -> Guarantee:
        if self._consistency == "strong" or self._horizon.is_strong:
            return _ANY_CONSISTENCY[self._consistency]
        return self._horizon.guarantee
