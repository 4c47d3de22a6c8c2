"""`crossfade status`: everything about the running proxy on one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from proxy.control import ENDED, JobInfo, KeyCounts, RouteStatus, ShadowFigures, Status, Weight
from proxy.control.commands.connection import connected
from proxy.control.commands.screen import Grid, console, drawn, duration, percent, show, show_json
from proxy.control.commands.waiting import found, rate, share

if TYPE_CHECKING:
    from rich.console import Group

    from proxy.control.client import ControlClient

_EVERY_SECONDS = 1.0
_JOBS_SHOWN = 5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@connected
def status(client: ControlClient, as_json: bool, watch: bool) -> None:
    """Show routes, stores, jobs and how far the target is behind."""
    if as_json:
        show_json(client.status())
    elif watch:
        with suppress(KeyboardInterrupt):
            _watch(client)
    else:
        _print(client.status())


def _print(current: Status) -> None:
    click.echo(headline(current))
    click.echo()
    show(page(current))


def _watch(client: ControlClient) -> None:
    screen = console()
    if not screen.is_terminal:
        while True:
            _print(client.status())
            time.sleep(_EVERY_SECONDS)
    from rich.live import Live

    with Live(_drawn(client.status()), console=screen, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_SECONDS)
            live.update(_drawn(client.status()), refresh=True)


def _drawn(current: Status) -> Group:
    from rich.console import Group

    return Group(headline(current), *(drawn(grid, plain=False) for grid in page(current) if grid.rows))


def headline(current: Status) -> str:
    ready = "ready" if current.ready else "not ready"
    line = f"crossfade {current.version}, {ready}, up {duration(current.uptime_seconds)}, {current.config}"
    if current.config_problem:
        line += f"\nthe last edit of the configuration was refused:\n  {current.config_problem}"
    return line


def page(current: Status) -> list[Grid]:
    return [
        Grid(
            "Routes",
            ("route", "phase", "primary", "policy", ">weight", ">behind", ">parked", "shadow", "remarks"),
            [_route(route) for route in current.routes],
        ),
        Grid(
            "Stores",
            ("store", "vendor", "state", "version or problem"),
            [(one.name, one.vendor, "up" if one.up else "down", one.problem or one.version) for one in current.stores],
        ),
        Grid(
            "Listeners",
            ("listener", "transport", "address"),
            [(one.name, one.transport, one.address) for one in current.listeners],
        ),
        jobs_grid(current.jobs[:_JOBS_SHOWN]),
    ]


def jobs_grid(jobs: Sequence[JobInfo]) -> Grid:
    return Grid("Jobs", ("job", "route", "state", "points", "rate, result or error"), [_job(job) for job in jobs])


def _route(route: RouteStatus) -> tuple[str, ...]:
    primary = f"{route.primary} ({route.source if route.primary == 'source' else route.target})"
    remarks = [f"needs a sweep: {reason}" for reason in route.needs_sweep]
    remarks += [f"{one.collection} stays on the {route.primary}: {one.reason}" for one in route.parked_collections]
    if route.behind:
        remarks.append(f"{route.behind:,} keys may be behind since the emergency: crossfade recover {route.name}")
    remarks += [f"any key of {name} may be behind: crossfade recover {route.name}" for name in route.behind_any]
    remarks += [f"needs a verify: {reason}" for reason in route.needs_verify]
    if route.drift:
        remarks.append(f"drift: {route.drift}")
    if route.weight.effective and not route.readable and route.primary == "source":
        remarks.append("the target cannot be read yet")
    return (
        route.name,
        route.phase,
        primary,
        route.policy,
        _weight(route.weight),
        _behind(route.keys),
        f"{route.keys.parked:,}",
        _shadow(route.shadow),
        "; ".join(remarks),
    )


def _weight(weight: Weight) -> str:
    drift = "" if weight.override is None else f" (file: {percent(weight.wish)})"
    return percent(weight.effective) + drift


def _behind(keys: KeyCounts) -> str:
    """`0`, or the states and the age of the oldest: `12 dirty, 1 held, 3 s`."""
    states = [(keys.open, "open"), (keys.dirty, "dirty"), (keys.held, "held"), (keys.suspect, "suspect")]
    shown = [f"{count:,} {state}" for count, state in states if count]
    return ", ".join([*shown, duration(keys.oldest_seconds)]) if shown else "0"


def _shadow(figures: ShadowFigures) -> str:
    if not figures.compared:
        return "-"
    return f"{figures.overlap or 0.0:.3f} overlap of {figures.compared:,}"


def _job(job: JobInfo) -> tuple[str, ...]:
    if job.status in ENDED:
        return (job.id, job.route, job.status, "", job.error or found(job))
    waits = f"waits: {job.waiting_for}" if job.waiting_for else rate(job)
    return (job.id, job.route, job.status, share(job), f"{job.step} {waits}".strip())
