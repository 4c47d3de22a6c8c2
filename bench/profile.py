"""Where the proxy's time goes: `python -m bench.profile [--lines N] [NAME ...]`. For reading, not for comparing.

A proxy runs under cProfile, with the CPU time of its main thread as the clock, so that waiting costs nothing; then one
kind of request is sent to it for a few seconds. Told are the shares of packages (with what they call in C) and of
single functions. The profiler makes calls of Python functions dearer than they are: trust the order, not the digits.
The journal's thread and grpc's own threads are not seen.
"""

from __future__ import annotations

import pstats
import re
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from bench.bodies import DIMENSIONS, Transport, Work
from bench.data import make_collection
from bench.load import Burst
from bench.processes import LoadProcess, ProfiledProxy, Source, Stub, address, place, proxy_between
from bench.waiting import backfill, mirror
from examples.demo.processes import QdrantEmulator
from examples.engines import MilvusLite

_SECONDS = 4.0
_PASSED: dict[str, tuple[Transport, Work]] = {
    "rest-search": ("http", "search"),
    "grpc-search": ("grpc", "search"),
    "rest-upsert": ("http", "upsert"),
    "grpc-upsert": ("grpc", "upsert"),
}
_JOURNALLED: dict[str, Transport] = {"rest-upsert-journalled": "http", "grpc-upsert-journalled": "grpc"}
# Of one point, and of a hundred, between two stores of the same vendor that answer at once:
_WRITES: dict[str, tuple[Transport, Work]] = {
    "rest-write-journalled": ("http", "write"),
    "rest-upsert-mirrored": ("http", "upsert"),
    "grpc-upsert-mirrored": ("grpc", "upsert"),
}
_PACKAGE = re.compile(r"site-packages/(\w+)|lib/python3\.\d+/(?!site-packages)(\w+)|/(proxy/\w+)")

Stats = dict[tuple[str, int, str], tuple[int, int, float, float, object]]


@click.command()
@click.option("--lines", default=15, show_default=True, help="Functions to show.")
@click.argument("names", nargs=-1, type=click.Choice([*_PASSED, *_WRITES, *_JOURNALLED]))
def main(lines: int, names: tuple[str, ...]) -> None:
    """Profile the proxy while it serves requests of these kinds (all, unless named)."""
    for name in names or (*_PASSED, *_WRITES, *_JOURNALLED):
        with tempfile.TemporaryDirectory(prefix="crossfade-profile-") as made:
            directory = Path(made)
            with LoadProcess(directory / "load.log") as load:
                requests = _kind(name)(directory, load, name)
            _tell(name, requests, directory / "proxy" / "profile", lines)


def _kind(name: str) -> Callable[[Path, LoadProcess, str], int]:
    if name in _WRITES:
        return _written
    return _passed if name in _PASSED else _journalled


def _passed(directory: Path, load: LoadProcess, name: str) -> int:
    """Requests that were answered."""
    transport, work = _PASSED[name]
    with ExitStack() as stack:
        stub = place(Stub(directory / "stub"))
        stack.callback(stub.kill)
        proxy = stack.enter_context(_profiled(directory, stub, "127.0.0.1:1"))
        return _send(load, proxy, transport, work)


def _written(directory: Path, load: LoadProcess, name: str) -> int:
    with ExitStack() as stack:
        source, target = place(Stub(directory / "source")), place(Stub(directory / "target"))
        stack.callback(source.kill)
        stack.callback(target.kill)
        proxy = stack.enter_context(_profiled(directory, source, target))
        mirror(proxy, "docs")
        return _send(load, proxy, *_WRITES[name])


def _journalled(directory: Path, load: LoadProcess, name: str) -> int:
    with ExitStack() as stack:
        source = place(QdrantEmulator(directory / "source"))
        stack.callback(source.kill)
        target = place(MilvusLite(directory / "target"))
        stack.callback(target.kill)
        make_collection(address(source, "grpc"), "docs", DIMENSIONS, points=0)
        proxy = stack.enter_context(_profiled(directory, source, target.address))
        deque(backfill(proxy, "docs"), maxlen=0)
        return _send(load, proxy, _JOURNALLED[name], "upsert")


@contextmanager
def _profiled(directory: Path, source: Source, target: Source | str) -> Iterator[ProfiledProxy]:
    """Running; it writes its profile when it stops."""
    routes = [{"name": "docs", "collections": ["docs"]}]
    plain = proxy_between(directory / "proxy", source, target, routes)
    proxy = place(ProfiledProxy(plain), of_proxy=True)
    try:
        yield proxy
    finally:
        proxy.stop()


def _send(load: LoadProcess, proxy: ProfiledProxy, transport: Transport, work: Work) -> int:
    callers = 2 if work == "upsert" else 16
    proxy.begin()
    return load.obey(
        Burst(
            address=address(proxy, transport),
            transport=transport,
            work=work,
            collection="docs",
            client="raw",
            callers=callers,
            warm_seconds=0.0,
            seconds=_SECONDS,
        )
    ).requests


def _tell(name: str, requests: int, profile: Path, lines: int) -> None:
    stats: Stats = pstats.Stats(str(profile)).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    packages: Counter[str] = Counter()
    for (file, _, function), (_, _, own, _, _) in stats.items():
        packages[_package(file, function)] += int(own * 1e9)
    print(f"\n{name}: {requests} requests, {total / requests * 1e6:.0f} us each under the profiler")
    print("  shares: " + ", ".join(f"{package} {own / total / 1e9:.0%}" for package, own in packages.most_common(10)))
    for (file, line, function), (_, calls, own, _, _) in sorted(stats.items(), key=lambda one: -one[1][2])[:lines]:
        place_of = function if file == "~" else f"{_package(file, function)} {Path(file).name}:{line} {function}"
        print(f"  {own / total:6.1%}  {calls / requests:8.1f} calls a request  {place_of}")


def _package(file: str, function: str) -> str:
    if file != "~":
        found = _PACKAGE.search(file)
        return next((part for part in found.groups() if part), file) if found else Path(file).name
    for name in ("orjson", "uvloop", "grpc", "google", "numpy"):
        if name in function:
            return name
    return "built-ins"


if __name__ == "__main__":
    main()
