"""Keys of Qdrant's clients: where they stand, and how to ask a server whether it accepts one.

The server takes `api-key`, or `authorization: Bearer` (src/common/auth/mod.rs); both transports alike. Reading a
collection's description needs read access to that collection (lib/collection access rules: `CollectionInfo`).
"""

from __future__ import annotations

from urllib.parse import quote

from msgspec import structs

from proxy.dialects.qdrant.messages import proto
from proxy.wire import Headers, Request, Response

_CREDENTIALS = ("api-key", "authorization")


def client_key(request: Request) -> str | None:
    """The key or token that the client sent; None if it sent none."""
    key = request.header("api-key")
    if key is not None:
        return key
    scheme, _, token = (request.header("authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def with_key(request: Request, key: str) -> Request:
    """The same request with `key` in the place of whatever the client showed."""
    kept = tuple(entry for entry in request.headers if entry[0] not in _CREDENTIALS)
    return structs.replace(request, headers=(*kept, ("api-key", key)))


def rest_probe(request: Request, collection: str) -> Request:
    return Request("http", "GET", f"/collections/{quote(collection, safe='')}", _credentials(request))


def grpc_probe(request: Request, collection: str) -> Request:
    body = proto.GetCollectionInfoRequest(collection_name=collection).SerializeToString()
    return Request("grpc", "", "/qdrant.Collections/Get", _credentials(request), body)


def grants(request: Request, response: Response) -> bool:
    """Only a success grants: a server that is in trouble has not said yes."""
    return response.status == 200 if request.transport == "http" else response.status == 0


def _credentials(request: Request) -> Headers:
    return tuple((name, value) for name, value in request.headers if name in _CREDENTIALS)
