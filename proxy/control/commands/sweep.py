"""`crossfade sweep`: copies everything again, and removes what only the target has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected
from proxy.control.commands.waiting import follow

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@click.option("--wait/--no-wait", default=True, help="Stay until it has ended (default), or only start it.")
@connected
def sweep(client: ControlClient, route: str, wait: bool) -> None:
    """Bring the target of ROUTE back in step where single keys are no longer known.

    `crossfade status` says when a route needs it.
    """
    follow(client, client.start_job("sweep", route), wait)
