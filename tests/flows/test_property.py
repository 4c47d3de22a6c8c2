"""Random clients, operators and faults, through the real proxy over real engines: whenever everything has come to rest,
both stores hold the same (but for parked points), and every key is in a state that what clients were told allows.

Hypothesis chooses the steps; the same ones every time, so a failure comes back. With CROSSFADE_PROPERTY_EXAMPLES=100
there are more, random ones, and with CROSSFADE_PROPERTY_STEPS=60 longer ones. Nothing is shrunk (a step takes real
time): the steps are printed.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from grpc import RpcError
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException

from examples.engines import MilvusLite, poll
from proxy.control import Recovery
from proxy.errors import CrossfadeError, GateClosed
from tests.faults.scene import FaultyProxy
from tests.support.both_stores import differences, in_source
from tests.support.failing_disk import Disk, FailingDisk, compiler
from tests.support.migration import PATIENCE_SECONDS, ROUTE, Migration, Migrations
from tests.support.possible import Change, Possible, State, Stored, edit, put, put_if, remove, stored, turn
from tests.support.qdrant_engines import QdrantEmulator
from tests.support.relay import Relay

EXAMPLES = int(os.environ.get("CROSSFADE_PROPERTY_EXAMPLES", "5"))
STEPS = int(os.environ.get("CROSSFADE_PROPERTY_STEPS", "20"))
DIM = 4
KEYS = range(1, 7)
NAMES = ("one", "two")
FAILURES = (Disk.FULL, Disk.SYNC_FAILS, Disk.READ_ONLY)
TOO_LONG = "x" * 70_000  # for a VARCHAR of Milvus: the point is parked
Told = Literal["done", "refused", "nothing", "unknown"]


def vector(seed: int) -> list[float]:
    return [1.0 + seed % 7, 0.5 * (seed % 11), -1.0 * (seed % 3), 0.25 * (seed % 13)]


def has_n(value: int) -> tuple[models.Filter, Callable[[dict[str, Any]], bool]]:
    chosen = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=value))])
    return chosen, lambda payload: payload.get("n") == value


@dataclass(frozen=True)
class Operation:
    """A client's write: how to send it, and what it changes, part by part."""

    name: str
    send: Callable[[QdrantClient, str, bool], object]
    changes: tuple[Change, ...]
    part: Any = None  # the same as a part of a batch


def told(send: Callable[[], object]) -> Told:
    """What the client may conclude: from an error that it changed nothing, something in part, or that nobody knows."""
    try:
        send()
    except (ApiException, ResponseHandlingException, RpcError) as error:
        text = str(error)
        if "applied on the primary" in text:
            return "done"
        if "the write was refused" in text:
            return "nothing"
        status = getattr(error, "status_code", None)
        code = error.code().name if isinstance(error, RpcError) and hasattr(error, "code") else ""
        refused = (status is not None and 400 <= status < 500) or code in ("INVALID_ARGUMENT", "NOT_FOUND")
        return "refused" if refused else "unknown"
    return "done"


# --- what clients do ---------------------------------------------------------------------------------


def _points(chance: random.Random, ids: Sequence[int]) -> tuple[list[models.PointStruct], dict[int, Stored]]:
    structs, states = [], {}
    for point_id in ids:
        payload: dict[str, Any] = {"n": chance.randrange(4), "t": chance.randrange(1000), "a": {"b": 1, "c": "x"}}
        where = vector(chance.randrange(1000))
        structs.append(models.PointStruct(id=point_id, vector=where, payload=payload))
        states[point_id] = stored(where, payload)  # of two with one id the last one counts
    return structs, states


def _upsert(chance: random.Random, ids: list[int]) -> Operation:
    if chance.random() < 0.3:
        ids = [*ids, ids[0]]
    structs, states = _points(chance, ids)
    return Operation(
        f"upsert {ids}",
        lambda client, name, wait: client.upsert(name, structs, wait=wait),
        (put(states),),
        models.UpsertOperation(upsert=models.PointsList(points=structs)),
    )


