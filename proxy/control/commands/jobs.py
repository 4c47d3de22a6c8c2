"""`crossfade jobs` lists them; `crossfade job` pauses, resumes or cancels one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from proxy.control import JobAction
from proxy.control.commands.connection import connected
from proxy.control.commands.screen import show, show_json
from proxy.control.commands.status import jobs_grid

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
@connected
def jobs(client: ControlClient, as_json: bool) -> None:
    """List running and ended jobs, the latest first."""
    found = client.jobs()
    if as_json:
        show_json(found)
    elif found:
        show([jobs_grid(found)])
    else:
        click.echo("no jobs yet; start one with `crossfade backfill ROUTE`")


@click.command()
@click.argument("id")
@click.argument("action", type=click.Choice(["pause", "resume", "cancel"]))
@connected
def job(client: ControlClient, id: str, action: str) -> None:
    """Pause, resume or cancel the job ID. What a cancelled job has copied stays copied."""
    now = client.act_on_job(id, cast(JobAction, action))
    click.echo(f"{now.id} is {now.status}")
