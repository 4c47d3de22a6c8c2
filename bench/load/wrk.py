"""wrk as the caller over HTTP, where it is on the PATH: it takes less of the load's core than a caller in Python.

It sends the bodies of bodies.py in turn. It has no warm-up and runs for whole seconds. To the latencies that it saw wrk
adds those that its callers would have seen had they not waited for a slow answer (its `stats_correct`); its p99 is
therefore a little above that of the raw callers, through whatever it goes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ANSWER_TIMEOUT_SECONDS = 30  # wrk gives an answer up after two, unless told
_LONGEST_MORE_SECONDS = 60  # than it was told to take
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = r"([\d.]+)(us|ms|s|m|h)"
_PERCENTILE = re.compile(rf"^ +(50|99)% +{_TIME} *$", re.MULTILINE)  # "1.50s ", padded
_TOTAL = re.compile(rf"^ +(\d+) requests in {_TIME},", re.MULTILINE)
_SOCKET_ERRORS = re.compile(r"^ +Socket errors: (.*)$", re.MULTILINE)
_REFUSED = re.compile(r"^ +Non-2xx or 3xx responses: (\d+)$", re.MULTILINE)

HOW_TO_INSTALL = "Debian: apt-get install wrk"
_PLAIN = """\
local requests, number = {{}}, 0
function init(arguments)
  local fields = {{["content-type"] = "application/json", ["accept"] = "*/*", ["user-agent"] = "crossfade-bench"}}
  for body in io.lines([[{bodies}]]) do
    requests[#requests + 1] = wrk.format("POST", nil, fields, body)
  end
end
function request()
  number = number % #requests + 1
  return requests[number]
end
"""
_TRACED = """\
local bodies, number = {{}}, os.time() * 1000000
local fields = {{["content-type"] = "application/json", ["accept"] = "*/*", ["user-agent"] = "crossfade-bench"}}
function init(arguments)
  for body in io.lines([[{bodies}]]) do
    bodies[#bodies + 1] = body
  end
end
function request()
  number = number + 1
  fields["traceparent"] = string.format("00-%032.0f-%016.0f-01", number, number)
  return wrk.format("POST", nil, fields, bodies[number % #bodies + 1])
end
"""


class WrkError(Exception):
    """It did not run to its end, or printed what is no report."""


@dataclass(frozen=True, slots=True)
class Report:
    """What wrk printed. `failure`: requests that were not answered with success, in words, "" if all were."""

    requests: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    failure: str = ""


def program() -> str | None:
    return shutil.which("wrk")


def write_script(path: Path, bodies: Path, *, traced: bool = False) -> None:
    """Lua that posts the lines of the file `bodies` in turn. `traced`: each request with a number of its own in its
    head (W3C Trace Context), so that no head comes again."""
    path.write_text(_TRACED.format(bodies=bodies) if traced else _PLAIN.format(bodies=bodies))


def run(url: str, script: Path, connections: int, seconds: int) -> Report:
    """Raises WrkError."""
    told = command(url, script, connections, seconds)
    try:
        ended = subprocess.run(told, capture_output=True, text=True, timeout=seconds + _LONGEST_MORE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise WrkError(f"wrk did not end {_LONGEST_MORE_SECONDS} s after it was meant to") from error
    if ended.returncode != 0:
        raise WrkError(f"wrk failed: {ended.stderr.strip() or ended.stdout.strip()}")
    return parse(ended.stdout)


def command(url: str, script: Path, connections: int, seconds: int) -> list[str]:
    """One thread: it has one core."""
    how = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--latency"]
    return ["wrk", *how, "--timeout", f"{_ANSWER_TIMEOUT_SECONDS}s", "--script", str(script), url]


def parse(printed: str) -> Report:
    """Raises WrkError for what is no report of wrk's with `--latency`."""
    total = _TOTAL.search(printed)
    percentiles = {name: float(number) * _SECONDS[unit] for name, number, unit in _PERCENTILE.findall(printed)}
    if total is None or percentiles.keys() != {"50", "99"}:
        raise WrkError(f"this is no report of wrk's:\n{printed[-1000:]}")
    requests, number, unit = total.groups()
    errors, refused = _SOCKET_ERRORS.search(printed), _REFUSED.search(printed)
    failures = [f"socket errors: {errors.group(1)}"] if errors else []
    failures += [f"{refused.group(1)} answers were errors"] if refused else []
    return Report(
        requests=int(requests),
        seconds=float(number) * _SECONDS[unit],
        p50_seconds=percentiles["50"],
        p99_seconds=percentiles["99"],
        failure="; ".join(failures),
    )
