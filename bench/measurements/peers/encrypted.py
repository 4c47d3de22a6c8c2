"""With TLS towards the client, and the store in plain text: searches over HTTP, and the memory of an idle connection,
beside Envoy with the same certificate."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import trustme

from bench.bodies import queries, search_json
from bench.figures import CAPACITY, EACH_RESIDENT, Bound, Load, Row, busy, capacities, row
from bench.measurements.peers.arena import COLLECTION, ENVOY, OURS, Arm, ClosedLoop
from bench.peers.envoy import Envoy
from bench.process_figures import process_tree, resident_bytes
from bench.processes import BenchError, Encryption, Stub, place, proxy_between
from bench.run import Run
from examples.engines import ChildProcess

_CONNECTIONS = 64
_SEARCH = Bound(must=1.3, goal=2.5)
_IDLE = Bound(must=1.5, goal=1.0)


def measure(run: Run) -> None:
    directory = run.directory / "encrypted"
    directory.mkdir(parents=True, exist_ok=True)
    files = _issued(directory)
    with ExitStack() as stack:
        stub, other = Stub(directory / "stub"), Stub(directory / "other")
        for each in (stub, other):
            place(each)
            stack.callback(each.kill)

        def ours(number: object) -> ChildProcess:
            routes = [{"name": COLLECTION, "collections": [COLLECTION]}]
            return proxy_between(directory / f"proxy {number}", stub, other, routes, tls=files)

        def envoy(number: object) -> ChildProcess:
            return Envoy(directory / f"envoy {number}", stub.rest_port, stub.grpc_port, files)

        arms = {}
        for name, made in ((OURS, ours), (ENVOY, envoy)):
            process = place(made("searched"), of_proxy=True)
            stack.callback(process.stop)
            arms[name] = Arm(name, process.address, "", process, secure=True)
        callers = ClosedLoop(run, _CONNECTIONS)
        run.add(search_row(callers.rounds(list(arms.values())), callers.who))
        held = {
            name: [_held(run, made, number) for number in range(run.pace.rounds)]
            for name, made in ((OURS, ours), (ENVOY, envoy))
        }
    run.add(idle_row(held, run.pace.idle_connections))


def search_row(found: Mapping[str, Sequence[Load]], who: str) -> Row:
    details = {"busy": busy(found[OURS]), "busy_there": busy(found[ENVOY])}
    work = f"REST search of 16 KB with TLS, routed and counted; {who}"
    return row(work, CAPACITY, ENVOY, capacities(found[OURS]), capacities(found[ENVOY]), details, _SEARCH)


def idle_row(held: Mapping[str, Sequence[tuple[int, int]]], connections: int) -> Row:
    """`held`: resident bytes with one connection and with all of them, by round."""
    each = {name: [(after - before) / (connections - 1) for before, after in pairs] for name, pairs in held.items()}
    work = f"an idle REST connection with TLS, of {connections}"
    return row(work, EACH_RESIDENT, ENVOY, each[OURS], each[ENVOY], bound=_IDLE)


def _held(run: Run, made: Callable[[object], ChildProcess], number: int) -> tuple[int, int]:
    process = place(made(number), of_proxy=True)
    try:
        with ExitStack() as connections:
            connections.enter_context(_connection(process))
            before = _resident_bytes(process)
            for _ in range(run.pace.idle_connections - 1):
                connections.enter_context(_connection(process))
            return before, _resident_bytes(process)
    finally:
        process.stop()


def _resident_bytes(process: ChildProcess) -> int:
    assert process.pid is not None
    return sum(map(resident_bytes, process_tree(process.pid)))


@cache
def _trusting() -> ssl.SSLContext:
    """Takes any certificate. (To read the system's authorities for each connection takes longer than to make it.)"""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _connection(process: ChildProcess) -> socket.socket:
    """That has sent one search, and been answered."""
    host, _, port = process.address.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    encrypted = _trusting().wrap_socket(connection)
    body = search_json(next(iter(queries())))
    path = f"/collections/{COLLECTION}/points/query"
    head = f"POST {path} HTTP/1.1\r\nHost: {process.address}\r\nContent-Length: {len(body)}\r\n\r\n"
    encrypted.sendall(head.encode() + body)
    answer = encrypted.recv(65_536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise BenchError(f"a search with TLS was answered {answer[:60]!r}")
    return encrypted


def _issued(directory: Path) -> Encryption:
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
    files = Encryption(directory / "tls.crt", directory / "tls.key")
    issued.cert_chain_pems[0].write_to_path(str(files.certificate))
    issued.private_key_pem.write_to_path(str(files.key))
    return files
