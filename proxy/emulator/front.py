"""The front of the emulator: a request of a Qdrant client in, the answer of a Qdrant server out.

One handler for both transports, for a listener of each. Order of things, as in the server: who asks, is the
request well-formed, is there such a collection, do it. A write that is not waited for (`wait` is false unless
the client says otherwise) is carried out all the same before it is acknowledged, but its failure is only logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs

import orjson

from proxy.dialects import Call
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.grpc_routes import METHODS
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.emulator.complaints import LABEL, StatusError, ValidationError, complaint, empty_write
from proxy.emulator.operations import PointWrite, execute
from proxy.errors import CollectionNotFound, CrossfadeError, NotServed, RequestError, Unauthorized
from proxy.model import (
    Administration,
    Metric,
    OpaqueWrite,
    PrimaryOnlyRead,
    Result,
    Written,
    collection_of,
)
from proxy.stores.qdrant_edge import QdrantEdgeStore
from proxy.wire import Request, Response, collected

VERSION = "1.19.0"  # of the server whose answers these are
TITLE = f"qdrant - vector search engine ({LABEL})"
COMMIT = "emulator"
REST_LIMIT_BYTES = 32 * 1024 * 1024  # max_request_size_mb in the server's config/config.yaml
GRPC_LIMIT_BYTES = 2**31 - 1

_OPEN_PATHS = ("/healthz", "/readyz", "/livez", "/qdrant.Qdrant/HealthCheck", "/grpc.health.v1.Health/Check")
_PLAIN = (("content-type", "text/plain; charset=utf-8"),)

_log = logging.getLogger("crossfade.emulator")


class QdrantEmulator:
    """`handle` is a wire.Handler for both transports. `api_key`: what clients must show, None for nothing."""

    def __init__(self, store: QdrantEdgeStore, api_key: str | None = None) -> None:
        self._store = store
        self._api_key = api_key
        self._rest = QdrantRest(self._metric_of)
        self._grpc = QdrantGrpc(self._metric_of)

    async def handle(self, request: Request) -> Response:
        dialect = self._rest if request.transport == "http" else self._grpc
        began = time.monotonic()
        try:
            self._require_key(request)
            limit_bytes = REST_LIMIT_BYTES if request.transport == "http" else GRPC_LIMIT_BYTES
            whole = await collected(request, limit_bytes)
            call = dialect.decode(whole)
            if call.operation == PrimaryOnlyRead(collection_of(call.operation), "consistency"):
                call = dialect.decode(_without_consistency(whole))
            if isinstance(call.operation, Administration):
                return _administered(whole, call.operation)
            return dialect.encode(call, await self._result(call), time.monotonic() - began)
        except StatusError as error:
            return Response(error.code, message=str(error))
        except ValidationError as error:
            refused = dialect.refuse(request, error)
            return replace(refused, status=422) if request.transport == "http" else refused
        except CrossfadeError as error:
            return dialect.refuse(request, error)

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

    async def _result(self, call: Call) -> Result:
        operation = call.operation
        if (problem := complaint(call.request, operation)) is not None:
            raise problem
        if isinstance(operation, PrimaryOnlyRead | OpaqueWrite | Administration):
            raise NotServed(f"{operation.reason}: not served by this {LABEL}")
        if not isinstance(operation, PointWrite):
            return await execute(self._store, operation)
        if (problem := empty_write(operation)) is not None:
            if await self._store.describe(operation.collection) is None:
                raise CollectionNotFound(operation.collection)
            raise problem
        if _waits(call.request):
            return await execute(self._store, operation)
        return await self._acknowledge(operation)

    async def _acknowledge(self, write: PointWrite) -> Written:
        """A write that nobody waits for: only a missing collection is told."""
        try:
            return replace(await self._store.apply(write), acknowledged=True)
        except CollectionNotFound:
            raise
        except RequestError as error:
            _log.warning("a write that was acknowledged failed", extra={"error": error})
            return Written(acknowledged=True)

    def _metric_of(self, collection: str, using: str) -> Metric:
        """Any metric will do for a vector that is not there: the store says so when it is asked."""
        return self._store.metric_of(collection, using) or Metric.COSINE


class LocalFront:
    """A `Forwarder` to an engine in this process: clients of the proxy get the front's answers."""

    def __init__(self, store: QdrantEdgeStore) -> None:
        self._emulator = QdrantEmulator(store)

    async def forward(self, request: Request) -> Response:
        return await self._emulator.handle(request)

    async def close(self) -> None:
        """The store is closed by whoever opened it."""


def _without_consistency(request: Request) -> Request:
    """A single node has one answer for every read consistency."""
    if request.transport == "http":
        kept = [part for part in request.query.split("&") if not part.startswith("consistency=")]
        return replace(request, query="&".join(kept))
    message = getattr(proto, METHODS[request.path].request).FromString(request.bytes)
    message.ClearField("read_consistency")
    return replace(request, body=message.SerializeToString())


def _waits(request: Request) -> bool:
    """Both transports wait only if told to (UpdateParams in src/actix/api/update_api.rs; `wait` in points.proto)."""
    if request.transport == "http":
        return parse_qs(request.query).get("wait", ["false"])[-1] == "true"
    return bool(getattr(proto, METHODS[request.path].request).FromString(request.bytes).wait)


def _administered(request: Request, operation: Administration) -> Response:
    answer = _ADMINISTRATION.get((request.transport, operation.reason))
    if answer is None:
        raise NotServed(f"{operation.reason}: not served by this {LABEL}")
    return answer()


def _version() -> Response:
    """VersionInfo, lib/api/src/rest/models.rs."""
    body = orjson.dumps({"title": TITLE, "version": VERSION, "commit": COMMIT})
    return Response(200, (("content-type", "application/json"),), body)


def _text(text: str) -> Callable[[], Response]:
    return lambda: Response(200, _PLAIN, text.encode())


def _health_check() -> Response:
    """HealthCheckReply, lib/api/src/grpc/proto/qdrant.proto."""
    reply = proto.HealthCheckReply(title=TITLE, version=VERSION, commit=COMMIT)
    return Response(0, body=reply.SerializeToString())


# src/actix/api/service_api.rs; the standard health service answers SERVING (1).
_ADMINISTRATION: dict[tuple[str, str], Callable[[], Response]] = {
    ("http", "version"): _version,
    ("http", "healthz"): _text("healthz check passed"),
    ("http", "livez"): _text("healthz check passed"),
    ("http", "readyz"): _text("all shards are ready"),
    ("grpc", "version"): _health_check,
    ("grpc", "healthz"): lambda: Response(0, body=b"\x08\x01"),
}
