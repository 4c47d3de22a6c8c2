"""The processes of the endurance run: two upstreams, the proxy between them, and the load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from bench.process_figures import process_tree, resident_bytes
from bench.processes import obeying, proxy_between
from examples.demo.processes import Proxy
from examples.engines import ChildProcess, accepts, free_ports
from tests.faults.endurance.edits import Authority
from tests.faults.endurance.load import Begin, Order
from tests.faults.endurance.matching import ResetConnection
from tests.faults.endurance.messages import COLLECTION, FIRST_ID, Way
from tests.faults.endurance.tally import Told

ROUTE = "docs"
LONGEST_REQUEST_SECONDS = 5.0
_ROOT = Path(__file__).parents[3]


class EnduranceError(Exception):
    """The run could not go on; the message says why."""


class Upstream(ChildProcess):
    """upstream.py. `store`: source or target."""

    stop_grace_seconds = 20.0  # for what it writes

    def __init__(self, directory: Path, store: str, seed: int) -> None:
        self.store = store
        self._seed = seed
        self.rest_port, self.grpc_port = free_ports(2)
        super().__init__(directory, self.rest_port)
        self.url = f"http://{self.address}"
        self._log, self._arrived = directory / "resets.jsonl", directory / "arrived"

    def command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "tests.faults.endurance.upstream", "--store", self.store),
            *("--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port)),
            *("--log", str(self._log), "--arrived", str(self._arrived), "--seed", str(self._seed)),
        ]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(_ROOT)}

    def answers(self) -> bool:
        return accepts(self.address) and accepts(f"127.0.0.1:{self.grpc_port}")

    def begin_resets(self) -> None:
        assert self.pid is not None
        os.kill(self.pid, signal.SIGUSR1)

    def resets(self) -> list[ResetConnection]:
        return [msgspec.json.decode(line, type=ResetConnection) for line in self._log.read_text().splitlines()]

    def has_seen(self, number: int) -> bool:
        """Whether a request with that number has arrived; once it is stopped."""
        with self._arrived.open("rb") as arrived:
            arrived.seek(number - FIRST_ID)
            return arrived.read(1) == b"\1"


def proxy_with_tls(
    directory: Path, source: Upstream, target: Upstream, authority: Authority, workers: int
) -> tuple[Proxy, str]:
    """The proxy, not started, and the address of its listener with TLS."""
    routes: list[Mapping[str, Any]] = [{"name": ROUTE, "collections": [COLLECTION]}]
    proxy = proxy_between(directory, source, target, routes, LONGEST_REQUEST_SECONDS, workers)
    address = f"127.0.0.1:{free_ports(1)[0]}"
    configuration = yaml.safe_load(proxy.config.read_text())
    files = {"certificate": str(authority.certificate), "key": str(authority.key)}
    listener = {"name": "tls", "vendor": "qdrant", "transport": "http", "address": address, "tls": files}
    configuration["listeners"].append(listener)
    proxy.config.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return proxy, address


class LoadProcess:
    """load.py."""

    def __init__(self, log: Path, addresses: dict[Way, str], ca: Path, seed: int) -> None:
        self._log = log
        self._begin = Begin(addresses, str(ca), seed)
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        self._process = obeying("tests.faults.endurance.load", self._log)
        self.obey(self._begin)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def obey(self, order: Order) -> Told:
        """Raises EnduranceError if the process died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise EnduranceError(f"the load process died:\n{self._log.read_text()[-4000:]}")
        return msgspec.json.decode(line, type=Told)


def memory_and_descriptors(proxy: Proxy) -> tuple[int, int]:
    """Of all its processes together. Raises EnduranceError if it is gone."""
    if proxy.pid is None:
        raise EnduranceError(f"the proxy is gone:\n{proxy.log_tail()}")
    pids = process_tree(proxy.pid)
    return sum(map(resident_bytes, pids)), sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
