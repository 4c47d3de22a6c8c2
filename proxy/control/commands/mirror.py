"""`crossfade mirror`: from now on every write also reaches the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from proxy.control.commands.connection import connected

if TYPE_CHECKING:
    from proxy.control.client import ControlClient


@click.command()
@click.argument("route")
@connected
def mirror(client: ControlClient, route: str) -> None:
    """Start dual writes of ROUTE: the first step of a migration."""
    now = client.mirror(route)
    click.echo(f"{now.name} is {now.phase}: writes go to {now.source} and are copied to {now.target}")
    click.echo(f"next: crossfade backfill {now.name}")
