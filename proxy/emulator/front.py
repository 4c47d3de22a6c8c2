"""The front of the emulator: the one for Qdrant clients (fronts/qdrant.py) over the embedded engine, behind a key.

One handler for both transports, for a listener of each.
"""

from __future__ import annotations

from proxy.errors import Unauthorized
from proxy.fronts.qdrant import QdrantFront
from proxy.stores.qdrant_edge import QdrantEdgeStore
from proxy.wire import Request, Response

LABEL = "emulator: Qdrant's engine (qdrant-edge) behind Crossfade's front"

_OPEN_PATHS = ("/healthz", "/readyz", "/livez", "/qdrant.Qdrant/HealthCheck", "/grpc.health.v1.Health/Check")


def front_over_engine(store: QdrantEdgeStore) -> QdrantFront:
    return QdrantFront(store, store.metric_of, LABEL)


class QdrantEmulator:
    """`handle` is a wire.Handler for both transports. `api_key`: what clients must show, None for nothing."""

    def __init__(self, store: QdrantEdgeStore, api_key: str | None = None) -> None:
        self._front = front_over_engine(store)
        self._api_key = api_key

    async def handle(self, request: Request) -> Response:
        try:
            self._require_key(request)
        except Unauthorized as error:
            return self._front.refuse(request, error)
        return await self._front.handle(request)

    def _require_key(self, request: Request) -> None:
        """src/common/auth/mod.rs, validate_request; open paths: src/actix/mod.rs and src/tonic/auth.rs."""
        if self._api_key is None or request.path == "/" or request.path.startswith(_OPEN_PATHS):
            return
        key = request.header("api-key")
        bearer = request.header("authorization") or ""
        if key is None and bearer.startswith("Bearer "):
            key = bearer.removeprefix("Bearer ")
        if key is None:
            raise Unauthorized("Must provide an API key or an Authorization bearer token")
        if key != self._api_key:
            raise Unauthorized("Invalid API key or JWT")
