"""What a server's answer to a write says about the state it left.

A status alone is never enough for "untouched": a point can be missing after half of a batch is applied, and that is a
404 as well. So the text must say it, as the server's sources spell it (each below). Whatever is not recognised is
FAILED, or UNKNOWN if it may still be carried out.
"""

from __future__ import annotations

import re

from proxy.dialects import Judgement, Outcome
from proxy.dialects.qdrant import refusals
from proxy.model import Batch, CreateCollection, Operation, UpdateAliases, written_ids

# Said before a handler runs: src/common/auth/mod.rs, src/actix/mod.rs (validation_error_handler), src/tonic/api/mod.rs.
_NOT_BEGUN = re.compile(
    r"Must provide an API key or an Authorization bearer token$|Invalid API key or JWT$|Invalid JWT, "
    r"|(Format|Deserialize|Validation) error in (JSON body|body|path parameters|query parameters)"
    r"|failed to decode Protobuf message: "  # tonic, src/codec/prost.rs
)
# lib/api/src/grpc/conversions.rs: a request is converted as a whole, but a batch part by part, as it is carried out.
_NOT_CONVERTED = re.compile(r"Unable to parse UUID: |No ID options provided$")
# lib/storage/src/content_manager/collections_ops.rs
_NO_COLLECTION = re.compile(r"Not found: Collection `[^`]*` doesn't exist!$")
_COLLECTION_EXISTS = re.compile(r"Wrong input: Collection `[^`]*` already exists!$")
# lib/storage/src/rbac/: each part of a batch is checked when its turn comes.
_FORBIDDEN = re.compile(r"Forbidden: ")
# lib/segment/src/common/operation_error.rs, StorageError::RateLimitExceeded: nothing happens to the point they name.
_ONE_POINT_REFUSED = re.compile(
    r"Wrong input: (Vector dimension error: expected dim: |Not existing vector name error: )|Rate limiting exceeded: "
)
_TIMEOUT = re.compile(r"time[d]?[ -]?out", re.IGNORECASE)

_STILL_RUNNING_HTTP = frozenset({408, 499, 502, 503, 504})
_STILL_RUNNING_GRPC = frozenset(
    {refusals.CANCELLED, refusals.UNKNOWN, refusals.DEADLINE_EXCEEDED, refusals.UNAVAILABLE}
)


def judge_http_error(operation: Operation, status: int, text: str, *, in_parts: bool = False) -> Judgement:
    """An answer with a status other than 2xx. `text` is the server's error text. in_parts: the request is a batch,
    whether or not it could be decoded, or of a kind that may be one; earlier parts may have been applied."""
    if status in _STILL_RUNNING_HTTP or status > 504 or (status >= 500 and _TIMEOUT.search(text)):
        return Judgement(Outcome.UNKNOWN)
    return _judge_refusal(operation, text, in_parts)


def judge_grpc_error(operation: Operation, code: int, text: str, *, in_parts: bool = False) -> Judgement:
    """An answer with a code other than OK. INTERNAL also comes from gRPC itself, for a stream that broke."""
    internal = code == refusals.INTERNAL
    if internal and _NOT_BEGUN.match(text):  # whatever else it says: it names the field, `timeout` maybe
        return Judgement(Outcome.UNTOUCHED)
    if code in _STILL_RUNNING_GRPC or (internal and _TIMEOUT.search(text)):
        return Judgement(Outcome.UNKNOWN)
    if internal and not text.startswith("Service internal error: "):
        return Judgement(Outcome.UNKNOWN)
    return _judge_refusal(operation, text, in_parts)


def judge_success(statuses: list[str]) -> Judgement:
    """An answer to a write, by the status of each part. What is not "completed" is accepted and not yet applied."""
    if "clock_rejected" in statuses:
        return Judgement(Outcome.FAILED)
    return Judgement(Outcome.ACCEPTED, acknowledged=any(status != "completed" for status in statuses))


def _judge_refusal(operation: Operation, text: str, in_parts: bool) -> Judgement:
    untouched = (
        _NOT_BEGUN.match(text)
        or (_NO_COLLECTION.match(text) and not isinstance(operation, UpdateAliases))
        or ((_FORBIDDEN.match(text) or _NOT_CONVERTED.match(text)) and not (in_parts or isinstance(operation, Batch)))
        or (_COLLECTION_EXISTS.match(text) and isinstance(operation, CreateCollection))
        or (_ONE_POINT_REFUSED.match(text) and _has_one_key(operation))
    )
    return Judgement(Outcome.UNTOUCHED if untouched else Outcome.FAILED)


def _has_one_key(operation: Operation) -> bool:
    """Whether a write is about exactly one point, in one part."""
    if isinstance(operation, Batch):
        return len(operation.writes) == 1 and _has_one_key(operation.writes[0])
    try:
        ids = written_ids(operation)  # type: ignore[arg-type]  # what is no write has no target either
    except AttributeError:
        return False
    return ids is not None and len(ids) == 1
