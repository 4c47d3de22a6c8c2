"""What a Qdrant server says of itself: version and health.

As in Qdrant 1.19.0: src/actix/api/service_api.rs, lib/api/src/rest/models.rs, lib/api/src/grpc/proto/qdrant.proto. The
version is that of the server whose answers a front gives; the title says what really stands there.
"""

from __future__ import annotations

import orjson

from proxy.dialects.qdrant.messages import proto
from proxy.wire import Request, Response

VERSION = "1.19.0"
COMMIT = "crossfade"

_TEXTS = {
    "healthz": "healthz check passed",
    "livez": "healthz check passed",
    "readyz": "all shards are ready",
}


def service_answer(request: Request, reason: str, label: str) -> Response | None:
    """The answer to an Administration of this `reason`; None if it is not about version or health."""
    title = f"qdrant - vector search engine ({label})"
    if request.transport == "http":
        if reason == "version":
            body = orjson.dumps({"title": title, "version": VERSION, "commit": COMMIT})
            return Response(200, (("content-type", "application/json"),), body)
        text = _TEXTS.get(reason)
        return None if text is None else Response(200, (("content-type", "text/plain; charset=utf-8"),), text.encode())
    if reason == "version":
        reply = proto.HealthCheckReply(title=title, version=VERSION, commit=COMMIT)
        return Response(0, body=reply.SerializeToString())
    return Response(0, body=b"\x08\x01") if reason == "healthz" else None  # SERVING, of the standard health service