def _upsert_if(chance: random.Random, ids: list[int]) -> Operation:
    structs, states = _points(chance, ids)
    value, mode = chance.randrange(4), chance.choice(("upsert", "insert_only", "update_only"))
    condition, test = has_n(value)
    options: dict[str, Any] = {"update_mode": models.UpdateMode(mode)} if mode != "upsert" else {}
    if mode == "upsert":
        options["update_filter"] = condition
    else:
        test = lambda _: True  # noqa: E731
    return Operation(
        f"{mode} {ids} where n={value}",
        lambda client, name, wait: client.upsert(name, structs, wait=wait, **options),
        (put_if(states, test, mode),),
    )


def _delete(chance: random.Random, ids: list[int]) -> Operation:
    chosen, test = has_n(chance.randrange(4))
    if chance.random() < 0.4:
        return Operation(
            "delete by filter", lambda client, name, wait: client.delete(name, chosen, wait=wait), (remove(test),)
        )
    some: list[Any] = list(ids)
    return Operation(
        f"delete {ids}",
        lambda client, name, wait: client.delete(name, some, wait=wait),
        (remove(ids),),
        models.DeleteOperation(delete=models.PointIdsList(points=some)),
    )


def _set(chance: random.Random, ids: list[int]) -> Operation:
    new, chosen, target = {"s": chance.randrange(1000)}, *has_n(chance.randrange(4))
    some: Any = list(ids)
    match chance.randrange(3):
        case 0:
            return Operation(
                "set payload by filter",
                lambda client, name, wait: client.set_payload(name, new, chosen, wait=wait),
                (edit(target, lambda payload: payload | new),),
            )
        case 1:
            return Operation(
                f"set payload below a key of {ids}",
                lambda client, name, wait: client.set_payload(name, new, some, key="a", wait=wait),
                (edit(ids, lambda payload: payload | {"a": payload.get("a", {}) | new}),),
            )
    return Operation(
        f"set payload of {ids}",
        lambda client, name, wait: client.set_payload(name, new, some, wait=wait),
        (edit(ids, lambda payload: payload | new),),
        models.SetPayloadOperation(set_payload=models.SetPayload(payload=new, points=some)),
    )


def _reshape(chance: random.Random, ids: list[int]) -> Operation:
    """Overwrite, delete keys, clear: by ids or by filter."""
    chosen, test = has_n(chance.randrange(4))
    by_filter = chance.random() < 0.3
    whom: Any = chosen if by_filter else list(ids)
    target = test if by_filter else ids
    new = {"n": chance.randrange(4), "o": chance.randrange(1000)}
    match chance.randrange(3):
        case 0:
            return Operation(
                f"overwrite payload of {target}",
                lambda client, name, wait: client.overwrite_payload(name, new, whom, wait=wait),
                (edit(target, lambda _: dict(new)),),
            )
        case 1:
            return Operation(
                f"delete keys of {target}",
                lambda client, name, wait: client.delete_payload(name, ["t", "o"], whom, wait=wait),
                (edit(target, lambda payload: {k: v for k, v in payload.items() if k not in ("t", "o")}),),
            )
    return Operation(
        f"clear payload of {target}",
        lambda client, name, wait: client.clear_payload(name, whom, wait=wait),
        (edit(target, lambda _: {}),),
    )


def _vectors(chance: random.Random, ids: list[int]) -> Operation:
    new = {point_id: vector(chance.randrange(1000)) for point_id in ids}
    points = [models.PointVectors(id=point_id, vector=where) for point_id, where in new.items()]
    return Operation(
        f"update vectors of {ids}",
        lambda client, name, wait: client.update_vectors(name, points, wait=wait),
        (turn(dict(new)),),
        models.UpdateVectorsOperation(update_vectors=models.UpdateVectors(points=points)),
    )


