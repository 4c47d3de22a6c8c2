"""Stores: vendor adapters out, behind one small protocol with declared capabilities.

`Store` is what replication, migration and translated reads need. `PrimaryStore` adds what it takes to answer for
writes; a store that only keeps whole points (`WholePointStore`) gets it from emulated_primary.py. `Forwarder` passes
a client's request on as it is (same vendor). One contract suite (tests/contract) runs over all adapters;
docs/adding-a-vendor.md is the way in.

Errors: an adapter maps whatever its transport raises, once, at its own door, to
`Unavailable` (certainly not sent), `Unclear` (may have been applied), `Refused` (answered no),
`Throttled`, `Untranslatable`, `CollectionNotFound` or `InvalidRequest`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from proxy.errors import CrossfadeError
from proxy.model import (
    EVERYTHING,
    CollectionSpec,
    Definition,
    Described,
    Filter,
    Hits,
    Metric,
    Page,
    Point,
    PointId,
    Search,
    Selection,
    Upsert,
    Write,
    Written,
)
from proxy.wire import AnswerHead, Body, GiveUp, Request, Response


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can do, declared. What is not declared is never asked of it."""

    vendor: str
    metrics: frozenset[Metric]
    vector_kinds: frozenset[str] = frozenset({"dense"})
    named_vectors: bool = True
    vectors_optional: bool = False  # a point may lack some or all of its vectors
    ordered_by_id: bool = True  # scan and scroll run in the order of model.id_order
    normalizes_cosine: bool = False  # cosine vectors are kept as unit vectors
    native: bool = False  # points may be given as `Point.native`: what the clients of a dialect send is what it takes
    partial_updates: bool = True  # the server changes a part of a point; else its adapter rewrites whole points
    exact_search: bool = True  # can search without an approximate index on request
    payload_indexes: bool = True  # a description shows the payload indexes that were made
    max_window: int | None = None  # offset + limit of a search; None: no limit
    max_batch_points: int = 1000
    max_batch_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of a batch of whole points. Points not in `refused` are stored and visible to `fetch`.

    `refused` maps an id to why the store cannot represent that point, ever (the point is parked);
    a refusal that may pass is raised instead. `put`: False: because of them nothing at all was put (only with `whole`).
    """

    refused: Mapping[PointId, str] = field(default_factory=dict)
    put: bool = True


class Store(Protocol):
    """A vector database, as the rest of the program sees it. Collection names are the store's own."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def probe(self) -> str:
        """The server's version. Cheap; raises Unavailable or Unclear while the store does not answer."""
        ...

    async def collections(self) -> tuple[str, ...]: ...

    async def aliases(self) -> Mapping[str, str]:
        """alias -> collection; empty where the vendor has none."""
        ...

    async def describe(self, collection: str) -> Described | None:
        """None if there is no such collection."""
        ...

    async def create(self, collection: str, spec: CollectionSpec) -> None:
        """Make the collection, ready for writes and searches. Raises Untranslatable (a metric or vector kind
        the vendor lacks) or CollectionExists."""
        ...

    async def drop(self, collection: str) -> None:
        """Remove the collection; no error if it is not there."""
        ...

    async def upsert(self, collection: str, points: Sequence[Point]) -> WriteReport:
        """Put whole points: afterwards each is exactly as given (unit length for cosine where the vendor
        normalises). Distinct ids; idempotent; at most max_batch_points. Applied when it returns."""
        ...

    async def delete(self, collection: str, ids: Sequence[PointId]) -> None:
        """Remove points; ids that are not there are no error. Applied when it returns."""
        ...

    async def fetch(
        self, collection: str, ids: Sequence[PointId], selection: Selection = EVERYTHING
    ) -> dict[PointId, Point]:
        """Points by id, as of now (every write that returned is seen); what does not exist is not in the map."""
        ...

    async def scan(
        self,
        collection: str,
        start: PointId | None,
        limit: int,
        filter: Filter | None = None,
        selection: Selection = EVERYTHING,
    ) -> Page:
        """One page, from `start` inclusive (None: the first) in the store's own stable order of ids. Every point
        that exists throughout a scan from None to next=None is returned exactly once."""
        ...

    async def search(self, search: Search) -> Hits:
        """Nearest neighbours; `search.collection` is the store's own name."""
        ...

    async def count(self, collection: str, filter: Filter | None = None) -> int:
        """Exact number of points."""
        ...

    async def settle(self, collection: str) -> None:
        """Return when every write that the store has acknowledged so far is visible to fetch and scan."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class PrimaryStore(Store, Protocol):
    """A store that can answer for writes itself: every operation of the model."""

    async def apply(self, write: Write) -> Written:
        """Carry out a write. Raises CollectionNotFound; PointNotFound and InvalidRequest as write_effects.py says;
        Untranslatable and Unstorable (nothing was changed); AppliedInPart; and as a store does."""
        ...

    async def define(self, definition: Definition) -> bool:
        """Carry out a definition; False where there was nothing to do. Raises CollectionNotFound, CollectionExists,
        AliasNotFound, Untranslatable (nothing was changed)."""
        ...


@runtime_checkable
class TakesNative(Protocol):
    """A store that clients of its vendor could send their requests to."""

    async def upsert_native(self, collection: str, upsert: Upsert) -> WriteReport:
        """As `Store.upsert`, by the request that the points came in (`Upsert.native`)."""
        ...


@runtime_checkable
class Defining(Protocol):
    """A store that carries out definitions: aliases, indexes, parameters."""

    async def aliases(self) -> Mapping[str, str]: ...

    async def define(self, definition: Definition) -> bool: ...


class WholePointStore(Store, Protocol):
    """A store of whole points, with definitions, that tells beforehand what it cannot hold."""

    async def spec_of(self, collection: str) -> CollectionSpec:
        """The collection's vectors; cheap, as it is needed for every write. Raises CollectionNotFound."""
        ...

    def metric_of(self, collection: str, using: str) -> Metric | None:
        """The metric of a vector, without asking anybody; None if it is not known."""
        ...

    async def upsert(self, collection: str, points: Sequence[Point], *, whole: bool = False) -> WriteReport:
        """As of Store. `whole`: none of them if one is `unfit`; what the server itself refuses keeps no other out."""
        ...

    async def unfit(self, collection: str, points: Sequence[Point]) -> Mapping[PointId, str]:
        """The points that `upsert` would refuse, with the reasons, as far as that can be told without a write."""
        ...

    async def define(self, definition: Definition) -> bool:
        """As of PrimaryStore."""
        ...


class Heard(Protocol):
    """Who waits for an answer on the fast path. Told once, in a later turn of the loop."""

    def answered(self, head: AnswerHead, body: Body) -> None: ...

    def failed(self, error: CrossfadeError) -> None:
        """With what `Forwarder.forward` would raise."""
        ...


class Passage(Protocol):
    """A way to a server for requests with the same head."""

    def send(self, body: bytes, granted_seconds: float | None, heard: Heard) -> GiveUp | None:
        """Send one, if it can go out at once. After the call that comes back, which gives it up, `heard` hears nothing.
        None: nothing was sent. `granted_seconds`: by the client, if it said."""
        ...


class Forwarder(Protocol):
    """Sends a client's request to a server of the same vendor, and its answer back, byte for byte."""

    async def forward(self, request: Request) -> Response:
        """Raises Unavailable (certainly not sent) or Unclear. The request's body is consumed."""
        ...

    def passage(self, request: Request) -> Passage | None:
        """For requests with the head of this one; None: they have to be forwarded."""
        ...

    async def close(self) -> None: ...
