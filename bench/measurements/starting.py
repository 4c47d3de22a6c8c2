"""How long `crossfade serve` takes from exec to the first 200 of /readyz, beside a Python that does nothing."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
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
        place(proxy).stop()  # so that every file has been read once, and the control API's token is there
        control = urlsplit(proxy.control.url).netloc
        found = run.rounds({"interpreter": _interpreter, "proxy": lambda: _ready_after(proxy, control)})
    finally:
        stub.kill()
    run.add(row("start of the proxy", DURATION, "`python -c pass`", found["proxy"], found["interpreter"]))


def _interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def _ready_after(proxy: Proxy, control: str) -> float:
    """Seconds until the control API at `control` (host:port) says ready."""
    began = time.perf_counter()
    process = subprocess.Popen(
        proxy.command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
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
