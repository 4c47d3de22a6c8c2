"""Servers that answer in a store's place while it is overloaded or away: every request gets the same refusal, in the
vendor's own form, and `MARK` in its text, so that a test can tell that an answer came through as it was given.

The engines that tests run never throttle by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import grpc

from proxy.dialects.milvus.messages import common

MARK = "asked by the stand-in"
# Replies of Milvus that are a Status themselves; every other has one as its first field.
_PLAIN_STATUS = ("/CreateCollection", "/DropCollection", "/LoadCollection", "/CreateIndex", "/DropIndex")
_RATE_LIMIT = 8  # merr.ErrServiceRateLimit


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that the other side reset, as a relay does when it changes over."""


@contextmanager
def http_stand_in(status: int) -> Iterator[int]:
    """A Qdrant that answers every request with `status` (429 or 503); its port."""
    text = f"Rate limiting exceeded: {MARK}" if status == 429 else f"Service internal error: {MARK}"
    body = json.dumps({"status": {"error": text}, "time": 0.0}).encode()

    class Refusing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _refuse(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("retry-after", "1")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _refuse

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = _Quiet(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


class _Everything(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    def __init__(self, answer: Callable[[str, Any], bytes]) -> None:
        self._answer = answer

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self._answer(details.method, context))


@contextmanager
def _grpc_server(answer: Callable[[str, Any], bytes]) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(4), handlers=[_Everything(answer)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


@contextmanager
def grpc_stand_in(code: grpc.StatusCode) -> Iterator[int]:
    """A gRPC server that answers every call with `code`; its port."""
    throttled = code is grpc.StatusCode.RESOURCE_EXHAUSTED
    text = f"Rate limiting exceeded: {MARK}" if throttled else f"Service internal error: {MARK}"

    def refuse(_: str, context: Any) -> bytes:
        context.abort(code, text)
        raise AssertionError("abort raises")

    with _grpc_server(refuse) as port:
        yield port


@contextmanager
def milvus_stand_in() -> Iterator[int]:
    """A Milvus that is over its rate limit, which it says in band; its port."""
    status = common.Status(
        error_code=common.ErrorCode.Value("RateLimit"), code=_RATE_LIMIT, reason=MARK
    ).SerializeToString()

    def throttle(method: str, _: Any) -> bytes:
        if method.endswith(_PLAIN_STATUS):
            return bytes(status)
        return b"\x0a" + bytes([len(status)]) + bytes(status)

    with _grpc_server(throttle) as port:
        yield port
