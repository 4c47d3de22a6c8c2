"""In-band errors: what a server's `common.Status` means for the caller.

Milvus answers every RPC with gRPC's OK and says in the status how it went, by two numbers: `code` (since 2.3,
pkg/merr/errors.go in github.com/milvus-io/milvus) and the older `error_code`. Some servers set only one. Milvus Lite
sets both, but its `code` 1 is "unexpected", not "not ready" as on the full server: the older number tells them apart.
"""

from __future__ import annotations

from typing import Any

from proxy.dialects.milvus.messages import common
from proxy.errors import CollectionNotFound, CrossfadeError, Refused, Throttled, Unavailable, Unclear

_OLD = common.ErrorCode

# Numbers of merr, by what follows from them.
_COLLECTION_NOT_FOUND = 100
_INDEX_NOT_FOUND = 700
_ALIAS_NOT_FOUND = 1600
_NOT_LOADED = frozenset({101, 103})  # not loaded, not fully loaded
_NOT_READY = frozenset({2, 106})  # unavailable, recovering; 1 (not ready) only where the older number says so
_THROTTLED = frozenset({3, 4, 7, 8, 9, 11, 12})  # memory, requests, disk, rate, quota, lag, resources
# In the middle of the work: replicas, channels, segments, nodes, storage, queue; cancelled, timed out.
_INTERRUPTED = frozenset({5, *range(400, 700), *range(900, 1100), *range(1300, 1400), 10_000, 10_001})

_INVALID = range(1100, 1200)
_LITE_INVALID = 6  # the number that Milvus Lite gives as both codes for a row that does not fit

_OLD_NOT_FOUND = frozenset({_OLD.Value("CollectionNotExists"), _OLD.Value("CollectionNameNotFound")})
_OLD_NOT_READY = frozenset(
    _OLD.Value(name)
    for name in (
        *("NotReadyServe", "NotReadyCoordActivating", "DataCoordNA", "NodeIDNotMatch"),
        *("NotShardLeader", "NoReplicaAvailable", "SegmentNotFound"),
    )
)
_OLD_THROTTLED = frozenset(
    _OLD.Value(name)
    for name in ("RateLimit", "ForceDeny", "MemoryQuotaExhausted", "DiskQuotaExhausted", "TimeTickLongDelay")
)
_RESULT_TOO_LARGE = "query results exceed the limit size"
_LITE_LEFTOVER = "[Errno 17] File exists"  # its directory is there, but not the schema that makes it a collection


class NotLoadedError(Unavailable):
    """The collection is not in memory; loading it makes it answer."""


class ResultTooLargeError(Refused):
    """The answer would be larger than a message may be; ask for fewer rows."""


class NoIndexError(Refused):
    """The collection has no index."""


class InvalidRowError(Refused):
    """What was sent is not valid, and never will be."""


def raise_for_status(status: Any, collection: str, *, writes: bool = False) -> None:
    """Raises what a status that is not success means: CollectionNotFound, NotLoadedError, NoIndexError,
    ResultTooLargeError, InvalidRowError, Throttled, Unavailable, Unclear (only if it `writes`) or Refused."""
    if status.code or status.error_code:
        raise _error_of(status, collection, writes)


def _error_of(status: Any, collection: str, writes: bool) -> CrossfadeError:
    code, old = status.code, status.error_code
    about = f"collection {collection!r}: " if collection else ""
    message = f"{about}Milvus says: {status.reason or status.detail} (code {code}/{old})"
    if code == _COLLECTION_NOT_FOUND or old in _OLD_NOT_FOUND:
        return CollectionNotFound(collection)
    if code == _ALIAS_NOT_FOUND:
        return CollectionNotFound(collection)
    if code == _INDEX_NOT_FOUND:
        return NoIndexError(message)
    if code in _NOT_LOADED:
        return NotLoadedError(message)
    if code in _THROTTLED or old in _OLD_THROTTLED:
        return Throttled(message)
    if code in _NOT_READY or old in _OLD_NOT_READY:
        return Unavailable(message)
    if _RESULT_TOO_LARGE in status.reason:
        return ResultTooLargeError(message)
    if status.retriable or code in _INTERRUPTED:
        return Unclear(message) if writes else Unavailable(message)
    if code in _INVALID or code == _LITE_INVALID:
        return InvalidRowError(message)
    if _LITE_LEFTOVER in status.reason:
        message += "; Milvus Lite died while it made or dropped this collection: remove that directory on its machine"
    return Refused(message)
