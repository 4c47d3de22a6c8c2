"""What Qdrant's gRPC rounds, read again over REST.

A payload integer beyond int64 (a 64-bit hash, say) travels as a double in proto (lib/api/src/conversions/json.rs), and
nothing tells it from a double. So a point whose payload has a double of that size is asked for once more, over REST,
where JSON says which it is; the whole point, so that it is one state of it.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from proxy.dialects import Call
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import CollectionNotFound
from proxy.model import Fetch, Json, Point, Points, Selection
from proxy.stores.forward_http import HttpForwarder
from proxy.wire import Headers, Request

_BEYOND_INT64 = 2.0**63
_NOT_FOUND = 404


class ExactReader:
    """`url`: the server's REST address. `headers`: its key. `tls`: as of HttpForwarder."""

    def __init__(self, url: str, headers: Headers, timeout_seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self._line = HttpForwarder(url, timeout_seconds=timeout_seconds, tls=tls)
        self._headers = headers
        self._dialect = QdrantRest()

    async def exact(self, collection: str, points: Sequence[Point], selection: Selection) -> tuple[Point, ...]:
        """`points`, those with a number that may be rounded read again (absent, if they are gone by now).

        Raises CollectionNotFound, Unavailable, Unclear, InvalidRequest."""
        rounded = {point.id for point in points if any(map(_may_be_rounded, point.payload.values()))}
        if not rounded:
            return tuple(points)
        again = await self._read(Fetch(collection, tuple(rounded), selection))
        return tuple(again.get(point.id, point) for point in points if point.id in again or point.id not in rounded)

    async def close(self) -> None:
        await self._line.close()

    async def _read(self, fetch: Fetch) -> Mapping[Any, Point]:
        selection = fetch.selection
        body = {
            "ids": list(fetch.ids),
            "with_payload": _payload_of(selection),
            "with_vector": list(selection.vector_names) if selection.vector_names else selection.vectors,
        }
        headers = (("content-type", "application/json"), *self._headers)
        path = f"/collections/{quote(fetch.collection, safe='')}/points"
        request = Request("http", "POST", path, headers, orjson.dumps(body), "consistency=majority")
        response = await self._line.forward(request)
        if response.status == _NOT_FOUND:
            raise CollectionNotFound(fetch.collection)
        if not isinstance(response.body, bytes):
            response = replace(response, body=b"".join([chunk async for chunk in response.body]))
        found = self._dialect.read_reply(Call(request, fetch), response)
        assert isinstance(found, Points)
        return {point.id: point for point in found.points}


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
