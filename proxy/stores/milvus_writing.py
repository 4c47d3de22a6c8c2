"""Writing rows to Milvus: whole points in, deletes, and what of a batch was refused.

A refused batch is tried row by row, so that one bad point does not take others with it. A failure after some rows of
the same call were put is Unclear, whatever it was: "not sent" and "nothing applied" are no longer true of the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from proxy.dialects.milvus import requests
from proxy.dialects.milvus.messages import milvus
from proxy.dialects.milvus.rows import Rows, chunks, encode_points, marks_in
from proxy.dialects.milvus.status import InvalidRowError
from proxy.errors import Refused, Throttled, Unavailable, Unclear
from proxy.model import Point, PointId
from proxy.stores import WriteReport
from proxy.stores.milvus_collection import MilvusCollection, MilvusCollections
from proxy.stores.milvus_connection import MilvusConnection
from proxy.stores.milvus_horizon import Horizon

BATCH_POINTS, BATCH_BYTES = 1000, 16 * 1024 * 1024
_TURN_POINTS = 128  # half a millisecond's work


class MilvusWriter:
    def __init__(self, connection: MilvusConnection, collections: MilvusCollections, horizon: Horizon) -> None:
        self._connection = connection
        self._collections = collections
        self._horizon = horizon

    async def upsert(self, collection: MilvusCollection, points: Sequence[Point], whole: bool) -> WriteReport:
        """`whole`: as of WholePointStore."""
        encoded = encode_points(points[:_TURN_POINTS], collection.layout)
        rows, refused = encoded.rows, encoded.refused
        for start in range(_TURN_POINTS, len(points), _TURN_POINTS):
            await asyncio.sleep(0)  # let others have their turn
            encoded = encode_points(points[start : start + _TURN_POINTS], collection.layout)
            rows.add(encoded.rows)
            refused |= encoded.refused
        if whole and refused:
            return WriteReport(refused, put=False)
        collection.survey.learn(marks_in(rows))
        put_rows = 0
        for chunk in chunks(rows, BATCH_POINTS, BATCH_BYTES):
            try:
                refused |= await self._put_chunk(collection, chunk)
            except (Refused, Throttled, Unavailable) as failure:
                if put_rows:
                    raise Unclear(f"{put_rows} of {len(points)} points were put, and then: {failure}") from failure
                raise
            put_rows += len(chunk)
        return WriteReport(refused)

    async def mutate(self, collection: MilvusCollection, method: str, request: Any) -> None:
        """One write, which every later read sees."""
        began = self._horizon.write_begins()
        async with await self._collections.turn(collection, alone=True):
            reply = await self._collections.call(method, request, milvus.MutationResult, collection.name)
        self._horizon.write_ended(began, reply.timestamp)

    async def _put_chunk(self, collection: MilvusCollection, chunk: Rows) -> dict[PointId, str]:
        try:
            await self._put(collection, chunk)
        except Refused:
            return await self._put_singly(collection, chunk)
        return {}

    async def _put(self, collection: MilvusCollection, rows: Rows) -> None:
        lite = (await self._connection.server()).lite
        collection.unflushed_rows += len(rows)
        await self.mutate(collection, *requests.put(collection.place, rows, collection.layout, lite=lite))

    async def _put_singly(self, collection: MilvusCollection, rows: Rows) -> dict[PointId, str]:
        """The points that are to blame, with the reason. Raises Refused if the server takes none for a reason that
        does not lie in the points."""
        refusals: dict[PointId, Refused] = {}
        for number, point_id in enumerate(rows.ids):
            try:
                await self._put(collection, rows.part(number, number + 1))
            except Refused as refusal:
                refusals[point_id] = refusal
            except (Throttled, Unavailable) as failure:
                if len(refusals) == number:
                    raise
                raise Unclear(f"a part of {len(rows)} points was put, and then: {failure}") from failure
        doubtful = [each for each in refusals.values() if not isinstance(each, InvalidRowError)]
        if doubtful and len(refusals) == len(rows):
            raise doubtful[0]
        return {point_id: str(refusal) for point_id, refusal in refusals.items()}
