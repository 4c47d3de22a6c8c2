"""What no proxy can stay below, in the same run: bounds of other rows that lie beneath it cannot be reached here.

- Searches, passed on unread by a program in Python that does no more (bench/bare_relay.py), beside nginx and Envoy.
- Upserts, read and written twice by a program that does not look at them, beside Envoy, which writes them once.
- The same by our own listener, dialect and connections, which read their ids, without replication between them
  (bench/bare_upserts.py).
- A write that Envoy passes on, with 16 in flight, beside a bare fdatasync: the time that 16 requests need on one core,
  before anything is journalled.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.bare_relay import ACK, connected
from bench.bodies import DIMENSIONS, NAMES, TRANSPORTS, UPSERT_POINTS, Transport, prepared
from bench.figures import CAPACITY, MEDIAN, VOLUME, capacities, row
from bench.load import Burst, who
from bench.measurements.peers import durable, upserts
from bench.measurements.peers.arena import ENVOY, WRITTEN, Arena, Arm, ClosedLoop
from bench.peers.installed import NGINX, SYSTEM_NGINX
from bench.processes import Stub, address, place, used_seconds
from bench.run import Run
from examples.engines import ChildProcess, free_ports

_BARE, _PARTS = "bare relay", "parts without replication"
_CONNECTIONS = 64
_CALLERS = 2


class BareRelay(ChildProcess):
    """`bench.bare_relay`."""

    def __init__(self, directory: Path, to: Sequence[str], message_bytes: int = 0) -> None:
        [port] = free_ports(1)
        super().__init__(directory, port)
        self._port, self._to, self._message_bytes = port, to, message_bytes

    def command(self) -> list[str]:
        options = ["--port", str(self._port), "--message-bytes", str(self._message_bytes), *_to(self._to)]
        return [sys.executable, "-m", "bench.bare_relay", *options]


class BareUpserts(ChildProcess):
    """`bench.bare_upserts`."""

    def __init__(self, directory: Path, transport: Transport, to: Sequence[str]) -> None:
        [port] = free_ports(1)
        super().__init__(directory, port)
        self._port, self._transport, self._to = port, transport, to

    def command(self) -> list[str]:
        options = ["--transport", self._transport, "--port", str(self._port), *_to(self._to)]
        return [sys.executable, "-m", "bench.bare_upserts", *options]


def _to(addresses: Sequence[str]) -> list[str]:
    """As options of either."""
    return [part for each in addresses for part in ("--to", each)]


def measure(run: Run, arena: Arena) -> None:
    _searches(run, arena)
    for transport in reversed(TRANSPORTS):
        _copies(run, arena, transport)
    for transport in reversed(TRANSPORTS):
        _without_replication(run, arena, transport)
    _one_point(run, arena)


def _searches(run: Run, arena: Arena) -> None:
    relay = BareRelay(run.directory / "bare", [arena.arms["direct"].http_address])
    place(relay, of_proxy=True)
    try:
        callers = ClosedLoop(run, _CONNECTIONS)
        bare = Arm(_BARE, relay.address, "", relay)
        peers = [arena.arms[name] for name in (NGINX, ENVOY, SYSTEM_NGINX) if name in arena.arms]
        found = callers.rounds([bare, *peers])
    finally:
        relay.stop()
    work = f"floor: REST search of 16 KB, passed on unread by bare Python; {callers.who}"
    for peer in peers:
        run.add(row(work, CAPACITY, peer.name, capacities(found[_BARE]), capacities(found[peer.name])))


def _copies(run: Run, arena: Arena, transport: Transport) -> None:
    envoy = arena.arms[ENVOY]
    burst = upserts.burst(run, envoy, transport)
    size = len(prepared(transport, "upsert", WRITTEN, burst.address)[0].body)

    def passed_through() -> float:
        return upserts.written(run, arena, envoy, burst).bytes_per_cpu_second

    with _sinks(size) as stores:
        relay = BareRelay(run.directory / f"bare {transport}", stores, size)
        place(relay, of_proxy=True)
        try:
            arms: dict[str, Callable[[], float]] = {_BARE: partial(_copied, run, relay, size), ENVOY: passed_through}
            found = run.rounds(arms)
        finally:
            relay.stop()
    work = f"floor: the bytes of a {NAMES[transport]} upsert, read and written twice, unread; {_CALLERS} callers"
    run.add(row(work, VOLUME, f"{ENVOY}, passed through", found[_BARE], found[ENVOY]))


def _without_replication(run: Run, arena: Arena, transport: Transport) -> None:
    envoy, directory = arena.arms[ENVOY], run.directory / f"bare upserts {transport}"
    stubs = [Stub(directory / name) for name in ("first", "second")]
    bare = BareUpserts(directory, transport, [address(stub, transport) for stub in stubs])
    arms = [Arm(_PARTS, bare.address, bare.address, bare), envoy]
    try:
        for stub in stubs:
            place(stub)
        place(bare, of_proxy=True)
        bursts = {arm.name: upserts.burst(run, arm, transport) for arm in arms}
        written = run.rounds({arm.name: partial(upserts.written, run, arena, arm, bursts[arm.name]) for arm in arms})
    finally:
        for process in (bare, *stubs):
            process.stop()
    work = f"floor: {NAMES[transport]} upsert of {UPSERT_POINTS} x {DIMENSIONS} to two stores, ids read, no replication"
    callers = who("raw", bursts[ENVOY].callers)
    ours, envoys = ([one.bytes_per_cpu_second for one in written[name]] for name in (_PARTS, ENVOY))
    run.add(row(f"{work}; {callers}", VOLUME, f"{ENVOY}, passed through", ours, envoys))


def _one_point(run: Run, arena: Arena) -> None:
    envoy = arena.arms[ENVOY]
    burst = Burst(
        address=envoy.http_address,
        transport="http",
        work="write",
        collection=WRITTEN,
        client="raw",
        callers=durable.CALLERS,
        warm_seconds=run.pace.warm_seconds,
        seconds=run.pace.seconds,
    )
    arms = {
        ENVOY: lambda: run.load.burst(burst, envoy.process).p50_seconds,
        "bare": lambda: durable.bare(run.directory / "synced").p50_seconds,
    }
    found = run.rounds(arms)
    work = f"floor: REST write of one point, {durable.CALLERS} in flight, passed on by Envoy, journalled by nobody"
    run.add(row(work, MEDIAN, "one bare fdatasync", found[ENVOY], found["bare"]))


@dataclass(slots=True)
class _Sent:
    """By the callers of one round."""

    until: float
    messages: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def _copied(run: Run, relay: BareRelay, size: int) -> float:
    """Bytes per second of the relay's CPU time."""
    sent = _Sent(time.monotonic() + run.pace.peer_seconds)
    before = used_seconds(relay)
    callers = [threading.Thread(target=_send, args=(relay.address, bytes(size), sent)) for _ in range(_CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return size * sent.messages / (used_seconds(relay) - before)


def _send(address: str, message: bytes, sent: _Sent) -> None:
    host, _, port = address.rpartition(":")
    with connected((host, int(port))) as relay:
        while time.monotonic() < sent.until:
            relay.sendall(message)
            if relay.recv(1) != ACK:
                raise ConnectionError("the relay has ended")
            with sent.lock:
                sent.messages += 1


@contextlib.contextmanager
def _sinks(size: int) -> Iterator[list[str]]:
    """Two addresses where messages of that size are read, and told with a byte."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for server in servers:
        threading.Thread(target=_accept, args=(server, size), daemon=True).start()
    try:
        yield [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    finally:
        for server in servers:
            server.close()


def _accept(server: socket.socket, size: int) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_sink, args=(client, size), daemon=True).start()


def _sink(client: socket.socket, size: int) -> None:
    buffer = memoryview(bytearray(1 << 18))
    missing = size
    with contextlib.suppress(ConnectionError), client:
        while read := client.recv_into(buffer[: min(missing, len(buffer))]):
            missing -= read
            if not missing:
                client.sendall(ACK)
                missing = size
