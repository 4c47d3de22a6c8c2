"""Follows a job to its end: a progress bar on a terminal, a line at each tenth in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from proxy.control import ENDED, JobInfo, JobKind
from proxy.control.commands.screen import console, duration
from proxy.errors import GateClosed

if TYPE_CHECKING:
    from proxy.control.client import ControlClient

F = TypeVar("F", bound=Callable[..., Any])

_EVERY_SECONDS = 0.3


def job_options(command: F) -> F:
    """The options that every command that runs a job has: `wait` and `restart`."""
    restart = click.option("--restart", is_flag=True, help="Begin anew, not where the last one stopped.")
    wait = click.option("--wait/--no-wait", default=True, help="Stay until it has ended (default), or only start it.")
    return restart(wait(command))


def run(client: ControlClient, kind: JobKind, route: str, wait: bool, restart: bool, **options: bool) -> JobInfo:
    """Start the job, or follow the one that runs already (with `restart` that one is cancelled first).

    Raises GateClosed if it does not come to a good end."""
    job = next(
        (one for one in client.jobs() if (one.kind, one.route) == (kind, route) and one.status not in ENDED), None
    )
    if job is not None and restart:
        _until_ended(client, client.act_on_job(job.id, "cancel"))
        job = None
    if job is None or any(options.values()):  # options that the running one may not have: the proxy refuses
        job = client.start_job(kind, route, restart=restart, **options)
    return _follow(client, job, wait)


def _follow(client: ControlClient, job: JobInfo, wait: bool) -> JobInfo:
    if not wait:
        click.echo(f"{job.kind} of {job.route} is {job.status}: job {job.id}; see `crossfade jobs`")
        return job
    try:
        job = _watch(client, job)
    except KeyboardInterrupt:
        click.echo(f"\nthe job goes on without you; `crossfade job {job.id} pause|cancel` would stop it")
        raise
    click.echo(ended(job))
    if job.status != "done":
        raise GateClosed(f"the job {job.id} is {job.status}: {job.error or 'somebody ended it'}")
    return job


def _until_ended(client: ControlClient, job: JobInfo) -> None:
    """It was asked to end, and does so at its next page."""
    while job.status not in ENDED:
        time.sleep(_EVERY_SECONDS)
        job = client.job(job.id)


def ended(job: JobInfo) -> str:
    """One line on a job that has ended."""
    return f"{job.kind} of {job.route} is {job.status}" + (f": {found(job)}" if found(job) else "")


def found(job: JobInfo) -> str:
    """The figures of the result: `4,500 copied, 1 parked`."""
    shown = [(name, value) for name, value in job.result.items() if isinstance(value, int) and name != "collections"]
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in shown)


def share(job: JobInfo) -> str:
    """How far the present step is: `1,200 of 4,500`."""
    return f"{job.done:,} of {job.total:,}" if job.total else f"{job.done:,}"


def rate(job: JobInfo) -> str:
    eta = f", {duration(job.eta_seconds)} left" if job.eta_seconds is not None and job.status == "running" else ""
    return f"{job.points_per_second:,.0f} points/s{eta}"


def figures(job: JobInfo) -> str:
    """`1,200 of 4,500 points, 970 points/s, 3 s left`; nothing for a step that does not go through points."""
    return f"{share(job)} points, {rate(job)}" if job.total or job.done else ""


def words(job: JobInfo) -> str:
    """What it is doing: `backfill docs, copying`, what it waits for, or that it is paused."""
    doing = job.step if job.status == "running" else job.status
    waits = f"waits: {job.waiting_for}" if job.waiting_for else ""
    return ", ".join(filter(None, (f"{job.kind} {job.route}", doing, waits)))


def _watch(client: ControlClient, job: JobInfo) -> JobInfo:
    screen = console()
    if not screen.is_terminal:
        return _lines(client, job)
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
    )
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task(words(job), total=job.total or None, rate="")
        while job.status not in ENDED:
            total = job.total or None
            progress.update(bar, description=words(job), completed=job.done, total=total, rate=figures(job))
            time.sleep(_EVERY_SECONDS)
            job = client.job(job.id)
    return job


def _lines(client: ControlClient, job: JobInfo) -> JobInfo:
    told = None
    while job.status not in ENDED:
        tenth = 10 * job.done // job.total if job.total else 0
        now = (job.status, job.step, tenth, bool(job.waiting_for))
        if (job.step or job.waiting_for) and now != told:
            told = now
            click.echo(": ".join(filter(None, (words(job), figures(job)))))
        time.sleep(_EVERY_SECONDS)
        job = client.job(job.id)
    return job
