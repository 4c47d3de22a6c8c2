"""A server that records what the official Qdrant client asks, and answers what the test says.

Real sockets and the official client on one side, the dialect under test on the other: requests go through `decode`,
answers through `encode` or `refuse`, and the client parses them with its own models and messages.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from qdrant_client import QdrantClient

from proxy.dialects import Call, Dialect
from proxy.dialects.qdrant.grpc import QdrantGrpc
from proxy.dialects.qdrant.metrics import MetricOf
from proxy.dialects.qdrant.rest import QdrantRest
from proxy.errors import CrossfadeError
from proxy.model import Operation, Result
from proxy.wire import Request, Response


@dataclass(slots=True)
class Recorder:
    """`answer` is what the next request gets; `calls` are the requests so far."""

    answer: Result | CrossfadeError
    calls: list[Call] = field(default_factory=list)

    @property
    def operations(self) -> list[Operation]:
        return [call.operation for call in self.calls]

    def serve(self, dialect: Dialect, request: Request) -> Response:
        self.calls.append(call := dialect.decode(request))
        if isinstance(self.answer, CrossfadeError):
            return dialect.refuse(request, self.answer)
        return dialect.encode(call, self.answer, 0.25)


@contextmanager
def rest_client(recorder: Recorder, metric_of: MetricOf | None = None) -> Iterator[QdrantClient]:
    """The official client over REST, connected to the recorder."""
    dialect = QdrantRest(metric_of)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = tuple((name.lower(), value) for name, value in self.headers.items())
            response = recorder.serve(dialect, Request("http", self.command, path, headers, body, query))
            assert isinstance(response.body, bytes)
            self.send_response(response.status)
            for name, value in response.headers:
                self.send_header(name, str(value))
            self.send_header("content-length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = serve

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = QdrantClient(url=f"http://127.0.0.1:{server.server_port}", check_compatibility=False, timeout=20)
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_client(recorder: Recorder, metric_of: MetricOf | None = None) -> Iterator[QdrantClient]:
    """The official client over gRPC, connected to the recorder."""
    dialect = QdrantGrpc(metric_of)

    class AnyMethod(grpc.GenericRpcHandler):  # type: ignore[misc]  # the package is not typed
        def service(self, details: Any) -> Any:
            def answer(body: bytes, context: Any) -> Any:
                response = recorder.serve(dialect, Request("grpc", "", details.method, (), body))
                if response.status != 0:
                    context.set_trailing_metadata(response.trailers)
                    code = next(code for code in grpc.StatusCode if code.value[0] == response.status)
                    context.abort(code, response.message)
                return response.body

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(AnyMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = QdrantClient(host="127.0.0.1", grpc_port=port, prefer_grpc=True, check_compatibility=False, timeout=20)
    try:
        yield client
    finally:
        client.close()
        server.stop(None).wait()
