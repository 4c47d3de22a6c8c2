"""nginx: `proxy_pass` over HTTP/1.1 with kept upstream connections, one worker beside the master process."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from examples.engines import ChildProcess, free_ports

_KEPT_CONNECTIONS = 256
_MIRROR = "mirror /mirror; mirror_request_body on; "
_BODY_BUFFER = "4m"  # no body here is written to a file; one takes no more of it than it is long


def configuration(port: int, upstream_port: int, user: str = "", mirror_port: int | None = None) -> str:
    """nginx.conf; paths in it are relative to nginx's prefix. `user`: who root becomes, "" for one who is not root.
    `mirror_port`: of a second upstream, which is sent every request too, body and all."""
    upstreams, locations = _upstream("store", upstream_port), _location("/", "store")
    if mirror_port is not None:
        upstreams += _upstream("mirrored", mirror_port)
        locations = _location("/", "store", _MIRROR) + _location("= /mirror", "mirrored$request_uri", "internal; ")
    return f"""\
{f"user {user};" if user else ""}
daemon off;
worker_processes 1;
error_log stderr warn;
pid nginx.pid;
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    server_tokens off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size {_BODY_BUFFER};
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path unused_fastcgi;
    uwsgi_temp_path unused_uwsgi;
    scgi_temp_path unused_scgi;
{upstreams}    server {{
        listen 127.0.0.1:{port} backlog=4096;
{locations}    }}
}}
"""


def _upstream(name: str, port: int) -> str:
    return f"""\
    upstream {name} {{
        server 127.0.0.1:{port};
        keepalive {_KEPT_CONNECTIONS};
        keepalive_timeout 1h;
        keepalive_requests 1000000000;
    }}
"""


def _location(path: str, upstream: str, more: str = "") -> str:
    return f"""\
        location {path} {{
            {more}proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_connect_timeout 5s;
            proxy_read_timeout 1h;
            proxy_send_timeout 1h;
        }}
"""


class Nginx(ChildProcess):
    """In front of an upstream's HTTP port, and of a second one that is sent the same, if there is one. `pid` is the
    master; the worker is its child."""

    def __init__(
        self, directory: Path, program: Path, upstream_http_port: int, mirror_http_port: int | None = None
    ) -> None:
        [port] = free_ports(1)
        super().__init__(directory, port)
        self._program = program
        user = getpass.getuser() if os.geteuid() == 0 else ""
        self._configuration = configuration(port, upstream_http_port, user, mirror_http_port)

    def command(self) -> list[str]:
        path = self.directory / "nginx.conf"
        path.write_text(self._configuration)
        return [str(self._program), "-p", str(self.directory), "-c", str(path), "-e", "stderr"]
