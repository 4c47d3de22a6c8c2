"""Envoy: one listener for HTTP/1.1 and one for HTTP/2 (gRPC), each with one cluster behind it, one worker thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.peers.installed import envoy_program
from bench.processes import Encryption
from examples.engines import ChildProcess, accepts, free_ports

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_MANAGER = "envoy.filters.network.http_connection_manager"
_TYPES = "type.googleapis.com/envoy.extensions.filters"
_BUFFER_BYTES = 4 << 20  # more than any message here
_CONNECTION_WINDOW_BYTES = 16 << 20
_WITHOUT_LIMIT = 1_000_000
_NEVER = "0s"


def configuration(
    http_port: int,
    grpc_port: int,
    upstream_http_port: int,
    upstream_grpc_port: int,
    tls: Encryption | None = None,
    mirror_ports: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """A bootstrap that forwards every request; all addresses are this machine's own. `tls`: towards clients.
    `mirror_ports`: of a second upstream, for HTTP and gRPC, which is sent every request too."""
    ways = [("http", http_port, upstream_http_port), ("grpc", grpc_port, upstream_grpc_port)]
    clusters = [_cluster(name, name, port) for name, _, port in ways]
    if mirror_ports is not None:
        clusters += [_cluster(_mirror(name), name, port) for (name, *_), port in zip(ways, mirror_ports, strict=True)]
    return {
        "static_resources": {
            "listeners": [_listener(name, port, tls, mirror_ports is not None) for name, port, _ in ways],
            "clusters": clusters,
        }
    }


class Envoy(ChildProcess):
    """In front of an upstream's two ports, and of those of a second one that is sent the same, if there is one.
    `pid` is the only process; one of its threads is the worker."""

    def __init__(
        self,
        directory: Path,
        upstream_http_port: int,
        upstream_grpc_port: int,
        tls: Encryption | None = None,
        mirror_ports: tuple[int, int] | None = None,
    ) -> None:
        self.rest_port, self.grpc_port = free_ports(2)
        super().__init__(directory, self.rest_port)
        upstream = (upstream_http_port, upstream_grpc_port)
        self._configuration = configuration(self.rest_port, self.grpc_port, *upstream, tls, mirror_ports)

    def command(self) -> list[str]:
        path = self.directory / "envoy.json"
        path.write_text(json.dumps(self._configuration))
        quiet = ("--log-level", "warning", "--disable-hot-restart")
        return [str(envoy_program()), "-c", str(path), "--concurrency", "1", *quiet]

    def answers(self) -> bool:
        return accepts(self.address) and accepts(f"127.0.0.1:{self.grpc_port}")


def _mirror(name: str) -> str:
    return f"{name} mirror"


def _listener(name: str, port: int, tls: Encryption | None, mirrored: bool) -> dict[str, Any]:
    route: dict[str, Any] = {"cluster": name, "timeout": _NEVER}
    if mirrored:
        route["request_mirror_policies"] = [{"cluster": _mirror(name)}]  # every request
    manager: dict[str, Any] = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "HTTP2" if name == "grpc" else "HTTP1",
        "generate_request_id": False,
        "stream_idle_timeout": _NEVER,
        "common_http_protocol_options": {"idle_timeout": _NEVER},
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router", "suppress_envoy_headers": True},
            }
        ],
    }
    if name == "grpc":
        manager["http2_protocol_options"] = _windows()
    return {
        "name": name,
        "address": _address(port),
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "filter_chains": [{"filters": [{"name": _MANAGER, "typed_config": manager}], **_encrypted(name, tls)}],
    }


def _encrypted(name: str, tls: Encryption | None) -> dict[str, Any]:
    if tls is None:
        return {}
    chain = {"certificate_chain": {"filename": str(tls.certificate)}, "private_key": {"filename": str(tls.key)}}
    context = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2" if name == "grpc" else "http/1.1"],
            "tls_certificates": [chain],
        },
    }
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _cluster(name: str, transport: str, port: int) -> dict[str, Any]:
    protocol: dict[str, Any] = (
        {"http2_protocol_options": _windows()} if transport == "grpc" else {"http_protocol_options": {}}
    )
    limits = ("max_connections", "max_pending_requests", "max_requests")
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": _BUFFER_BYTES,
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _WITHOUT_LIMIT)]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "common_http_protocol_options": {"idle_timeout": _NEVER},
                "explicit_http_config": protocol,
            }
        },
    }


def _windows() -> dict[str, int]:
    return {"initial_stream_window_size": _BUFFER_BYTES, "initial_connection_window_size": _CONNECTION_WINDOW_BYTES}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