def _heavy(chance: random.Random, ids: list[int]) -> Operation:
    structs, states = _points(chance, ids[:1])
    payload = states[ids[0]].fields | {"text": TOO_LONG}
    structs[0].payload = payload
    state = stored(states[ids[0]].vector, payload)
    return Operation(
        f"upsert {ids[0]} with too long a text",
        lambda client, name, wait: client.upsert(name, structs, wait=wait),
        (put({ids[0]: state}),),
    )


def _strip(chance: random.Random, ids: list[int]) -> Operation:
    """A point without a vector has no place in Milvus: it is parked until it has one again."""
    some: Any = list(ids)
    return Operation(
        f"delete vectors of {ids}",
        lambda client, name, wait: client.delete_vectors(name, [""], some, wait=wait),
        (turn(dict.fromkeys(ids, ())),),
        models.DeleteVectorsOperation(delete_vectors=models.DeleteVectors(points=some, vector=[""])),
    )


def _batch(chance: random.Random, ids: list[int]) -> Operation:
    kinds = (_upsert, _upsert, _delete, _set, _vectors)
    parts = [chance.choice(kinds)(chance, chance.sample(KEYS, chance.randint(1, 2))) for _ in range(3)]
    parts = [part for part in parts if part.part is not None] or [_upsert(chance, ids)]
    return Operation(
        f"batch of ({', '.join(part.name for part in parts)})",
        lambda client, name, wait: client.batch_update_points(name, [part.part for part in parts], wait=wait),
        tuple(change for part in parts for change in part.changes),
    )


KINDS = (_upsert, _upsert, _upsert, _upsert_if, _delete, _set, _set, _reshape, _vectors, _batch)


def operation(seed: int) -> Operation:
    chance = random.Random(seed)
    kind = chance.choice((_heavy, _strip)) if chance.random() < 0.06 else chance.choice(KINDS)
    return kind(chance, chance.sample(KEYS, chance.randint(1, 3)))


# --- the machine -------------------------------------------------------------------------------------

SEEDS = st.integers(0, 1_000_000)
COLLECTIONS = st.sampled_from(NAMES)


@dataclass
class Place:
    """What all examples share: engines, each behind a relay."""

    migrations: Migrations
    source: QdrantEmulator
    target: MilvusLite
    source_relay: Relay
    target_relay: Relay

    def migration(self) -> Migration:
        def through_relays(config: dict[str, Any]) -> None:
            config["stores"]["old"]["url"] = f"http://127.0.0.1:{self.source_relay.port}"
            config["stores"]["new"]["address"] = f"127.0.0.1:{self.target_relay.port}"

        return self.migrations(
            source=self.source,
            target=self.target,
            as_process=True,
            start=False,
            change=through_relays,
            backfill={"page_points": 2, "requests_per_second": 20},
            cutover={"min_shadow_reads": 0},
            writes={"policy": "primary", "secondary_wait_ms": 300},
        )


