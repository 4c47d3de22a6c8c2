"""The one exception tree. A type exists only where a caller branches on it.

Every message names the thing, the value, what was expected and the next step.
"""

from __future__ import annotations


class CrossfadeError(Exception):
    """Anything this program raises on purpose."""


class ConfigError(CrossfadeError):
    """The configuration is not usable; the message lists every problem with its line."""


# --- what a client did wrong: a dialect turns these into its vendor's own form -------------


class RequestError(CrossfadeError):
    """The client's request cannot be carried out as it stands. Nothing was changed, except by a write of several points
    that ends with PointNotFound, InvalidRequest (what stood before the bad one is applied) or AppliedInPart."""


class InvalidRequest(RequestError):
    """Malformed or meaningless: bad JSON, wrong dimension, NaN, an id of the wrong kind."""


class Unstorable(InvalidRequest):
    """A point that the store which answers for writes cannot hold exactly, although it is a sound one."""


class AppliedInPart(RequestError):
    """A part of the write was carried out, as the message says, and nothing of it is under way any more."""


class CollectionNotFound(RequestError):
    def __init__(self, collection: str) -> None:
        super().__init__(f"Collection `{collection}` doesn't exist!")
        self.collection = collection


class AliasNotFound(CollectionNotFound):
    """An alias that must exist does not."""

    def __init__(self, alias: str) -> None:
        RequestError.__init__(self, f"Alias {alias} does not exists!")  # the vendor's spelling
        self.collection = alias


class CollectionExists(RequestError):
    def __init__(self, collection: str) -> None:
        super().__init__(f"Collection `{collection}` already exists!")
        self.collection = collection


class PointNotFound(RequestError):
    """A point that must exist does not (fetch of one point by id)."""


class BodyTooLarge(RequestError):
    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"request body is larger than {limit_bytes} bytes; split it, or raise max_body_bytes")
        self.limit_bytes = limit_bytes


class Unauthorized(RequestError):
    """The client's key is missing or not accepted by the route."""


class NotServed(RequestError):
    """The endpoint is known but this server does not offer it (an emulator's gap, a refused collection)."""


class TryAgain(CrossfadeError):
    """Cannot be served now, nothing was changed; `retry_after_seconds` tells when to come back."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AppliedOnPrimaryOnly(CrossfadeError):
    """Policy `both-required`: the primary has the write, the secondary did not confirm it in time."""


# --- what a store did --------------------------------------------------------------------


class StoreError(CrossfadeError):
    """A store did not do what was asked."""


class Unavailable(StoreError):
    """The request certainly did not reach the store (refused connection, no address, open breaker)."""


class Overloaded(Unavailable):
    """The proxy takes no more of these now, or asks no more of the store: nothing was sent."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Unclear(StoreError):
    """The request may have been carried out, or may still be (time-out, reset after sending)."""


class Refused(StoreError):
    """The store answered, and said no. For a write: nothing of it was applied."""


class Unfinished(Refused):
    """The making of a collection broke off. `create` finishes it, and says that it exists, if it is as asked for."""


class Throttled(StoreError):
    """The store asked for less (429, RESOURCE_EXHAUSTED, rate limit)."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Untranslatable(StoreError):
    """The store's vendor has no exact equivalent; `reason` is a short stable phrase that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# --- the program's own state ---------------------------------------------------------------


class JournalError(CrossfadeError):
    """The journal cannot be written or read; writes are refused until it can."""


class GateClosed(CrossfadeError):
    """An operator's command was refused; the message names the gate and its value."""


class Foreign(GateClosed):
    """A collection of the secondary holds points of which the route knows nothing."""
