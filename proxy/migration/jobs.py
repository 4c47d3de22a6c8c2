"""The framework of jobs: one state, one life, one way to pause, cancel and resume.

A job is a coroutine that calls `Progress.breathe` between its pages. Its state is kept in the journal, so a job that
was running when the process ended goes on where it stopped; what it has already done stands in the ledgers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from proxy.clock import Clock
from proxy.errors import CrossfadeError, GateClosed
from proxy.replication import records as r
from proxy.replication.journal import Journal
from proxy.replication.ledger import Effects
from proxy.replication.membership import Membership
from proxy.telemetry.metrics import Metrics
from proxy.telemetry.tasks import spawn

RUNNING, PAUSED, DONE, FAILED, CANCELLED = "running", "paused", "done", "failed", "cancelled"
_ENDED = (DONE, FAILED, CANCELLED)
_SAVE_EVERY_SECONDS = 2.0
_KEPT = 50
_log = logging.getLogger("crossfade.jobs")


@dataclass(slots=True)
class JobState:
    """What is shown and kept of a job. `done` and `total` are points; total is an estimate, 0 if unknown."""

    id: str
    kind: str
    route: str
    options: dict[str, Any] = field(default_factory=dict)
    ended_at: float = 0.0  # seconds since 1970, to be shown
    ended_position: int = 0  # of the journal: which of two jobs ended later, whatever the clock did meanwhile
    owner: str = ""  # the process that runs it
    status: str = RUNNING
    step: str = ""
    waiting_for: str = ""  # the failure of a store that it waits out
    done: int = 0
    total: int = 0
    points_per_second: float = 0.0
    eta_seconds: float | None = None
    error: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)  # the job's own; survives a restart

    @property
    def ended(self) -> bool:
        return self.status in _ENDED


class Cancelled(Exception):
    """The operator cancelled the job."""


class Progress:
    """What a running job holds: its state, and the operator's wishes."""

    def __init__(self, state: JobState, clock: Clock, save: Callable[[JobState], Awaitable[None]]) -> None:
        self.state = state
        self._clock = clock
        self._save = save
        self._go = asyncio.Event()
        self._go.set()
        self.cancelled = False
        self._saved_at = clock.now()
        self._rate_from = (clock.now(), state.done)

    async def breathe(self, wait_seconds: float = 0.0) -> None:
        """Between pages: wait as the throttle says and while paused, save now and then. Raises Cancelled."""
        if wait_seconds:
            await self._clock.sleep(wait_seconds)
        while not self._go.is_set() and not self.cancelled:
            self.state.status = PAUSED
            await self._go.wait()
            self._rate_from = (self._clock.now(), self.state.done)
        if self.cancelled:
            raise Cancelled
        self.state.status = RUNNING
        if self._clock.now() - self._saved_at >= _SAVE_EVERY_SECONDS:
            await self.save()

    def advance(self, points: int) -> None:
        state = self.state
        state.done += points
        since, done = self._rate_from
        elapsed = self._clock.now() - since
        if elapsed > 0:
            state.points_per_second = (state.done - done) / elapsed
        left = max(0, state.total - state.done)
        known = state.total and state.points_per_second
        state.eta_seconds = left / state.points_per_second if known else None

    def step(self, words: str, total: int = 0, done: int = 0) -> None:
        """A new part of the work begins."""
        self.state.step, self.state.total, self.state.done = words, total, done
        self.state.eta_seconds = None
        self._rate_from = (self._clock.now(), done)

    async def save(self) -> None:
        """Keep the state, checkpoint included, before anything that relies on it."""
        self._saved_at = self._clock.now()
        await self._save(self.state)

    async def wait_until(self, condition: Callable[[], bool], words: str) -> None:
        """Wait for something that others bring about; pause and cancel work meanwhile."""
        if condition():
            return
        self.step(words)
        while not condition():
            await self.breathe(0.05)

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def cancel(self) -> None:
        self.cancelled = True
        self._go.set()


class Work(Protocol):
    """One kind of job. Returns its result; raises CrossfadeError to fail with a message for the operator."""

    async def __call__(self, progress: Progress) -> Mapping[str, Any]: ...


Maker = Callable[[str, Mapping[str, Any]], Work]  # (route, options) -> the work


