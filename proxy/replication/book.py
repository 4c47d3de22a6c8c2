"""Everything the journal says, folded: per route its phase, the operator's weight, its jobs, and its ledgers.

Pure, like the ledgers it holds. `dump` and `load` give the whole state as bytes, so that the journal can forget
the records that led to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from proxy.model import PointId, Side
from proxy.replication import records as r
from proxy.replication.ledger import NEVER_SWEPT, Effects, Hold, Interval, Ledger

_NOTES = 1000
FORMAT = 2  # 1, which is read too, knows no owners, no claims and nothing of the stores' addresses


@dataclass(slots=True)
class Flip:
    """A move of the primary that is not decided yet."""

    epoch: int
    owner: str  # who began it
    to: Side
    ready: set[str] = field(default_factory=set)  # owners that begin no write


@dataclass(slots=True)
class Start:
    """Mirroring has begun with `record`. `unaware`: owners that may still send writes which they do not journal."""

    record: r.SetPhase
    unaware: set[str]

    @property
    def hold(self) -> Hold:
        return Hold(Side.SOURCE, self.record.hold_seconds, None)


@dataclass(slots=True)
class RouteBook:
    """What is known of one route. Phase `direct`: writes go to the source alone and are not journalled."""

    phase: str = r.DIRECT
    primary: Side = Side.SOURCE
    flip: Flip | None = None
    notes: list[r.Note] = field(default_factory=list)  # the latest
    bound: tuple[str, str] | None = None  # which databases source and target are
    weight: float | None = None  # an operator's override of the configured read weight
    wish: float = 0.0  # the configured weight that it overrides
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    starts: dict[int, Start] = field(default_factory=dict)  # whose hold has not run out

    @property
    def at_rest(self) -> bool:
        """Whether both stores are known to hold the same, and nothing is under way."""
        return not self.starts and all(
            ledger.at_rest and not ledger.parked_whole and not ledger.parked for ledger in self.ledgers.values()
        )

    def ledger(self, collection: str) -> Ledger:
        """The ledger of a collection; a new one is under the holds of the whole route."""
        ledger = self.ledgers.get(collection)
        if ledger is None:
            ledger = self.ledgers[collection] = Ledger()
            for position, start in self.starts.items():
                ledger.apply(position, start.record)
        return ledger


@dataclass(slots=True)
class Book:
    routes: dict[str, RouteBook] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)  # that have the journal open -> position where they joined

    def route(self, name: str) -> RouteBook:
        route = self.routes.get(name)
        if route is None:
            route = self.routes[name] = RouteBook()
        return route

    def apply(self, position: int, record: r.AnyRecord) -> Effects:
        """Take the next record of the journal."""
        if record.collection:  # most are about keys
            return _of_collection(self.route(record.route), position, record)
        match record:
            case r.Join(owner=owner):
                self.owners[owner] = position
                return Effects()
            case r.Leave(owner=owner):
                self.owners.pop(owner, None)
                for route in self.routes.values():
                    for start in route.starts.values():
                        start.unaware.discard(owner)
                return Effects()
            case r.Prepare() | r.Ready() | r.Commit() | r.Abort():
                return self._move(self.route(record.route), position, record)
        return self._of_route(self.route(record.route), position, record)

    def _of_route(self, route: RouteBook, position: int, record: r.AnyRecord) -> Effects:
        match record:
            case r.SetPhase():
                return _set_phase(route, position, record, set(self.owners))
            case r.Release():
                route.starts.pop(record.hold, None)
                for ledger in route.ledgers.values():
                    ledger.apply(position, record)
                return Effects(ready_all=True)
            case r.Bind(source=source, target=target):
                known, route.bound = route.bound, (source, target)
                if known is not None and known != route.bound:
                    for ledger in route.ledgers.values():
                        ledger.apply(position, record)
                return Effects()
            case r.Restore(phase=phase, to=to):
                route.phase, route.primary = phase, to
                return Effects()
            case r.Note():
                route.notes.append(record)
                del route.notes[:-_NOTES]
                return Effects()
            case r.SetWeight():
                route.weight, route.wish = record.weight, record.wish
                return Effects()
            case r.SaveJob():
                route.jobs[record.job] = record.state
                return Effects()
            case _:  # about keys of "", which is no collection: earlier versions journalled such writes
                return Effects()

    def _move(self, route: RouteBook, position: int, record: r.AnyRecord) -> Effects:
        """The first decision of an epoch counts. A Commit that comes while anything is outstanding is none."""
        flip = route.flip
        match record:
            case r.Prepare(owner=owner, to=to):
                if flip is None and to is not route.primary:
                    route.flip = Flip(position, owner, to)
            case r.Commit(to=to, phase=phase, emergency=True):
                route.primary, route.phase, route.flip = to, phase, None
                for ledger in route.ledgers.values():
                    ledger.apply(position, record)
                return Effects(generation=True, ready_all=True)
            case r.Ready(epoch=epoch, owner=owner) if flip is not None and flip.epoch == epoch:
                flip.ready.add(owner)
            case r.Ready(epoch=epoch, owner=owner) if epoch in route.starts:
                route.starts[epoch].unaware.discard(owner)
            case r.Commit(epoch=epoch, to=to, phase=phase) if flip is not None and flip.epoch == epoch:
                if route.at_rest and flip.ready >= self.owners.keys():
                    route.primary, route.phase, route.flip = to, phase, None
                    return Effects(generation=True)
            case r.Abort(epoch=epoch) if flip is not None and flip.epoch == epoch:
                route.flip = None
        return Effects()

    def open_intervals(self) -> Iterator[tuple[str, str, Interval]]:
        """(route, collection, interval) for every interval that has not ended."""
        for name, route in self.routes.items():
            for collection, ledger in route.ledgers.items():
                for interval in ledger.intervals.values():
                    yield name, collection, interval


def _of_collection(route: RouteBook, position: int, record: r.AnyRecord) -> Effects:
    ledger = route.ledger(record.collection)
    effects = ledger.apply(position, record)
    if ledger.blank:  # a name that is no collection must not take memory for ever
        del route.ledgers[record.collection]
    return effects


def _set_phase(route: RouteBook, position: int, record: r.SetPhase, owners: set[str]) -> Effects:
    route.phase = record.phase
    if record.phase == r.DIRECT or record.hold_seconds:
        for ledger in route.ledgers.values():
            ledger.apply(position, record)
    if not record.hold_seconds:
        return Effects()
    route.starts[position] = start = Start(record, owners)
    return Effects(held=start.hold)


# --- snapshots -----------------------------------------------------------------------------------


def dump(book: Book) -> bytes:
    """The book as msgpack; only what `load` reads, ids packed as in the records."""
    routes = {
        name: {
            "phase": route.phase,
            "primary": route.primary.value,
            "flip": _flip_out(route.flip),
            "notes": [r.encode(note) for note in route.notes],
            "bound": route.bound,
            "weight": route.weight,
            "wish": route.wish,
            "jobs": route.jobs,
            "starts": [[position, r.encode(start.record)] for position, start in route.starts.items()],
            "unaware": [[position, list(start.unaware)] for position, start in route.starts.items()],
            "ledgers": {collection: _ledger_out(ledger) for collection, ledger in route.ledgers.items()},
        }
        for name, route in book.routes.items()
    }
    return msgspec.msgpack.encode({"format": FORMAT, "owners": book.owners, "routes": routes})


def load(data: bytes) -> Book:
    """Raises ValueError on anything that `dump` did not write."""
    state = msgspec.msgpack.decode(data)
    if state.get("format") not in (1, FORMAT):
        raise ValueError(f"snapshot of format {state.get('format')!r}, expected {FORMAT}")
    routes = {
        name: RouteBook(
            phase=route["phase"],
            primary=Side(route.get("primary", "source")),
            flip=_flip_in(route.get("flip")),
            notes=[_note_in(note) for note in route.get("notes", ())],
            bound=tuple(route["bound"]) if route.get("bound") else None,
            weight=route["weight"],
            wish=route["wish"],
            jobs=route["jobs"],
            starts=_starts_in(route["starts"], dict(route.get("unaware", ()))),
            ledgers={  # "" was one by mistake, and nothing would ever close what is open there
                collection: _ledger_in(ledger) for collection, ledger in route["ledgers"].items() if collection
            },
        )
        for name, route in state["routes"].items()
    }
    return Book(routes, state.get("owners", {}))


def _starts_in(starts: Iterable[tuple[int, bytes]], unaware: Mapping[int, list[str]]) -> dict[int, Start]:
    found = {}
    for position, data in starts:
        record = r.decode(data)
        if not isinstance(record, r.SetPhase):
            raise ValueError(f"a snapshot holds {type(record).__name__} as a change of phase")
        found[position] = Start(record, set(unaware.get(position, ())))
    return found


def _note_in(data: bytes) -> r.Note:
    record = r.decode(data)
    if not isinstance(record, r.Note):
        raise ValueError(f"a snapshot holds {type(record).__name__} as a note")
    return record


def _flip_out(flip: Flip | None) -> list[Any] | None:
    return None if flip is None else [flip.epoch, flip.owner, flip.to.value, sorted(flip.ready)]


def _flip_in(state: list[Any] | None) -> Flip | None:
    return None if state is None else Flip(state[0], state[1], Side(state[2]), set(state[3]))


def _ids_out(ids: Any) -> list[int | bytes | str]:
    return r.pack_ids(tuple(ids))


def _ids_in(ids: list[int | bytes | str]) -> set[PointId]:
    return set(r.unpack_ids(ids))


def _id_in(packed: int | bytes | str) -> PointId:
    return UUID(bytes=packed) if isinstance(packed, bytes) else packed


def _ledger_out(ledger: Ledger) -> dict[str, Any]:
    return {
        "intervals": [
            [
                i.position,
                r.encode(i.record),
                _ids_out(i.mixed),
                _ids_out(i.skipped),
                _ids_out(i.touched),
                _ids_out(i.named),
                i.stale,
                [_ids_out(i.reconciled), list(i.reconciled.values())],
            ]
            for i in ledger.intervals.values()
        ],
        "marks": [_ids_out(ledger.marks), list(ledger.marks.values())],
        "holds": [
            [p, h.side.value, h.seconds, None if h.ids is None else _ids_out(h.ids), _ids_out(h.touched), h.copy]
            for p, h in ledger.holds.items()
        ],
        "parked": [_ids_out(ledger.parked), [[p.reason, p.size_bytes] for p in ledger.parked.values()]],
        "parked_whole": ledger.parked_whole,
        "claimed": ledger.claimed,
        "behind": [_ids_out(ledger.behind), list(ledger.behind.values()), ledger.behind_all],
        "emergency_at": ledger.emergency_at,
        "unswept": [ledger.unswept, ledger.unswept_at],
        "unverified": [ledger.unverified, ledger.unverified_at],
        "acknowledged_at": ledger.acknowledged_at,
        "cursors": [[job, None if at is None else _ids_out((at,))[0]] for job, at in ledger.cursors.items()],
    }


def _ledger_in(state: dict[str, Any]) -> Ledger:
    intervals = {}
    for position, data, mixed, skipped, touched, named, stale, *since in state["intervals"]:
        record = r.decode(data)
        if not isinstance(record, r.OPENING):
            raise ValueError(f"a snapshot holds {type(record).__name__} as an open interval")
        ids = record.ids if isinstance(record, r.BeginWrite | r.BeginReconcile) else ()
        intervals[position] = Interval(
            position,
            record,
            ids,
            _ids_in(mixed),
            _ids_in(skipped),
            _ids_in(touched),
            _ids_in(named),
            dict(zip(r.unpack_ids(since[0][0]), since[0][1], strict=True)) if since else {},
            stale,
        )
    marked, positions = state["marks"]
    parked, parkings = state["parked"]
    behind, changed, behind_all = state.get("behind", ([], [], ""))
    return Ledger(
        intervals=intervals,
        marks=dict(zip(r.unpack_ids(marked), positions, strict=True)),
        holds={
            p: Hold(Side(side), seconds, None if ids is None else r.unpack_ids(ids), _ids_in(touched), *copy)
            for p, side, seconds, ids, touched, *copy in state["holds"]
        },
        parked={i: r.Parking(*parking) for i, parking in zip(r.unpack_ids(parked), parkings, strict=True)},
        parked_whole=state.get("parked_whole", ""),
        claimed=state.get("claimed", state["unswept"][0] != NEVER_SWEPT),
        behind=dict(zip(r.unpack_ids(behind), changed, strict=True)),
        behind_all=behind_all,
        unverified=state.get("unverified", [""])[0],
        unverified_at=state.get("unverified", ["", 0])[1],
        emergency_at=state.get("emergency_at", 0),
        unswept=state["unswept"][0],
        unswept_at=state["unswept"][1],
        acknowledged_at=state["acknowledged_at"],
        cursors={job: None if at is None else _id_in(at) for job, at in state["cursors"]},
    )
