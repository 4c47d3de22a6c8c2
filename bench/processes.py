"""The processes of the benchmark beside the engines: stub, proxy, load; and where each may run.

The proxy has the last core to itself; everything else (load, engines) shares the others, whether the proxy is on the
way or not. So what is compared is the same client and the same engine on the same cores, with and without a proxy that
runs elsewhere, and the proxy's own cost is told as CPU time a request. With one core all share it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec
import yaml

from bench.bodies import Transport
from bench.figures import Load, percentile
from bench.load import Answer, Burst, Order
from bench.process_figures import pin, running_on, tree_cpu_seconds
from examples.demo.processes import Proxy, QdrantEmulator
from examples.engines import ChildProcess, accepts, free_ports

P = TypeVar("P", bound=ChildProcess)

_ROOT = Path(__file__).parents[1]
_LONGEST_REQUEST_SECONDS = 3.0  # of the stores here: what a hold lasts, and a client's request may


class BenchError(Exception):
    """Something failed that must not: the figures would mean nothing."""


@cache
def cores() -> tuple[set[int], set[int]]:
    """(the proxy's, the others')."""
    own = sorted(os.sched_getaffinity(0))
    return ({own[-1]}, set(own[:-1])) if len(own) > 1 else (set(own), set(own))


def place(process: P, *, of_proxy: bool = False) -> P:
    """Start it where it belongs, with the processes that it starts itself."""
    chosen = cores()[0 if of_proxy else 1]
    with running_on(chosen):
        process.start()
    assert process.pid is not None
    pin(process.pid, chosen)  # the threads of one that was running
    return process


class Stub(ChildProcess):
    """Canned answers (stub.py), those to writes `delay_seconds` late. `more`: further options of it."""

    def __init__(self, directory: Path, delay_seconds: float = 0.0, more: Sequence[str] = ()) -> None:
        self._delay_seconds = delay_seconds
        self._more = more
        self.rest_port, self.grpc_port = free_ports(2)
        super().__init__(directory, self.rest_port)
        self.url = f"http://{self.address}"

    def command(self) -> list[str]:
        ports = ("--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port))
        delay = ("--delay-seconds", str(self._delay_seconds))
        return [sys.executable, "-m", "bench.stub", *ports, *delay, *self._more]

    def searches(self) -> int:
        """How many it has answered so far."""
        with urllib.request.urlopen(f"{self.url}/searches", timeout=10) as answer:
            return int(json.load(answer)["result"])

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(_ROOT)}

    def answers(self) -> bool:
        return accepts(self.address) and accepts(f"127.0.0.1:{self.grpc_port}")


class MilvusStub(ChildProcess):
    """A Milvus that answers searches and inserts at once (milvus_stub.py), with a Milvus Lite at `behind`."""

    def __init__(self, directory: Path, behind: str) -> None:
        (self._port,) = free_ports(1)
        self._behind = behind
        super().__init__(directory, self._port)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.milvus_stub", "--port", str(self._port), "--behind", self._behind]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(_ROOT)}


Source = Stub | QdrantEmulator


@dataclass(frozen=True, slots=True)
class Encryption:
    """Files in PEM."""

    certificate: Path
    key: Path


class QdrantServer(Protocol):
    """Where one listens."""

    url: str
    grpc_port: int


def proxy_between(
    directory: Path,
    source: QdrantServer,
    target: QdrantServer | str,
    routes: Sequence[Mapping[str, Any]],
    longest_request_seconds: float = _LONGEST_REQUEST_SECONDS,
    workers: int = 1,
    tls: Encryption | None = None,
) -> Proxy:
    """A proxy, not started: `source` -> `target`, a Milvus if it is an address. A route need not name its stores."""
    directory.mkdir(parents=True, exist_ok=True)
    rest_port, grpc_port, control_port = free_ports(3)
    encryption = {"tls": {"certificate": str(tls.certificate), "key": str(tls.key)}} if tls is not None else {}
    configuration = {
        "version": 1,
        "workers": workers,
        "data_dir": str(directory / "data"),
        "listeners": [
            {"name": name, "vendor": "qdrant", "transport": transport, "address": f"127.0.0.1:{port}", **encryption}
            for name, transport, port in (("rest", "http", rest_port), ("grpc", "grpc", grpc_port))
        ],
        "control": {"address": f"127.0.0.1:{control_port}"},
        "stores": {
            name: {**_store(server), "longest_request_seconds": longest_request_seconds}
            for name, server in (("old", source), ("new", target))
        },
        "routes": [{"source": "old", "target": "new", **route} for route in routes],
    }
    path = directory / "crossfade.yaml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return Proxy(directory, path, rest_port, grpc_port)


def _store(server: QdrantServer | str) -> dict[str, str]:
    if isinstance(server, str):
        return {"kind": "milvus", "address": server}
    return {"kind": "qdrant", "url": server.url, "grpc_url": f"http://127.0.0.1:{server.grpc_port}"}


class ProfiledProxy(Proxy):
    """The same proxy with a profiler, which writes `directory/profile` when it stops (profiled_proxy.py)."""

    def __init__(self, proxy: Proxy) -> None:
        _, _, port = proxy.address.rpartition(":")
        super().__init__(proxy.directory, proxy.config, int(port), proxy.grpc_port)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.profiled_proxy", str(self.config), str(self.directory / "profile")]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(_ROOT)}

    def begin(self) -> None:
        """Profile from now on."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGUSR1)


def address(server: Source | Proxy, transport: Transport) -> str:
    """Where it listens for that transport."""
    return server.address if transport == "http" else f"127.0.0.1:{server.grpc_port}"


def used_seconds(process: ChildProcess | None) -> float:
    """CPU time so far of a process and its children; 0 for none, or one that is not running."""
    return tree_cpu_seconds(process.pid) if process is not None and process.pid is not None else 0.0


def obeying(module: str, log: Path) -> subprocess.Popen[str]:
    """`python -m module`, started. It reads orders and writes answers, a line each; what else it says goes to `log`."""
    with log.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )


class LoadProcess:
    """`python -m bench.load`, which is given one order after the other."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str]

    def __enter__(self) -> Self:
        self._process = obeying("bench.load", self._log)
        pin(self._process.pid, cores()[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def obey(self, order: Order) -> Answer:
        """Raises BenchError if the process died or a request failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"the load process died:\n{self._log.read_text()[-2000:]}")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.failure:
            raise BenchError(f"a request failed, so the figures mean nothing: {answer.failure}\n{order}")
        return answer

    def burst(self, burst: Burst, proxy: ChildProcess | None = None) -> Load:
        """Carry it out; `proxy` is the one on the way, whose CPU time is counted over the whole burst."""
        before = used_seconds(proxy)
        answer = self.obey(burst)
        if not answer.requests:
            raise BenchError(f"not one request was answered in {answer.seconds:.1f} s\n{burst}")
        used = used_seconds(proxy) - before
        return Load(
            requests_per_second=answer.requests / answer.seconds,
            p50_seconds=percentile(answer.latencies_seconds, 50),
            p99_seconds=percentile(answer.latencies_seconds, 99),
            proxy_cpu_seconds=used / answer.in_all,
        )
