"""Several clients write the same few keys at once, each through several proxies on one journal, and one of these is
killed amid that. At rest both stores hold the same, and every key is as one order of all requests leaves it in which
each took effect between its call and its answer (tests/support/orders.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from qdrant_client import QdrantClient

from tests.faults.expectations import Side, allowed, wrong
from tests.support.both_stores import assert_equal
from tests.support.migration import ROUTE, Migration, Migrations
from tests.support.owners import Another, another, in_turn
from tests.support.rivals import IMPATIENT, OTHERS, Client, check, filled, found_in, racing

CLIENTS = 4
BURSTS = 14
KILL, DEATHS = 3, (6, 9, 12)  # in which of them a proxy is killed, or kills itself


@pytest.mark.parametrize(("primary", "writes"), [("source", 8), ("target", 4)])
def test_every_key_is_as_one_order_of_all_requests_leaves_it(
    migrations: Migrations, primary: Side, writes: int
) -> None:
    """In bursts, since it is the last requests of a key that show. Amid one the proxy that leads is killed, and others
    are written to afterwards. Amid some, one dies over a write that the primary has, and all end with it, so that
    nothing newer repairs what was open."""
    migration = migrations(as_process=True, cutover={"min_shadow_reads": 0, "policy": "primary"})
    name = filled(migration)
    if primary == "target":
        migration.weight(100)
        migration.control.cutover(ROUTE, force="the test")
    with ExitStack() as running:
        others = [another(migration, running) for _ in range(2)]
        clients = [Client(number, through([migration, *others], number), name) for number in range(CLIENTS)]
        before = found_in(migration, name)
        for burst in range(BURSTS):
            dying = others[burst % 2].process if burst in DEATHS else None
            if dying is not None:
                dying.kill()
                dying.dies_at, dying.after = "primary answered", burst
                dying.start()
            with racing(clients) as race:
                if dying is not None:
                    race.ended_by(dying)
                else:
                    race.written(writes)
                if burst == KILL:
                    migration.process.kill()  # the one that leads
                    race.written(writes)
            if dying is not None:
                dying.dies_at = ""
                dying.start()
            migration.process.start()
            assert_equal(migration, name)
            found = found_in(migration, name)
            check(clients, before, found)
            assert {key: found.get(key) for key in OTHERS} == {key: before.get(key) for key in OTHERS}
            before = found
        errors = [error for client in clients for error in client.told]
        assert wrong(errors, allowed("owners one of 3 killed", mirrored=True, primary=primary)) == []


def through(proxies: Sequence[Migration | Another], number: int) -> QdrantClient:
    """All of them in turn, each client from another one on; the first speaks gRPC."""
    first = number % len(proxies)
    turns = (*proxies[first:], *proxies[:first])
    return in_turn([proxy.client(grpc=number == 0, grpc_options=dict(IMPATIENT)) for proxy in turns])
