"""Searches: through the proxy, passed on to the source, beside the same client on the source itself."""

from __future__ import annotations

from contextlib import ExitStack

from bench.bodies import DIMENSIONS, NAMES, TRANSPORTS, Transport
from bench.data import make_collection
from bench.figures import load_rows
from bench.load import Burst, Client, who
from bench.processes import Source, Stub, address, place, proxy_between
from bench.run import Run
from bench.waiting import wait_until_idle
from examples.demo.processes import Proxy, QdrantEmulator

COLLECTION = "searched"
POINTS = 2_000
_NO_TARGET = "127.0.0.1:1"  # nothing is mirrored, so nobody goes there


def measure(run: Run) -> None:
    with ExitStack() as stack:
        stub = place(Stub(run.directory / "stub"))
        stack.callback(stub.kill)
        source = place(QdrantEmulator(run.directory / "source"))
        stack.callback(source.kill)
        make_collection(f"127.0.0.1:{source.grpc_port}", COLLECTION, DIMENSIONS, POINTS)
        wait_until_idle(source)
        routes = [{"name": "docs", "collections": [COLLECTION]}]
        for engine, server in (("stub", stub), ("emulated Qdrant", source)):
            proxy = place(
                proxy_between(run.directory / f"proxy of {engine}", server, _NO_TARGET, routes), of_proxy=True
            )
            stack.callback(proxy.kill)
            for transport in TRANSPORTS:
                if server is stub:
                    _compare(run, engine, server, proxy, transport, "raw", callers=1)
                    _compare(run, engine, server, proxy, transport, "raw", callers=32)
                else:
                    _compare(run, engine, server, proxy, transport, "raw", callers=8)
                    _compare(run, engine, server, proxy, transport, "official", callers=1)
            proxy.stop()


def _compare(
    run: Run, engine: str, source: Source, proxy: Proxy, transport: Transport, client: Client, callers: int
) -> None:
    def burst(server: Source | Proxy) -> Burst:
        return Burst(
            address=address(server, transport),
            transport=transport,
            work="search",
            collection=COLLECTION,
            client=client,
            callers=callers,
            warm_seconds=run.pace.warm_seconds,
            seconds=run.pace.seconds,
        )

    direct = burst(source)
    through = burst(proxy)
    found = run.rounds({"direct": lambda: run.load.burst(direct), "proxy": lambda: run.load.burst(through, proxy)})
    work = f"{NAMES[transport]} search, passed through; {who(client, callers)}"
    run.add(*load_rows(work, f"direct to the {engine}", found["proxy"], found["direct"]))
