"""The front for clients that speak Qdrant: a request in, the answer of a Qdrant server out, over any PrimaryStore.

Order of things, as in the server: is the request well-formed, is there such a collection, do it. A write that is not
waited for (`wait` is false unless the client says otherwise) is carried out all the same before it is acknowledged.
Of its failures only what a server would not have noticed either is kept from the client (and logged): a store's own
limits, and a part that was applied, are told.

Four ways in, for whoever knows more or less of a request:

    answer(call)      Result    raises errors of the model and of the store, Untranslatable; `refuse` words them
    respond(call)     Response  refusals are answers; raises Untranslatable, Unavailable, Unclear
    forward(request)  Response  decodes and responds: a `Forwarder`
    handle(request)   Response  raises nothing: for a listener

Untranslatable means that nothing was changed, and that the store has no exact equivalent: another store may.

A call may name another collection than its request did: what the caller knows an alias to stand for.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from urllib.parse import parse_qs

from msgspec import structs

from proxy.dialects import Call
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.grpc_routes import METHODS
from proxy.dialects.qdrant.grpc_upserts import waits
from proxy.dialects.qdrant.messages import proto
from proxy.dialects.qdrant.metrics import MetricOf
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import (
    AppliedInPart,
    CollectionExists,
    CollectionNotFound,
    CrossfadeError,
    NotServed,
    RequestError,
    Unavailable,
    Unclear,
    Unstorable,
    Untranslatable,
)
from proxy.fronts.names import SAME_NAMES, NameMap
from proxy.fronts.operations import PointWrite, Served, execute
from proxy.fronts.qdrant_complaints import StatusError, ValidationError, complaint, empty_write
from proxy.fronts.qdrant_service import service_answer
from proxy.model import (
    Administration,
    Batch,
    DataRead,
    Metric,
    OpaqueWrite,
    PrimaryOnlyRead,
    Result,
    Written,
    collection_of,
    look_into,
)
from proxy.stores import Passage, PrimaryStore
from proxy.wire import Request, Response, Transport, collected

REST_LIMIT_BYTES = 32 * 1024 * 1024  # max_request_size_mb in the server's config/config.yaml
GRPC_LIMIT_BYTES = 2**31 - 1

_log = logging.getLogger("crossfade.fronts")


class QdrantFront:
    """`metric_of`: the metric of a vector of `store`, by the store's name of its collection; None while it is not
    known. `label`: what really stands behind. `names`: where the client's collections are called otherwise there."""

    def __init__(
        self, store: PrimaryStore, metric_of: MetricOf, label: str | None = None, names: NameMap = SAME_NAMES
    ) -> None:
        self._store = store
        self._metric_of_store = metric_of
        self._label = label or f"{store.capabilities.vendor} behind Crossfade's front"
        self._names = names
        self._dialects = _dialects(self._metric_of)

    async def handle(self, request: Request) -> Response:
        """The answer, whatever happens."""
        try:
            return await self.forward(request)
        except Untranslatable as error:
            return self.refuse(request, NotServed(f"{error.reason}: not served by this {self._label}"))
        except CrossfadeError as error:
            return self.refuse(request, error)

    async def forward(self, request: Request) -> Response:
        """Raises Untranslatable, Unavailable (certainly nothing happened) and Unclear; consumes the body."""
        try:
            limit_bytes = REST_LIMIT_BYTES if request.transport == "http" else GRPC_LIMIT_BYTES
            whole = await collected(request, limit_bytes)
            call = self._dialects[request.transport].decode(whole)
        except RequestError as error:
            return self.refuse(request, error)
        return await self.respond(call)

    async def respond(self, call: Call) -> Response:
        """The answer to a decoded request, its refusal by the store or by the rules of a Qdrant server included. Raises
        as `forward`."""
        began = time.monotonic()
        if isinstance(call.operation, Administration):
            answer = service_answer(call.request, call.operation.reason, self._label)
            if answer is not None:
                return answer
        try:
            call = await self._understood(call)
            look_into(call.operation)
            result = await self._answer(call)
        except (Untranslatable, Unavailable, Unclear):
            raise
        except CrossfadeError as error:
            return self.refuse(call.request, error)
        return self._dialects[call.request.transport].encode(call, result, time.monotonic() - began)

    async def answer(self, call: Call) -> Result:
        """The result of a decoded request that was looked into. Raises RequestError and StoreError; `refuse` makes an
        answer of any."""
        return await self._answer(await self._understood(call))

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        """The error as a Qdrant server would say it."""
        if isinstance(error, StatusError):
            return Response(error.code, message=str(error))
        refused = self._dialects[request.transport].refuse(request, error)
        if isinstance(error, ValidationError) and request.transport == "http":
            return structs.replace(refused, status=422)
        return refused

    async def close(self) -> None:
        """The store is closed by whoever opened it."""

    # --- carrying it out --------------------------------------------------------------------------

    async def _answer(self, call: Call) -> Result:
        operation = call.operation
        if (problem := complaint(call.request, operation)) is not None:
            raise problem
        if isinstance(operation, PrimaryOnlyRead | OpaqueWrite | Administration):
            raise Untranslatable(operation.reason)
        for part in operation.writes if isinstance(operation, Batch) else ():
            if isinstance(part, OpaqueWrite):
                raise Untranslatable(part.reason)
        try:
            result = await self._carry_out(call.request, self._names.operation(operation))
        except (CollectionNotFound, CollectionExists) as error:
            raise self._names.error(error) from None
        return self._names.result(result)

    async def _carry_out(self, request: Request, operation: Served) -> Result:
        if not isinstance(operation, PointWrite):
            return await execute(self._store, operation)
        if (problem := empty_write(operation)) is not None:
            if await self._store.describe(operation.collection) is None:
                raise CollectionNotFound(operation.collection)
            raise problem
        if _waits(request):
            return await execute(self._store, operation)
        return await self._acknowledge(operation)

    async def _acknowledge(self, write: PointWrite) -> Written:
        """A write that nobody waits for."""
        try:
            return replace(await self._store.apply(write), acknowledged=True)
        except (CollectionNotFound, Unstorable, AppliedInPart):
            raise
        except RequestError as error:
            _log.warning("a write that was acknowledged failed", extra={"error": error})
            return Written(acknowledged=True, failed=True)

    # --- understanding it -------------------------------------------------------------------------

    async def _understood(self, call: Call) -> Call:
        """The call, decoded once more if all that was missing was what this store knows. The collection stays the one
        that the call names, which may be another than its request does."""
        name = collection_of(call.operation)
        if call.operation == PrimaryOnlyRead(name, "consistency"):
            request = _without_consistency(call.request)
            call = _about(name, self._dialects[request.transport].decode(request))
        if name is not None and call.operation == PrimaryOnlyRead(name, "score threshold of an unknown metric"):
            await self._store.describe(self._names.to_store(name))
            # Any metric will do for a vector that is not there: the store says so when it is asked.
            known = _dialects(lambda _, using: self._metric_of(name, using) or Metric.COSINE)
            call = _about(name, known[call.request.transport].decode(call.request))
        return call

    def _metric_of(self, collection: str, using: str) -> Metric | None:
        return self._metric_of_store(self._names.to_store(collection), using)