class Application(RuleBasedStateMachine):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.migration: Migration
        self.possible = {name: Possible(KEYS) for name in NAMES}
        # Since an emergency: what listed keys that nobody wrote since come back as; they may be anything meanwhile.
        self.behind: dict[tuple[str, int], frozenset[State]] = {}
        self.left_in_emergency = False
        self.alias: str | None = None  # whom the alias stands for
        self.alias_known = True

    # --- helpers ---------------------------------------------------------------------------------

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        """A collection with points that were there before the proxy, which may or may not mirror already."""
        self.migration = self.place.migration()
        data = self.migration.directory / "data"
        data.mkdir()
        self.disk = FailingDisk(data, self.migration.directory / "disk") if compiler() else None
        self.migration.proxy = FaultyProxy(
            self.migration.directory, self.migration.config_path, self.migration.rest_port, self.disk
        )
        self.migration.process.start()
        self.clients = [self.migration.client(), self.migration.client(grpc=True)]
        direct, name = self.migration.direct(), self.migration.name("one")
        direct.create_collection(name, vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
        structs, states = _points(random.Random(seed), KEYS[:4])
        direct.upsert(name, structs)
        self.possible["one"].made()
        self.possible["one"].happened([put(states)])
        if seed % 3:
            self.say("backfill")
            self.migration.backfill()

    def say(self, what: str) -> None:
        note(what)

    def on_target(self) -> bool:
        return self.migration.status().primary == "target"

    def write(self, name: str, doing: Operation, client: QdrantClient, wait: bool = True, at: str = "") -> Told:
        answer = told(lambda: doing.send(client, self.migration.name(at or name), wait))
        self.say(f"{doing.name} on {at or name}, wait={wait}: {answer}")
        self.count(name, doing, answer, wait)
        return answer

    def count(self, name: str, doing: Operation, answer: Told, wait: bool = True) -> None:
        here = self.possible[name]
        self.forget_behind(name)
        if not here.known:
            return
        assert here.exists or answer != "done", f"{doing.name} was acknowledged without a collection"
        if answer == "unknown" or (answer == "done" and not wait):
            here.may_happen(doing.changes)
        elif answer == "refused":
            here.may_have_happened(doing.changes)
        elif answer == "done":
            here.happened(doing.changes)

    def forget_behind(self, name: str) -> None:
        self.behind = {key: states for key, states in self.behind.items() if key[0] != name}

    # --- clients ---------------------------------------------------------------------------------

    @rule(name=COLLECTIONS, seed=SEEDS, number=st.integers(0, 1), wait=st.sampled_from((True, True, True, False)))
    def one_write(self, name: str, seed: int, number: int, wait: bool) -> None:
        self.write(name, operation(seed), self.clients[number], wait)

    @rule(name=COLLECTIONS, seeds=st.lists(SEEDS, min_size=3, max_size=8), number=st.integers(0, 1))
    def several_writes(self, name: str, seeds: list[int], number: int) -> None:
        for seed in seeds:
            self.write(name, operation(seed), self.clients[number])

    @rule(name=COLLECTIONS, seed=SEEDS, killed=st.sampled_from((False, False, True)))
    def at_once(self, name: str, seed: int, killed: bool) -> None:
        """Several clients, each with a key of its own; the proxy may be killed under them."""
        chance = random.Random(seed)
        work = [(_upsert(chance, [key]), _set_by_id(chance, key), _delete_by_id(key)) for key in KEYS[:4]]
        answers: list[list[Told]] = [[] for _ in work]

        def run(number: int) -> None:
            client = self.clients[number % 2]
            for doing in work[number]:
                answers[number].append(told(lambda: doing.send(client, self.migration.name(name), True)))  # noqa: B023

        with ThreadPoolExecutor(len(work)) as pool:
            running = [pool.submit(run, number) for number in range(len(work))]
            if killed:
                poll(lambda: any(answers), 0.2)
                self.migration.process.kill()
            for thread in running:
                thread.result()
        self.say(f"at once on {name}, killed={killed}: {answers}")
        for doings, each in zip(work, answers, strict=True):
            for doing, answer in zip(doings, each, strict=True):
                self.count(name, doing, answer)
        if killed:
            self.migration.process.start()

    @rule(seed=SEEDS, number=st.integers(0, 1))
    @precondition(lambda self: self.alias is not None and self.alias_known)
    def write_by_alias(self, seed: int, number: int) -> None:
        assert self.alias is not None
        self.write(self.alias, operation(seed), self.clients[number], at="alias")

    @rule(name=COLLECTIONS, number=st.integers(0, 1))
    def create(self, name: str, number: int) -> None:
        params = models.VectorParams(size=DIM, distance=models.Distance.DOT)
        self.forget_behind(name)
        answer = told(lambda: self.clients[number].create_collection(self.migration.name(name), vectors_config=params))
        self.say(f"create {name}: {answer}")
        if answer == "done":
            assert not self.possible[name].known or not self.possible[name].exists
            self.possible[name].made()
        elif answer == "unknown":
            self.possible[name].known = False

    @rule(name=COLLECTIONS, again=st.booleans(), number=st.integers(0, 1))
    def drop(self, name: str, again: bool, number: int) -> None:
        self.forget_behind(name)
        answer = told(lambda: self.clients[number].delete_collection(self.migration.name(name)))
        self.say(f"drop {name}: {answer}")
        if answer == "done":
            self.possible[name].dropped()
            if self.alias == name:
                self.alias = None
        elif answer == "unknown":
            self.possible[name].known = self.alias_known = False
        if again:
            self.create(name, number)

    @rule(name=COLLECTIONS, number=st.integers(0, 1))
    @precondition(lambda self: self.alias_known)
    def switch_alias(self, name: str, number: int) -> None:
        alias = self.migration.name("alias")
        create = models.CreateAlias(collection_name=self.migration.name(name), alias_name=alias)
        changes: list[Any] = [models.CreateAliasOperation(create_alias=create)]
        if self.alias is not None:
            changes.insert(0, models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
        answer = told(lambda: self.clients[number].update_collection_aliases(changes))
        self.say(f"alias -> {name}: {answer}")
        if answer == "done":
            self.alias = name
        elif answer != "nothing":
            self.alias_known = False

    # --- operators -------------------------------------------------------------------------------

    @rule(what=st.sampled_from(("backfill", "backfill", "verify", "mirror", "pause", "resume", "cancel")))
    def job(self, what: Any) -> None:
        control = self.migration.control
        try:
            if what == "mirror":
                control.mirror(ROUTE)
            elif what == "backfill":
                control.start_job("backfill", ROUTE)
            elif what == "verify":
                control.start_job("verify", ROUTE, repair=True, restart=True)
            else:
                for job in control.jobs():
                    if job.status in ("running", "paused"):
                        control.act_on_job(job.id, what)
        except CrossfadeError as error:
            what += f": {error}"
        self.say(f"operator: {what}")

    @rule(percent=st.sampled_from((0, 50, 100)))
    def weigh(self, percent: float) -> None:
        with suppress(CrossfadeError):
            self.migration.control.set_weight(ROUTE, percent)
        self.say(f"weight {percent}")

    @rule(policy=st.sampled_from(("primary", "both", "both-required")))
    def choose_policy(self, policy: str) -> None:
        self.migration.route["writes"] = {"policy": policy, "secondary_wait_ms": 300}
        self.migration.route["cutover"] = {"min_shadow_reads": 0, "policy": policy}
        self.migration.save()
        self.say(f"policy {policy}")

    @rule()
    def cutover(self) -> None:
        """Everything that it takes, if it is allowed."""
        self.rest()
        try:
            self.migration.control.set_weight(ROUTE, 100)
            moved = self.migration.control.cutover(ROUTE, force="test")
        except CrossfadeError as error:
            self.say(f"no cutover: {error}")
        else:
            self.say(f"cutover: {moved.primary}")

    @rule()
    def rollback(self) -> None:
        if not self.on_target():
            return
        try:
            self.migration.control.rollback(ROUTE, force="test")
        except CrossfadeError as error:
            self.say(f"no rollback: {error}")
        else:
            self.say("rollback")

    @rule(killed=st.booleans(), name=COLLECTIONS, seeds=st.lists(SEEDS, max_size=3))
    def leave_the_target(self, killed: bool, name: str, seeds: list[int]) -> None:
        """At once, as in an emergency; it comes back later, with its data. What is written just before, the source has
        not got yet."""
        if not self.on_target():
            self.cutover()
        if not self.on_target():
            return
        self.place.source.pause()
        for seed in seeds:
            self.write(name, operation(seed), self.clients[seed % 2])
        if killed:
            self.place.target.kill()
        self.place.source.resume()
        moved = self.migration.control.rollback(ROUTE, now=True, force="test")
        lines = [json.loads(line) for line in Path(moved.file).read_text().splitlines()]
        self.left_in_emergency, self.alias_known = True, False
        for name, possible in self.possible.items():
            listed = {line["id"] for line in lines if line["collection"] == self.migration.name(name)}
            if None in listed:
                possible.known = False
            for key in listed & possible.states.keys():
                self.behind[name, key] = possible.states.pop(key)
        self.say(f"the target is left at once, killed={killed}: {lines}")

    @rule()
    def invalidate(self) -> None:
        with suppress(CrossfadeError):
            self.migration.control.invalidate(ROUTE, force="test")
        self.say("invalidated")

    # --- faults ----------------------------------------------------------------------------------

    @rule()
    def kill_proxy(self) -> None:
        self.say("proxy killed")
        self.migration.process.restart()

    @rule(name=COLLECTIONS, seeds=st.lists(SEEDS, min_size=1, max_size=3), state=st.sampled_from(FAILURES))
    def fail_disk(self, name: str, seeds: list[int], state: Disk) -> None:
        """The journal's, for a moment."""
        if self.disk is None:
            return
        self.say(f"the journal's disk: {state.name}")
        self.disk.become(state)
        try:
            for seed in seeds:
                self.write(name, operation(seed), self.clients[seed % 2])
        finally:
            self.disk.become(Disk.WORKS)

    @rule(kill=st.booleans())
    def hurt_target(self, kill: bool) -> None:
        """It comes back later."""
        if kill and not self.on_target():
            self.say("target killed")
            self.place.target.kill()
        else:
            self.say("target stopped")
            self.place.target.pause()

    @rule()
    def heal_target(self) -> None:
        self.say("target is back")
        self.place.target.resume()
        self.place.target.start()

    @rule(name=COLLECTIONS, seed=SEEDS)
    def kill_source(self, name: str, seed: int) -> None:
        self.say("source killed")
        self.place.source.kill()
        self.write(name, operation(seed), self.clients[seed % 2])
        self.place.source.start()

    @rule(name=COLLECTIONS, seed=SEEDS, on_source=st.booleans())
    def land_late(self, name: str, seed: int, on_source: bool) -> None:
        """What is sent is kept until whoever sent it has given up, and lands then."""
        relay = self.place.source_relay if on_source else self.place.target_relay
        relay.keep()
        try:
            self.write(name, operation(seed), self.clients[0])
            if not on_source:
                poll(lambda: self.migration.status().keys.held > 0, 3.0)
        finally:
            relay.let_go()
        self.say(f"landed late on the {'source' if on_source else 'target'}")

    # --- rest ------------------------------------------------------------------------------------

    def heal(self) -> None:
        self.place.target.resume()
        self.place.target.start()
        self.place.source.start()
        self.migration.process.start()
        control = self.migration.control
        assert poll(lambda: all(store.up for store in control.status().stores), PATIENCE_SECONDS)
        for job in control.jobs():
            if job.status == "paused":
                with suppress(CrossfadeError):
                    control.act_on_job(job.id, "resume")

    def recover(self) -> set[str]:
        """What only the old primary has is copied, or given up where nobody can tell; which keys it does not have, or
        somebody wrote a part of."""
        control, found = self.migration.control, list[Recovery]()

        def again() -> bool:
            found.append(control.recover(ROUTE))
            return not found[-1].left

        try:
            assert poll(again, PATIENCE_SECONDS), found[-1]
        except GateClosed as error:  # any key may be behind
            self.say(f"no recovery: {error}")
            self.behind.clear()
        self.say(f"recovered: {found}")
        control.recover(ROUTE, discard=True, force="test")
        return {key for each in found for key in (*each.absent, *each.conflicts)}

    def bring_in_step(self) -> None:
        """Jobs end; what was never copied is, which is for the operator to say. So is what was left in an emergency."""
        migration = self.migration
        if self.left_in_emergency:
            untold = self.recover()
            self.behind = {key: states for key, states in self.behind.items() if self.full(key) not in untold}
        ended = lambda: all(job.status not in ("running", "paused") for job in migration.control.jobs())  # noqa: E731
        assert poll(ended, PATIENCE_SECONDS), migration.control.status()
        status = migration.status()
        if status.phase == "direct" or "not backfilled yet" in status.needs_sweep:
            migration.backfill()
        migration.rest()
        if self.left_in_emergency:
            migration.verify()
            self.left_in_emergency = False

    def full(self, key: tuple[str, int]) -> str:
        """As an operator is told."""
        return f"{self.migration.name(key[0])}/{key[1]}"

    @rule()
    def rest(self) -> None:
        self.heal()
        self.bring_in_step()
        parked = {(key.collection, str(key.id)) for key in self.migration.control.parked(ROUTE)}
        direct, on_target = self.migration.direct(), self.on_target()
        for name, possible in self.possible.items():
            full = self.migration.name(name)
            lines = [line for line in differences(self.migration, full) if (full, line.split(" ")[0]) not in parked]
            assert lines == [], f"at rest, parked: {parked}, primary on the target: {on_target}"
            found = _found(direct, full)
            if possible.known:
                self.check(name, possible, found)
                for (of, key), states in self.behind.items():
                    assert of != name or (found or {}).get(key) in states, f"{name}/{key} came back as none of {states}"
            possible.rests(found)
        self.behind.clear()
        aliases = {alias.alias_name: alias.collection_name for alias in direct.get_aliases().aliases}
        self.alias = next(
            (name for name in NAMES if aliases.get(self.migration.name("alias")) == self.migration.name(name)), None
        )
        self.alias_known = not on_target
        self.say(f"at rest, the primary on the target: {on_target}")

    @staticmethod
    def check(name: str, possible: Possible, found: dict[int, Stored] | None) -> None:
        assert possible.exists == (found is not None), f"{name} exists: {found is not None}"
        for key, states in possible.states.items():
            assert (found or {}).get(key) in states, f"{name}/{key} is none of {states}: {(found or {}).get(key)}"

    def teardown(self) -> None:
        if hasattr(self, "migration"):
            try:
                self.rest()
            finally:
                self.place.target.resume()
                self.migration.proxy.stop()


def _set_by_id(chance: random.Random, key: int) -> Operation:
    new = {"s": chance.randrange(1000)}
    ids: Any = [key]
    return Operation(
        f"set payload of {key}",
        lambda client, name, wait: client.set_payload(name, new, ids, wait=wait),
        (edit(ids, lambda payload: payload | new),),
    )


def _delete_by_id(key: int) -> Operation:
    ids: Any = [key]
    if key % 2:
        return _set_by_id(random.Random(key), key)
    return Operation(f"delete {key}", lambda client, name, wait: client.delete(name, ids, wait=wait), (remove(ids),))


def _found(direct: QdrantClient, name: str) -> dict[int, Stored] | None:
    if not direct.collection_exists(name):
        return None
    points = in_source(direct, name)
    return {int(key): Stored(tuple(vectors.get("") or ()), payload) for key, (payload, vectors) in points.items()}


@pytest.mark.timeout(3600)
def test_whatever_happens_at_rest_both_stores_hold_what_clients_were_told(migrations: Migrations) -> None:
    with ExitStack() as running:
        source, target = migrations.own_source(), migrations.own_target()
        target_port = int(target.address.rpartition(":")[2])
        place = Place(
            migrations,
            source,
            target,
            running.enter_context(Relay(source.rest_port)),
            running.enter_context(Relay(target_port)),
        )
        run_state_machine_as_test(
            lambda: Application(place),  # type: ignore[arg-type]  # anything that makes one, says its documentation
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                derandomize="CROSSFADE_PROPERTY_EXAMPLES" not in os.environ,
                deadline=None,
                database=None,
                phases=(Phase.generate,),
                suppress_health_check=list(HealthCheck),
                print_blob=True,
            ),
        )
