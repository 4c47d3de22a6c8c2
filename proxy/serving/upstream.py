"""An upstream: a source as its clients know it, and as this program does."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.clock import Clock
from proxy.serving.door import AliasDoor
from proxy.serving.names import Names
from proxy.serving.store_limit import StoreLimit
from proxy.stores import Forwarder, Passage, Store
from proxy.wire import Request, Response, Transport


@dataclass(slots=True)
class Upstream:
    """`forwarders` speak the vendor's own protocols; `store` is the same database through the model."""

    name: str
    store: Store
    forwarders: Mapping[Transport, Forwarder]
    names: Names
    limit: StoreLimit
    door: AliasDoor = field(default_factory=AliasDoor)

    @classmethod
    def of(cls, store: Store, forwarders: Mapping[Transport, Forwarder], clock: Clock, limit: StoreLimit) -> Upstream:
        """`limit`: of the store, for all who ask it."""
        return cls(limit.name, store, forwarders, Names(store, clock), limit)

    async def forward(self, request: Request) -> Response:
        """The source's own answer. Raises Unavailable (Overloaded, if it is asked too much) or Unclear."""
        forwarder = self.forwarders[request.transport]
        return await self.limit.keep(_kind(request), lambda: forwarder.forward(request))

    def passage(self, request: Request) -> Passage | None:
        """As of Forwarder."""
        return self.forwarders[request.transport].passage(request)

    async def close(self) -> None:
        await self.names.close()
        await asyncio.gather(*(forwarder.close() for forwarder in self.forwarders.values()))


def _kind(request: Request) -> str:
    """The endpoint, without names and ids: the verb and the words below a collection, or a method of gRPC."""
    if request.transport == "grpc":
        return request.path
    return " ".join([request.method, *filter(str.isalpha, request.path.split("/")[3:])])
