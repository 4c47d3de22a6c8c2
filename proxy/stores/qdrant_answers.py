"""What a Qdrant server's gRPC answers mean to a store: applied, refused, or unclear.

The server's texts are read as `proxy.dialects.qdrant.judge` reads them: a status alone does not tell whether a write of
several points left some of them behind.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.message import DecodeError

from proxy.dialects import Outcome
from proxy.dialects.qdrant import refusals
from proxy.dialects.qdrant.judge import judge_grpc_error
from proxy.dialects.qdrant.messages import proto
from proxy.errors import CollectionExists, CollectionNotFound, CrossfadeError, Refused, Throttled, Unclear
from proxy.model import Administration, Write, written_ids
from proxy.wire import Response

_COLLECTION_EXISTS = re.compile(r"Wrong input: Collection `([^`]*)` already exists!$")
_NO_COLLECTION = re.compile(r"Not found: Collection `([^`]*)` doesn't exist!$")
_COMPLETED = 2


def parsed(message: Any, response: Response) -> Any:
    try:
        return message.FromString(response.body)
    except DecodeError:
        raise Unclear(f"the answer is no {message.DESCRIPTOR.name}; is this a Qdrant server's gRPC port?") from None


def applied(result: Any) -> bool:
    """True. Raises Unclear for an update that was taken but is not applied yet."""
    if result.status != _COMPLETED:
        raise Unclear(f"the update was answered with {proto.UpdateStatus.Name(result.status)}; it may still be applied")
    return True


def problem_of(response: Response, write: Write | None) -> CrossfadeError:
    """What a refusal means. For a write of several points (`write` given) few of them say that nothing changed."""
    text = response.message
    missing = _NO_COLLECTION.match(text)
    if missing is not None:
        return CollectionNotFound(missing.group(1))
    existing = _COLLECTION_EXISTS.match(text)
    if existing is not None:
        return CollectionExists(existing.group(1))
    outcome = judge_grpc_error(write or Administration("read"), response.status, text).outcome
    if outcome is Outcome.UNKNOWN:
        return Unclear(text)
    if outcome is Outcome.FAILED and write is not None and not _of_one_point(write):
        return Unclear(f"refused, but a part may have been applied: {text}")
    if response.status == refusals.RESOURCE_EXHAUSTED:
        return Throttled(text, _retry_after_seconds(response))
    return Refused(text)


def _of_one_point(write: Write) -> bool:
    ids = written_ids(write)
    return ids is not None and len(ids) == 1


def _retry_after_seconds(response: Response) -> float:
    """The server's wish, from its metadata; a second if it says nothing."""
    for name, value in response.headers + response.trailers:
        if name == "retry-after" and isinstance(value, str) and value.isdigit():
            return float(value)
    return 1.0
