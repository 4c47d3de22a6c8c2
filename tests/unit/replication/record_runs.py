"""Random sequences of records as the program could write them: intervals of several owners that begin and end, or are
closed for an owner that is gone (whose END may come after all), pages, writes by filter, definitions, holds and their
release, everything that is said of a collection as a whole, and emergencies with what follows them.

What may be written next depends on what has been: that is asked of the oracle, never of the ledger under test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from proxy.dialects import Outcome
from proxy.model import PointId, Side
from proxy.replication import records as r
from tests.unit.replication.oracle import History

KEYS: tuple[PointId, ...] = (1, "b", 3)
_HERE: dict[str, Any] = {"route": "x", "collection": "c"}
_OUTCOMES = (Outcome.ACCEPTED, Outcome.ACCEPTED, Outcome.FAILED, Outcome.UNKNOWN, Outcome.UNTOUCHED)
_HELD = r.Parking("too long", 9)


class Run:
    """One run; `next` is the next record."""

    def __init__(self, seed: int, history: History) -> None:
        self._chance = random.Random(seed)
        self._history = history
        self._primary = self._chance.choice((Side.SOURCE, Side.TARGET))
        self._ended: list[int] = []  # intervals that were closed for their owner, which may come back
        self._sweeps: list[int] = []  # positions where a sweep began
        self._position = 0
        self._scarce = self._chance.random() < 0.5  # runs without the rare records go deeper into the others

    def next(self) -> r.AnyRecord:
        record: r.AnyRecord | None = None
        while record is None:
            record = self._chance.choice(self._moves())()
        if isinstance(record, r.Close):
            self._ended.append(record.begin)
        self._position += 1
        return record

    def _moves(self) -> list[Callable[[], r.AnyRecord | None]]:
        frequent = [self._write, self._write, self._copy, self._copy, self._page, self._scope]
        ends = [self._end] * (7 if self._open() else 0)
        whole = [self._mark, self._release, self._release, self._hold_side, self._begin_sweep, self._swept]
        if self._scarce:
            return [*frequent, *ends, *whole[:3]]
        rare = [self._collapse, self._park, self._claim, self._unswept, self._phase, self._emergency, self._late_end]
        return [*frequent, *ends, *whole, *rare, self._recover, self._recovery, self._recovery, self._definition]

    def _open(self) -> list[int]:
        return self._history.open_at(self._position, r.Begin)

    def _some(self, keys: tuple[PointId, ...] = KEYS, at_least: int = 0) -> tuple[PointId, ...]:
        return tuple(self._chance.sample(keys, self._chance.randint(min(at_least, len(keys)), len(keys))))

    def _owner(self) -> str:
        return self._chance.choice("ABC")

    def _likely(self, chance: float) -> bool:
        return self._chance.random() < chance

    # --- beginnings ------------------------------------------------------------------------------

    def _write(self) -> r.AnyRecord:
        ids = self._some(at_least=1)[:2]
        if self._likely(0.05):
            ids += ids[:1]
        return r.BeginWrite(**_HERE, owner=self._owner(), ids=ids, primary=self._primary)

    def _copy(self) -> r.AnyRecord:
        dirty = tuple(key for key in KEYS if self._history.mark(key, self._position) is not None)
        ids = self._some(dirty if dirty and self._likely(0.8) else KEYS, 1)
        return r.BeginReconcile(**_HERE, owner=self._owner(), ids=ids, secondary=self._primary.other)

    def _recovery(self) -> r.AnyRecord | None:
        listed = tuple(key for key in KEYS if self._history.behind(key, self._position) is not None)
        if not listed:
            return None
        return r.BeginReconcile(
            **_HERE, owner=self._owner(), ids=self._some(listed, 1), secondary=self._primary, recovery=True
        )

    def _page(self) -> r.AnyRecord | None:
        if len(self._history.open_at(self._position, r.BeginPage)) == 2:
            return None
        job = self._chance.choice("jk")
        return r.BeginPage(**_HERE, owner=self._owner(), secondary=self._primary.other, job=job)

    def _scope(self) -> r.AnyRecord | None:
        scopes = self._history.open_at(self._position, r.BeginScope)
        if scopes and self._likely(0.8):
            return r.NameKeys(**_HERE, begin=self._chance.choice(scopes), ids=self._some())
        return r.BeginScope(**_HERE, owner=self._owner(), primary=self._primary)

    def _definition(self) -> r.AnyRecord:
        return r.BeginScope(**_HERE, owner=self._owner(), primary=self._primary, definition=True)

    # --- ends ------------------------------------------------------------------------------------

    def _end(self) -> r.AnyRecord:
        begin = self._chance.choice(self._open())
        if self._likely(0.12):
            return r.Close(**_HERE, begin=begin, hold_seconds=1.0)
        return self._end_of(begin)

    def _late_end(self) -> r.AnyRecord | None:
        return self._end_of(self._chance.choice(self._ended)) if self._ended else None

    def _end_of(self, begin: int) -> r.AnyRecord:
        match self._history.at(begin):
            case r.BeginWrite():
                outcome = self._chance.choice(_OUTCOMES)
                return r.EndWrite(
                    **_HERE,
                    begin=begin,
                    outcome=outcome,
                    acknowledged=outcome is Outcome.ACCEPTED and self._likely(0.2),
                    hold_seconds=float(outcome is Outcome.UNKNOWN),
                    whole=self._likely(0.5),
                )
            case r.BeginReconcile(ids=ids):
                taken = tuple(key for key in ids if self._history.takes(begin, key))
                return r.EndReconcile(**_HERE, begin=begin, **self._copied(taken))
            case r.BeginPage():
                ids = self._some()
                start = self._chance.choice((None, *KEYS))
                return r.EndPage(**_HERE, begin=begin, ids=ids, next=start, done=start is None, **self._copied(ids))
            case r.BeginScope(definition=definition):
                return self._end_of_scope(begin, definition)
        raise AssertionError(begin)

    def _copied(self, ids: tuple[PointId, ...]) -> dict[str, Any]:
        """What became of the keys of a copy: mostly all is well."""
        fates = {key: self._chance.choices(("", "dirty", "unclear", "parked"), (8, 1, 1, 1))[0] for key in ids}
        unclear = tuple(key for key in ids if fates[key] == "unclear")
        return {
            "dirty": tuple(key for key in ids if fates[key] == "dirty"),
            "unclear": unclear,
            "parked": tuple((key, _HELD) for key in ids if fates[key] == "parked"),
            "hold_seconds": float(bool(unclear)),
        }

    def _end_of_scope(self, begin: int, definition: bool) -> r.AnyRecord:
        outcome = self._chance.choice(_OUTCOMES)
        sure = definition and outcome is Outcome.ACCEPTED and self._likely(0.7)
        sweep = "" if sure or (not definition and self._likely(0.8)) else "not followed"
        return r.EndScope(
            **_HERE,
            begin=begin,
            outcome=outcome,
            acknowledged=outcome is Outcome.ACCEPTED and self._likely(0.2),
            hold_seconds=float(outcome is Outcome.UNKNOWN),
            sweep="" if outcome is Outcome.UNTOUCHED else sweep,
            equal=sure,
            gone=sure and self._likely(0.5),
        )

    # --- of the collection as a whole --------------------------------------------------------------

    def _mark(self) -> r.AnyRecord:
        return r.Mark(**_HERE, ids=self._some(at_least=1))

    def _release(self) -> r.AnyRecord | None:
        holds = self._history.holds_at(self._position)
        if not holds:
            return None
        hold = self._chance.choice(holds) if self._likely(0.95) else self._chance.randint(1, self._position)
        return r.Release(**_HERE, hold=hold)

    def _hold_side(self) -> r.AnyRecord | None:
        if self._likely(0.7):
            return None
        return r.HoldSide(**_HERE, side=self._chance.choice(list(Side)), hold_seconds=1.0, copy=self._likely(0.5))

    def _collapse(self) -> r.AnyRecord:
        return r.Collapse(**_HERE)

    def _park(self) -> r.AnyRecord | None:
        return r.ParkCollection(**_HERE, reason="no such metric") if self._likely(0.5) else None

    def _claim(self) -> r.AnyRecord:
        return r.Claim(**_HERE)

    def _unswept(self) -> r.AnyRecord | None:
        if self._likely(0.3):
            return r.Bind(route="x", source="s", target="t") if self._likely(0.3) else None
        return r.Unswept(**_HERE, reason="by hand")

    def _begin_sweep(self) -> r.AnyRecord | None:
        self._sweeps.append(self._position)
        return None

    def _swept(self) -> r.AnyRecord | None:
        return r.Swept(**_HERE, began=self._chance.choice(self._sweeps)) if self._sweeps else None

    def _phase(self) -> r.AnyRecord | None:
        if self._likely(0.6):
            return None
        phase = self._chance.choice((r.DIRECT, r.DUAL_WRITE))
        return r.SetPhase(route="x", phase=phase, hold_seconds=float(phase != r.DIRECT and self._likely(0.5)))

    def _emergency(self) -> r.AnyRecord | None:
        """From the target to the source, and not while anything is behind."""
        known = any(self._history.behind(key, self._position) is not None for key in KEYS)
        if self._primary is Side.SOURCE or known or self._history.all_behind(self._position):
            return None
        self._primary = Side.SOURCE
        return r.Commit(route="x", epoch=0, to=Side.SOURCE, phase="shift", emergency=True)

    def _recover(self) -> r.AnyRecord | None:
        return (
            r.Recover(**_HERE, ids=() if self._likely(0.2) else self._some(at_least=1)) if self._likely(0.3) else None
        )