class LocalFront:
    """A `Forwarder` that answers whatever happens: of a store in this process nothing is unclear, and there is no other
    one to ask."""

    def __init__(self, front: QdrantFront) -> None:
        self._front = front

    async def forward(self, request: Request) -> Response:
        return await self._front.handle(request)

    def passage(self, request: Request) -> Passage | None:
        """There is none: it takes reading here."""
        return None

    async def close(self) -> None:
        await self._front.close()


def _dialects(metric_of: MetricOf) -> dict[Transport, QdrantRest | QdrantGrpc]:
    return {"http": QdrantRest(metric_of), "grpc": QdrantGrpc(metric_of)}


def _about(name: str | None, call: Call) -> Call:
    """The call, of a read, with this name of its collection."""
    if name is None or collection_of(call.operation) == name:
        return call
    operation = call.operation
    if isinstance(operation, PrimaryOnlyRead):
        return replace(call, operation=replace(operation, collection=name))
    assert isinstance(operation, DataRead)
    return replace(call, operation=NameMap(lambda _: name).operation(operation))


def _without_consistency(request: Request) -> Request:
    """One store has one answer for every read consistency."""
    if request.transport == "http":
        kept = [part for part in request.query.split("&") if not part.startswith("consistency=")]
        return structs.replace(request, query="&".join(kept))
    message = getattr(proto, METHODS[request.path].request).FromString(request.bytes)
    message.ClearField("read_consistency")
    return structs.replace(request, body=message.SerializeToString())


def _waits(request: Request) -> bool:
    """Both transports wait only if told to (UpdateParams in src/actix/api/update_api.rs; `wait` in points.proto)."""
    if request.transport == "http":
        return parse_qs(request.query).get("wait", ["false"])[-1] == "true"
    return waits(request.bytes)
