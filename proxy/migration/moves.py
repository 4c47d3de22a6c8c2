"""Moving a route along its phases, and back: what the commands mirror, weight, cutover, rollback and complete do.

Each of these looks at its gates first and says what they are. Once they are passed, and before anything is changed, it
leaves a note in the audit log, and another one if it did not come about. (Jobs and weights move the phase, too, but
have no gates and leave no note.) The moves that need the protocol between processes are those of the primary
(replication/flip.py); everything else is one record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import orjson

from proxy.errors import GateClosed, JournalError
from proxy.migration.backfill import start_mirroring
from proxy.migration.gates import Gate, Looking, look
from proxy.migration.jobs import Jobs
from proxy.migration.phases import SHADOW, SHIFT, TRANSITIONS, Transition, backward, is_past, onward
from proxy.model import PointId, Side
from proxy.replication import records as r
from proxy.replication.records import COMPLETE, CUTOVER, DIRECT, DUAL_WRITE
from proxy.replication.recovery import Recovered, discard, recover
from proxy.serving.live import LiveRoute

T = TypeVar("T")


_log = logging.getLogger("crossfade.moves")


@dataclass(frozen=True, slots=True)
class By:
    """Who asks for it, and, where a gate is forced, why."""

    who: str = ""
    force: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """A transition with its gates as they are now."""

    transition: Transition
    gates: tuple[Gate, ...]

    def closed(self, forced: bool) -> list[Gate]:
        return [gate for gate in self.gates if not gate.open and not (forced and gate.forceable)]


@dataclass(frozen=True, slots=True)
class Made:
    """What a move did. `held_seconds`: no write waited longer; `behind`: keys that may be behind, listed in `file`."""

    phase: str
    primary: Side
    held_seconds: float = 0.0
    behind: int = 0
    file: str = ""
    aliases_behind: bool = False


class Moves:
    """Of one route."""

    def __init__(
        self,
        live: LiveRoute,
        jobs: Jobs,
        collections: Callable[[], Awaitable[Sequence[str]]],
        auth_mode: Callable[[], str],
        data_dir: Path,
    ) -> None:
        self._live = live
        self._replicator = live.replicator
        self._journal = live.replicator.journal
        self._book = live.replicator.book
        self._jobs = jobs
        self._collections = collections
        self._looking = Looking(live, jobs, collections, auth_mode)
        self._data_dir = data_dir

    # --- looking ---------------------------------------------------------------------------

    async def plan(self) -> tuple[Step | None, Step | None]:
        """The step onward and the step back, each with its gates."""
        return await self._step(onward(self._book.phase)), await self._step(backward(self._book.phase))

    async def _step(self, transition: Transition | None) -> Step | None:
        if transition is None:
            return None
        return Step(transition, tuple(await look(transition.gates, self._looking)))

    async def _pass(self, transition: Transition, by: By) -> str:
        """The gates that are forced. Raises GateClosed, naming each closed one with its value and what opens it."""
        step = await self._step(transition)
        assert step is not None
        if closed := step.closed(bool(by.force)):
            listed = "; ".join(
                f"{gate.name}: {gate.value}" + (f" ({gate.next})" if gate.next else "") for gate in closed
            )
            insist = "" if any(not gate.forceable for gate in closed) else ". --force REASON passes these gates"
            raise GateClosed(f"{transition.command} of {self._live.name!r} is refused: {listed}{insist}")
        return ", ".join(gate.name for gate in step.gates if not gate.open)

    async def _move(self, transition: Transition, by: By, move: Callable[[], Awaitable[T]]) -> T:
        """Look at the gates, note who passes them and why, and carry it out. So the audit log has the step whatever
        becomes of this process, and says so if it did not come about."""
        what = f"{transition.command}: {transition.start} -> {transition.end}"
        forced = await self._pass(transition, by)
        await self.note(by, what, forced)
        try:
            return await move()
        except Exception as error:
            with suppress(JournalError):  # else this would be told, and not what came before
                await self.note(by, f"{what}, which did not come about: {error}", forced)
            raise

    async def note(self, by: By, what: str, forced: str = "") -> None:
        why = f"{by.force} (forced: {forced})" if forced else by.force
        note = r.Note(route=self._live.name, who=by.who, what=what, why=why, at=time.time())
        await self._journal.append(note)

    # --- onward ----------------------------------------------------------------------------

    async def mirror(self, by: By) -> None:
        if self._book.phase == DIRECT:
            names = list(await self._collections())
            start = partial(start_mirroring, self._replicator, names, adopt=False)
            await self._move(_between(DIRECT, DUAL_WRITE), by, start)
        await self.give_aliases()

    async def give_aliases(self) -> None:
        """The secondary gets the aliases that the primary gives the route's collections, where it has such things."""
        await self._replicator.give_aliases()

    async def reads_move(self, weight: float) -> None:
        """The weight has changed: the phase follows it."""
        phase = self._book.phase
        if weight > 0 and not is_past(phase, SHADOW) and phase != DIRECT:
            await self._set_phase(SHIFT)
        elif weight == 0 and phase == SHIFT:
            await self._set_phase(SHADOW)

    async def cutover(self, by: By) -> Made:
        """Make the target the primary, once it has the source's aliases. Raises GateClosed; then it is not."""
        self._expect(CUTOVER)
        await self.give_aliases()
        flip = partial(self._replicator.flips.move, Side.TARGET, CUTOVER)
        flipped = await self._move(_between(SHIFT, CUTOVER), by, flip)
        return Made(CUTOVER, Side.TARGET, flipped.held_seconds)

    async def complete(self, by: By) -> Made:
        """Leave the source behind, for good. Raises GateClosed."""
        self._expect(COMPLETE)
        await self._move(_between(CUTOVER, COMPLETE), by, partial(self._set_phase, COMPLETE))
        return Made(COMPLETE, Side.TARGET)

    def _expect(self, end: str) -> None:
        ahead = onward(self._book.phase)
        if ahead is None or ahead.end != end:
            raise GateClosed(
                f"{self._live.name!r} is in phase {self._book.phase}: the next step is "
                f"{ahead.command if ahead is not None else 'none'}; see `crossfade plan {self._live.name}`"
            )

    # --- back ------------------------------------------------------------------------------

    async def rollback(self, by: By) -> Made:
        """Undo the phase. Raises GateClosed; then nothing has changed."""
        way = backward(self._book.phase)
        if way is None:
            raise GateClosed(f"{self._live.name!r} is in phase {self._book.phase}, from which there is no way back")
        if way.start == CUTOVER:
            flipped = await self._move(way, by, partial(self._replicator.flips.move, Side.SOURCE, SHIFT))
            return Made(SHIFT, Side.SOURCE, flipped.held_seconds)
        await self._move(way, by, partial(self._take_back, way.end))
        return Made(way.end, self._book.primary)

    async def _take_back(self, phase: str) -> None:
        await self._journal.append(r.SetWeight(route=self._live.name, weight=0, wish=self._live.config.reads.weight))
        await self._set_phase(phase)

    async def rollback_now(self, by: By) -> Made:
        """The primary is broken: the source is the primary again at once. What it may lack is listed in a file."""
        if self._book.primary is not Side.TARGET or self._book.phase != CUTOVER:
            raise GateClosed(
                f"the primary of {self._live.name!r} is the {self._book.primary.value}, its phase {self._book.phase}: "
                "an emergency rollback is for a broken target after cutover"
            )
        if not by.force:
            raise GateClosed("an emergency rollback may leave acknowledged writes behind: say why, with --force REASON")
        settled = self._replicator.aliases_settled  # if not: the target will be given the source's once it is back
        lacks = "" if settled else ": the source may lack aliases that were changed on the target"
        await self.note(by, f"rollback --now{lacks}", "everything")
        await self._replicator.flips.move_now(Side.SOURCE, SHIFT)
        try:
            made = self.list_behind()
        except OSError as error:  # the primary has moved, whatever becomes of the list
            _log.warning("the keys that may be behind could not be listed", extra={"error": error})
            behind = sum(len(ledger.behind) for ledger in self._book.ledgers.values())
            made = Made(self._book.phase, self._book.primary, behind=behind)
        return replace(made, aliases_behind=not settled)

    def list_behind(self) -> Made:
        """Write the keys that may be behind into a file; what it says is the journal's, so it can be written again."""
        file, count = self._write_behind()
        return Made(self._book.phase, self._book.primary, behind=count, file=str(file))

    def _write_behind(self) -> tuple[Path, int]:
        path = self._data_dir / f"behind-{self._live.name}-{self._journal.position}.jsonl"
        count = 0
        with path.open("wb") as file:
            for collection, ledger in self._book.ledgers.items():
                if ledger.behind_all:
                    file.write(orjson.dumps({"collection": collection, "id": None, "why": ledger.behind_all}) + b"\n")
                for point_id in ledger.behind:
                    count += 1
                    file.write(orjson.dumps({"collection": collection, "id": shown(point_id)}) + b"\n")
        return path, count

    # --- around ----------------------------------------------------------------------------

    async def invalidate(self, by: By) -> int:
        """Somebody changed a store by hand: nothing is known of it any more, and every collection is swept."""
        await self.note(by, "invalidate")
        for collection in list(self._book.ledgers):
            record = r.Unswept(route=self._live.name, collection=collection, reason="it was invalidated by an operator")
            await self._journal.append(record)
        return len(self._book.ledgers)

    async def recover(self, by: By) -> Recovered:
        """The old primary is back with its data: copy from it what the new one may lack. Raises GateClosed."""
        if others := self._replicator.membership.others:
            raise GateClosed(f"{len(others)} other processes work on this journal: recover with one alone")
        await self.note(by, "recover")
        return await recover(self._replicator)

    async def discard(self, by: By) -> int:
        if not by.force:
            raise GateClosed("what only the old primary has would be given up: say why, with --discard REASON")
        await self.note(by, "recover --discard", "what was behind")
        return await discard(self._replicator)

    async def _set_phase(self, phase: str) -> None:
        await self._replicator.set_phase(phase)


def shown(point_id: PointId) -> int | str:
    return str(point_id) if isinstance(point_id, UUID) else point_id


def _between(start: str, end: str) -> Transition:
    return next(step for step in TRANSITIONS if (step.start, step.end) == (start, end))
