"""Dialects: vendor messages <-> model, both directions, pure.

A dialect folder serves both ends of a vendor: what its clients send is decoded into
operations, and what a store of that vendor expects is encoded from them. This page holds
what the pipeline sees of the client side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple, Protocol

from proxy.errors import CrossfadeError
from proxy.model import Operation, Result
from proxy.wire import Request, Response


@dataclass(frozen=True, slots=True)
class Call:
    """A decoded request: what it asks, and (`form`, the dialect's own business) how its answer must look."""

    request: Request
    operation: Operation
    form: Any = None


@dataclass(frozen=True, slots=True)
class Apart:
    """How to find out elsewhere what a request with a large body asks: it is `work([body], *given)`, whose parts go to
    another process. `form`: as of Call."""

    work: Callable[..., Operation]
    given: tuple[str, ...]
    form: Any = None


class Glance(NamedTuple):
    """What a read of data asks, as its endpoint says. `operation`: the name of the model's, in lower case."""

    collection: str
    kind: Literal["search", "fetch", "scroll", "count"]
    operation: str


class Outcome(Enum):
    """What the primary's answer says about a write (consistency.md, "A write", step 3)."""

    ACCEPTED = "accepted"
    UNTOUCHED = "untouched"  # refused before anything could change
    FAILED = "failed"  # an error, but part of it may have been applied; nothing is still under way
    UNKNOWN = "unknown"  # may still land


@dataclass(frozen=True, slots=True)
class Judgement:
    """`acknowledged`: accepted, but not yet applied (Qdrant's wait=false)."""

    outcome: Outcome
    acknowledged: bool = False


class Likeness(Enum):
    """Of two answers to a search, told without the model. Alike is the same but for what a server says of itself."""

    ALIKE = "alike"
    EMPTY = "empty"  # alike, and not one hit in them
    UNLIKE = "unlike"  # the model has to look


class Dialect(Protocol):
    """The client side of one vendor over one transport. Pure: no I/O, no clock, no state but caches."""

    vendor: str

    def wants_body(self, request: Request) -> bool:
        """Whether `decode` needs the body, judged by the head alone. If not, the body may stay a stream."""
        ...

    def glance(self, request: Request) -> Glance | None:
        """What a request with its body would be decoded to, told without looking at more of it than that takes. None
        if it is not a read of data, or if only `decode` can tell."""
        ...

    def decode(self, request: Request) -> Call:
        """What the request asks. Never refuses a request that the vendor's server might take: what cannot be
        decoded becomes PrimaryOnlyRead, OpaqueWrite or Administration, and the primary answers it itself.
        Raises InvalidRequest only for what must not reach any store (NaN and infinity in a vector)."""
        ...

    def decode_large(self, request: Request) -> Call | Apart:
        """As `decode`, for a body that takes long to read whole: if that has to be, how to do it elsewhere."""
        ...

    def encode(self, call: Call, result: Result, seconds: float) -> Response:
        """The answer that the vendor's server would give; `seconds` is the time the work took."""
        ...

    def read_reply(self, call: Call, response: Response) -> Result:
        """What a server of this vendor answered to a DataRead. Raises InvalidRequest if it is not a success."""
        ...

    def alone(self, request: Request, glance: Glance, collection: str) -> Request | None:
        """The same search, to another server of this vendor, which calls the collection so: with nothing of the
        client's but what it asks, and so without its key. None if that takes more than another head."""
        ...

    def outline(self, request: Request, body: bytes) -> bytes | None:
        """What a search asks but for its vector; `body` is that of `request`, whose own is not looked at. Searches of
        the same head and outline are decoded to the same kind of operation, if at all. None: they have to be
        decoded."""
        ...

    def likeness(self, path: str, one: bytes, other: bytes) -> Likeness:
        """Of the bodies of two successful answers to searches with that path."""
        ...

    def judge(self, call: Call, response: Response) -> Judgement:
        """What the answer to a write or definition says about the primary's state."""
        ...

    def refuse(self, request: Request, error: CrossfadeError) -> Response:
        """The vendor's own kind of error for `error`; never carries more than the message."""
        ...

    def client_key(self, request: Request) -> str | None:
        """The key that the client sent, in whichever of the vendor's places; None if it sent none."""
        ...

    def access_probe(self, request: Request, collection: str) -> Request:
        """A cheap read-only request with the client's own credentials that the vendor's server only grants to whoever
        may read the collection."""
        ...

    def grants_access(self, request: Request, response: Response) -> bool:
        """Whether the answer to an `access_probe` of `request` grants it."""
        ...
