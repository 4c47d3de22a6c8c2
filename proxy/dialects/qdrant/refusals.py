"""Errors of this program as a Qdrant server would say them: status, text and time to wait, for both transports.

Texts and codes follow StorageError and its two conversions (lib/storage/src/content_manager/errors.rs and
conversions.rs, src/actix/helpers.rs). An authentication error is plain text in REST (src/actix/auth.rs). A body that is
too large is a 400 there (validation_error_handler in src/actix/mod.rs). What a server has no word for (a gateway's
troubles) gets the HTTP status of a gateway and the nearest gRPC code.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy import errors

# gRPC status codes (https://grpc.io/docs/guides/status-codes/); the package itself stays out of pure modules.
UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS = 2, 3, 4, 5, 6
CANCELLED, RESOURCE_EXHAUSTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL = 1, 8, 11, 12, 13
PERMISSION_DENIED, UNAVAILABLE, UNAUTHENTICATED = 7, 14, 16

_WRONG_INPUT = "Wrong input: "
_INPUT_PREFIXES = (_WRONG_INPUT, "Bad request: ", "Format error", "Validation error", "Deserialize error")


@dataclass(frozen=True, slots=True)
class Refusal:
    """`plain`: the REST body is the text alone, not the usual envelope."""

    http_status: int
    grpc_code: int
    text: str
    retry_after_seconds: float | None = None
    plain: bool = False


def refusal_of(error: errors.CrossfadeError) -> Refusal:
    text = str(error)
    match error:
        case errors.CollectionNotFound() | errors.PointNotFound():
            return Refusal(404, NOT_FOUND, _prefixed("Not found: ", text))
        case errors.CollectionExists():
            return Refusal(409, ALREADY_EXISTS, _prefixed(_WRONG_INPUT, text))
        case errors.Unauthorized():
            return Refusal(401, UNAUTHENTICATED, text or "Invalid API key or JWT", plain=True)
        case errors.BodyTooLarge(limit_bytes=limit_bytes):
            return Refusal(400, OUT_OF_RANGE, f"JSON payload has exceeded limit ({limit_bytes} bytes).")
        case errors.NotServed() | errors.Untranslatable():
            return Refusal(501, UNIMPLEMENTED, text)
        case errors.RequestError() | errors.Refused():
            return Refusal(400, INVALID_ARGUMENT, text if text.startswith(_INPUT_PREFIXES) else _WRONG_INPUT + text)
        case errors.Throttled(retry_after_seconds=seconds) | errors.Overloaded(retry_after_seconds=seconds):
            return Refusal(429, RESOURCE_EXHAUSTED, _prefixed("Rate limiting exceeded: ", text), seconds)
        case errors.TryAgain(retry_after_seconds=seconds):
            return Refusal(503, UNAVAILABLE, text, seconds)
        case errors.Unavailable():
            return Refusal(502, UNAVAILABLE, text)
        case errors.Unclear():
            return Refusal(504, DEADLINE_EXCEEDED, _prefixed("Timeout: ", text))
        case errors.JournalError():
            return Refusal(503, UNAVAILABLE, text)
        case _:
            return Refusal(500, INTERNAL, _prefixed("Service internal error: ", text))


def _prefixed(prefix: str, text: str) -> str:
    return text if text.startswith(prefix) else prefix + text
