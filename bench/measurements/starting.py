"""How long `crossfade serve` takes from exec to the first 200 of /readyz, beside a Python that does nothing.

With bytecode in a cache, as after a first start, whatever the environment says of that.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from bench.figures import DURATION, row
from bench.process_figures import pin
from bench.processes import BenchError, Stub, cores, place, proxy_between
from bench.run import Run
from examples.demo.processes import Proxy

_NO_TARGET = "127.0.0.1:1"
_LONGEST_SECONDS = 60.0


def measure(run: Run) -> None:
    stub = place(Stub(run.directory / "starting stub"))
    try:
        routes = [{"name": "docs", "collections": ["docs"]}]
        proxy = proxy_between(run.directory / "starting proxy", stub, _NO_TARGET, routes)
        place(proxy).stop()  # makes the control API's token, with which its address is found
        control = urlsplit(proxy.control.url).netloc
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(run.directory / "bytecode")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _ready_after(proxy, control, environment)
        found = run.rounds(
            {
                "interpreter": lambda: _interpreter(environment),
                "proxy": lambda: _ready_after(proxy, control, environment),
            }
        )
    finally:
        stub.kill()
    run.add(row("start of the proxy", DURATION, "`python -c pass`", found["proxy"], found["interpreter"]))


def _interpreter(environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, env=environment)
    return time.perf_counter() - began


def _ready_after(proxy: Proxy, control: str, environment: Mapping[str, str]) -> float:
    """Seconds until the control API at `control` (host:port) says ready."""
    began = time.perf_counter()
    process = subprocess.Popen(
        proxy.command(),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        pin(process.pid, cores()[0])
        while not _ready(control):
            if time.perf_counter() - began > _LONGEST_SECONDS:
                raise BenchError(f"the proxy was not ready within {_LONGEST_SECONDS} s")
            time.sleep(0.002)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()


def _ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
