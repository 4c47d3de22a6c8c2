"""What of a Qdrant store goes over REST: what gRPC would round, and what is JSON already.

A payload integer beyond int64 (a 64-bit hash, say) travels as a double in proto (lib/api/src/conversions/json.rs), and
nothing tells it from a double. So a point whose payload has a double of that size is asked for once more, over REST,
where JSON says which it is; the whole point, so that it is one state of it.

Points whose vectors came as JSON and were not looked at yet are written as JSON: to read the numbers would cost more
than all the rest of a copy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from msgspec import structs

from proxy.dialects import Call, Outcome
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import CollectionNotFound, Unavailable, Unclear
from proxy.model import Fetch, Json, Point, Points, Selection, Upsert
from proxy.stores.forward_http import HttpForwarder
from proxy.wire import Headers, Request, Response

_BEYOND_INT64 = 2.0**63
_NOT_FOUND = 404
_AVOIDED_SECONDS = 30.0


class QdrantJson:
    """`url`: the server's REST address. `headers`: its key. `tls`: as of HttpForwarder."""

    def __init__(self, url: str, headers: Headers, timeout_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._line = HttpForwarder(url, timeout_seconds=timeout_seconds, tls=tls)
        self._headers = headers
        self._dialect = QdrantRest()
        self._not_before = 0.0  # on the loop's clock: REST does not answer as a Qdrant does

    async def exact(self, collection: str, points: Sequence[Point], selection: Selection) -> tuple[Point, ...]:
        """`points`, those with a number that may be rounded read again (absent, if they are gone by now).

        Raises CollectionNotFound, Unavailable, Unclear, InvalidRequest."""
        rounded = {point.id for point in points if any(map(_may_be_rounded, point.payload.values()))}
        if not rounded:
            return tuple(points)
        again = await self._read(Fetch(collection, tuple(rounded), selection))
        return tuple(again.get(point.id, point) for point in points if point.id in again or point.id not in rounded)

    async def upsert(self, collection: str, upsert: Upsert) -> bool:
        """Put points by a request in JSON, and wait until they are applied. False if that has not come about, but
        nothing is under way: gRPC does it, or tells what is in the way. Raises Unclear."""
        if asyncio.get_running_loop().time() < self._not_before:
            return False
        try:
            response = await self._ask("PUT", collection, upsert.native, "wait=true&ordering=strong")
        except Unavailable:
            return self._avoid()
        except Unclear:
            self._avoid()
            raise
        if 300 <= response.status < 400:
            return self._avoid()
        judgement = self._dialect.judge(Call(Request("http", "PUT", ""), upsert), response)
        if judgement.outcome is Outcome.UNKNOWN or judgement.acknowledged:
            self._avoid()
            raise Unclear(f"the update was answered with HTTP {response.status}; it may still be applied")
        return judgement.outcome is Outcome.ACCEPTED

    def _avoid(self) -> bool:
        """Leave it to gRPC for a while: False."""
        self._not_before = asyncio.get_running_loop().time() + _AVOIDED_SECONDS
        return False

    async def close(self) -> None:
        await self._line.close()

    async def _read(self, fetch: Fetch) -> Mapping[Any, Point]:
        selection = fetch.selection
        body = {
            "ids": list(fetch.ids),
            "with_payload": _payload_of(selection),
            "with_vector": list(selection.vector_names) if selection.vector_names else selection.vectors,
        }
        response = await self._ask("POST", fetch.collection, orjson.dumps(body), "consistency=majority")
        if response.status == _NOT_FOUND:
            raise CollectionNotFound(fetch.collection)
        found = self._dialect.read_reply(Call(Request("http", "POST", ""), fetch), response)
        assert isinstance(found, Points)
        return {point.id: point for point in found.points}

    async def _ask(self, method: str, collection: str, body: bytes, query: str) -> Response:
        """About the points of a collection; the whole answer. Raises Unavailable or Unclear."""
        headers = (("content-type", "application/json"), *self._headers)
        path = f"/collections/{quote(collection, safe='')}/points"
        response = await self._line.forward(Request("http", method, path, headers, body, query))
        if isinstance(response.body, bytes):
            return response
        return structs.replace(response, body=b"".join([chunk async for chunk in response.body]))


def _payload_of(selection: Selection) -> object:
    if selection.payload_include is not None:
        return {"include": list(selection.payload_include)}
    if selection.payload_exclude is not None:
        return {"exclude": list(selection.payload_exclude)}
    return selection.payload


def _may_be_rounded(value: Json) -> bool:
    if isinstance(value, float):
        return abs(value) >= _BEYOND_INT64
    if isinstance(value, list):
        return any(map(_may_be_rounded, value))
    if isinstance(value, dict):
        return any(map(_may_be_rounded, value.values()))
    return False