class Jobs:
    """All jobs of the process. `makers` maps a kind to what makes its work; making may raise GateClosed."""

    def __init__(
        self, journal: Journal, membership: Membership, clock: Clock, metrics: Metrics, makers: Mapping[str, Maker]
    ) -> None:
        self._journal = journal
        self._membership = membership
        self._clock = clock
        self._metrics = metrics
        self._makers = makers
        self._known: dict[str, JobState] = {}
        self._running: dict[str, tuple[Progress, asyncio.Task[None]]] = {}
        self._stopping = False
        for route in journal.book.routes.values():
            for kept in route.jobs.values():
                state = JobState(**kept)
                self._known[state.id] = state
        journal.subscribe(self._applied)
        membership.on_lead(self.resume_all)
        metrics.jobs.watch(self._counts)
        metrics.job_progress.watch(self._progress)

    def resume_all(self) -> None:
        """Go on with what was running in a process that is gone."""
        for state in list(self._known.values()):
            if not state.ended and state.id not in self._running and self._membership.takes(state.owner):
                paused = state.status == PAUSED
                self._run(state)
                if paused:
                    self.pause(state.id)

    async def start(self, kind: str, route: str, options: Mapping[str, Any] | None = None) -> JobState:
        """Start a job, or go on with the one that was cancelled or failed (option `restart`: anew). Raises GateClosed
        if one of its kind runs on the route, or what the maker says against it."""
        maker = self._makers.get(kind)
        if maker is None:
            raise GateClosed(f"there is no job of kind {kind!r}; kinds: {', '.join(sorted(self._makers))}")
        for other in self._known.values():
            if other.route == route and other.kind == kind and not other.ended:
                raise GateClosed(f"{kind} of {route!r} is {other.status} as job {other.id}; cancel it first, or wait")
        maker(route, options or {})
        state = self._interrupted(kind, route) if not (options or {}).get("restart") else None
        if state is None:
            state = JobState(id=f"{kind}-{secrets.token_hex(3)}", kind=kind, route=route)
            self._known[state.id] = state
        state.options, state.status, state.error = dict(options or {}), RUNNING, ""
        state.owner = self._journal.owner
        await self._save(state)
        self._run(state)
        return state

    def _interrupted(self, kind: str, route: str) -> JobState | None:
        """The latest job of that kind and route, if it was cancelled or failed: a new start goes on from there."""
        latest = [state for state in self._known.values() if (state.kind, state.route) == (kind, route)]
        return latest[-1] if latest and latest[-1].status in (CANCELLED, FAILED) else None

    def all(self) -> list[JobState]:
        """Every job that is remembered, the oldest first."""
        return list(self._known.values())

    def get(self, job_id: str) -> JobState:
        """Raises KeyError naming the known jobs."""
        if job_id not in self._known:
            raise KeyError(f"no job {job_id!r}; known: {', '.join(self._known) or 'none'}")
        return self._known[job_id]

    def pause(self, job_id: str) -> JobState:
        return self._ask(job_id, Progress.pause, "pause")

    def resume(self, job_id: str) -> JobState:
        return self._ask(job_id, Progress.resume, "resume")

    def cancel(self, job_id: str) -> JobState:
        return self._ask(job_id, Progress.cancel, "cancel")

    async def wait(self, job_id: str) -> JobState:
        """Return when the job has ended."""
        if job_id in self._running:
            await asyncio.wait({self._running[job_id][1]})
        return self.get(job_id)

    async def close(self) -> None:
        """Stop at the next page; the jobs go on after a restart."""
        self._stopping = True
        tasks = [task for _, task in self._running.values()]
        for progress, _ in self._running.values():
            progress.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- inside ------------------------------------------------------------------------------

    def _ask(self, job_id: str, wish: Callable[[Progress], None], words: str) -> JobState:
        state = self.get(job_id)
        if not state.ended and state.owner != self._journal.owner:
            raise GateClosed(f"job {job_id} runs in the process {state.owner}: ask that one to {words} it")
        if job_id not in self._running:
            raise GateClosed(f"job {job_id} is {state.status}: there is nothing to {words}")
        wish(self._running[job_id][0])
        return state

    def _applied(self, _: int, record: r.AnyRecord, __: Effects) -> None:
        """Follow the jobs of other processes."""
        if isinstance(record, r.SaveJob) and record.state.get("owner", "") != self._journal.owner:
            self._known[record.job] = JobState(**record.state)

    def _run(self, state: JobState) -> None:
        state.owner = self._journal.owner
        progress = Progress(state, self._clock, self._save)
        task = spawn(self._live(state, progress), name=f"job {state.id}")
        self._running[state.id] = (progress, task)

    async def _live(self, state: JobState, progress: Progress) -> None:
        words = {"job": state.id, "kind": state.kind, "route": state.route}
        _log.info("job runs", extra=words)
        try:
            state.result = dict(await self._makers[state.kind](state.route, state.options)(progress))
            state.status = DONE
        except Cancelled:
            if self._stopping:
                await self._save(state)
                return
            state.status = CANCELLED
        except CrossfadeError as error:
            state.status, state.error = FAILED, str(error)
        except Exception as error:
            state.status, state.error = FAILED, f"internal error: {type(error).__name__}: {error}"
            raise
        finally:
            self._running.pop(state.id, None)
            if state.ended:
                state.eta_seconds, state.waiting_for, state.ended_at = None, "", time.time()
                state.ended_position = self._journal.position
                _log.info("job ended", extra=words | {"status": state.status, "problem": state.error})
                await self._save(state)

    async def _save(self, state: JobState) -> None:
        await self._journal.append(r.SaveJob(route=state.route, job=state.id, state=asdict(state)))
        ended = [known for known in self._known.values() if known.ended]
        for old in ended[: max(0, len(ended) - _KEPT)]:
            del self._known[old.id]
            self._journal.book.route(old.route).jobs.pop(old.id, None)

    def _counts(self) -> list[tuple[tuple[str, ...], float]]:
        counts: dict[tuple[str, ...], float] = {}
        for state in self._known.values():
            counts[(state.kind, state.status)] = counts.get((state.kind, state.status), 0) + 1
        return list(counts.items())

    def _progress(self) -> list[tuple[tuple[str, ...], float]]:
        """How far the step is in which the latest job of each kind and route is."""
        latest = {(state.route, state.kind): state for state in self._known.values()}
        return [
            (labels, 1.0 if state.status == DONE else min(1.0, state.done / state.total) if state.total else 0.0)
            for labels, state in latest.items()
        ]
