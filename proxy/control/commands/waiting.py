"""Follows a job to its end: a progress bar on a terminal, a line at each tenth in a pipe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from proxy.control import ENDED, JobInfo
from proxy.control.commands.screen import console, duration
from proxy.errors import GateClosed

if TYPE_CHECKING:
    from proxy.control.client import ControlClient

_EVERY_SECONDS = 0.3


def follow(client: ControlClient, job: JobInfo, wait: bool) -> JobInfo:
    """Tell about the job; with `wait` until it has ended. Raises GateClosed if it did not come to a good end."""
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
        raise GateClosed(f"the job {job.id} is {job.status}: {job.problem or 'somebody ended it'}")
    return job


def ended(job: JobInfo) -> str:
    """One line on a job that has ended."""
    took = f" in {duration(job.ended_at - job.started_at)}" if job.ended_at else ""
    return f"{job.kind} of {job.route} is {job.status}{took}: {counted(job)}"


def counted(job: JobInfo) -> str:
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(job.counts.items()))
    return f"{job.done:,} points" + (f" ({counts})" if counts else "")


def rate(job: JobInfo) -> str:
    eta = f", {duration(job.eta_seconds)} left" if job.eta_seconds is not None and job.status == "running" else ""
    return f"{job.points_per_second:,.0f} points/s{eta}"


def _watch(client: ControlClient, job: JobInfo) -> JobInfo:
    screen = console()
    if not screen.is_terminal:
        return _lines(client, job)
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]}"))
    with Progress(*columns, console=screen, transient=True) as progress:
        bar = progress.add_task(f"{job.kind} {job.route}", total=job.total, rate="")
        while job.status not in ENDED:
            progress.update(
                bar,
                description=f"{job.kind} {job.route}" + ("" if job.status == "running" else f" ({job.status})"),
                completed=job.done,
                total=job.total,
                rate=rate(job),
            )
            time.sleep(_EVERY_SECONDS)
            job = client.job(job.id)
    return job


def _lines(client: ControlClient, job: JobInfo) -> JobInfo:
    told = None
    while job.status not in ENDED:
        tenth = 10 * job.done // job.total if job.total else job.done
        if (job.status, tenth) != told:
            told = (job.status, tenth)
            click.echo(f"{job.kind} {job.route} {job.status}: {job.done:,} of {job.total or '?'} points, {rate(job)}")
        time.sleep(_EVERY_SECONDS)
        job = client.job(job.id)
    return job
