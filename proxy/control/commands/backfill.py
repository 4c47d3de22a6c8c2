"""`crossfade backfill`: copies what was there before dual writes began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected
from proxy.control.commands.waiting import job_options, run

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@click.option("--adopt", is_flag=True, help="Take a target that is not empty; what only it has will be removed.")
@job_options
@connected
def backfill(client: ControlClient, route: str, wait: bool, restart: bool, adopt: bool) -> None:
    """Copy the points of ROUTE to the target, while the application goes on.

    It goes on where it stopped, after a crash too; one that runs already is followed.
    """
    job = run(client, "backfill", route, wait, restart, adopt=adopt)
    if job.result.get("parked"):
        click.echo(f"the target cannot hold some points: crossfade parked {route}")
    if wait:
        click.echo(f"next: crossfade verify {route}")
