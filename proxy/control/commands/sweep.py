"""`crossfade sweep`: copies everything again, and removes what only the target has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected
from proxy.control.commands.waiting import job_options, run

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@job_options
@connected
def sweep(client: ControlClient, route: str, wait: bool, restart: bool) -> None:
    """Bring the target of ROUTE back in step where single keys are no longer known.

    `crossfade status` says when a route needs it.
    """
    run(client, "sweep", route, wait, restart)
