"""A world for the ledger: two stores as dictionaries, and actors that follow the protocol one step at a time.

Everything that can go wrong between two steps can happen: answers are lost and requests land late, a process dies and
all its intervals are closed for it, pages and filtered writes run among live writes, reconciliations of two owners
overlap. A run ends by letting everything come to rest; then both stores must hold the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.dialects import Outcome
from proxy.model import PointId, Side
from proxy.replication import records as r
from proxy.replication.ledger import Effects, Ledger

KEYS: tuple[PointId, ...] = (1, 2, 3)
State = tuple[int, int] | None  # (a, b) of a point; None: absent
HOLD = 1.0


def upsert(value: int) -> Callable[[State], State]:
    return lambda _: (value, value)


def patch(value: int) -> Callable[[State], State]:
    return lambda state: None if state is None else (value, state[1])


def conditional(value: int) -> Callable[[State], State]:
    return lambda state: (state[0], value) if state is not None and state[0] % 2 else state


def delete(_: int) -> Callable[[State], State]:
    return lambda _: None


KINDS = {"upsert": upsert, "patch": patch, "conditional": conditional, "delete": delete}


@dataclass
class Late:
    """A request that may still land, and the hold that covers it."""

    side: Side
    land: Callable[[], None]
    hold: int


@dataclass
class Actor:
    step: Callable[[], Actor | None]  # the next step of it; None: it is done
    begin: int  # of its open interval
    sent: Callable[[], None] | None = None  # what is under way at a store if it dies now
    kind: str = ""
    keys: tuple[PointId, ...] = ()


@dataclass
class World:
    chance: random.Random
    ledger: Ledger
    keys: tuple[PointId, ...] = KEYS
    primary: dict[PointId, State] = field(default_factory=dict)
    secondary: dict[PointId, State] = field(default_factory=dict)
    position: int = 0
    actors: list[Actor] = field(default_factory=list)
    late: list[Late] = field(default_factory=list)
    hints: dict[PointId, tuple[int, State]] = field(default_factory=dict)
    values: int = 0
    faults: int = 3
    pace: int = 6  # how much likelier an actor goes on than a new one begins
    paged: bool = False
    log: list[str] = field(default_factory=list)

    def note(self, record: r.AnyRecord) -> Effects:
        self.position += 1
        self.log.append(f"{self.position} {record}")
        effects = self.ledger.apply(self.position, record)
        effects.position = self.position
        if effects.generation:
            self.hints.clear()
        return effects

    def fault(self) -> bool:
        if self.faults and self.chance.random() < 0.15:
            self.faults -= 1
            return True
        return False

    # --- a client's write ------------------------------------------------------------------------

    def write(self) -> None:
        keys = tuple(self.chance.sample(self.keys, min(len(self.keys), self.chance.choice((1, 1, 2)))))
        busy = {key for actor in self.actors if actor.kind == "write" for key in actor.keys}
        if busy & set(keys):
            return  # its lane is taken
        self.values += 1
        name = self.chance.choice(list(KINDS))
        change = KINDS[name](self.values)
        value = self.values
        begin = self.note(r.BeginWrite(route="x", collection="c", owner="A", ids=keys, primary=Side.SOURCE)).position

        def apply() -> None:
            self.log.append(f"  {name}({value}) on {keys} applied")
            for key in keys:
                self.primary[key] = change(self.primary.get(key))

        def send() -> Actor | None:
            if self.fault():
                self.end_unknown(begin, apply)
                return None
            apply()
            return Actor(end, begin, None, "write", keys)

        def end() -> None:
            record = r.EndWrite(route="x", collection="c", begin=begin, outcome=Outcome.ACCEPTED)
            effects = self.note(record)
            if name in ("upsert", "delete"):
                for key in effects.certain:
                    self.hints[key] = (effects.position, change(None))

        self.actors.append(Actor(send, begin, apply, "write", keys))

    def end_unknown(self, begin: int, apply: Callable[[], None]) -> None:
        record = r.EndWrite(route="x", collection="c", begin=begin, outcome=Outcome.UNKNOWN, hold_seconds=HOLD)
        self.late.append(Late(Side.SOURCE, apply, self.note(record).position))

    # --- a reconciliation ------------------------------------------------------------------------

    def reconcile(self) -> None:
        ready = [key for key in KEYS if key in self.ledger.marks and not self.ledger.is_held(key)]
        if not ready:
            return
        keys = tuple(self.chance.sample(ready, self.chance.randint(1, len(ready))))
        opening = r.BeginReconcile(route="x", collection="c", owner="A", ids=keys, secondary=Side.TARGET)
        effects = self.note(opening)
        begin = effects.position
        states: dict[PointId, State] = {}
        hinted: dict[PointId, State] = {}
        for key, mark in effects.taken.items():
            known = self.hints.pop(key, None)
            if known is not None and known[0] == mark:
                hinted[key] = known[1]

        def land() -> None:
            self.log.append(f"  reconciled {states}")
            self.secondary.update(states)

        def read() -> Actor:
            states.update({key: hinted.get(key, self.primary.get(key)) for key in effects.taken})
            return Actor(send, begin, land, "reconcile", keys)

        def send() -> Actor | None:
            if self.fault():
                record = r.EndReconcile(
                    route="x", collection="c", begin=begin, unclear=tuple(states), hold_seconds=HOLD
                )
                ended = self.note(record)
                if states:
                    self.late.append(Late(Side.TARGET, land, ended.position))
                return None
            land()
            return Actor(end, begin, None, "reconcile", keys)

        def end() -> None:
            self.note(r.EndReconcile(route="x", collection="c", begin=begin))

        self.actors.append(Actor(read, begin, None, "reconcile", keys))

    # --- a page of the backfill --------------------------------------------------------------------

    def page(self) -> None:
        opening = r.BeginPage(route="x", collection="c", owner="A", secondary=Side.TARGET, job="j")
        begin = self.note(opening).position
        states: dict[PointId, State] = {}

        def land() -> None:
            self.log.append(f"  page {states}")
            self.secondary.update(states)

        def read() -> Actor:
            states.update({key: state for key, state in self.primary.items() if state is not None})
            return Actor(send, begin, land, "page")

        def finish(unclear: bool) -> int:
            self.paged = True
            return self.note(
                r.EndPage(
                    route="x",
                    collection="c",
                    begin=begin,
                    ids=tuple(states),
                    next=None,
                    done=True,
                    unclear=tuple(states) if unclear else (),
                    hold_seconds=HOLD if unclear else 0.0,
                )
            ).position

        def send() -> Actor | None:
            if self.fault():
                position = finish(unclear=True)
                if states:
                    self.late.append(Late(Side.TARGET, land, position))
                return None
            land()
            return Actor(end, begin, None, "page")

        def end() -> None:
            finish(unclear=False)

        self.actors.append(Actor(read, begin, None, "page"))

    # --- a write by filter: delete where a is even ----------------------------------------------------

    def filtered(self) -> None:
        begin = self.note(r.BeginScope(route="x", collection="c", owner="A", primary=Side.SOURCE)).position

        def matching() -> tuple[PointId, ...]:
            return tuple(key for key, state in self.primary.items() if state is not None and state[0] % 2 == 0)

        def apply() -> None:
            self.log.append(f"  deleted {matching()}")
            for key in matching():
                self.primary[key] = None

        def name() -> Actor:
            self.note(r.NameKeys(route="x", collection="c", begin=begin, ids=matching()))
            return Actor(send, begin, apply, "scope")

        def send() -> Actor | None:
            if self.fault():
                record = r.EndScope(route="x", collection="c", begin=begin, outcome=Outcome.UNKNOWN, hold_seconds=HOLD)
                self.late.append(Late(Side.SOURCE, apply, self.note(record).position))
                return None
            apply()
            return Actor(end, begin, None, "scope")

        def end() -> None:
            self.note(r.EndScope(route="x", collection="c", begin=begin, outcome=Outcome.ACCEPTED))

        self.actors.append(Actor(name, begin, None, "scope"))

    # --- time ------------------------------------------------------------------------------------------

    def die(self) -> None:
        """The process is killed: every interval is closed for it; what it had sent may still land."""
        self.log.append("  killed")
        for actor in self.actors:
            effects = self.note(r.Close(route="x", collection="c", begin=actor.begin, hold_seconds=HOLD))
            if actor.sent is not None:
                self.late.append(Late(Side.SOURCE, actor.sent, effects.position))
        self.actors.clear()
        self.hints.clear()

    def settle_late(self) -> None:
        """A late request lands, or never will; then its hold may be released."""
        late = self.late.pop(self.chance.randrange(len(self.late)))
        if self.chance.random() < 0.7:
            late.land()
        self.note(r.Release(route="x", collection="c", hold=late.hold))

    def release_idle_holds(self) -> None:
        covered = {late.hold for late in self.late}
        for hold in [position for position in self.ledger.holds if position not in covered]:
            self.note(r.Release(route="x", collection="c", hold=hold))

    def advance(self, actor: Actor) -> None:
        self.actors.remove(actor)
        following = actor.step()
        if following is not None:
            self.actors.append(following)

    def step(self) -> None:
        moves: list[Callable[[], None]] = [self.write, self.write, self.reconcile, self.reconcile]
        if self.actors:
            moves += [lambda: self.advance(self.chance.choice(self.actors))] * self.pace
        if self.late:
            moves.append(self.settle_late)
        if not any(actor.kind == "page" for actor in self.actors):
            moves.append(self.page)
        if not any(actor.kind == "scope" for actor in self.actors):
            moves.append(self.filtered)
        if self.faults and self.chance.random() < 0.05:
            self.faults -= 1
            moves = [self.die]
        self.chance.choice(moves)()

    def come_to_rest(self) -> None:
        self.faults = 0
        while not self.paged or self.actors or self.late or self.ledger.holds or self.ledger.marks:
            if self.actors:
                self.advance(self.actors[0])
            elif self.late:
                self.settle_late()
            elif self.ledger.holds:
                self.release_idle_holds()
            elif not self.paged:
                self.page()
            else:
                self.reconcile()


def run(seed: int, ledger: Ledger, steps: int = 40) -> World:
    """One run from a primary that already holds points; the world at rest."""
    world = World(random.Random(seed), ledger, KEYS[: 1 + seed % 3], pace=(3, 6)[seed % 2])
    world.primary = {1: (9, 9), 2: (8, 8), 3: None}
    for _ in range(steps):
        world.step()
    world.come_to_rest()
    return world


def differences(world: World) -> list[str]:
    return [
        f"{key}: {world.primary.get(key)} / {world.secondary.get(key)}"
        for key in KEYS
        if world.primary.get(key) != world.secondary.get(key)
    ]
